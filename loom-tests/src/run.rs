//! How models are run, and what a run tells of itself.

use std::{
    collections::BTreeSet,
    env,
    hash::{DefaultHasher, Hasher},
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Instant,
};

use loom::model::Builder;
use serde::{Deserialize, Serialize};
use shuttle::{
    Config, Runner,
    scheduler::{PctScheduler, RandomScheduler, ReplayScheduler, Schedule, Scheduler, Task, TaskId},
};

use crate::backend;

/// Where a run appends its [`Record`], if this names a file.
pub const RECORDS: &str = "LOOM_TESTS_RECORDS";
/// How many schedules of each kind [`sample`] draws.
pub const SCHEDULES: &str = "LOOM_TESTS_SCHEDULES";
/// From what [`sample`] draws them.
pub const SEED: &str = "LOOM_TESTS_SEED";
/// The one schedule that [`sample`] runs, as a failure prints it.
pub const REPLAY: &str = "LOOM_TESTS_REPLAY";

/// How many schedules of each kind [`sample`] draws unless told otherwise: few enough for `cargo test`.
const FEW: usize = 2_000;
/// How many times a schedule of PCT lowers the priority of the thread that runs, plus one: a mistake that so many
/// constraints on the order of two steps bring out is found with a known probability.
const DEPTH: usize = 4;

/// How many times a model may switch away from a thread that could go on.
#[derive(Clone, Copy, Debug)]
pub enum Preemptions {
    /// Every interleaving is explored.
    Unbounded,
    /// Those with at most so many preemptions. Three is the least worth having.
    AtMost(usize),
}

/// How a model is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// In every execution.
    Exhaustive,
    /// In every execution with at most this many preemptions.
    Preemptions(usize),
    /// On schedules drawn at random.
    Sampled,
}

/// Who runs a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Checker {
    /// It explores executions.
    Loom,
    /// It draws them.
    Shuttle,
}

/// What one run of a model tells of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// What was run: a test, or one of the variants of a test.
    pub model: String,
    /// Who ran it.
    pub checker: Checker,
    /// Whether threads could wake for no reason, and deadlines pass.
    pub spurious: bool,
    /// How it was run.
    pub bound: Bound,
    /// The most threads that used the core in one execution.
    pub threads: usize,
    /// How many executions were finished.
    pub executions: usize,
    /// How many of them were different from each other.
    pub distinct: usize,
    /// How long that took.
    pub seconds: f64,
}

impl Record {
    /// Tells it, on the standard output and to whoever asked for it.
    fn publish(&self) {
        let Self { model, bound, threads, executions, distinct, seconds, .. } = self;
        let distinct = if distinct == executions { String::new() } else { format!(" ({distinct} distinct)") };
        println!("{model}: {executions} executions{distinct}, {bound:?}, {threads} threads, {seconds:.2} s");
        if let Some(path) = env::var_os(RECORDS) {
            let line = serde_json::to_string(self).expect("a record is text and numbers");
            let mut file = std::fs::File::options().append(true).create(true).open(path).expect("a file of records");
            std::io::Write::write_all(&mut file, format!("{line}\n").as_bytes()).expect("the file of records takes it");
        }
    }
}

/// Counts the executions of a model.
#[derive(Clone, Default)]
struct Count {
    begun: Arc<AtomicUsize>,
    finished: Arc<AtomicUsize>,
    threads: Arc<AtomicUsize>,
    spurious: Arc<AtomicBool>,
}

