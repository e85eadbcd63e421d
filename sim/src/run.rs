//! A run: one scenario with one seed, on a thread of its own.

use std::any::Any;
use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::io::Write;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Once, OnceLock, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, UNIX_EPOCH};

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tracing::{error, info};
use twox_hash::XxHash3_64;

use crate::history::{self, Entry};
use crate::interpose::{self, NotInterposed, Simulated};
use crate::memory::Ledger;
use crate::plan::{self, Plan};
use crate::scenarios::{self, Scenario};
use crate::trace;
use crate::watch::{self, LOOK, Patience, SPINS_AFTER};

/// By how much the simulated clock moves in one step, if the plan does not say otherwise. Hosts see what others sent at
/// the next step.
pub const TICK: Duration = Duration::from_millis(5);

/// How many datagrams a socket holds for a reader. turmoil drops those on top without a word, and its default is 64.
const UDP_CAPACITY: usize = 4_096;

/// A guarantee that did not hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Broken {
    /// Which one: `G1` to `G19`, or `panic`, `hang`, `scenario` for what no guarantee names.
    pub guarantee: Cow<'static, str>,
    /// What was seen, in one sentence.
    pub what: String,
}

impl Broken {
    /// Says which guarantee is broken, and how that was seen.
    pub fn new(guarantee: impl Into<Cow<'static, str>>, what: impl Into<String>) -> Self {
        Self { guarantee: guarantee.into(), what: what.into() }
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.guarantee, self.what)
    }
}

impl Error for Broken {}

/// How long something took at the most, beside its bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Worst {
    /// How long it took, in milliseconds.
    pub ms: u64,
    /// How long it may take.
    pub bound_ms: u64,
}

impl Worst {
    /// The one that came nearer to its bound.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        // Both sides of the comparison of two fractions, without dividing.
        let (this, that) =
            (u128::from(self.ms) * u128::from(other.bound_ms), u128::from(other.ms) * u128::from(self.bound_ms));
        if this >= that { self } else { other }
    }
}

/// What came of a run. Two runs of the same scenario with the same seed have equal outcomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The name of the scenario.
    pub scenario: &'static str,
    /// The seed.
    pub seed: u64,
    /// The hash and the length of the trace.
    pub trace: trace::Summary,
    /// How much time passed in the simulation.
    pub simulated: Duration,
    /// How often each rare thing happened.
    pub counters: BTreeMap<Cow<'static, str>, u64>,
    /// How long each thing took that has a bound, at the most.
    pub worst: BTreeMap<Cow<'static, str>, Worst>,
    /// The states that the run was in, as numbers.
    pub states: BTreeSet<u64>,
    /// The first guarantee that was broken.
    pub result: Result<(), Broken>,
}

impl Outcome {
    /// One JSON object.
    pub fn to_json(&self) -> Value {
        json!({
            "scenario": self.scenario,
            "seed": self.seed,
            "outcome": if self.result.is_ok() { "passed" } else { "failed" },
            "guarantee": self.result.as_ref().err().map(|broken| &broken.guarantee),
            "what": self.result.as_ref().err().map(|broken| &broken.what),
            "trace": format!("{:032x}", self.trace.hash),
            "events": self.trace.lines,
            "simulated_ms": u64::try_from(self.simulated.as_millis()).unwrap_or(u64::MAX),
            "counters": self.counters,
            "worst": self.worst,
            "states": self.states,
        })
    }

    /// Reads [`to_json`](Self::to_json) back.
    pub fn from_json(text: &str) -> Option<Self> {
        let value: Value = serde_json::from_str(text).ok()?;
        let text_of = |name: &str| value[name].as_str().map(str::to_owned);
        Some(Self {
            scenario: scenarios::find(value["scenario"].as_str()?)?.name,
            seed: value["seed"].as_u64()?,
            trace: trace::Summary {
                hash: u128::from_str_radix(value["trace"].as_str()?, 16).ok()?,
                lines: value["events"].as_u64()?,
            },
            simulated: Duration::from_millis(value["simulated_ms"].as_u64()?),
            counters: (value["counters"].as_object()?.iter())
                .map(|(name, count)| Some((Cow::Owned(name.clone()), count.as_u64()?)))
                .collect::<Option<_>>()?,
            worst: serde_json::from_value(value["worst"].clone()).ok()?,
            states: serde_json::from_value(value["states"].clone()).ok()?,
            result: match text_of("guarantee") {
                None => Ok(()),
                Some(guarantee) => Err(Broken::new(guarantee, text_of("what")?)),
            },
        })
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scenario, seed, trace, simulated, .. } = self;
        match &self.result {
            Ok(()) => write!(f, "{scenario}, seed {seed}: passed")?,
            Err(broken) => write!(f, "{scenario}, seed {seed}: FAILED, {broken}")?,
        }
        write!(f, "; {:.3} s simulated, {} events, trace {:032x}", simulated.as_secs_f64(), trace.lines, trace.hash)
    }
}

