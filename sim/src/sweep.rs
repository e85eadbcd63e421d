//! Many runs, over the cores of the machine, each in a [process of its own](crate::subprocess).

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use crate::outcome::Outcome;
use crate::scenarios::Scenario;
use crate::subprocess::{Job, Ran};

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
    /// Which share of the seeds, counted from 0, of how many: every so many-th seed.
    pub shard: (u64, u64),
    /// How many runs at once.
    pub jobs: usize,
    /// Whether each run is done twice, and compared.
    pub twice: bool,
}

/// What happened next in a sweep.
#[derive(Debug)]
pub enum Event {
    /// A run has ended, and took so long in real time.
    Done(Box<Outcome>, Duration),
    /// Two runs with the same seed were not the same.
    Diverged(Box<Outcome>, Box<Outcome>),
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
        let (share, of) = self.shard;
        let seeds = self.seeds.saturating_sub(share).div_ceil(of.max(1));
        seeds.saturating_mul(self.scenarios.len() as u64)
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
        match Job::new(scenario, seed).run_once_or_twice(self.sweep.twice) {
            Ran::Done(outcome, took) => Event::Done(outcome, took),
            Ran::Diverged(first, second) => Event::Diverged(first, second),
            Ran::Lost(how) => Event::Lost { scenario: scenario.name, seed, how },
        }
    }

    fn run_of(&self, index: u64) -> (&'static Scenario, u64) {
        let scenarios = self.sweep.scenarios.len() as u64;
        let which = usize::try_from(index % scenarios).expect("an index of a vector");
        let (share, of) = self.sweep.shard;
        let seed = self.sweep.from.wrapping_add(index / scenarios * of.max(1) + share);
        (self.sweep.scenarios[which], seed)
    }
}
