//! How a connection becomes a session in the slot.

use std::{fmt, future::Future, net::SocketAddr, pin::Pin, sync::Arc, time::Duration};

use futures_util::future::join_all;
use tokio::sync::{Notify, futures::Notified};
use tracing::info;

use super::{
    place::{PlacePermit, Places},
    progress::Progress,
    tasks::Tasks,
};
use crate::{
    config::Config,
    error::{CloseReason, Stopped},
    session::{Retirement, Session},
    sync::{SessionId, SessionSlot},
};

/// The slot of a manager.
pub(crate) type Slot = SessionSlot<Session, Stopped>;

/// The user's hooks into what a provider does.
#[derive(Clone, Default)]
pub(crate) struct Hooks {
    /// Called with each session that becomes live.
    pub(crate) on_session: Option<OnSession>,
    /// Whether a connection from this address is admitted.
    pub(crate) admit: Option<Admit>,
}

type OnSession = Arc<dyn Fn(Session) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;
type Admit = Arc<dyn Fn(Option<SocketAddr>) -> bool + Send + Sync>;

/// Turns connections into sessions, and puts them where callers find them. A provider gets one: see
/// [`Provide`](super::Provide).
///
/// Cheap to clone; clones refer to the same manager. It does not keep the manager running.
#[derive(Clone)]
pub struct Installer(Arc<Core>);

/// The parts of an [`Installer`].
pub(crate) struct Core {
    pub(crate) slot: Arc<Slot>,
    pub(crate) places: Places,
    pub(crate) config: Config,
    pub(crate) seed: u64,
    pub(crate) tasks: Tasks,
    pub(crate) progress: Arc<Progress>,
    pub(crate) reconnect_now: Arc<Notify>,
    pub(crate) hooks: Hooks,
}

impl Installer {
    pub(crate) fn new(core: Core) -> Self {
        Self(Arc::new(core))
    }

    pub(super) fn core(&self) -> &Core {
        &self.0
    }

    /// The settings of the manager.
    pub fn config(&self) -> &Config {
        &self.0.config
    }

    /// How many sessions the manager holds at once: [`Builder::sessions`](crate::manager::Builder::sessions).
    pub fn places(&self) -> usize {
        self.0.slot.places()
    }

    /// The live sessions, in order of their places.
    pub fn sessions(&self) -> Vec<Session> {
        self.0.slot.live().into_iter().map(|(_, session)| session).collect()
    }

    /// Waits until the manager shuts down. A provider waits for this alongside everything else, and then returns.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    pub async fn stopped(&self) {
        self.0.tasks.stopped().await;
    }

    /// Whether the manager is shutting down.
    pub fn is_stopped(&self) -> bool {
        self.0.tasks.is_stopped()
    }

    /// Spawns a task of the manager. The shutdown waits for it, and drops it when its time is up.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        drop(self.0.tasks.spawn(future));
    }

    /// Seed of the provider's random choices.
    pub(crate) fn seed(&self) -> u64 {
        self.0.seed
    }

    pub(crate) fn progress(&self) -> &Progress {
        &self.0.progress
    }

    /// Becomes ready when the current pause is to end. Requests count from this call on, polled or not.
    pub(crate) fn reconnect_now(&self) -> Notified<'_> {
        self.0.reconnect_now.notified()
    }

    /// Makes the shutdown wait for a future that the provider spawns.
    pub(crate) fn track<F: Future>(&self, future: F) -> impl Future<Output = Option<F::Output>> + use<F> {
        self.0.tasks.track(future)
    }

    /// Whether a connection from this address is admitted.
    pub(crate) fn admits(&self, peer: Option<SocketAddr>) -> bool {
        self.0.hooks.admit.as_ref().is_none_or(|admit| admit(peer))
    }

    /// Whether no session is live.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.slot.live().is_empty()
    }

    /// Waits for a free place, in the order of asking. Cancel-safe: a dropped future passes its turn on.
    pub(crate) async fn place(&self) -> PlacePermit {
        self.0.places.acquire().await
    }

    /// Probes every live session for a sign of life, all at once, and waits until each has given one or been silent for
    /// `within`. Returns the first silent one, in order of places.
    pub(crate) async fn silent_session(&self, within: Duration) -> Option<SessionId> {
        let sessions = self.0.slot.live();
        let silent = join_all(sessions.iter().map(|(_, session)| session.is_silent(within))).await;
        sessions.iter().zip(silent).find(|(_, silent)| *silent).map(|((id, _), _)| *id)
    }

    pub(super) fn on_live(&self, session: &Session) {
        self.0.progress.session_live(session, || self.0.slot.live());
        info!(
            event = "session_live",
            session = %session.id(),
            peer = session.peer_addr().map(tracing::field::display),
            round_trip = session.round_trip().map(tracing::field::debug),
            "session live"
        );
        // Only now, so that an evermux peer publishes nothing that has no place (G14).
        session.publish();
        let end = CloseEvent { installer: self.clone(), session: session.clone() };
        self.spawn(async move {
            let Retirement { reason, drains } = end.session.retired().await;
            if let Some(within) = drains {
                end.installer.0.progress.session_draining(end.session.id(), reason, within);
            }
            end.session.closed().await;
            drop(end);
        });
        // Its drop lets the streams be taken, whatever happens in the call before it.
        let gives = GiveStreams(session.clone());
        let Some(on_session) = self.0.hooks.on_session.clone() else { return };
        let session = session.clone();
        self.spawn(async move {
            let closed = session.clone();
            let using = on_session(session);
            drop(gives);
            tokio::select! {
                biased;
                _ = closed.closed() => {}
                () = using => {}
            }
        });
    }
}

/// Lets the streams of a session be taken, but not before `on_session` was called with it.
struct GiveStreams(Session);

impl Drop for GiveStreams {
    fn drop(&mut self) {
        self.0.give_streams();
    }
}

impl fmt::Debug for Installer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Installer").field("places", &self.places()).finish_non_exhaustive()
    }
}

/// The end of a session that was live. Its drop reports that to readers of events.
struct CloseEvent {
    installer: Installer,
    session: Session,
}

impl Drop for CloseEvent {
    fn drop(&mut self) {
        // Without a reason, it is being dropped along with its driver, which may go later.
        let dropped = if self.installer.is_stopped() { CloseReason::Closed } else { CloseReason::RuntimeEnded };
        let reason = self.session.close_reason().unwrap_or(dropped);
        self.installer.0.progress.session_closed(self.session.id(), reason);
    }
}
