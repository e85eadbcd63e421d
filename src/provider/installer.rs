//! How a connection becomes a session in the slot.
//!
//! Whoever installs has the permit for a place, and the session holds it until it has left the slot (see [`Claim`]). So
//! an install finds its place free, and who waits for one is served in the order of asking.

use std::{
    error::Error,
    fmt,
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, atomic::AtomicUsize},
    time::Duration,
};

use futures_util::future::join_all;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{Notify, OwnedSemaphorePermit, Semaphore, futures::Notified},
    time::Instant,
};
use tokio_util::task::task_tracker::TrackedFuture;
use tracing::info;

use super::{net::Connected, progress::Progress, tasks::Tasks};
use crate::{
    config::Config,
    deadline,
    error::{CloseReason, Stopped},
    session::{Goodbye, Identity, Retirement, Session, Transport, wire::Role},
    sync::{Claim, Hold, Refused, SessionId, SessionSlot},
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
pub struct Installer(Arc<Inner>);

struct Inner {
    slot: Arc<Slot>,
    config: Config,
    seed: u64,
    places: Arc<Semaphore>,
    tasks: Tasks,
    progress: Arc<Progress>,
    reconnect_now: Arc<Notify>,
    hooks: Hooks,
}

/// What an [`Installer`] is made of.
pub(crate) struct Parts {
    pub(crate) slot: Arc<Slot>,
    pub(crate) config: Config,
    pub(crate) seed: u64,
    pub(crate) tasks: Tasks,
    pub(crate) progress: Arc<Progress>,
    pub(crate) reconnect_now: Arc<Notify>,
    pub(crate) hooks: Hooks,
}

/// The permit for a place, as a session holds it.
pub(crate) type PlaceHold = Hold<OwnedSemaphorePermit>;

impl Installer {
    pub(crate) fn new(parts: Parts) -> Self {
        let Parts { slot, config, seed, tasks, progress, reconnect_now, hooks } = parts;
        let places = Arc::new(Semaphore::new(slot.places()));
        Self(Arc::new(Inner { slot, config, seed, places, tasks, progress, reconnect_now, hooks }))
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
    /// Dropping the future closes the connection, and gives the turn to the next.
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
    pub(crate) fn client_in<Io>(&self, place: Place, connected: Connected<Io>) -> Candidate
    where
        Io: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let prove_by = deadline::after(Instant::now(), self.0.config.handshake_timeout());
        self.launch(connected, Role::Client, prove_by, Some(place))
    }

    fn launch<Io>(&self, connected: Connected<Io>, role: Role, prove_by: Instant, place: Option<Place>) -> Candidate
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
        Candidate { installer: self.clone(), session: Some(session), claim, load, place }
    }

    /// From what the provider draws.
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

    /// Waits for a free place, in the order of asking. Cancel-safe: a dropped future gives its turn to the next.
    pub(crate) async fn place(&self) -> Place {
        let permit = Arc::clone(&self.0.places).acquire_owned().await;
        Place(permit.unwrap_or_else(|_| unreachable!("the places of a manager are never closed")))
    }

    /// Asks every live session for a sign of life, all at once, and waits until each has given one or been silent for so
    /// long. Gives the first that was silent, in the order of places.
    pub(crate) async fn silent_session(&self, within: Duration) -> Option<SessionId> {
        let sessions = self.0.slot.live();
        let silent = join_all(sessions.iter().map(|(_, session)| session.is_silent(within))).await;
        sessions.iter().zip(silent).find(|(_, silent)| *silent).map(|((id, _), _)| *id)
    }

    fn on_live(&self, session: &Session) {
        self.0.progress.session_live(session, || self.0.slot.live());
        info!(
            session = %session.id(),
            peer = session.peer_addr().map(tracing::field::display),
            round_trip = session.round_trip().map(tracing::field::debug),
            "session live"
        );
        // Only now, so that an evermux peer publishes nothing that has no place (G14).
        session.publish();
        let end = SessionEnd { installer: self.clone(), session: session.clone() };
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
struct SessionEnd {
    installer: Installer,
    session: Session,
}

impl Drop for SessionEnd {
    fn drop(&mut self) {
        // Without a reason it is dropped with its driver, which may come later.
        let dropped = if self.installer.is_stopped() { CloseReason::Closed } else { CloseReason::RuntimeEnded };
        let reason = self.session.close_reason().unwrap_or(dropped);
        self.installer.0.progress.session_closed(self.session.id(), reason);
    }
}

/// A free place, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place(OwnedSemaphorePermit);

/// A session that is not in the slot yet: nobody but the provider knows of it.
///
/// Dropping it ends it.
#[must_use = "dropping a candidate ends its session"]
pub struct Candidate {
    installer: Installer,
    /// None once installed.
    session: Option<Session>,
    claim: Claim<Session, Stopped, OwnedSemaphorePermit>,
    load: Arc<AtomicUsize>,
    place: Option<Place>,
}

/// Why a candidate was not installed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum InstallError {
    /// No place is free, or the session that was to be replaced has left its place to another. The candidate lives, and
    /// can be installed later.
    Full,
    /// It has ended: it was not proven in time, or lost before it was installed.
    NotProven(CloseReason),
    /// The manager has stopped.
    Stopped,
}

impl fmt::Display for InstallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("no place is free for the session"),
            Self::NotProven(reason) => write!(f, "the session ended before it was installed: {reason}"),
            Self::Stopped => f.write_str("the manager has stopped"),
        }
    }
}

