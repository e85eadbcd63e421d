//! How a connection becomes a session in the slot.
//!
//! Whoever installs holds a permit for a place from before the install until the session has left the slot. So an
//! install finds its place free, and who waits for one is served in the order of asking.

use std::{
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicUsize},
    time::Duration,
};

use futures_util::FutureExt;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{Notify, OwnedSemaphorePermit, Semaphore, futures::Notified},
    task::JoinHandle,
};
use tokio_util::{
    sync::CancellationToken,
    task::{TaskTracker, task_tracker::TrackedFuture},
};
use tracing::{Instrument, info};

use super::{net::Connected, progress::Progress};
use crate::{
    config::Config,
    error::{CloseReason, Stopped},
    session::{Identity, Session, wire::Role},
    sync::{Refused, Reservation, SessionId, SessionSlot},
};

/// The slot of a manager.
pub(crate) type Slot = SessionSlot<Session, Stopped>;

/// What a provider is given by its manager.
#[derive(Clone)]
pub(crate) struct Installer(Arc<Inner>);

struct Inner {
    slot: Arc<Slot>,
    config: Config,
    seed: u64,
    places: Arc<Semaphore>,
    tasks: Tasks,
    progress: Arc<Progress>,
    reconnect_now: Arc<Notify>,
}

/// The tasks of a manager: each is joined by its shutdown (G5).
#[derive(Clone, Default)]
pub(crate) struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
    kill: CancellationToken,
    /// Every session that is driven: candidates, those in the slot, and those that drain. One for each driver's task.
    sessions: Arc<Mutex<Vec<Session>>>,
}

/// Takes a session out of the list when its driver ends, in whatever way.
struct Listed {
    tasks: Tasks,
    id: SessionId,
}

impl Drop for Listed {
    fn drop(&mut self) {
        let mut sessions = self.tasks.sessions();
        let index = sessions.iter().position(|session| session.id() == self.id);
        let gone = index.map(|index| sessions.swap_remove(index));
        drop(sessions);
        drop(gone);
    }
}

impl Tasks {
    /// Runs a future until it is ready, or dropped because the time for that is over.
    pub(crate) fn spawn<F>(&self, future: F) -> JoinHandle<Option<F::Output>>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        let kill = self.kill.clone();
        self.tracker.spawn(async move { kill.run_until_cancelled(future).await }.in_current_span())
    }

    /// Makes [`join`](Self::join) wait for a future that is spawned elsewhere: for its end, or its drop.
    pub(crate) fn track<F: Future>(&self, future: F) -> TrackedFuture<F> {
        self.tracker.track_future(future)
    }

    /// Spawns the driver of a session.
    fn drive(&self, session: &Session, driver: impl Future<Output = ()> + Send + 'static) {
        self.sessions().push(session.clone());
        let listed = Listed { tasks: self.clone(), id: session.id() };
        drop(self.spawn(async move {
            driver.await;
            drop(listed);
        }));
    }

    /// Makes every session close within this time: those that drain already as well.
    pub(crate) fn close_sessions(&self, within: Duration) {
        let sessions = self.sessions().clone();
        for session in sessions {
            // One poll begins it, and `join` waits for its end.
            let _ = session.close_within(within).now_or_never();
        }
    }

    fn sessions(&self) -> MutexGuard<'_, Vec<Session>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks providers to end.
    pub(crate) fn stop(&self) {
        self.stop.cancel();
        self.tracker.close();
    }

    /// Drops what still runs.
    pub(crate) fn kill(&self) {
        self.kill.cancel();
    }

    /// Waits until no task runs. Only after [`stop`](Self::stop).
    pub(crate) async fn join(&self) {
        self.tracker.wait().await;
    }

    /// Waits until providers are asked to end.
    pub(crate) async fn stopped(&self) {
        self.stop.cancelled().await;
    }
}

impl Installer {
    pub(crate) fn new(
        slot: Arc<Slot>,
        config: Config,
        seed: u64,
        tasks: Tasks,
        progress: Arc<Progress>,
        reconnect_now: Arc<Notify>,
    ) -> Self {
        let places = Arc::new(Semaphore::new(slot.places()));
        Self(Arc::new(Inner { slot, config, seed, places, tasks, progress, reconnect_now }))
    }

    pub(crate) fn config(&self) -> &Config {
        &self.0.config
    }

    /// From what the provider draws.
    pub(crate) fn seed(&self) -> u64 {
        self.0.seed
    }

