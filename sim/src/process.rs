//! The process of a host: its software, in a runtime of its own beside the kernel.
//!
//! It runs between two steps of the network. So it may stand still while the network and its own kernel go on.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::task::{JoinHandle, LocalSet};
use tokio::time::{advance, sleep};

use crate::interpose::elapsed;
use crate::net::Kernel;
use crate::yields::yielding;

/// How the software of a host ends.
pub type Ended = Result<(), Box<dyn std::error::Error>>;

type Software = Box<dyn Fn() -> Pin<Box<dyn Future<Output = Ended>>>>;

/// How a process stands still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The whole process was stopped, as it waited for the kernel: what has come is the first that it learns of.
    Process,
    /// A task has kept its thread: what else was to run then sees a late clock, and sockets as they were before.
    Executor,
}

/// The process of a host.
pub(crate) struct Process {
    kernel: Kernel,
    software: Software,
    running: Option<Running>,
    /// How much time has passed since it ran last.
    behind: Duration,
    /// How often it was stopped; it runs at zero. How, last.
    stopped: u32,
    how: Stop,
    /// What a task does before it keeps its thread.
    last_deed: Option<Box<dyn FnOnce()>>,
    /// Until when it stood still.
    stood_still: Duration,
}

struct Running {
    main: JoinHandle<Ended>,
    local: LocalSet,
    runtime: Runtime,
}

impl Process {
    /// A process that runs.
    pub(crate) fn start<F, Fut>(kernel: Kernel, software: F) -> io::Result<Self>
    where
        F: Fn() -> Fut + 'static,
        Fut: Future<Output = Ended> + 'static,
    {
        let software: Software = Box::new(move || Box::pin(software()));
        let mut process = Self {
            kernel,
            software,
            running: None,
            behind: Duration::ZERO,
            stopped: 0,
            how: Stop::Process,
            last_deed: None,
            stood_still: Duration::ZERO,
        };
        process.restart()?;
        Ok(process)
    }

    /// Runs the software once more, from its beginning.
    pub(crate) fn restart(&mut self) -> io::Result<()> {
        self.kill();
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build()?;
        let local = LocalSet::new();
        let main = {
            let _runtime = runtime.enter();
            local.spawn_local(yielding((self.software)()))
        };
        self.running = Some(Running { main, local, runtime });
        self.behind = Duration::ZERO;
        Ok(())
    }

    /// Ends it at once. Its kernel closes its sockets.
    pub(crate) fn kill(&mut self) {
        if let Some(Running { main, local, runtime }) = self.running.take() {
            let entered = runtime.enter();
            drop((main, local));
            drop(entered);
        }
    }

    /// Lets it stand still until it [goes on](Self::go_on), as often as it was stopped. A task that keeps its thread has done
    /// `deed` before: whom that wakes runs late, and knows of the sockets what was known before.
    pub(crate) fn stop(&mut self, how: Stop, deed: impl FnOnce() + 'static) {
        if !self.is_stopped() && how == Stop::Executor {
            self.last_deed = Some(Box::new(deed));
        }
        (self.stopped, self.how) = (self.stopped + 1, how);
    }

    /// Whether it stands still.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped > 0
    }

    /// Ends a [`stop`](Self::stop).
    pub(crate) fn go_on(&mut self) {
        self.stopped -= 1;
        self.stood_still = elapsed();
    }

    /// Until when it stood still.
    pub(crate) fn stood_still(&self) -> Duration {
        self.stood_still
    }

    /// How many tasks it has, beside those that are local to its thread.
    pub(crate) fn alive_tasks(&self) -> usize {
        self.running.as_ref().map_or(0, |running| running.runtime.metrics().num_alive_tasks())
    }

    /// Whether its software has ended.
    pub(crate) fn has_ended(&self) -> bool {
        self.running.as_ref().is_none_or(|running| running.main.is_finished())
    }

    /// Runs it for so long as the network has gone on, which is a tick, or more after it stood still. Fails as its software
    /// does.
    pub(crate) fn step(&mut self, tick: Duration) -> Ended {
        self.behind += tick;
        let is_stopped = self.is_stopped();
        let Some(Running { main, local, runtime }) = &mut self.running else { return Ok(()) };
        if is_stopped || main.is_finished() {
            return Ok(());
        }
        let missed = std::mem::take(&mut self.behind).saturating_sub(tick);
        let kept = self.last_deed.take().filter(|_| self.how == Stop::Executor);
        if kept.is_none() {
            self.kernel.turn();
        }
        let kernel = self.kernel.clone();
        runtime.block_on(local.run_until(async {
            if let Some(deed) = kept {
                deed();
                // As the reactor does, after those that were to run before.
                tokio::spawn(async move { kernel.turn() });
            }
            if missed > Duration::ZERO {
                // All that has become due meanwhile is due at once.
                advance(missed).await;
            }
            sleep(tick).await;
        }));
        if main.is_finished() { runtime.block_on(main).unwrap_or_else(|error| Err(error.into())) } else { Ok(()) }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
