//! A run: one scenario with one seed, on a thread of its own.

use std::any::Any;
use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::io::Write;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Mutex, Once, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, UNIX_EPOCH};

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use tracing::{error, info};
use twox_hash::XxHash3_64;

use crate::interpose::{self, NotInterposed, Simulated};
use crate::scenarios::{self, Scenario};
use crate::trace;

/// By how much the simulated clock moves in one step. Hosts see what others sent at the next step.
pub const TICK: Duration = Duration::from_millis(5);

/// A guarantee that did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
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
        write!(f, "; {:.3} s simulated, {} events, trace {:032x}", simulated.as_secs_f64(), trace.lines, trace.hash)?;
        self.counters.iter().try_for_each(|(name, count)| write!(f, "; {name}: {count}"))
    }
}

/// The network of a run.
#[derive(Clone, Debug)]
pub struct Network {
    /// How long every message travels. One value for all: turmoil draws it anew for each packet, which TCP on a real path
    /// does not see.
    pub latency: Duration,
    /// How many segments a socket holds for a reader.
    pub tcp_capacity: usize,
    /// Whether the hosts run in an order that is drawn anew, from the seed, in each step.
    pub random_order: bool,
    /// When a run that has not ended has failed, in simulated time.
    pub limit: Duration,
}

impl Default for Network {
    fn default() -> Self {
        Self {
            latency: Duration::from_millis(10),
            tcp_capacity: 1024,
            random_order: false,
            limit: Duration::from_secs(600),
        }
    }
}

/// Runs a scenario with a seed, on a fresh thread, and waits for the end of it. The trace is written to `output` as it
/// comes.
///
/// # Panics
///
/// When the clock or the randomness of this program is not simulated: see [`interpose::check`].
pub fn run(scenario: &'static Scenario, seed: u64, output: Option<Box<dyn Write + Send>>) -> Outcome {
    static CHECKED: OnceLock<Result<(), NotInterposed>> = OnceLock::new();
    if let Err(error) = CHECKED.get_or_init(interpose::check) {
        panic!("{error}");
    }
    watch_for_panics();
    thread::Builder::new()
        .name(format!("{} {seed}", scenario.name))
        .spawn(move || on_this_thread(scenario, seed, output))
        .expect("a thread")
        .join()
        .expect("a run catches its panics")
}

fn on_this_thread(scenario: &'static Scenario, seed: u64, output: Option<Box<dyn Write + Send>>) -> Outcome {
    let _simulated = Simulated::enter(seed);
    trace::begin(output.map(|output| output as Box<dyn Write>));
    let counters = Counters::default();
    let caught = panic::catch_unwind(AssertUnwindSafe(|| {
        let mut run = Run::new(scenario, seed, counters.clone());
        let result = (scenario.run)(&mut run);
        (result, run.sim.elapsed())
        // The simulation is dropped here, inside the trace: what dropping it panics on counts.
    }));
    let (result, simulated) = match caught {
        Ok((result, simulated)) => (no_panic().and(result), simulated),
        Err(payload) => (no_panic().and(Err(Broken::new("panic", text_of(&*payload)))), interpose::elapsed()),
    };
    if let Err(broken) = &result {
        error!(%broken, "failed");
    }
    Outcome { scenario: scenario.name, seed, trace: trace::end(), simulated, counters: counters.all(), result }
}

/// A simulation that is running: hosts, the network between them, and what goes wrong with it.
pub struct Run {
    sim: turmoil::Sim<'static>,
    seed: u64,
    counters: Counters,
}

impl Run {
    fn new(scenario: &Scenario, seed: u64, counters: Counters) -> Self {
        let network = (scenario.network)(&mut rng(seed, "network"));
        info!(scenario = scenario.name, seed, ?network, "run");
        let mut builder = turmoil::Builder::new();
        builder
            .epoch(UNIX_EPOCH + interpose::EPOCH)
            .rng_seed(seed)
            .tick_duration(TICK)
            .simulation_duration(network.limit)
            .min_message_latency(network.latency)
            .max_message_latency(network.latency)
            .tcp_capacity(network.tcp_capacity);
        if network.random_order {
            builder.enable_random_order();
        }
        Self { sim: builder.build(), seed, counters }
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

    /// Adds a host that can crash. `software` starts it, now and after each [`bounce`](Self::bounce).
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
        let stepped = self.sim.step();
        interpose::set_elapsed(self.sim.elapsed());
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
        self.counters.add("partitions", 1);
        self.sim.partition(a, b);
    }

    /// Ends a [`partition`](Self::partition).
    pub fn repair(&mut self, a: &str, b: &str) {
        info!(a, b, "repair");
        self.sim.repair(a, b);
    }

    /// Keeps back all that `a` and `b` send to each other.
    pub fn hold(&mut self, a: &str, b: &str) {
        info!(a, b, "hold");
        self.counters.add("holds", 1);
        self.sim.hold(a, b);
    }

    /// Ends a [`hold`](Self::hold): what was kept back arrives.
    pub fn release(&mut self, a: &str, b: &str) {
        info!(a, b, "release");
        self.sim.release(a, b);
    }

    /// Ends the software of a host, tasks and sockets included.
    pub fn crash(&mut self, host: &str) {
        info!(host, "crash");
        self.counters.add("crashes", 1);
        self.sim.crash(host);
    }

    /// Starts the software of a host again.
    pub fn bounce(&mut self, host: &str) {
        info!(host, "bounce");
        self.sim.bounce(host);
    }
}

/// Counts, by name, how often something happened in a run. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct Counters(Arc<Mutex<BTreeMap<&'static str, u64>>>);

impl Counters {
    /// Adds to a counter.
    pub fn add(&self, name: &'static str, count: u64) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(name).or_default() += count;
    }

    fn all(&self) -> BTreeMap<Cow<'static, str>, u64> {
        let counters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counters.iter().map(|(name, count)| (Cow::Borrowed(*name), *count)).collect()
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
