//! A plan that is played: hosts run, faults come as their time comes, and the checks see all that happens.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use evermux::manager::{Activity, SessionStatus, Status};
use evermux::{SessionId, Stopped};
use tracing::info;
use twox_hash::XxHash3_64;

use crate::bounds;
use crate::checks::coverage::LOOKED_UNDER;
use crate::checks::{self, Check, coverage};
use crate::context::{ESTABLISHER, OTHER, RECEIVER, RunContext};
use crate::faults::{self, FaultState, Kind};
use crate::fleet;
use crate::history::{self, Entry, Report, Silence, What, broken, note};
use crate::interpose::elapsed;
use crate::node::{self, Node};
use crate::plan::{Event, Fault, Plan, Side};
use crate::reached::Reached;
use crate::stage::Run;
use crate::verdict::Violation;
use crate::work;
use crate::world::World;

/// How often the connections of live sessions are looked at, and for how long one is still before that is noted.
const SILENCE_NOTED_EVERY: Duration = Duration::from_secs(1);

/// A plan that is being played.
pub struct Play<'r> {
    world: World<'r>,
    nodes: BTreeMap<&'static str, Node>,
    checks: Vec<Box<dyn Check>>,
    /// How often each check had looked before the last step, and under which kinds of faults it has.
    looks: Vec<u64>,
    looked_under: BTreeMap<(&'static str, &'static str), u64>,
    /// How much of the history the checks have seen.
    checked: usize,
    stable: Stable,
    /// What every manager held at the end of the last step.
    held: BTreeMap<&'static str, Vec<SessionId>>,
    /// What the status of every manager said then.
    said: BTreeMap<&'static str, Said>,
    /// When the connections of live sessions were looked at last.
    silences_noted_at: Duration,
    states: BTreeSet<u64>,
    reached: Reached,
    faults: Vec<Active>,
    /// What is still to come of the faults of the plan, in order. What happens at the same time happens in the order of the
    /// plan; each fault begins before it ends.
    turns: BTreeSet<(Duration, usize, Turn)>,
}

/// What is noted of a status: what its manager does, and its numbers.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Said {
    activity: Activity,
    sessions: usize,
    sessions_so_far: u64,
    attempts: u32,
    crowded_out: u64,
    held_out: u64,
    not_admitted: u64,
    names_error: bool,
    stopped: &'static str,
}

impl Said {
    fn of(status: &Status) -> Self {
        Self {
            activity: status.activity,
            sessions: status.sessions.len(),
            sessions_so_far: status.sessions_so_far,
            attempts: status.attempts,
            crowded_out: status.crowded_out,
            held_out: status.held_out,
            not_admitted: status.not_admitted,
            names_error: status.last_error.is_some(),
            stopped: match &status.stopped {
                None => "",
                Some(Stopped::GaveUp(_)) => "gave up",
                Some(_) => "shut down",
            },
        }
    }

    fn report(self) -> Report {
        Report {
            activity: format!("{:?}", self.activity),
            sessions: self.sessions,
            sessions_so_far: self.sessions_so_far,
            attempts: self.attempts,
            crowded_out: self.crowded_out,
            held_out: self.held_out,
            not_admitted: self.not_admitted,
            names_error: self.names_error,
            stopped: self.stopped.to_owned(),
        }
    }
}

/// Since when who dials has had the same sessions, and for how long one lives that is stable.
struct Stable {
    since: Duration,
    after: Duration,
}

impl Stable {
    fn note(&mut self, context: &RunContext, is_same: bool, sessions: usize) {
        let now = elapsed();
        if !is_same {
            self.since = now;
        }
        // Of several, each has failures of its own.
        let is_stable = now.saturating_sub(self.since) > self.after;
        if is_stable && sessions > 0 && sessions == context.plan.settings.sessions {
            context.stable_at.set(now);
        }
    }
}

