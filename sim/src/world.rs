//! The hosts of a run, the links between them, and what goes wrong with both, as the plan has it.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use tracing::info;
use twox_hash::XxHash3_64;

use crate::board::{Board, ESTABLISHER, OTHER, RECEIVER};
use crate::bounds;
use crate::checks::{self, Check, rare};
use crate::faults::{self, Kind};
use crate::history::{self, Entry, Still, What, note};
use crate::node::Node;
use crate::plan::{Fault, Side};
use crate::run::{Broken, Run};

/// How often the connections of live sessions are looked at, and for how long one is still before that is noted.
const LISTEN_EVERY: Duration = Duration::from_secs(1);

/// Two hosts, in the order of their names.
type Pair = (&'static str, &'static str);

/// The hosts of a run, and what goes wrong with them.
pub struct World<'r> {
    run: &'r mut Run,
    /// What hosts and world share.
    pub board: Rc<Board>,
    nodes: BTreeMap<&'static str, Node>,
    links: BTreeMap<Pair, Link>,
    /// How often each host was taken down; it is up at zero.
    down: BTreeMap<&'static str, u32>,
    checks: Vec<Box<dyn Check>>,
    /// How much of the history the checks have seen.
    checked: usize,
    /// What every manager held at the end of the last step.
    held: BTreeMap<&'static str, Vec<String>>,
    /// When the connections of live sessions were looked at last.
    listened: Duration,
    states: BTreeSet<u64>,
    faults: Vec<Active>,
}

/// What is wrong with a link, as often as it was made so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Link {
    /// What the first host sends is lost.
    first_lost: u32,
    /// What the second host sends is lost.
    second_lost: u32,
    /// What is sent arrives later.
    held: u32,
    /// By how much each message travels longer, in milliseconds.
    late_ms: u64,
}

/// A fault that has begun.
struct Active {
    index: usize,
    begin: Duration,
    end: Duration,
    /// Whether somebody had something to lose.
    at_stake: bool,
    survived: bool,
}

/// What a fault keeps of its begin until its end.
#[derive(Clone, Debug, Default)]
pub struct Kept {
    /// The hosts that it concerned.
    pub hosts: Vec<&'static str>,
}

impl<'r> World<'r> {
    /// The hosts of a run.
    pub fn new(run: &'r mut Run) -> Self {
        let board = Board::new(run.seed(), run.plan().clone(), run.counters());
        // A second receiver runs where one is needed.
        let moves = board.plan.faults.iter().any(|fault| fault.kind == faults::ADDRESS_CHANGE);
        let nodes = [
            Node { host: RECEIVER, side: Side::Receiver, has_manager: true },
            Node { host: ESTABLISHER, side: Side::Establisher, has_manager: true },
            Node { host: OTHER, side: Side::Receiver, has_manager: moves },
        ];
        for (name, holds) in rare::of_plan(&board.plan) {
            board.counters.add(name, u64::from(holds));
        }
        for node in nodes {
            let board = Rc::clone(&board);
            run.host(node.host, move || node.run(Rc::clone(&board)));
        }
        Self {
            run,
            nodes: nodes.into_iter().map(|node| (node.host, node)).collect(),
            links: BTreeMap::new(),
            down: BTreeMap::new(),
            checks: checks::all(&board),
            checked: 0,
            held: BTreeMap::new(),
            listened: Duration::ZERO,
            states: BTreeSet::new(),
            faults: Vec::new(),
            board,
        }
    }

    /// Runs the plan to its end.
    pub fn run(mut self) -> Result<(), Broken> {
        let result = self.run_plan();
        self.run.states(std::mem::take(&mut self.states));
        result
    }

    fn run_plan(&mut self) -> Result<(), Broken> {
        let plan = self.board.plan.clone();
        let mut turns = Vec::new();
        for (index, fault) in plan.faults.iter().enumerate() {
            let kind = faults::find(&fault.kind)
                .ok_or_else(|| Broken::new("scenario", format!("there is no fault {:?}", fault.kind)))?;
            turns.push((fault.begin(), index, true, kind));
            turns.push((fault.end(), index, false, kind));
        }
        // What happens at the same time happens in the order of the plan; each fault begins before it ends.
        turns.sort_by_key(|(at, index, begins, _)| (*at, *index, !*begins));
        let mut kept = BTreeMap::new();
        for (at, index, begins, kind) in turns {
            self.until(at)?;
            let fault = &plan.faults[index];
            if begins {
                kept.insert(index, self.begin(index, fault, kind));
            } else {
                let kept = kept.remove(&index).unwrap_or_default();
                note("", What::FaultEnds(index));
                info!(fault = kind.name, "ends");
                (kind.end)(self, fault, &kept);
            }
        }
        let faults_end = plan.faults_end();
        self.until(faults_end)?;
        let bound = bounds::service(&plan);
        // A piece of work that was begun before has its own deadline; the callers say so when it is over.
        let last = faults_end + bound * 2;
        while self.board.all_served().is_none() || !self.is_live_on_both_sides() {
            if self.run.elapsed() > last {
                let missing = self.board.not_served();
                let text = if missing.is_empty() {
                    "there was no session on both sides after the last fault".to_owned()
                } else {
                    format!("callers {missing:?} were never served after the last fault")
                };
                return Err(Broken::new("liveness", text));
            }
            self.step()?;
        }
        let worst = self.board.all_served().unwrap_or_default();
        let name = if plan.faults.is_empty() {
            "without faults every caller was served within"
        } else {
            "after the last fault every caller was served within"
        };
        self.board.counters.worst(name, worst, bound);
        self.board.end();
        let shutdown = bounds::shutdown(&plan, Side::Receiver).max(bounds::shutdown(&plan, Side::Establisher));
        let deadline = self.run.elapsed() + shutdown * 2;
        while !self.nodes.keys().all(|host| self.board.has_ended(host)) {
            if self.run.elapsed() > deadline {
                return Err(Broken::new("G5", "a host did not come to its end after all were told to shut down"));
            }
            self.step()?;
        }
        self.step()
    }

