//! How a connection becomes a session in the slot.
//!
use std::{
    fmt,
    future::Future,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, atomic::AtomicUsize},
    time::Duration,
};

use futures_util::future::join_all;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{Notify, futures::Notified},
    time::Instant,
};
use tokio_util::task::task_tracker::TrackedFuture;
use tracing::info;

use super::{
    candidate::Candidate,
    net::Connected,
    place::{PlacePermit, Places},
    progress::Progress,
    tasks::Tasks,
};
use crate::{
    config::Config,
    deadline,
    error::{CloseReason, Stopped},
    session::{Identity, Retirement, Session, Transport, wire::Role},
    sync::{Claim, SessionId, SessionSlot},
};

/// The slot of a manager.
pub(crate) type Slot = SessionSlot<Session, Stopped>;

/// What a user has to say to what a provider does.
#[derive(Clone, Default)]
pub(crate) struct Hooks {
    /// What is to be done with each session that becomes live.
    pub(crate) on_session: Option<OnSession>,
    /// Whether a connection from this address is welcome.
    pub(crate) admit: Option<Admit>,
}

type OnSession = Arc<dyn Fn(Session) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;
type Admit = Arc<dyn Fn(Option<SocketAddr>) -> bool + Send + Sync>;

/// Makes sessions of connections, and puts them where callers find them. A provider is given one: see
/// [`Provide`](super::Provide).
///
/// Cheap to clone; clones speak of the same manager. It does not keep the manager running.
#[derive(Clone)]
pub struct Installer(Arc<Core>);

/// What an [`Installer`] is made of.
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

    /// The live sessions, in the order of their places.
    pub fn sessions(&self) -> Vec<Session> {
        self.0.slot.live().into_iter().map(|(_, session)| session).collect()
    }

    /// Waits until the manager shuts down. A provider waits for it beside everything else, and then returns.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    pub async fn stopped(&self) {
        self.0.tasks.stopped().await;
    }

    /// Whether the manager shuts down.
    pub fn is_stopped(&self) -> bool {
        self.0.tasks.is_stopped()
    }

    /// Runs a task of the manager. Its shutdown waits for it, and drops it when the time for that is over.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        drop(self.0.tasks.spawn(future));
    }

    /// Makes a session of a connection that this side has made, once there is a free place for it.
    ///
    /// Waits for the place, in the order of asking. The candidate holds it until it is installed or dropped.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection, and passes the turn on.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub async fn client<Io>(&self, connected: Connected<Io>) -> Candidate
    where
        Io: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let place = self.place().await;
        self.client_in(place, connected)
    }

    /// Makes a session of a connection that the peer has made. It has no place yet, so the peer, if it is evermux, does
    /// not publish it yet (G14).
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn server<Io>(&self, connected: Connected<Io>) -> Candidate
    where
        Io: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let prove_by = deadline::after(Instant::now(), self.0.config.handshake_timeout());
        self.server_by(prove_by, connected)
    }

    /// [`server`](Self::server), where the time for the proof has begun before.
    pub(crate) fn server_by<Io>(&self, prove_by: Instant, connected: Connected<Io>) -> Candidate
    where
        Io: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        self.launch(connected, Role::Server, prove_by, None)
    }

    /// A session of a connection that this side has made, in a place that is free.
    pub(crate) fn client_in<Io>(&self, place: PlacePermit, connected: Connected<Io>) -> Candidate
    where
        Io: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let prove_by = deadline::after(Instant::now(), self.0.config.handshake_timeout());
        self.launch(connected, Role::Client, prove_by, Some(place))
    }

    fn launch<Io>(
        &self,
        connected: Connected<Io>,
        role: Role,
        prove_by: Instant,
        place: Option<PlacePermit>,
    ) -> Candidate
    where
        Io: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let Connected { io, local, peer, unsent_limit } = connected;
        let transport = Transport { io, addresses: (local, peer), unsent_limit };
        let claim = Claim::new(&self.0.slot);
        let departure = claim.departure();
        let clear = Box::new(move || departure.leave());
        let load = Arc::new(AtomicUsize::new(0));
        let arrivals = Arc::clone(self.0.tasks.arrivals());
        let identity = Identity { id: claim.id(), clear, load: Arc::clone(&load), arrivals };
        let (session, driver) =
            Session::launch(transport, role, role == Role::Server, prove_by, identity, &self.0.config);
        self.0.tasks.drive(&session, claim.hold(), driver);
        Candidate::new(self.clone(), session, claim, load, place)
    }

    /// Seed of the provider's random choices.
    pub(crate) fn seed(&self) -> u64 {
        self.0.seed
    }

    pub(crate) fn progress(&self) -> &Progress {
        &self.0.progress
    }

    /// Becomes ready when somebody wants the current pause to end; counts from this call on, polled or not.
    pub(crate) fn reconnect_now(&self) -> Notified<'_> {
        self.0.reconnect_now.notified()
    }

    /// Makes the shutdown wait for a future that the provider spawns.
    pub(crate) fn track<F: Future>(&self, future: F) -> TrackedFuture<F> {
        self.0.tasks.track(future)
    }

    /// Whether a connection from this address is welcome.
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

    /// Asks every live session for a sign of life, all at once, and waits until each has given one or been silent for
    /// `within`. Returns the first that was silent, in the order of places.
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
        // Its drop gives the streams, whatever becomes of the call that comes before.
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

/// Lets the streams of a session be taken: whoever is called with the session knows of it before that.
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

/// The end of a session that was live. Its drop is told to whoever reads the events.
struct CloseEvent {
    installer: Installer,
    session: Session,
}

impl Drop for CloseEvent {
    fn drop(&mut self) {
        // Without a reason it is dropped with its driver, which may come later.
        let dropped = if self.installer.is_stopped() { CloseReason::Closed } else { CloseReason::RuntimeEnded };
        let reason = self.session.close_reason().unwrap_or(dropped);
        self.installer.0.progress.session_closed(self.session.id(), reason);
    }
}