    pub(crate) fn progress(&self) -> &Progress {
        &self.0.progress
    }

    /// Waits until the provider is asked to end. Everything a provider waits for, it waits for beside this.
    pub(crate) async fn stopped(&self) {
        self.0.tasks.stopped().await;
    }

    /// Becomes ready when somebody wants the current pause to end; counts from this call on, polled or not.
    pub(crate) fn reconnect_now(&self) -> Notified<'_> {
        self.0.reconnect_now.notified()
    }

    /// Makes the shutdown wait for a future that the provider spawns.
    pub(crate) fn track<F: Future>(&self, future: F) -> TrackedFuture<F> {
        self.0.tasks.track(future)
    }

    /// Waits for a free place, in the order of asking. Cancel-safe: a dropped future gives its turn to the next.
    pub(crate) async fn place(&self) -> OwnedSemaphorePermit {
        let permit = Arc::clone(&self.0.places).acquire_owned().await;
        permit.unwrap_or_else(|_| unreachable!("the places of a manager are never closed"))
    }

    /// Starts a session, and waits at most `within` for its proof (G15).
    ///
    /// With [`Role::Server`] it is half-proven: the peer's pings are answered when it is installed (G14). Dropping the
    /// future ends the session.
    pub(crate) async fn prove<Io>(
        &self,
        connected: Connected<Io>,
        role: Role,
        within: Duration,
    ) -> Result<Candidate, CloseReason>
    where
        Io: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let Connected { io, local, peer } = connected;
        let reservation = self.0.slot.reserve();
        let held = Arc::new(Mutex::new(None::<OwnedSemaphorePermit>));
        let load = Arc::new(AtomicUsize::new(0));
        let clear = {
            let (hook, held) = (reservation.clear_hook(), Arc::clone(&held));
            Box::new(move || {
                hook.clear();
                // The place is free before anyone is told so.
                let permit = held.lock().unwrap_or_else(PoisonError::into_inner).take();
                drop(permit);
            })
        };
        let identity = Identity { id: reservation.id(), clear, load: Arc::clone(&load) };
        let (session, driver) =
            Session::launch(io, role, role == Role::Server, (local, peer), identity, &self.0.config);
        self.0.tasks.drive(&session, driver);
        let candidate = Candidate { installer: self.clone(), session: Some(session), reservation, held, load };
        candidate.session().prove(within).await?;
        Ok(candidate)
    }
}

/// A session that is proven and not in the slot. Dropping it ends it.
pub(crate) struct Candidate {
    installer: Installer,
    /// None once installed.
    session: Option<Session>,
    reservation: Reservation<Session, Stopped>,
    held: Arc<Mutex<Option<OwnedSemaphorePermit>>>,
    load: Arc<AtomicUsize>,
}

/// Why a candidate was not installed. It has been ended.
#[derive(Debug)]
pub(crate) enum InstallError {
    /// It died before.
    Dead(CloseReason),
    /// The manager has stopped.
    Stopped,
}

impl Candidate {
    pub(crate) fn session(&self) -> &Session {
        self.session.as_ref().unwrap_or_else(|| unreachable!("install consumes the candidate"))
    }

    /// Publishes the session in the place that the permit stands for.
    ///
    /// Waits only for the reason why a session that died before the install has ended.
    pub(crate) fn install(mut self, permit: OwnedSemaphorePermit) -> Result<Session, InstallError> {
        let session = self.session().clone();
        // Held before the install: a session that dies right after it gives its place back.
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = Some(permit);
        let slot = &self.installer.0.slot;
        match slot.install(&mut self.reservation, session.clone(), Arc::clone(&self.load)) {
            Ok(()) => {
                self.session = None;
                self.installer.0.progress.installed();
                info!(
                    session = %session.id(),
                    peer = session.peer_addr().map(tracing::field::display),
                    round_trip = session.round_trip().map(tracing::field::debug),
                    "session live"
                );
                // Only now, so that an evermux peer publishes nothing that has no place (G14).
                session.publish();
                Ok(session)
            }
            Err(Refused::Stopped(..)) => Err(InstallError::Stopped),
            // It may still be closing: its place is not held meanwhile.
            Err(Refused::Dead(session)) => {
                Err(InstallError::Dead(session.close_reason().unwrap_or(CloseReason::PeerClosed)))
            }
            Err(Refused::Full(_) | Refused::Gone(_)) => unreachable!("a permit stands for a free place"),
        }
    }
}

impl Drop for Candidate {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            session.end(CloseReason::NotProven);
        }
    }
}