/// What comes of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Turn {
    Begins,
    Ends,
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
        let context = &world.context;
        // A second receiver runs where one is needed.
        let moves = context.plan.faults.iter().any(|fault| fault.kind == faults::ADDRESS_CHANGE);
        let nodes = [
            Node { host: RECEIVER, side: Side::Receiver, has_manager: true },
            Node { host: ESTABLISHER, side: Side::Establisher, has_manager: true },
            Node { host: OTHER, side: Side::Receiver, has_manager: moves },
        ];
        for (name, holds) in coverage::of_plan(&context.plan) {
            context.counters.add(name, u64::from(holds));
        }
        for node in nodes {
            let context = Rc::clone(context);
            let tcp = {
                let context = Rc::clone(&context);
                move || node::tcp(Rc::clone(&context), node.host)
            };
            let kernel = context.kernel(node.host).clone();
            world.run.host(node.host, &kernel, tcp, move || node.run(Rc::clone(&context)));
        }
        fleet::begin(context);
        Self {
            nodes: nodes.into_iter().map(|node| (node.host, node)).collect(),
            looks: vec![0; checks::all(context).len()],
            looked_under: BTreeMap::new(),
            checks: checks::all(context),
            checked: 0,
            stable: Stable { since: Duration::ZERO, after: context.plan.config(Side::Establisher, 0).stable_after() },
            held: BTreeMap::new(),
            said: BTreeMap::new(),
            silences_noted_at: Duration::ZERO,
            states: BTreeSet::new(),
            reached: Reached::default(),
            faults: Vec::new(),
            turns: BTreeSet::new(),
            world,
        }
    }

    /// Runs the plan to its end.
    pub fn run(mut self) -> Result<(), Violation> {
        let result = self.run_plan();
        self.count_looks();
        self.world.run.states(std::mem::take(&mut self.states));
        self.world.run.reached(std::mem::take(&mut self.reached).into_numbers());
        result
    }

    /// For a run that goes on for so long that what the checks remember of it would be much: without them.
    pub(crate) fn for_long(run: &'r mut Run) -> Self {
        let play = Self { checks: Vec::new(), looks: Vec::new(), ..Self::new(run) };
        play.world.context.is_long.set(true);
        play
    }

    /// What hosts and world share.
    pub(crate) fn context(&self) -> &Rc<RunContext> {
        &self.world.context
    }

    /// How many tasks run in the processes of all managers.
    pub(crate) fn alive_tasks(&self) -> usize {
        self.nodes.keys().map(|host| self.world.run.alive_tasks(host)).sum()
    }

    fn run_plan(&mut self) -> Result<(), Violation> {
        let plan = self.world.context.plan.clone();
        if plan.faults.is_empty() {
            self.is_quiet();
        }
        self.faults(Duration::ZERO)?;
        self.serves_all(&plan)?;
        self.finish()
    }

    /// Plays the faults of the plan, at their times after this, until the last of them is over.
    pub(crate) fn faults(&mut self, from: Duration) -> Result<(), Violation> {
        let plan = self.world.context.plan.clone();
        self.faults.clear();
        if !plan.faults.is_empty() {
            self.world.context.quiet.set(None);
        }
        let mut kinds = Vec::new();
        for (index, fault) in plan.faults.iter().enumerate() {
            let kind = faults::find(&fault.kind);
            kinds.push(kind.ok_or_else(|| Violation::new("scenario", format!("there is no fault {:?}", fault.kind)))?);
            self.turns.insert((from + fault.begin(), index, Turn::Begins));
        }
        let mut begun = BTreeMap::new();
        while let Some(&(at, index, turn)) = self.turns.first() {
            // An event may bring a fault before that.
            if self.world.run.elapsed() < at {
                self.step()?;
                continue;
            }
            self.turns.pop_first();
            let kind = kinds[index];
            match turn {
                Turn::Begins => {
                    let fault = plan.faults[index].begun(at);
                    self.turns.insert((fault.end(), index, Turn::Ends));
                    let state = self.begin(index, &fault, kind);
                    begun.insert(index, (fault, state));
                }
                Turn::Ends => {
                    let Some((fault, state)) = begun.remove(&index) else { continue };
                    note("", What::FaultEnds(index));
                    info!(fault = kind.name, "ends");
                    (kind.end)(&mut self.world, &fault, &state);
                }
            }
        }
        self.is_quiet();
        Ok(())
    }

    /// Nothing goes wrong any more.
    fn is_quiet(&self) {
        let context = &self.world.context;
        context.quiet.set(Some((elapsed(), context.standing())));
    }

    /// Everybody is served once more.
    fn serves_all(&mut self, plan: &Plan) -> Result<(), Violation> {
        let faults_end = plan.faults_end();
        self.until(faults_end)?;
        let bound = bounds::service(plan, work::pauses(plan), work::moves(plan));
        // A piece of work that was begun before has its own bound; the callers say so when it is over.
        let last = faults_end + bound * 2;
        while self.world.context.all_served().is_none() || !self.is_live_on_both_sides() {
            if self.world.run.elapsed() > last {
                let missing = self.world.context.not_served();
                let text = if missing.is_empty() {
                    "there was no session on both sides after the last fault".to_owned()
                } else {
                    format!("callers {missing:?} were never served after the last fault")
                };
                return Err(Violation::new("liveness", text));
            }
            self.step()?;
        }
        Ok(())
    }

    /// Lets every host come to its end.
    pub(crate) fn finish(&mut self) -> Result<(), Violation> {
        let plan = self.world.context.plan.clone();
        self.world.context.end();
        let shutdown = bounds::shutdown(&plan, Side::Receiver).max(bounds::shutdown(&plan, Side::Establisher));
        let drain = bounds::drain(&plan.config(Side::Establisher, 0));
        let deadline = self.world.run.elapsed() + shutdown * 2 + drain;
        while !self.nodes.keys().all(|host| self.world.context.has_ended(host)) {
            if self.world.run.elapsed() > deadline {
                return Err(Violation::new("G5", "a host did not come to its end after all were told to shut down"));
            }
            self.step()?;
        }
        self.step()
    }

    pub(crate) fn is_live_on_both_sides(&self) -> bool {
        let holds = |host| self.held.get(host).is_some_and(|held| !held.is_empty());
        let plan = &self.world.context.plan;
        // A session may outlive a change of the address.
        (holds(ESTABLISHER) || plan.foreign(Side::Establisher).is_some())
            && (holds(RECEIVER) || holds(OTHER) || plan.foreign(Side::Receiver).is_some())
    }

    fn begin(&mut self, index: usize, fault: &Fault, kind: &'static Kind) -> FaultState {
        note("", What::FaultBegins(index));
        info!(fault = kind.name, ?fault, "begins");
        self.world.context.counters.add(format!("fault {}", kind.name), 1);
        let at_stake = self.world.context.is_at_stake();
        let state = (kind.begin)(&mut self.world, fault);
        self.faults.push(Active { index, begin: fault.begin(), end: fault.end(), at_stake, survived: false });
        state
    }

    pub(crate) fn until(&mut self, at: Duration) -> Result<(), Violation> {
        while self.world.run.elapsed() < at {
            self.step()?;
        }
        Ok(())
    }

    pub(crate) fn step(&mut self) -> Result<(), Violation> {
        let stepped = self.world.run.step();
        self.note_held();
        self.note_silences();
        self.see_who_survived();
        self.check()?;
        stepped.map(|_| ())
    }

    /// Notes what each manager holds, when that has changed. Most steps change nothing, so what is noted is made only then.
    fn note_held(&mut self) {
        for host in self.nodes.keys() {
            let manager = self.world.context.manager(host);
            let status = manager.map(|manager| manager.status());
            if status.is_none() {
                self.said.remove(host);
            }
            if let Some(status) = &status {
                let said = Said::of(status);
                if self.said.insert(host, said) != Some(said) {
                    note(host, What::Says(said.report()));
                }
            }
            let sessions = status.map(|status| status.sessions).unwrap_or_default();
            if !sessions.is_empty() {
                self.world.context.is_live(host);
            }
            let ids = sessions.iter().map(|session| session.id);
            let known = self.held.get(host).map(Vec::as_slice).unwrap_or_default();
            let is_same = self.held.contains_key(host) && known.iter().copied().eq(ids.clone());
            if *host == ESTABLISHER {
                self.stable.note(&self.world.context, is_same, sessions.len());
            }
            if !is_same {
                for session in sessions.iter().filter(|session| !known.contains(&session.id)) {
                    runs_between(&self.world.context, host, session);
                }
                let locals = sessions.iter().filter_map(|session| Some(session.local?.to_string()));
                note(host, What::Holds(ids.clone().map(|id| id.to_string()).collect(), locals.collect()));
                self.held.insert(host, ids.collect());
            }
        }
    }

    /// Notes, once in a while, whose connection is still.
    fn note_silences(&mut self) {
        let now = self.world.run.elapsed();
        if now < self.silences_noted_at + SILENCE_NOTED_EVERY {
            return;
        }
        self.silences_noted_at = now;
        // Who stands still finds nothing.
        for host in self.nodes.keys().filter(|host| !self.world.run.is_stopped(host)) {
            let manager = self.world.context.manager(host);
            for session in manager.iter().flat_map(|manager| manager.status().sessions) {
                let (Some(local), Some(peer)) = (session.local, session.peer) else { continue };
                let silence = self.world.context.conditions(host).silence((local, peer));
                if let Some(silence) = silence.filter(|silence| silence.lasts(now) >= SILENCE_NOTED_EVERY) {
                    let round_trip = session.round_trip.unwrap_or_default();
                    let stood_still = self.world.run.stood_still(host);
                    note(host, What::Silence(session.id.to_string(), Silence { stood_still, round_trip, ..silence }));
                }
            }
        }
    }

    /// A fault has been survived when a piece of work is done that was begun before the end of it, or the next one after
    /// it, and somebody had something to lose.
    fn see_who_survived(&mut self) {
        let done = self.world.context.done.take();
        let now = self.world.run.elapsed();
        let Some(latest) = done.into_iter().max() else { return };
        for fault in self.faults.iter_mut().filter(|fault| !fault.survived && fault.end <= now) {
            if latest >= fault.begin {
                fault.survived = true;
                if fault.at_stake {
                    let kind = &self.world.context.plan.faults[fault.index].kind;
                    self.world.context.counters.add(format!("survived {kind}"), 1);
                }
            }
        }
    }

    /// Shows the checks what is new.
    fn check(&mut self) -> Result<(), Violation> {
        let new = history::since(self.checked);
        self.checked += new.len();
        let now = self.world.run.elapsed();
        let active = if new.is_empty() { Vec::new() } else { self.active(now) };
        for entry in &new {
            if let What::Violation(broken) = &entry.what {
                return Err(broken.clone());
            }
            self.count(entry);
            // What a long run came to would be counted as what it left.
            if !self.world.context.is_long.get() {
                self.reached.on(entry, &active);
            }
            self.bring(entry, now);
            self.checks.iter_mut().try_for_each(|check| check.on(entry))?;
        }
        self.checks.iter_mut().try_for_each(|check| check.after_step(now))?;
        self.note_looks(now);
        if !new.is_empty() && !self.checks.is_empty() {
            let state = self.fingerprint();
            self.states.insert(state);
        }
        Ok(())
    }

    /// Books under which faults the checks have looked since the last step.
    fn note_looks(&mut self, now: Duration) {
        let plan = &self.world.context.plan;
        for (check, before) in self.checks.iter().zip(&mut self.looks) {
            let looks = check.looks() - *before;
            if looks == 0 {
                continue;
            }
            *before += looks;
            for fault in self.faults.iter().filter(|fault| now < fault.end) {
                let kind = faults::find(&plan.faults[fault.index].kind).expect("a fault that has begun");
                *self.looked_under.entry((check.name(), kind.name)).or_default() += looks;
            }
        }
    }

    /// Adds to the counters of the run how often each check has looked.
    fn count_looks(&self) {
        let counters = &self.world.context.counters;
        for check in &self.checks {
            counters.add(coverage::looked(check.name()), check.looks());
        }
        for ((check, kind), looks) in &self.looked_under {
            counters.add(format!("{}{LOOKED_UNDER}{kind}", coverage::looked(check)), *looks);
        }
    }

    /// Brings the faults that have waited for this.
    fn bring(&mut self, entry: &Entry, now: Duration) {
        let happened = match entry.what {
            What::Connecting => Event::Connecting,
            What::Live(_) => Event::Live,
            What::Draining(_) => Event::Draining,
            What::Closed(..) => Event::Closed,
            What::Pings => Event::Ping,
            _ => return,
        };
        for (index, fault) in self.world.context.plan.faults.iter().enumerate() {
            let waits = fault.on.filter(|on| on.event == happened && entry.who == self.world.host_of(on.side));
            let Some(on) = waits.filter(|_| now >= Duration::from_millis(fault.at_ms)) else { continue };
            let begins = now + Duration::from_millis(on.after_ms);
            let planned = (fault.begin(), index, Turn::Begins);
            // Once, and if it is sooner.
            if begins < planned.0 && self.turns.remove(&planned) {
                self.turns.insert((begins, index, Turn::Begins));
                self.world.context.counters.add("a fault came at an event", 1);
            }
        }
    }

    fn count(&self, entry: &Entry) {
        if let Some(name) = coverage::state(entry) {
            self.world.context.counters.add(name, 1);
        }
    }

    /// The kinds of the faults that last, each once.
    fn active(&self, now: Duration) -> Vec<&'static str> {
        let faults = self.faults.iter().filter(|fault| fault.begin <= now && now < fault.end);
        let kinds =
            faults.filter_map(|fault| Some(faults::find(&self.world.context.plan.faults[fault.index].kind)?.name));
        let mut kinds = kinds.collect::<Vec<_>>();
        kinds.sort_unstable();
        kinds.dedup();
        kinds
    }

    /// What the run is in the middle of, as a number: which faults are active, and what each side has and wants.
    fn fingerprint(&self) -> u64 {
        let faults = self.active(self.world.run.elapsed());
        let managers = [RECEIVER, ESTABLISHER, OTHER].map(|host| {
            self.world.context.manager(host).map(|manager| {
                let status = manager.status();
                (format!("{:?}", status.activity), status.sessions.len(), status.attempts.min(4))
            })
        });
        let (waiting, doing) = self.world.context.busy();
        let text = format!("{faults:?} {managers:?} {} {}", waiting.min(2), doing.min(2));
        XxHash3_64::oneshot(text.as_bytes())
    }
}

/// Notes between which addresses a session runs that is new in the slot. They are those of a socket of its host (G12).
fn runs_between(context: &RunContext, host: &str, session: &SessionStatus) {
    let between = session.local.zip(session.peer);
    match between.filter(|between| context.conditions(host).silence(*between).is_some()) {
        Some((local, peer)) => note(host, What::Runs(session.id.to_string(), local.to_string(), peer.to_string())),
        None => broken(host, "G12", format!("session {} of {host} has no connection: {between:?}", session.id)),
    }
}