    fn is_live_on_both_sides(&self) -> bool {
        let holds = |host| self.held.get(host).is_some_and(|held| !held.is_empty());
        // A session may outlive a change of the address.
        holds(ESTABLISHER) && (holds(RECEIVER) || holds(OTHER))
    }

    fn begin(&mut self, index: usize, fault: &Fault, kind: &'static Kind) -> Kept {
        note("", What::FaultBegins(index));
        info!(fault = kind.name, ?fault, "begins");
        self.board.counters.add(format!("fault {}", kind.name), 1);
        let at_stake = self.board.is_at_stake();
        let kept = (kind.begin)(self, fault);
        self.faults.push(Active { index, begin: fault.begin(), end: fault.end(), at_stake, survived: false });
        kept
    }

    fn until(&mut self, at: Duration) -> Result<(), Broken> {
        while self.run.elapsed() < at {
            self.step()?;
        }
        Ok(())
    }

    fn step(&mut self) -> Result<(), Broken> {
        let stepped = self.run.step();
        self.look();
        self.listen();
        self.see_who_survived();
        self.check()?;
        stepped.map(|_| ())
    }

    /// Notes what each manager holds, when that has changed.
    fn look(&mut self) {
        for host in self.nodes.keys() {
            let manager = self.board.manager(host);
            let holds = (manager.iter())
                .flat_map(|manager| manager.status().sessions)
                .map(|session| session.id.to_string())
                .collect::<Vec<_>>();
            if !holds.is_empty() {
                self.board.is_live(host);
            }
            if self.held.get(host) != Some(&holds) {
                let session = manager.and_then(|manager| manager.try_session());
                let local = session.and_then(|session| session.local_addr()).map(|local| local.to_string());
                note(host, What::Holds(holds.clone(), local));
                self.held.insert(host, holds);
            }
        }
    }

    /// Notes, once in a while, whose connection is still.
    fn listen(&mut self) {
        let now = self.run.elapsed();
        if now < self.listened + LISTEN_EVERY {
            return;
        }
        self.listened = now;
        for host in self.nodes.keys() {
            let Some(session) = self.board.manager(host).and_then(|manager| manager.try_session()) else { continue };
            let (Some(local), Some(peer)) = (session.local_addr(), session.peer_addr()) else { continue };
            let still = self.board.conditions(host).still((local, peer));
            if let Some(still) = still.filter(|still| still.lasts(now) >= LISTEN_EVERY) {
                let round_trip = session.round_trip().unwrap_or_default();
                note(host, What::Still(session.id().to_string(), Still { round_trip, ..still }));
            }
        }
    }

    /// A fault has been survived when a piece of work is done that was begun before the end of it, or the next one after
    /// it, and somebody had something to lose.
    fn see_who_survived(&mut self) {
        let done = self.board.done.take();
        let now = self.run.elapsed();
        let Some(latest) = done.into_iter().max() else { return };
        for fault in self.faults.iter_mut().filter(|fault| !fault.survived && fault.end <= now) {
            if latest >= fault.begin {
                fault.survived = true;
                if fault.at_stake {
                    let kind = &self.board.plan.faults[fault.index].kind;
                    self.board.counters.add(format!("survived {kind}"), 1);
                }
            }
        }
    }

    /// Shows the checks what is new.
    fn check(&mut self) -> Result<(), Broken> {
        let new = history::since(self.checked);
        self.checked += new.len();
        let now = self.run.elapsed();
        for entry in &new {
            if let What::Broken(broken) = &entry.what {
                return Err(broken.clone());
            }
            self.count(entry);
            self.checks.iter_mut().try_for_each(|check| check.on(entry))?;
        }
        self.checks.iter_mut().try_for_each(|check| check.after_step(now))?;
        if !new.is_empty() {
            let state = self.fingerprint();
            self.states.insert(state);
        }
        Ok(())
    }

