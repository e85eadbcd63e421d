//! How a manager ends.
//!
//! A dedicated task carries out the shutdown, so that dropping a `shutdown()` future stops nothing.

use std::{future::pending, pin::pin, sync::Arc, thread, time::Duration};

use tokio::{
    task::{JoinError, JoinHandle},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::{
    deadline,
    error::{GaveUp, GaveUpCause, Stopped},
    provider::{
        installer::Slot,
        progress::{Activity, Progress},
        tasks::Tasks,
    },
    session::Session,
    sync::{Earliest, Latch, Steps, StopGuard},
};

/// Grace past the deadline before tasks are dropped. Sessions normally keep the deadline themselves.
const GRACE: Duration = Duration::from_millis(500);

/// Requests the shutdown, and waits for it.
#[derive(Clone)]
pub(super) struct Shutdown {
    deadline: Arc<Earliest<Instant>>,
    external: Option<CancellationToken>,
    finished: Arc<Latch<()>>,
    tasks: Tasks,
}

impl Shutdown {
    /// A shutdown of these tasks, which the external token can request as well.
    pub(super) fn new(tasks: Tasks, external: Option<CancellationToken>) -> Self {
        Self { deadline: Arc::default(), external, finished: Arc::default(), tasks }
    }

    /// Requests the shutdown within this time. Of several requests, the earliest deadline counts.
    pub(super) fn request(&self, within: Duration) {
        self.deadline.set(deadline::after(Instant::now(), within));
    }

    pub(super) fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    pub(super) fn is_requested(&self) -> bool {
        self.deadline.get().is_some() || self.external.as_ref().is_some_and(CancellationToken::is_cancelled)
    }

    /// Waits until nothing of the manager is left.
    pub(super) async fn finished(&self) {
        self.finished.wait().await;
        // The supervisor waits for them too, but not if the runtime drops it first.
        self.tasks.join().await;
    }

    /// Waits until the external token is cancelled.
    async fn external(&self) {
        match &self.external {
            Some(token) => token.cancelled().await,
            None => pending().await,
        }
    }
}

/// Reports that the supervisor has ended. Created before its task, so that it runs even if the runtime ends first.
pub(super) struct Finished {
    shutdown: Shutdown,
    slot: Arc<Slot>,
    progress: Arc<Progress>,
}

impl Finished {
    pub(super) fn new(shutdown: Shutdown, slot: Arc<Slot>, progress: Arc<Progress>) -> Self {
        Self { shutdown, slot, progress }
    }
}

impl Drop for Finished {
    fn drop(&mut self) {
        if thread::panicking() {
            error!("the shutdown panicked, perhaps in a waker: dropping what still runs");
        }
        // After a completed shutdown nothing is left to stop.
        let mut steps = Steps::new();
        steps.run(|| self.shutdown.tasks.stop());
        self.shutdown.tasks.kill();
        if let Some(reason) = self.slot.stopped() {
            steps.run(|| self.progress.stopped(reason));
        }
        steps.run(|| self.progress.ended());
        info!(event = "manager_stopped", "the manager has stopped");
        steps.run(|| self.shutdown.finished.set(()));
    }
}

/// What a provider's task returns: `None` when it was dropped at the end of the shutdown.
pub(super) type Ended = Option<Result<(), Arc<GaveUp>>>;

/// Supervises a manager, and shuts it down: once it has ended, no task of the manager runs (G5).
pub(super) struct Supervisor {
    pub(super) slot: Arc<Slot>,
    pub(super) tasks: Tasks,
    pub(super) progress: Arc<Progress>,
    pub(super) shutdown: Shutdown,
    pub(super) drain_timeout: Duration,
}

impl Supervisor {
    /// Runs until the manager has ended, which `finished` reports however it happens.
    pub(super) async fn run(self, mut provider: JoinHandle<Ended>, finished: Finished) {
        let ended = tokio::select! {
            biased;
            _ = self.shutdown.deadline.before(None) => None,
            () = self.shutdown.external() => {
                self.shutdown.request(self.drain_timeout);
                None
            }
            ended = &mut provider => Some(ended),
        };
        let is_asked = ended.is_none();
        if let Some(ended) = ended {
            log_end(ended);
        }
        self.close(is_asked).await;
        if is_asked {
            log_end(provider.await);
        }
        drop(finished);
    }

    async fn close(&self, is_asked: bool) {
        // A manager that has given up by itself takes no longer than one that was asked to stop.
        let own = (!is_asked).then(|| crate::deadline::after(Instant::now(), self.drain_timeout));
        // Sets a limit on a shutdown that was begun without one.
        let mut external = pin!(self.shutdown.external());
        let mut is_told = false;
        self.progress.set(Activity::ShuttingDown);
        // No session is installed after this, and waiting callers are freed. What it returns is among the sessions
        // below.
        let mut steps = Steps::new();
        steps.run(|| drop(self.slot.stop(Stopped::ShutDown)));
        if let Some(reason) = self.slot.stopped() {
            steps.run(|| self.progress.stopped(reason));
        }
        steps.run(|| self.tasks.stop());
        loop {
            let asked = self.shutdown.deadline.get();
            let until = asked.into_iter().chain(own).min();
            let until = until.unwrap_or_else(|| crate::deadline::after(Instant::now(), self.drain_timeout));
            let within = until.saturating_duration_since(Instant::now());
            info!(event = "shutting_down", ?within, "shutting down");
            steps.run(|| self.tasks.close_sessions(within));
            tokio::select! {
                biased;
                () = self.tasks.join() => return,
                // An earlier deadline: pass it to the sessions.
                _ = self.shutdown.deadline.before(asked) => {}
                () = &mut external, if !is_told => {
                    is_told = true;
                    self.shutdown.request(self.drain_timeout);
                }
                () = sleep_until(until + GRACE) => break,
            }
        }
        warn!("the shutdown timed out: dropping what still runs");
        self.tasks.kill();
        self.tasks.join().await;
    }
}

/// Logs why a provider has ended, if nobody asked it to.
fn log_end(ended: Result<Ended, JoinError>) {
    match ended {
        Ok(Some(Err(gave_up))) => error!(event = "gave_up", error = %gave_up, "the manager gives up"),
        Err(error) if error.is_panic() => error!(%error, "the provider panicked: the manager gives up"),
        _ => {}
    }
}

/// Runs a provider to its end.
pub(super) async fn provide(
    provider: impl Future<Output = Result<(), GaveUp>> + Send,
    mut end: ProviderEnd,
) -> Result<(), Arc<GaveUp>> {
    let ended = provider.await.map_err(Arc::new);
    end.reason = Some(match &ended {
        Ok(()) => Stopped::ShutDown,
        Err(gave_up) => Stopped::GaveUp(Arc::clone(gave_up)),
    });
    ended
}

/// However a provider ends, this stops its slot with the reason, so that nobody waits in vain (G12). Created before its
/// task, so that it runs even if the runtime ends first.
pub(super) struct ProviderEnd {
    progress: Arc<Progress>,
    /// None if it gave no reason.
    reason: Option<Stopped>,
    guard: StopGuard<Session, Stopped, fn(Session)>,
}

impl ProviderEnd {
    pub(super) fn new(slot: Arc<Slot>, progress: Arc<Progress>) -> Self {
        let abort: fn(Session) = |session| session.abort();
        Self { progress, reason: None, guard: StopGuard::new(slot, Stopped::ShutDown, abort) }
    }
}

impl Drop for ProviderEnd {
    fn drop(&mut self) {
        let reason = self.reason.take().unwrap_or_else(|| {
            let cause = if thread::panicking() { GaveUpCause::Panicked } else { GaveUpCause::RuntimeEnded };
            let snapshot = self.progress.get();
            Stopped::GaveUp(Arc::new(GaveUp { cause, attempts: snapshot.attempts, last_error: snapshot.last_error }))
        });
        self.guard.set_reason(reason);
    }
}