/// Draws the plan of a scenario for a seed.
///
/// # Panics
///
/// When a scenario's strategy rejects what it draws.
pub fn plan_of(scenario: &Scenario, seed: u64) -> Plan {
    plan::draw(&(scenario.plans)(), seed).expect("no plan is rejected")
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
    watch_for_panics();
    let shown = Arc::new(Shown::default());
    let (tell, ended) = mpsc::channel();
    let of_the_run = Arc::clone(&shown);
    thread::Builder::new()
        .name(format!("{} {seed}", scenario.name))
        .spawn(move || {
            of_the_run.thread.store(watch::this_thread(), Ordering::Relaxed);
            let _ = tell.send(None);
            // Nobody listens any more to a run that was given up.
            let _ = tell.send(Some(on_this_thread(scenario, seed, plan, options, of_the_run)));
        })
        .expect("a thread");
    let mut patience = None;
    loop {
        match ended.recv_timeout(LOOK) {
            Ok(None) => patience = Some(Patience::with_thread(shown.thread.load(Ordering::Relaxed), SPINS_AFTER)),
            Ok(Some(ended)) => return ended,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                let stuck = patience.as_mut().and_then(|patience| patience.look(shown.steps.load(Ordering::Relaxed)));
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
    steps: AtomicU64,
    /// How much time has passed in it, in nanoseconds.
    elapsed: AtomicU64,
    lines: Arc<AtomicU64>,
    history: history::Shared,
}

impl Shown {
    /// What is known of a run that comes to no end. Its thread goes on, as long as the process does.
    fn hang(&self, scenario: &'static Scenario, seed: u64, stuck: &str) -> Ended {
        let history = self.history.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let simulated = Duration::from_nanos(self.elapsed.load(Ordering::Relaxed));
        let last = history.iter().rev().take(LAST_EVENTS).map(|entry| format!("{} {:?}", entry.who, entry.what));
        let last = last.collect::<Vec<_>>().join("; before that ");
        let what = format!("{stuck}. The clock stands at {:.3} s. What was seen last: {last}", simulated.as_secs_f64());
        let outcome = Outcome {
            scenario: scenario.name,
            seed,
            trace: trace::Summary { hash: 0, lines: self.lines.load(Ordering::Relaxed) },
            simulated,
            counters: BTreeMap::new(),
            worst: BTreeMap::new(),
            states: BTreeSet::new(),
            result: Err(Broken::new("hang", what)),
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

fn on_this_thread(scenario: &'static Scenario, seed: u64, plan: Plan, options: Options, shown: Arc<Shown>) -> Ended {
    let _simulated = Simulated::enter(seed);
    interpose::disturb(options.disturb_us);
    trace::begin(options.output.map(|output| output as Box<dyn Write>), Arc::clone(&shown.lines));
    history::begin(Arc::clone(&shown.history));
    let counters = Counters::default();
    let callers = plan.callers.len();
    let ledger = Ledger::open();
    let caught = panic::catch_unwind(AssertUnwindSafe(|| {
        let mut run = Run::new(scenario, seed, plan, options.until, counters.clone(), shown);
        let result = (scenario.run)(&mut run);
        // A run that was to end before is not broken by that.
        let result = if run.is_cut_off() { Ok(()) } else { result };
        (result, run.sim.elapsed(), std::mem::take(&mut run.states))
        // The simulation is dropped here, inside the trace: what dropping it panics on counts.
    }));
    let (result, simulated, states) = match caught {
        Ok((result, simulated, states)) => {
            let memory = ledger.check(history::heap_bytes(), callers);
            (no_panic().and(result).and(memory), simulated, states)
        }
        Err(payload) => {
            (no_panic().and(Err(Broken::new("panic", text_of(&*payload)))), interpose::elapsed(), BTreeSet::new())
        }
    };
    if let Err(broken) = &result {
        error!(%broken, "failed");
    }
    let (counters, worst) = counters.all();
    let trace = trace::end();
    let outcome = Outcome { scenario: scenario.name, seed, trace, simulated, counters, worst, states, result };
    Ended { outcome, history: history::take() }
}

/// A simulation that is running: hosts, the network between them, and what goes wrong with it.
pub struct Run {
    sim: turmoil::Sim<'static>,
    seed: u64,
    plan: Plan,
    until: Option<Duration>,
    counters: Counters,
    states: BTreeSet<u64>,
    shown: Arc<Shown>,
}

/// When a run that has not ended has failed, in simulated time.
const LIMIT: Duration = Duration::from_secs(24 * 3600);

impl Run {
    fn new(
        scenario: &Scenario,
        seed: u64,
        plan: Plan,
        until: Option<Duration>,
        counters: Counters,
        shown: Arc<Shown>,
    ) -> Self {
        info!(scenario = scenario.name, seed, "run");
        let network = &plan.network;
        let latency = Duration::from_millis(network.latency_ms);
        let mut builder = turmoil::Builder::new();
        builder
            .epoch(UNIX_EPOCH + interpose::EPOCH)
            .rng_seed(seed)
            .tick_duration(Duration::from_millis(network.tick_ms))
            .simulation_duration(LIMIT)
            .min_message_latency(latency)
            .max_message_latency(latency)
            .tcp_capacity(network.capacity)
            .udp_capacity(UDP_CAPACITY);
        if network.random_order {
            builder.enable_random_order();
        }
        Self { sim: builder.build(), seed, plan, until, counters, states: BTreeSet::new(), shown }
    }

    /// What the run does.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Whether the run has come to the time at which it was to be cut off.
    fn is_cut_off(&self) -> bool {
        self.until.is_some_and(|until| self.elapsed() >= until)
    }

    /// Books the states that the run was in.
    pub fn states(&mut self, states: BTreeSet<u64>) {
        self.states = states;
    }

    /// The seed that all of the run comes from.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// A generator for one purpose. Those of other purposes are not disturbed by what is drawn from it.
    pub fn rng(&self, purpose: &str) -> ChaCha8Rng {
        rng(self.seed, purpose)
    }

    /// How much time has passed.
    pub fn elapsed(&self) -> Duration {
        self.sim.elapsed()
    }

    /// The counters of this run, which hosts count in as well.
    pub fn counters(&self) -> Counters {
        self.counters.clone()
    }

    /// Adds a host. `software` starts it, now and after each [`bounce`](Self::bounce).
    pub fn host<F, Fut>(&mut self, name: &str, software: F)
    where
        F: Fn() -> Fut + 'static,
        Fut: Future<Output = turmoil::Result> + 'static,
    {
        self.sim.host(name, software);
    }

    /// Adds a host that the run waits for.
    pub fn client<F>(&mut self, name: &str, software: F)
    where
        F: Future<Output = turmoil::Result> + 'static,
    {
        self.sim.client(name, software);
    }

    /// Moves time by one [`TICK`]. True when all clients have ended.
    ///
    /// # Errors
    ///
    /// What a host or client ended with, a panic on any host, or the end of the time that the run has.
    pub fn step(&mut self) -> Result<bool, Broken> {
        if self.is_cut_off() {
            return Err(Broken::new("cut off", "the run was to end here"));
        }
        trace::step();
        let stepped = self.sim.step();
        interpose::set_elapsed(self.sim.elapsed());
        self.shown.steps.fetch_add(1, Ordering::Relaxed);
        let nanos = u64::try_from(self.sim.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.shown.elapsed.store(nanos, Ordering::Relaxed);
        // A task that panicked may have been nobody's to wait for.
        no_panic()?;
        stepped.map_err(|error| match error.downcast::<Broken>() {
            Ok(broken) => *broken,
            Err(error) => Broken::new("scenario", error.to_string()),
        })
    }

    /// Moves time until `at`, counted from the beginning, or until all clients have ended.
    ///
    /// # Errors
    ///
    /// As [`step`](Self::step).
    pub fn until(&mut self, at: Duration) -> Result<bool, Broken> {
        while self.elapsed() < at {
            if self.step()? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Moves time until all clients have ended, which must be before `at`.
    ///
    /// # Errors
    ///
    /// As [`step`](Self::step), and `hang` when a client is still running at `at`.
    pub fn finish_before(&mut self, at: Duration) -> Result<(), Broken> {
        if self.until(at)? {
            return Ok(());
        }
        Err(Broken::new("hang", format!("a client was still running after {:.3} s", at.as_secs_f64())))
    }

    /// Loses all that `a` and `b` send to each other from now on, and what is on its way.
    pub fn partition(&mut self, a: &str, b: &str) {
        info!(a, b, "partition");
        self.sim.partition(a, b);
    }

    /// Loses all that `from` sends to `to` from now on, and what is on its way.
    pub fn partition_oneway(&mut self, from: &str, to: &str) {
        info!(from, to, "one-way partition");
        self.sim.partition_oneway(from, to);
    }

    /// Ends a [`partition`](Self::partition) or a [`partition_oneway`](Self::partition_oneway).
    pub fn repair(&mut self, a: &str, b: &str) {
        info!(a, b, "repair");
        self.sim.repair(a, b);
    }

    /// Keeps back all that `a` and `b` send to each other.
    pub fn hold(&mut self, a: &str, b: &str) {
        info!(a, b, "hold");
        self.sim.hold(a, b);
    }

    /// Ends a [`hold`](Self::hold): what was kept back arrives.
    pub fn release(&mut self, a: &str, b: &str) {
        info!(a, b, "release");
        self.sim.release(a, b);
    }

    /// Sets how long each message between `a` and `b` travels.
    pub fn set_latency(&mut self, a: &str, b: &str, latency: Duration) {
        info!(a, b, ?latency, "latency");
        self.sim.set_link_latency(a, b, latency);
    }

    /// Ends the software of a host, tasks and sockets included.
    pub fn crash(&mut self, host: &str) {
        info!(host, "crash");
        self.sim.crash(host);
    }

    /// Starts the software of a host again.
    pub fn bounce(&mut self, host: &str) {
        info!(host, "bounce");
        self.sim.bounce(host);
    }
}

/// Counts, by name, how often something happened in a run, and keeps how long it took at the most. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct Counters(Arc<Mutex<Counted>>);

#[derive(Debug, Default)]
struct Counted {
    counts: BTreeMap<Cow<'static, str>, u64>,
    worst: BTreeMap<Cow<'static, str>, Worst>,
}

impl Counters {
    /// Adds to a counter.
    pub fn add(&self, name: impl Into<Cow<'static, str>>, count: u64) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).counts.entry(name.into()).or_default() += count;
    }

    /// How often something happened so far.
    pub fn get(&self, name: &str) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).counts.get(name).copied().unwrap_or_default()
    }

    /// Keeps how long something took, if it came nearer to its bound than before.
    pub fn worst(&self, name: &'static str, took: Duration, bound: Duration) {
        let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let new = Worst { ms: ms(took), bound_ms: ms(bound) };
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counted.worst.entry(name.into()).and_modify(|worst| *worst = worst.or(new)).or_insert(new);
    }

    fn all(&self) -> (BTreeMap<Cow<'static, str>, u64>, BTreeMap<Cow<'static, str>, Worst>) {
        let counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (counted.counts.clone(), counted.worst.clone())
    }
}

/// A generator for one purpose of one seed.
pub fn rng(seed: u64, purpose: &str) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(XxHash3_64::oneshot(purpose.as_bytes()));
    rng
}

thread_local! {
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Notes the first panic of a simulated thread. tokio catches what a task panics with, and hands it to whoever joins the
/// task: to nobody, if it was spawned and left.
fn watch_for_panics() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let of_others = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !interpose::is_simulated() {
                return of_others(info);
            }
            let text = format!(
                "{} at {}",
                text_of(info.payload()),
                info.location().map_or(String::new(), ToString::to_string)
            );
            error!(text, "panic");
            PANIC.with_borrow_mut(|first| {
                first.get_or_insert(text);
            });
        }));
    });
}

fn no_panic() -> Result<(), Broken> {
    PANIC.with_borrow(|first| match first {
        Some(text) => Err(Broken::new("panic", text.as_str())),
        None => Ok(()),
    })
}

fn text_of(payload: &(dyn Any + Send)) -> &str {
    payload
        .downcast_ref::<String>()
        .map(String::as_str)
        .or(payload.downcast_ref::<&str>().copied())
        .unwrap_or("a panic")
}
