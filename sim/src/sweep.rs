//! Many runs, over the cores of the machine.
//!
//! Each run is a process of its own. tokio numbers tasks by a counter of the whole process, and drops what is left of a
//! crashed host in an order that depends on these numbers: beside other runs, a run would not be the same as alone.

#![expect(clippy::disallowed_methods, reason = "whether a run is stuck is told by real time")]

use std::env;
use std::io::{self, Read};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use crate::run::Outcome;
use crate::scenarios::Scenario;

/// After how long, in real time, a run counts as one that never ends: time does not pass while a task keeps waking itself.
const STUCK_AFTER: Duration = Duration::from_secs(120);

/// How often a run is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// How often something is told, if only that nothing has happened.
const TELL_EVERY: Duration = Duration::from_millis(200);

/// What to run: every scenario with every seed.
pub struct Sweep {
    /// The scenarios.
    pub scenarios: Vec<&'static Scenario>,
    /// The first seed.
    pub from: u64,
    /// How many seeds.
    pub seeds: u64,
    /// How many runs at once.
    pub jobs: usize,
    /// Whether each run is done twice, and compared.
    pub twice: bool,
}

/// What happened next in a sweep.
#[derive(Debug)]
pub enum Event {
    /// A run has ended.
    Done(Outcome),
    /// Two runs with the same seed were not the same.
    Diverged(Outcome, Outcome),
    /// A run gave no outcome.
    Lost {
        /// The name of the scenario.
        scenario: &'static str,
        /// The seed.
        seed: u64,
        /// What became of it.
        how: String,
    },
    /// Nothing happened for a while.
    Quiet,
}

/// Whether a sweep goes on after an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// Go on.
    Continue,
    /// Start no further run.
    Stop,
}

impl Sweep {
    /// How many runs there are.
    pub fn runs(&self) -> u64 {
        self.seeds.saturating_mul(self.scenarios.len() as u64)
    }

    /// Runs all, and tells `tell` of each run in the order in which they end. A run that failed is repeated, so that what
    /// is reported can be replayed.
    pub fn run(self, mut tell: impl FnMut(Event) -> Then) {
        let jobs = self.jobs.max(1);
        let shared = Arc::new(Shared { next: AtomicU64::new(0), sweep: self });
        // One place for each worker: they wait for a slow reader of events.
        let (send, events) = mpsc::sync_channel(jobs);
        for _ in 0..jobs {
            let (shared, send) = (Arc::clone(&shared), send.clone());
            thread::spawn(move || shared.work(&send));
        }
        drop(send);
        let mut stopped = false;
        loop {
            let event = match events.recv_timeout(TELL_EVERY) {
                Ok(event) => event,
                Err(mpsc::RecvTimeoutError::Timeout) => Event::Quiet,
                Err(mpsc::RecvTimeoutError::Disconnected) => return,
            };
            if !stopped && tell(event) == Then::Stop {
                stopped = true;
                shared.next.store(u64::MAX / 2, Ordering::Relaxed);
            }
        }
    }
}

struct Shared {
    sweep: Sweep,
    next: AtomicU64,
}

impl Shared {
    fn work(&self, events: &mpsc::SyncSender<Event>) {
        loop {
            let index = self.next.fetch_add(1, Ordering::Relaxed);
            if index >= self.sweep.runs() || events.send(self.once_or_twice(index)).is_err() {
                return;
            }
        }
    }

    fn once_or_twice(&self, index: u64) -> Event {
        let (scenario, seed) = self.run_of(index);
        let outcomes = || {
            let first = run_apart(scenario, seed)?;
            let second =
                if first.result.is_err() || self.sweep.twice { Some(run_apart(scenario, seed)?) } else { None };
            Ok::<_, String>((first, second))
        };
        match outcomes() {
            Ok((first, Some(second))) if first != second => Event::Diverged(first, second),
            Ok((first, _)) => Event::Done(first),
            Err(how) => Event::Lost { scenario: scenario.name, seed, how },
        }
    }

    fn run_of(&self, index: u64) -> (&'static Scenario, u64) {
        let scenarios = self.sweep.scenarios.len() as u64;
        let which = usize::try_from(index % scenarios).expect("an index of a vector");
        (self.sweep.scenarios[which], self.sweep.from.wrapping_add(index / scenarios))
    }
}

/// Runs a seed in a process of its own.
fn run_apart(scenario: &Scenario, seed: u64) -> Result<Outcome, String> {
    let io = |error: io::Error| format!("its process cannot be run: {error}");
    let mut child = Command::new(env::current_exe().map_err(io)?)
        .args(["replay", &seed.to_string(), "--scenario", scenario.name, "--json"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(io)?;
    let begun = Instant::now();
    // The outcome is one line, which the pipe holds until the process has ended.
    let status = loop {
        if let Some(status) = child.try_wait().map_err(io)? {
            break status;
        }
        if begun.elapsed() > STUCK_AFTER {
            child.kill().map_err(io)?;
            child.wait().map_err(io)?;
            return Err(format!("hang: simulated time stood still for {} s", STUCK_AFTER.as_secs()));
        }
        thread::sleep(LOOK_EVERY);
    };
    let mut line = String::new();
    if let Some(mut stdout) = child.stdout.take() {
        stdout.read_to_string(&mut line).map_err(io)?;
    }
    Outcome::from_json(&line).ok_or_else(|| format!("its process ended with {status}, and without an outcome"))
}
