//! Everything that runs for a manager, so that its shutdown ends all of it (G5).

use std::{
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::FutureExt;
use tokio::task::JoinHandle;
use tracing::Instrument;

use super::place::PlaceHold;
use crate::{
    config::Config,
    session::{Inbound, Session},
    sync::{Arrivals, SessionId, Steps, Tracker},
};

/// The tasks of a manager: each is joined by its shutdown.
#[derive(Clone)]
pub(crate) struct Tasks {
    tracker: Arc<Tracker>,
    /// Every driven session: candidates, those in the slot, and those that drain. One entry per driver task.
    driven: Arc<Mutex<Vec<Driven>>>,
    /// The streams that peers have opened, of every session.
    arrivals: Arc<Arrivals<Inbound>>,
}

/// A driven session, and its hold on its place.
#[derive(Clone)]
struct Driven {
    session: Session,
    hold: Arc<PlaceHold>,
}

/// Removes a session from the list when its driver ends, however it ends.
struct Listed {
    tasks: Tasks,
    id: SessionId,
}

impl Drop for Listed {
    fn drop(&mut self) {
        let mut driven = self.tasks.driven();
        let index = driven.iter().position(|driven| driven.session.id() == self.id);
        let gone = index.map(|index| driven.swap_remove(index));
        drop(driven);
        drop(gone);
    }
}

impl Tasks {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            tracker: Arc::default(),
            driven: Arc::default(),
            arrivals: Arc::new(Arrivals::new(config.accept_backlog())),
        }
    }

    /// The streams that peers have opened, of every session.
    pub(crate) fn arrivals(&self) -> &Arc<Arrivals<Inbound>> {
        &self.arrivals
    }

    /// Refuses the streams that peers open, now and later.
    pub(crate) fn refuse_streams(&self) {
        drop(self.arrivals.refuse());
    }

    /// Spawns a future, which [`join`](Self::join) waits for, and [`kill`](Self::kill) drops unfinished.
    pub(crate) fn spawn<F>(&self, future: F) -> JoinHandle<Option<F::Output>>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        tokio::spawn(self.track(future).in_current_span())
    }

    /// The same for a future that is spawned elsewhere.
    pub(crate) fn track<F: Future>(&self, future: F) -> impl Future<Output = Option<F::Output>> + use<F> {
        self.tracker.run(future)
    }

    /// Spawns the driver of a session.
    pub(crate) fn drive(
        &self,
        session: &Session,
        hold: &Arc<PlaceHold>,
        driver: impl Future<Output = ()> + Send + 'static,
    ) {
        self.driven().push(Driven { session: session.clone(), hold: Arc::clone(hold) });
        let listed = Listed { tasks: self.clone(), id: session.id() };
        drop(self.spawn(async move {
            driver.await;
            drop(listed);
        }));
    }

    /// The hold of a driven session on its place.
    pub(crate) fn hold_of(&self, id: SessionId) -> Option<Arc<PlaceHold>> {
        let driven = self.driven();
        driven.iter().find(|driven| driven.session.id() == id).map(|driven| Arc::clone(&driven.hold))
    }

    /// Every driven session.
    pub(crate) fn sessions(&self) -> Vec<Session> {
        self.driven().iter().map(|driven| driven.session.clone()).collect()
    }

    /// Makes every session close within this time, including those that already drain.
    pub(crate) fn close_sessions(&self, within: Duration) {
        let mut steps = Steps::new();
        for session in self.sessions() {
            // One poll begins it, and `join` waits for its end.
            steps.run(|| drop(session.close_within(within).now_or_never()));
        }
    }

    fn driven(&self) -> MutexGuard<'_, Vec<Driven>> {
        self.driven.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks providers to stop. Waiting streams can still be taken.
    pub(crate) fn stop(&self) {
        let mut steps = Steps::new();
        steps.run(|| self.tracker.stop());
        steps.run(|| self.arrivals.stop());
    }

    /// Whether providers were asked to stop.
    pub(crate) fn is_stopped(&self) -> bool {
        self.tracker.is_stopped()
    }

    /// Drops what still runs.
    pub(crate) fn kill(&self) {
        self.tracker.kill();
    }

    /// Waits until no task runs, nor will. Without a [`stop`](Self::stop) that is never.
    pub(crate) async fn join(&self) {
        self.tracker.join().await;
    }

    /// Waits until providers are asked to stop.
    pub(crate) async fn stopped(&self) {
        self.tracker.stopped().await;
    }
}