impl Error for InstallError {}

impl From<InstallError> for io::Error {
    fn from(error: InstallError) -> Self {
        let kind = match &error {
            InstallError::Full => io::ErrorKind::ResourceBusy,
            InstallError::NotProven(reason) => reason.kind(),
            InstallError::Stopped => io::ErrorKind::NotConnected,
        };
        io::Error::new(kind, error)
    }
}

impl Candidate {
    /// What names the session, from now on and when it is installed.
    pub fn id(&self) -> SessionId {
        self.claim.id()
    }

    /// Waits for a round trip that proves the session (G15), until [`Config::handshake_timeout`] after its begin.
    ///
    /// [`install`](Self::install) and [`replace`](Self::replace) do it as well.
    ///
    /// # Errors
    ///
    /// Why it has ended.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    pub async fn proven(&self) -> Result<(), CloseReason> {
        let Some(session) = &self.session else { return Ok(()) };
        session.proven().await
    }

    /// Waits for a free place, in the order of asking, and holds it. One that holds a place already has it at once.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives the turn to the next.
    pub async fn place(&mut self) {
        if self.place.is_none() {
            let place = self.installer.place().await;
            self.hold(place);
        }
    }

    pub(crate) fn hold(&mut self, place: Place) {
        self.place = Some(place);
    }

    /// The address of the other side, where the transport has one.
    pub(super) fn peer_addr(&self) -> Option<SocketAddr> {
        self.session.as_ref().and_then(Session::peer_addr)
    }

    /// Ends the session, and tells its peer why. Waits until that is done, for a second at most.
    pub(super) async fn refuse(mut self, goodbye: Goodbye) {
        if let Some(session) = self.session.take() {
            session.refuse(goodbye).await;
        }
    }

    /// Waits until the session can no more be installed, because it ends.
    pub(crate) async fn lost(&self) -> CloseReason {
        self.session().retired().await.reason
    }

    /// Puts the session into a free place, where callers find it. Waits for its [proof](Self::proven), and not for the
    /// place: with [`place`](Self::place) before it there is one.
    ///
    /// # Errors
    ///
    /// [`InstallError`]. After [`InstallError::Full`] it may be tried again.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future installs nothing.
    ///
    /// # Panics
    ///
    /// When it was installed before.
    pub async fn install(&mut self) -> Result<Session, InstallError> {
        self.proven().await.map_err(InstallError::NotProven)?;
        if self.place.is_none() {
            self.place = Arc::clone(&self.installer.0.places).try_acquire_owned().ok().map(Place);
        }
        let Some(Place(permit)) = self.place.take() else {
            return Err(if self.installer.is_stopped() { InstallError::Stopped } else { InstallError::Full });
        };
        let session = self.session().clone();
        let installed = self.claim.install(permit, session, Arc::clone(&self.load));
        installed.map_err(|refused| not_installed(&refused))?;
        Ok(self.installed())
    }

    /// Puts the session into the place of another one, which ends with [`CloseReason::Replaced`]. Waits for its
    /// [proof](Self::proven).
    ///
    /// # Errors
    ///
    /// [`InstallError`]. [`InstallError::Full`] when `old` is in no place; it may be tried again.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future replaces nothing.
    ///
    /// # Panics
    ///
    /// When it was installed before.
    pub async fn replace(&mut self, old: SessionId) -> Result<Session, InstallError> {
        self.proven().await.map_err(InstallError::NotProven)?;
        let Some(ghost) = self.installer.0.tasks.hold_of(old) else { return Err(InstallError::Full) };
        let session = self.session().clone();
        let replaced = self.claim.replace((old, &ghost), session, Arc::clone(&self.load));
        let old = replaced.map_err(|refused| not_installed(&refused))?;
        if let Some(old) = &old {
            info!(session = %old.id(), by = %self.id(), "session replaced");
        }
        let session = self.installed();
        if let Some(old) = old {
            // By whoever replaced it, and after the lock (G6).
            old.end(CloseReason::Replaced);
        }
        Ok(session)
    }

    pub(super) fn session(&self) -> &Session {
        self.session.as_ref().unwrap_or_else(|| panic!("a candidate is installed once"))
    }

    fn installed(&mut self) -> Session {
        let session = self.session().clone();
        self.session = None;
        self.installer.on_live(&session);
        session
    }
}

/// Why a candidate was not installed.
fn not_installed(refused: &Refused<Session, Stopped>) -> InstallError {
    match refused {
        Refused::Stopped(..) => InstallError::Stopped,
        // It may still be closing.
        Refused::Dead(session) => InstallError::NotProven(session.close_reason().unwrap_or(CloseReason::PeerClosed)),
        Refused::Full(_) | Refused::Gone(_) => InstallError::Full,
    }
}

impl fmt::Debug for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Candidate").field("id", &self.id()).finish_non_exhaustive()
    }
}

impl Drop for Candidate {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            session.end(CloseReason::NotProven);
        }
    }
}
