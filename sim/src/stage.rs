//! The network and the hosts of a run, over turmoil, and its clock.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use lossy::{Impairments, Stack};
use rand_chacha::ChaCha8Rng;
use tracing::{Span, info, info_span};

use crate::counters::Counters;
use crate::net::{Kernel, Names};
use crate::plan::Plan;
use crate::process::{Ended, Process, Stop};
use crate::random::rng;
use crate::verdict::Violation;
use crate::{interpose, panics, trace};

/// How many datagrams a socket holds for a reader. turmoil drops those on top without a word, and its default is 64.
const UDP_CAPACITY: usize = 4_096;

/// When a run that has not ended has failed, in simulated time.
const LIMIT: Duration = Duration::from_secs(24 * 3600);

/// A simulation that is running: hosts, the network between them, and what goes wrong with it.
pub struct Run {
    /// What runs on each host, in the order in which they were added.
    processes: Vec<(&'static str, Process)>,
    /// The span of each: to make one anew in each step would cost as much as the step.
    spans: Vec<Span>,
    /// The processes that the run waits for.
    clients: BTreeSet<&'static str>,
    sim: turmoil::Sim<'static>,
    names: Names,
    seed: u64,
    plan: Plan,
    until: Option<Duration>,
    counters: Counters,
    states: BTreeSet<u64>,
    reached: Vec<u64>,
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
            .udp_capacity(UDP_CAPACITY);
        if network.random_order {
            builder.enable_random_order();
        }
        Self {
            processes: Vec::new(),
            spans: Vec::new(),
            clients: BTreeSet::new(),
            sim: builder.build(),
            names: Names::default(),
            seed,
            plan,
            until,
            counters,
            states: BTreeSet::new(),
            reached: Vec::new(),
            progress,
        }
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

    /// Takes what the run came to.
    pub(crate) fn take_reached(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.reached)
    }

