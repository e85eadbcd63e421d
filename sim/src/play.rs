//! A plan that is played: hosts run, faults come as their time comes, and the checks see all that happens.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use tracing::info;
use twox_hash::XxHash3_64;

use crate::board::{ESTABLISHER, OTHER, RECEIVER};
use crate::bounds;
use crate::checks::{self, Check, coverage};
use crate::faults::{self, Kept, Kind};
use crate::history::{self, Entry, Still, What, note};
use crate::node::Node;
use crate::plan::{Fault, Side};
use crate::stage::Run;
use crate::verdict::Broken;
use crate::world::World;

/// How often the connections of live sessions are looked at, and for how long one is still before that is noted.
const LISTEN_EVERY: Duration = Duration::from_secs(1);

/// A plan that is being played.
pub struct Play<'r> {
    world: World<'r>,
    nodes: BTreeMap<&'static str, Node>,
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

/// A fault that has begun.
struct Active {
    index: usize,
    begin: Duration,
    end: Duration,
    /// Whether somebody had something to lose.
    at_stake: bool,
    survived: bool,
}

impl<'r> Play<'r> {
    /// The plan of a run, before anything has happened.
    pub fn new(run: &'r mut Run) -> Self {
        let world = World::new(run);
        let board = &world.board;
        // A second receiver runs where one is needed.
        let moves = board.plan.faults.iter().any(|fault| fault.kind == faults::ADDRESS_CHANGE);
        let nodes = [
            Node { host: RECEIVER, side: Side::Receiver, has_manager: true },
            Node { host: ESTABLISHER, side: Side::Establisher, has_manager: true },
            Node { host: OTHER, side: Side::Receiver, has_manager: moves },
        ];
        for (name, holds) in coverage::of_plan(&board.plan) {
            board.counters.add(name, u64::from(holds));
        }
        for node in nodes {
            let board = Rc::clone(board);
            world.run.host(node.host, move || node.run(Rc::clone(&board)));
        }
        Self {
            nodes: nodes.into_iter().map(|node| (node.host, node)).collect(),
            checks: checks::all(board),
            checked: 0,
            held: BTreeMap::new(),
            listened: Duration::ZERO,
            states: BTreeSet::new(),
            faults: Vec::new(),
            world,
        }
    }

    /// Runs the plan to its end.
    pub fn run(mut self) -> Result<(), Broken> {
        let result = self.run_plan();
        self.world.run.states(std::mem::take(&mut self.states));
        result
    }

    fn run_plan(&mut self) -> Result<(), Broken> {
        let plan = self.world.board.plan.clone();
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
                (kind.end)(&mut self.world, fault, &kept);
            }
        }
        let faults_end = plan.faults_end();
        self.until(faults_end)?;
        let bound = bounds::service(&plan);
        // A piece of work that was begun before has its own deadline; the callers say so when it is over.
        let last = faults_end + bound * 2;
        while self.world.board.all_served().is_none() || !self.is_live_on_both_sides() {
            if self.world.run.elapsed() > last {
                let missing = self.world.board.not_served();
                let text = if missing.is_empty() {
                    "there was no session on both sides after the last fault".to_owned()
                } else {
                    format!("callers {missing:?} were never served after the last fault")
                };
                return Err(Broken::new("liveness", text));
            }
            self.step()?;
        }
        let worst = self.world.board.all_served().unwrap_or_default();
        let name = if plan.faults.is_empty() {
            "without faults every caller was served within"
        } else {
            "after the last fault every caller was served within"
        };
        self.world.board.counters.worst(name, worst, bound);
        self.world.board.end();
        let shutdown = bounds::shutdown(&plan, Side::Receiver).max(bounds::shutdown(&plan, Side::Establisher));
        let deadline = self.world.run.elapsed() + shutdown * 2;
        while !self.nodes.keys().all(|host| self.world.board.has_ended(host)) {
            if self.world.run.elapsed() > deadline {
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
        self.world.board.counters.add(format!("fault {}", kind.name), 1);
        let at_stake = self.world.board.is_at_stake();
        let kept = (kind.begin)(&mut self.world, fault);
        self.faults.push(Active { index, begin: fault.begin(), end: fault.end(), at_stake, survived: false });
        kept
    }

    fn until(&mut self, at: Duration) -> Result<(), Broken> {
        while self.world.run.elapsed() < at {
            self.step()?;
        }
        Ok(())
    }

    fn step(&mut self) -> Result<(), Broken> {
        let stepped = self.world.run.step();
        self.look();
        self.listen();
        self.see_who_survived();
        self.check()?;
        stepped.map(|_| ())
    }

    /// Notes what each manager holds, when that has changed.
    fn look(&mut self) {
        for host in self.nodes.keys() {
            let manager = self.world.board.manager(host);
            let holds = (manager.iter())
                .flat_map(|manager| manager.status().sessions)
                .map(|session| session.id.to_string())
                .collect::<Vec<_>>();
            if !holds.is_empty() {
                self.world.board.is_live(host);
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
        let now = self.world.run.elapsed();
        if now < self.listened + LISTEN_EVERY {
            return;
        }
        self.listened = now;
        for host in self.nodes.keys() {
            let Some(session) = self.world.board.manager(host).and_then(|manager| manager.try_session()) else {
                continue;
            };
            let (Some(local), Some(peer)) = (session.local_addr(), session.peer_addr()) else { continue };
            let still = self.world.board.conditions(host).still((local, peer));
            if let Some(still) = still.filter(|still| still.lasts(now) >= LISTEN_EVERY) {
                let round_trip = session.round_trip().unwrap_or_default();
                note(host, What::Still(session.id().to_string(), Still { round_trip, ..still }));
            }
        }
    }

    /// A fault has been survived when a piece of work is done that was begun before the end of it, or the next one after
    /// it, and somebody had something to lose.
    fn see_who_survived(&mut self) {
        let done = self.world.board.done.take();
        let now = self.world.run.elapsed();
        let Some(latest) = done.into_iter().max() else { return };
        for fault in self.faults.iter_mut().filter(|fault| !fault.survived && fault.end <= now) {
            if latest >= fault.begin {
                fault.survived = true;
                if fault.at_stake {
                    let kind = &self.world.board.plan.faults[fault.index].kind;
                    self.world.board.counters.add(format!("survived {kind}"), 1);
                }
            }
        }
    }

    /// Shows the checks what is new.
    fn check(&mut self) -> Result<(), Broken> {
        let new = history::since(self.checked);
        self.checked += new.len();
        let now = self.world.run.elapsed();
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
        if let Some(name) = coverage::state(entry) {
            self.world.board.counters.add(name, 1);
        }
    }

    /// What the run is in the middle of, as a number: which faults are active, and what each side has and wants.
    fn fingerprint(&self) -> u64 {
        let now = self.world.run.elapsed();
        let mut faults = (self.faults.iter())
            .filter(|fault| fault.begin <= now && now < fault.end)
            .map(|fault| self.world.board.plan.faults[fault.index].kind.as_str())
            .collect::<Vec<_>>();
        faults.sort_unstable();
        faults.dedup();
        let managers = [RECEIVER, ESTABLISHER, OTHER].map(|host| {
            self.world.board.manager(host).map(|manager| {
                let status = manager.status();
                (format!("{:?}", status.activity), status.sessions.len(), status.attempts.min(4))
            })
        });
        let (waiting, doing) = self.world.board.busy();
        let text = format!("{faults:?} {managers:?} {} {}", waiting.min(2), doing.min(2));
        XxHash3_64::oneshot(text.as_bytes())
    }
}
