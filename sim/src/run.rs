//! A run: one scenario with one seed, on a thread of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use tracing::error;

use crate::counters::Counters;
use crate::history::{self, Entry};
use crate::interpose::{self, NotInterposed, Simulated};
use crate::memory::Ledger;
use crate::outcome::Outcome;
use crate::plan::Plan;
use crate::random::rng;
use crate::scenarios::Scenario;
use crate::stage::{Progress, Run};
use crate::verdict::Violation;
use crate::watch::{self, LOOK, Patience, SPINS_AFTER};
use crate::yields::{self, Yielded};
use crate::{draw, fleet, panics, trace, work};

/// Draws the plan of a scenario for a seed.
///
/// # Panics
///
/// When a scenario's strategy rejects what it draws.
pub fn plan_of(scenario: &Scenario, seed: u64) -> Plan {
    draw::draw(&(scenario.plans)(), seed).expect("no plan is rejected")
}

/// Runs a scenario with a seed, on a fresh thread, and waits for the end of it. The trace is written to `output` as it
/// comes.
///
/// # Panics
///
/// When the clock or the randomness of this program is not simulated: see [`interpose::check`].
pub fn run(scenario: &'static Scenario, seed: u64, plan: Plan, options: Options) -> Ended {
    static CHECKED: OnceLock<Result<(), NotInterposed>> = OnceLock::new();
    if let Err(error) = CHECKED.get_or_init(interpose::check) {
        panic!("{error}");
    }
    panics::watch();
    let shown = Arc::new(Shown { kind: scenario.kind(&plan), ..Shown::default() });
    let (tell, ended) = mpsc::channel();
    let of_the_run = Arc::clone(&shown);
    thread::Builder::new()
        .name(format!("{} {seed}", scenario.name))
        .spawn(move || {
            of_the_run.thread.store(watch::this_thread(), Ordering::Relaxed);
            let _ = tell.send(None);
            // Nobody listens any more to a run that was given up.
            let _ = tell.send(Some(on_this_thread(scenario, seed, plan, options, &of_the_run)));
        })
        .expect("a thread");
    let mut patience = None;
    loop {
        match ended.recv_timeout(LOOK) {
            Ok(None) => patience = Some(Patience::with_thread(shown.thread.load(Ordering::Relaxed), SPINS_AFTER)),
            Ok(Some(ended)) => return ended,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                let stuck =
                    patience.as_mut().and_then(|patience| patience.look(shown.progress.steps.load(Ordering::Relaxed)));
                if let Some(stuck) = stuck {
                    return shown.hang(scenario, seed, &stuck);
                }
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => panic!("a run catches its panics"),
        }
    }
}

/// What is seen of a run while it goes on.
#[derive(Default)]
struct Shown {
    /// By which number the kernel knows its thread.
    thread: AtomicI32,
    progress: Arc<Progress>,
    lines: Arc<AtomicU64>,
    history: history::Shared,
    /// Which runs it is one of.
    kind: String,
}

impl Shown {
    /// What is known of a run that comes to no end. Its thread goes on, as long as the process does.
    fn hang(&self, scenario: &'static Scenario, seed: u64, stuck: &str) -> Ended {
        let history = self.history.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let simulated = Duration::from_nanos(self.progress.elapsed.load(Ordering::Relaxed));
        let last = history.iter().rev().take(LAST_EVENTS).map(|entry| format!("{} {:?}", entry.who, entry.what));
        let last = last.collect::<Vec<_>>().join("; before that ");
        let what = format!("{stuck}. The clock stands at {:.3} s. What was seen last: {last}", simulated.as_secs_f64());
        let outcome = Outcome {
            scenario: scenario.name,
            seed,
            kind: self.kind.clone(),
            trace: trace::Summary { hash: 0, lines: self.lines.load(Ordering::Relaxed) },
            simulated,
            counters: BTreeMap::new(),
            worst: BTreeMap::new(),
            states: BTreeSet::new(),
            reached: Vec::new(),
            result: Err(Violation::new("hang", what)),
        };
        Ended { outcome, history }
    }
}

/// How many of the last events are told of a run that comes to no end.
const LAST_EVENTS: usize = 3;

/// How a run is looked at. None of it changes the run, but for the disturbance.
#[derive(Default)]
pub struct Options {
    /// Where the trace is written, as it comes.
    pub output: Option<Box<dyn Write + Send>>,
    /// Ends the run at this time, as passed if nothing was broken until then.
    pub until: Option<Duration>,
    /// Breaks the determinism on purpose: each reading of the clock is wrong by up to so many microseconds, which a real
    /// clock would decide.
    pub disturb_us: u64,
}

/// A run that has ended.
pub struct Ended {
    /// What came of it.
    pub outcome: Outcome,
    /// What happened.
    pub history: Vec<Entry>,
}

/// What a session with somebody hostile holds at most: two streams of 65,536 unread frames.
const FLOODED_BYTES: usize = 12 << 20;

fn on_this_thread(scenario: &'static Scenario, seed: u64, plan: Plan, options: Options, shown: &Shown) -> Ended {
    let _simulated = Simulated::enter(seed);
    interpose::disturb(options.disturb_us);
    trace::begin(options.output.map(|output| output as Box<dyn Write>), Arc::clone(&shown.lines));
    history::begin(Arc::clone(&shown.history));
    let (counters, progress) = (Counters::default(), Arc::clone(&shown.progress));
    let managers = usize::from(plan.fleet);
    let work = plan.callers.iter().map(work::heap_bytes).sum::<usize>();
    let work = work + fleet::heap_bytes(&plan) + plan.places_of_hostile() * FLOODED_BYTES;
    yields::begin(plan.yields.percent, rng(seed.wrapping_add(plan.yields.order), "yields"));
    let ledger = Ledger::open();
    let caught = panic::catch_unwind(AssertUnwindSafe(|| {
        let mut run = Run::new(scenario.name, seed, plan, options.until, counters.clone(), progress);
        let result = (scenario.run)(&mut run);
        // A run that was to end before is not broken by that.
        let result = if run.is_cut_off() { Ok(()) } else { result };
        (result, run.elapsed(), run.take_states(), run.take_reached())
        // The simulation is dropped here, inside the trace: what dropping it panics on counts.
    }));
    let (result, simulated, states, reached) = match caught {
        Ok((result, simulated, states, reached)) => {
            let kept = history::heap_bytes() + counters.heap_bytes() + reached.capacity() * size_of::<u64>();
            let memory = ledger.check(kept, work, managers);
            (panics::none().and(result).and(memory), simulated, states, reached)
        }
        Err(payload) => (
            panics::none().and(Err(Violation::new("panic", panics::text_of(&*payload)))),
            interpose::elapsed(),
            BTreeSet::new(),
            Vec::new(),
        ),
    };
    if let Err(broken) = &result {
        error!(%broken, "failed");
    }
    let Yielded { gave_way, spent } = yields::end();
    counters.add("a task let others run first", gave_way);
    counters.add("a task of evermux had spent its budget", spent);
    let (counters, worst) = counters.all();
    let trace = trace::end();
    let (scenario, kind) = (scenario.name, shown.kind.clone());
    let outcome = Outcome { scenario, seed, kind, trace, simulated, counters, worst, states, reached, result };
    Ended { outcome, history: history::take() }
}
