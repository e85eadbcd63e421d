//! The network and the hosts of a run, over turmoil, and its clock.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use rand_chacha::ChaCha8Rng;
use tracing::info;

use crate::counters::Counters;
use crate::plan::Plan;
use crate::random::rng;
use crate::verdict::Violation;
use crate::{interpose, panics, trace};

/// How many datagrams a socket holds for a reader. turmoil drops those on top without a word, and its default is 64.
const UDP_CAPACITY: usize = 4_096;

/// When a run that has not ended has failed, in simulated time.
const LIMIT: Duration = Duration::from_secs(24 * 3600);

/// A simulation that is running: hosts, the network between them, and what goes wrong with it.
pub struct Run {
    sim: turmoil::Sim<'static>,
    seed: u64,
    plan: Plan,
    until: Option<Duration>,
    counters: Counters,
    states: BTreeSet<u64>,
    progress: Arc<Progress>,
}

impl Run {
    /// The simulation of a scenario with a seed and a plan, which is cut off at `until`.
    pub(crate) fn new(
        scenario: &'static str,
        seed: u64,
        plan: Plan,
        until: Option<Duration>,
        counters: Counters,
        progress: Arc<Progress>,
    ) -> Self {
        info!(scenario, seed, "run");
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
        Self { sim: builder.build(), seed, plan, until, counters, states: BTreeSet::new(), progress }
    }

    /// What the run does.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Whether the run has come to the time at which it was to be cut off.
    pub(crate) fn is_cut_off(&self) -> bool {
        self.until.is_some_and(|until| self.elapsed() >= until)
    }

    /// Takes the states that the run was in.
    pub(crate) fn take_states(&mut self) -> BTreeSet<u64> {
        std::mem::take(&mut self.states)
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

    /// Moves time by one [`TICK`](crate::plan::TICK). True when all clients have ended.
    ///
    /// # Errors
    ///
    /// What a host or client ended with, a panic on any host, or the end of the time that the run has.
    pub fn step(&mut self) -> Result<bool, Violation> {
        if self.is_cut_off() {
            return Err(Violation::new("cut off", "the run was to end here"));
        }
        trace::step();
        let stepped = self.sim.step();
        interpose::set_elapsed(self.sim.elapsed());
        self.progress.steps.fetch_add(1, Ordering::Relaxed);
        let nanos = u64::try_from(self.sim.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.progress.elapsed.store(nanos, Ordering::Relaxed);
        // A task that panicked may have been nobody's to wait for.
        panics::none()?;
        stepped.map_err(|error| match error.downcast::<Violation>() {
            Ok(broken) => *broken,
            Err(error) => Violation::new("scenario", error.to_string()),
        })
    }

    /// Moves time until `at`, counted from the beginning, or until all clients have ended.
    ///
    /// # Errors
    ///
    /// As [`step`](Self::step).
    pub fn until(&mut self, at: Duration) -> Result<bool, Violation> {
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
    pub fn finish_before(&mut self, at: Duration) -> Result<(), Violation> {
        if self.until(at)? {
            return Ok(());
        }
        Err(Violation::new("hang", format!("a client was still running after {:.3} s", at.as_secs_f64())))
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

/// How far a run has come, for whoever waits for it.
#[derive(Default)]
pub(crate) struct Progress {
    /// How many steps its clock has made.
    pub(crate) steps: AtomicU64,
    /// How much time has passed in it, in nanoseconds.
    pub(crate) elapsed: AtomicU64,
}