    /// Books what the run came to.
    pub fn reached(&mut self, reached: Vec<u64>) {
        self.reached = reached;
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

    /// The addresses of the hosts.
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// The kernel of a host that is to be added.
    pub fn kernel(&self) -> Kernel {
        Kernel::new(self.names.clone())
    }

    /// Adds a host. `tcp` starts the TCP of its kernel, and `software` its process, now and whenever they are started again.
    ///
    /// # Panics
    ///
    /// When the system has nothing for a runtime.
    pub fn host<T, TFut, F, Fut>(&mut self, name: &'static str, kernel: &Kernel, tcp: T, software: F)
    where
        T: Fn() -> TFut + 'static,
        TFut: Future<Output = io::Result<Stack>> + 'static,
        F: Fn() -> Fut + 'static,
        Fut: Future<Output = Ended> + 'static,
    {
        let runs = kernel.clone();
        self.sim.host(name, move || {
            let (kernel, tcp) = (runs.clone(), tcp());
            async move {
                kernel.run(tcp.await?).await;
                Ok(())
            }
        });
        self.names.insert(name, self.sim.lookup(name));
        let process = Process::start(kernel.clone(), software).expect("a runtime");
        self.processes.push((name, process));
        self.spans.push(info_span!("process", host = name));
    }

    /// [`host`](Self::host), in a network that loses nothing.
    pub fn server<F, Fut>(&mut self, name: &'static str, kernel: &Kernel, software: F)
    where
        F: Fn() -> Fut + 'static,
        Fut: Future<Output = Ended> + 'static,
    {
        let (seed, counters) = (self.seed, self.counters());
        let tcp = move || {
            let rng = rng(seed, &format!("TCP of {name} at {:?}", interpose::elapsed()));
            let counters = Arc::new(counters.clone());
            async move { Stack::start(Impairments::default(), rng, counters).await }
        };
        self.host(name, kernel, tcp, software);
    }

    /// [`server`](Self::server), for the end of whose process the run waits.
    pub fn client<F>(&mut self, name: &'static str, kernel: &Kernel, software: F)
    where
        F: Future<Output = Ended> + 'static,
    {
        let software = RefCell::new(Some(software));
        let once = move || {
            let software = software.borrow_mut().take();
            async move { software.ok_or("a client is not started again")?.await }
        };
        self.server(name, kernel, once);
        self.clients.insert(name);
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
        let stepped = self.sim.step().map_err(|error| -> Box<dyn std::error::Error> { error });
        interpose::set_elapsed(self.sim.elapsed());
        let tick = Duration::from_millis(self.plan.network.tick_ms);
        let processes = self.processes.iter_mut().zip(&self.spans);
        let stepped = processes.fold(stepped.map(drop), |stepped, ((_, process), span)| {
            let _host = span.enter();
            stepped.and(process.step(tick))
        });
        self.progress.steps.fetch_add(1, Ordering::Relaxed);
        let nanos = u64::try_from(self.sim.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.progress.elapsed.store(nanos, Ordering::Relaxed);
        // A task that panicked may have been nobody's to wait for.
        panics::none()?;
        match stepped.map_err(<dyn std::error::Error>::downcast::<Violation>) {
            Ok(()) => Ok(self.clients_have_ended()),
            Err(Ok(broken)) => Err(*broken),
            Err(Err(error)) => Err(Violation::new("scenario", error.to_string())),
        }
    }

    fn clients_have_ended(&self) -> bool {
        self.processes.iter().filter(|(name, _)| self.clients.contains(name)).all(|(_, process)| process.has_ended())
    }

    fn process(&mut self, host: &str) -> Option<&mut Process> {
        self.processes.iter_mut().find(|(name, _)| *name == host).map(|(_, process)| process)
    }

    /// How many tasks run in the process of a host, beside those of the program itself.
    pub fn alive_tasks(&self, host: &str) -> usize {
        self.processes.iter().find(|(name, _)| *name == host).map_or(0, |(_, process)| process.alive_tasks())
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

    /// Ends the process of a host. Its kernel closes the sockets.
    pub fn kill(&mut self, host: &str) {
        info!(host, "killed");
        if let Some(process) = self.process(host) {
            process.kill();
        }
    }

    /// Starts the software of a host again.
    ///
    /// # Panics
    ///
    /// When the system has nothing for a runtime.
    pub fn restart(&mut self, host: &str) {
        info!(host, "restarted");
        if let Some(process) = self.process(host) {
            process.restart().expect("a runtime");
        }
    }

    /// Ends the kernel of a host, which says nothing more, and its process.
    pub fn lose_power(&mut self, host: &str) {
        info!(host, "power lost");
        self.sim.crash(host);
        if let Some(process) = self.process(host) {
            process.kill();
        }
    }

    /// Starts the kernel of a host again.
    pub fn restore_power(&mut self, host: &str) {
        info!(host, "power restored");
        self.sim.bounce(host);
    }

    /// Lets the process of a host stand still. Its kernel goes on. A task that keeps its thread has done `deed` before.
    pub fn stop(&mut self, host: &str, how: Stop, deed: impl FnOnce() + 'static) {
        info!(host, ?how, "stopped");
        if let Some(process) = self.process(host) {
            process.stop(how, deed);
        }
    }

    /// Until when the process of a host stood still.
    pub fn stood_still(&self, host: &str) -> Duration {
        let process = self.processes.iter().find(|(name, _)| *name == host);
        process.map_or(Duration::ZERO, |(_, process)| process.stood_still())
    }

    /// Whether the process of a host stands still.
    pub fn is_stopped(&self, host: &str) -> bool {
        self.processes.iter().any(|(name, process)| *name == host && process.is_stopped())
    }

    /// Ends a [`stop`](Self::stop).
    pub fn go_on(&mut self, host: &str) {
        info!(host, "goes on");
        if let Some(process) = self.process(host) {
            process.go_on();
        }
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