    fn count(&self, entry: &Entry) {
        if let Some(name) = rare::state(entry) {
            self.board.counters.add(name, 1);
        }
    }

    /// What the run is in the middle of, as a number: which faults are active, and what each side has and wants.
    fn fingerprint(&self) -> u64 {
        let now = self.run.elapsed();
        let mut faults = (self.faults.iter())
            .filter(|fault| fault.begin <= now && now < fault.end)
            .map(|fault| self.board.plan.faults[fault.index].kind.as_str())
            .collect::<Vec<_>>();
        faults.sort_unstable();
        faults.dedup();
        let managers = [RECEIVER, ESTABLISHER, OTHER].map(|host| {
            self.board.manager(host).map(|manager| {
                let status = manager.status();
                (format!("{:?}", status.activity), status.sessions.len(), status.attempts.min(4))
            })
        });
        let (waiting, doing) = self.board.busy();
        let text = format!("{faults:?} {managers:?} {} {}", waiting.min(2), doing.min(2));
        XxHash3_64::oneshot(text.as_bytes())
    }

    /// The host that the establisher dials now.
    pub fn target(&self) -> &'static str {
        self.board.target()
    }

    /// The host of a side: of the receivers the one that is dialled now.
    pub fn host_of(&self, side: Side) -> &'static str {
        match side {
            Side::Establisher => ESTABLISHER,
            Side::Receiver => self.target(),
        }
    }

    /// Loses all that `from` sends to `to` from now on, and what is on its way.
    pub fn lose(&mut self, from: &'static str, to: &'static str) {
        self.change(from, to, |link, from_first| {
            *(if from_first { &mut link.first_lost } else { &mut link.second_lost }) += 1;
        });
    }

    /// Ends a [`lose`](Self::lose).
    pub fn carry(&mut self, from: &'static str, to: &'static str) {
        self.change(from, to, |link, from_first| {
            *(if from_first { &mut link.first_lost } else { &mut link.second_lost }) -= 1;
        });
    }

    /// Keeps back all that two hosts send each other.
    pub fn hold(&mut self, a: &'static str, b: &'static str) {
        self.change(a, b, |link, _| link.held += 1);
    }

    /// Ends a [`hold`](Self::hold): what was kept back arrives.
    pub fn release(&mut self, a: &'static str, b: &'static str) {
        self.change(a, b, |link, _| link.held -= 1);
    }

    /// Lets each message between two hosts travel longer.
    pub fn delay(&mut self, a: &'static str, b: &'static str, late_ms: u64) {
        self.change(a, b, |link, _| link.late_ms += late_ms);
    }

    /// Ends a [`delay`](Self::delay).
    pub fn hurry(&mut self, a: &'static str, b: &'static str, late_ms: u64) {
        self.change(a, b, |link, _| link.late_ms -= late_ms);
    }

    fn change(&mut self, a: &'static str, b: &'static str, change: impl FnOnce(&mut Link, bool)) {
        let (pair, a_first) = if a < b { ((a, b), true) } else { ((b, a), false) };
        let link = self.links.entry(pair).or_default();
        let before = *link;
        change(link, a_first);
        let after = *link;
        let (first, second) = pair;
        let lost = |link: Link| (link.first_lost > 0, link.second_lost > 0);
        // What is lost is not held: turmoil gives a link one state, and never delivers what is held when it is repaired.
        let held = |link: Link| link.held > 0 && lost(link) == (false, false);
        if held(before) && !held(after) {
            self.run.release(first, second);
        }
        if lost(before) != lost(after) {
            if lost(before) != (false, false) {
                self.run.repair(first, second);
            }
            match lost(after) {
                (true, true) => self.run.partition(first, second),
                (true, false) => self.run.partition_oneway(first, second),
                (false, true) => self.run.partition_oneway(second, first),
                (false, false) => {}
            }
        }
        if held(after) && !held(before) {
            self.run.hold(first, second);
        }
        if before.late_ms != after.late_ms {
            let base = self.board.plan.network.latency_ms;
            self.run.set_latency(first, second, Duration::from_millis(base + after.late_ms));
        }
    }

    /// Takes a host down: its process is gone, its sockets say FIN.
    pub fn crash(&mut self, host: &'static str) {
        let down = self.down.entry(host).or_default();
        *down += 1;
        if *down == 1 {
            self.run.crash(host);
            note(host, What::Down);
            self.board.host_is_down(host);
        }
    }

    /// Ends a [`crash`](Self::crash).
    pub fn bounce(&mut self, host: &'static str) {
        let down = self.down.entry(host).or_default();
        *down -= 1;
        if *down == 0 {
            self.run.bounce(host);
        }
    }

    /// Runs something on a host.
    pub fn errand(&self, host: &'static str, errand: impl Future<Output = ()> + 'static) {
        self.board.errand(host, errand);
    }
}