impl Count {
    fn model(&self, model: impl Fn() + Send + Sync + 'static) -> impl Fn() + Send + Sync + 'static {
        let Self { begun, finished, threads, spurious } = self.clone();
        move || {
            begun.fetch_add(1, Ordering::Relaxed);
            let _ = backend::take_use();
            model();
            let used = backend::take_use();
            threads.fetch_max(used.threads, Ordering::Relaxed);
            spurious.fetch_or(used.spurious, Ordering::Relaxed);
            finished.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn record(&self, model: &str, checker: Checker, bound: Bound, begun: Instant) -> Record {
        let executions = self.finished.load(Ordering::Relaxed);
        assert_eq!(self.begun.load(Ordering::Relaxed), executions, "{model}: an execution was left unfinished");
        let threads = self.threads.load(Ordering::Relaxed);
        let spurious = self.spurious.load(Ordering::Relaxed);
        let seconds = now().duration_since(begun).as_secs_f64();
        let (model, distinct) = (model.to_owned(), executions);
        Record { model, checker, spurious, bound, threads, executions, distinct, seconds }
    }
}

#[expect(clippy::disallowed_methods, reason = "how long a model takes is real time")]
fn now() -> Instant {
    Instant::now()
}

/// Runs a model under loom, over all of its executions.
///
/// # Panics
///
/// If the model panics in one of them, if not every execution was finished, or if there were fewer than `least`: then
/// the model no longer contains the race that it is about.
pub fn explore(name: &str, preemptions: Preemptions, least: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = Builder::new();
    // Limits that would end the exploration without a word, whatever the environment says.
    builder.max_permutations = None;
    builder.max_duration = None;
    builder.checkpoint_file = None;
    let bound = match preemptions {
        Preemptions::Unbounded => {
            builder.preemption_bound = None;
            Bound::Exhaustive
        }
        Preemptions::AtMost(bound) => {
            assert!(bound >= 3, "{name}: a bound below 3 proves little");
            builder.preemption_bound = Some(bound);
            Bound::Preemptions(bound)
        }
    };
    let (count, begun) = (Count::default(), now());
    builder.check(count.model(model));
    let record = count.record(name, Checker::Loom, bound, begun);
    record.publish();
    assert!(record.executions >= least, "{name}: only {} executions of at least {least}", record.executions);
}

/// Runs a model under shuttle: for what loom cannot finish. Half of the schedules take any thread that can go on, the
/// others run the threads by priorities that change a few times (PCT, <https://doi.org/10.1145/1736020.1736040>).
///
/// [`SCHEDULES`] says how many of each, [`SEED`] which. A failure prints its schedule, and [`REPLAY`] runs that alone.
///
/// # Panics
///
/// If the model panics or deadlocks on one of the schedules, or takes a million steps.
pub fn sample(name: &str, model: impl Fn() + Send + Sync + 'static) {
    let (count, begun) = (Count::default(), now());
    let model = Arc::new(count.model(model));
    let drawn = Arc::new(std::sync::Mutex::new(BTreeSet::new()));
    let run = |scheduler: Box<dyn Scheduler + Send>| {
        let scheduler = Distinct { scheduler, taken: None, drawn: Arc::clone(&drawn) };
        let model = Arc::clone(&model);
        Runner::new(scheduler, Config::default()).run(move || model());
    };
    if let Ok(schedule) = env::var(REPLAY) {
        run(Box::new(ReplayScheduler::new_from_encoded(&schedule)));
        println!("{name}: the schedule passed");
        return;
    }
    let schedules = number(SCHEDULES).map_or(FEW, |schedules| usize::try_from(schedules).unwrap_or(usize::MAX));
    let schedules = NonZeroUsize::new(schedules).expect("at least one schedule").get();
    let seed = number(SEED).unwrap_or(0);
    println!("{name}: {schedules} schedules of each kind, seed {seed}; what fails is replayed with {REPLAY}=SCHEDULE");
    run(Box::new(PctScheduler::new_from_seed(seed, DEPTH, schedules)));
    run(Box::new(RandomScheduler::new_from_seed(seed, schedules)));
    let mut record = count.record(name, Checker::Shuttle, Bound::Sampled, begun);
    assert_eq!(record.executions, 2 * schedules, "{name}: not every schedule was run");
    record.distinct = drawn.lock().expect("no scheduler panicked").len();
    record.publish();
}

fn number(variable: &str) -> Option<u64> {
    env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{variable}={text} is no number")))
}

/// Counts the schedules that differ.
struct Distinct {
    scheduler: Box<dyn Scheduler + Send>,
    /// The choices of this execution. `None` before the first.
    taken: Option<DefaultHasher>,
    drawn: Arc<std::sync::Mutex<BTreeSet<u64>>>,
}

impl Scheduler for Distinct {
    fn new_execution(&mut self) -> Option<Schedule> {
        if let Some(taken) = self.taken.replace(DefaultHasher::new()) {
            self.drawn.lock().expect("no scheduler panicked").insert(taken.finish());
        }
        self.scheduler.new_execution()
    }

    fn next_task(&mut self, runnable: &[&Task], current: Option<TaskId>, is_yielding: bool) -> Option<TaskId> {
        let next = self.scheduler.next_task(runnable, current, is_yielding);
        // There is no choice where one alone can go on.
        if let (Some(next), Some(taken), true) = (next, &mut self.taken, runnable.len() > 1) {
            taken.write_usize(next.into());
        }
        next
    }

    fn next_u64(&mut self) -> u64 {
        self.scheduler.next_u64()
    }
}
