//! A session on its way into the slot.
//!
//! An install takes the permit for a place, and the session holds it until it has left the slot (see [`Claim`]). So an
//! install finds its place free, and those that wait for a place are served in the order of asking.
//!
//! # The life of a candidate
//!
//! ```text
//!   dialled, with a place          accepted, without one
//!          │                                │ the transport's handshake (handshakes.rs)
//!          ▼                                ▼
//!     its ping goes out            its ping goes out; the answer to the peer's is withheld
//!          │ answered: proven               │ answered: proven
//!          │                                ▼
//!          │                  ┌──── waits for a place, up to 64 at once
//!          │                  │             │ the oldest probes all holders (receiver.rs)
//!          │     a place is   │             ▼
//!          │     free         │      a holder stays silent, and is replaced
//!          ▼                  ▼             │
//!      installed          installed ◄───────┘
//!          │                  │
//!          └────► live ◄──────┘    only now is the peer's ping answered, so that it publishes as well (G14)
//!
//!   before that, from any state, closed for its reason:
//!     NotProven     no answer within `handshake_timeout`
//!     HeldOut       no place until a second before that
//!     Lost, …       what has ended the session in the meantime
//! ```

use std::{
    error::Error,
    fmt, io,
    net::SocketAddr,
    sync::{Arc, atomic::AtomicUsize},
};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::OwnedSemaphorePermit,
    time::Instant,
};
use tracing::info;

use super::{installer::Installer, net::Connected, place::PlacePermit};
use crate::{
    deadline,
    error::{CloseReason, Stopped},
    session::{Goodbye, Identity, Role, Session, Transport},
    sync::{Claim, Refused, SessionId},
};

/// A session that is not in the slot yet: only the provider knows of it.
///
/// Dropping it ends it.
#[must_use = "dropping a candidate ends its session"]
pub struct Candidate {
    installer: Installer,
    /// None once installed.
    session: Option<Session>,
    claim: Claim<Session, Stopped, OwnedSemaphorePermit>,
    load: Arc<AtomicUsize>,
    place: Option<PlacePermit>,
}

/// Why a candidate was not installed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum InstallError {
    /// No place is free, or the session to be replaced has already left its place. The candidate lives, and can be
    /// installed later.
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

impl Installer {
    /// Makes a session from a connection that this side has made, once there is a free place for it.
    ///
    /// Waits for the place, in the order of asking. The candidate holds it until it is installed or dropped.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection, and passes its turn on.
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

    /// Makes a session from a connection that the peer has made. It has no place yet, so the peer, if it is evermux,
    /// does not publish it yet (G14).
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn server<Io>(&self, connected: Connected<Io>) -> Candidate
    where
        Io: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let prove_by = deadline::after(Instant::now(), self.core().config.handshake_timeout());
        self.server_by(prove_by, connected)
    }

    /// [`server`](Self::server), where the time for the proof is already running.
    pub(crate) fn server_by<Io>(&self, prove_by: Instant, connected: Connected<Io>) -> Candidate
    where
        Io: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        self.launch(connected, Role::Server, prove_by, None)
    }

    /// Makes a session from a connection that this side has made, in a free place.
    pub(crate) fn client_in<Io>(&self, place: PlacePermit, connected: Connected<Io>) -> Candidate
    where
        Io: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let prove_by = deadline::after(Instant::now(), self.core().config.handshake_timeout());
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
        let claim = Claim::new(&self.core().slot);
        let departure = claim.departure();
        let clear = Box::new(move || departure.leave());
        let load = Arc::new(AtomicUsize::new(0));
        let arrivals = Arc::clone(self.core().tasks.arrivals());
        let identity = Identity { id: claim.id(), clear, load: Arc::clone(&load), arrivals };
        let (session, driver) =
            Session::launch(transport, role, role == Role::Server, prove_by, identity, &self.core().config);
        self.core().tasks.drive(&session, claim.hold(), driver);
        Candidate { installer: self.clone(), session: Some(session), claim, load, place }
    }
}

impl Candidate {
    /// The session's id, which stays the same when it is installed.
    pub fn id(&self) -> SessionId {
        self.claim.id()
    }

    /// Waits for a round trip that proves the session (G15), until
    /// [`Config::handshake_timeout`](crate::Config::handshake_timeout) after it was created.
    ///
    /// [`install`](Self::install) and [`replace`](Self::replace) do this as well.
    ///
    /// # Errors
    ///
    /// The reason the session has ended.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    pub async fn proven(&self) -> Result<(), CloseReason> {
        let Some(session) = &self.session else { return Ok(()) };
        session.proven().await
    }

    /// Waits for a free place, in the order of asking, and holds it. Returns at once if it already holds one.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future passes its turn on.
    pub async fn place(&mut self) {
        if self.place.is_none() {
            let place = self.installer.place().await;
            self.hold(place);
        }
    }

    pub(crate) fn hold(&mut self, place: PlacePermit) {
        self.place = Some(place);
    }

    /// The address of the other side, where the transport has one.
    pub(super) fn peer_addr(&self) -> Option<SocketAddr> {
        self.session.as_ref().and_then(Session::peer_addr)
    }

    /// Ends the session, and tells its peer why. Waits until that is done, for at most a second.
    pub(super) async fn refuse(mut self, goodbye: Goodbye) {
        if let Some(session) = self.session.take() {
            session.refuse(goodbye).await;
        }
    }

    /// Waits until the session can no longer be installed, because it is ending.
    pub(crate) async fn lost(&self) -> CloseReason {
        self.session().retired().await.reason
    }

    /// Puts the session into a free place, where callers find it. Waits for its [proof](Self::proven), but not for a
    /// place: to wait for one, call [`place`](Self::place) first.
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
    /// If it was installed before.
    pub async fn install(&mut self) -> Result<Session, InstallError> {
        self.proven().await.map_err(InstallError::NotProven)?;
        if self.place.is_none() {
            self.place = self.installer.core().places.try_acquire();
        }
        let Some(place) = self.place.take() else {
            return Err(if self.installer.is_stopped() { InstallError::Stopped } else { InstallError::Full });
        };
        let session = self.session().clone();
        let installed = self.claim.install(place.into_permit(), session, Arc::clone(&self.load));
        installed.map_err(|refused| not_installed(&refused))?;
        Ok(self.installed())
    }

    /// Puts the session into the place of another, which ends with [`CloseReason::Replaced`]. Waits for its
    /// [proof](Self::proven).
    ///
    /// ```
    /// use std::error::Error;
    /// use evermux::{Config, Connected, MuxManager, Provide, Session, provider::{InstallError, Installer}};
    /// use tokio::{io::{DuplexStream, duplex}, sync::mpsc};
    ///
    /// /// The newest connection has the only place.
    /// struct Newest(mpsc::Receiver<DuplexStream>);
    ///
    /// impl Provide for Newest {
    ///     async fn provide(mut self, installer: Installer) -> Result<(), Box<dyn Error + Send + Sync>> {
    ///         loop {
    ///             let pipe = tokio::select! {
    ///                 () = installer.stopped() => return Ok(()),
    ///                 pipe = self.0.recv() => pipe.ok_or("nobody makes connections any more")?,
    ///             };
    ///             let mut candidate = installer.server(Connected::anonymous(pipe));
    ///             loop {
    ///                 let installed = match installer.sessions().first() {
    ///                     Some(old) => candidate.replace(old.id()).await,
    ///                     None => candidate.install().await,
    ///                 };
    ///                 match installed {
    ///                     Ok(session) => println!("session {} has the place", session.id()),
    ///                     // The old one has left it meanwhile, or is leaving it.
    ///                     Err(InstallError::Full) => { candidate.place().await; continue }
    ///                     Err(error) => println!("a connection came to nothing: {error}"),
    ///                 }
    ///                 break;
    ///             }
    ///         }
    ///     }
    /// }
    ///
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (sender, receiver) = mpsc::channel(1);
    /// let manager = MuxManager::provide_with(Newest(receiver)).start().await?;
    /// let mut peers = Vec::new();
    /// for _ in 0..2 {
    ///     let (near, far) = duplex(4096);
    ///     sender.send(far).await?;
    ///     peers.push(Session::client(near, &Config::default()).await?);
    /// }
    /// println!("the first peer lost its session: {}", peers[0].closed().await);
    /// manager.session().await?.ping().await?;
    /// # manager.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`InstallError`]. [`InstallError::Full`] if `old` is in no place; it may be tried again.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future replaces nothing.
    ///
    /// # Panics
    ///
    /// If it was installed before.
    pub async fn replace(&mut self, old: SessionId) -> Result<Session, InstallError> {
        self.proven().await.map_err(InstallError::NotProven)?;
        let Some(ghost) = self.installer.core().tasks.hold_of(old) else { return Err(InstallError::Full) };
        let session = self.session().clone();
        let replaced = self.claim.replace((old, &ghost), session, Arc::clone(&self.load));
        let old = replaced.map_err(|refused| not_installed(&refused))?;
        if let Some(old) = &old {
            info!(event = "session_replaced", session = %old.id(), by = %self.id(), "session replaced");
        }
        let session = self.installed();
        if let Some(old) = old {
            // By the one that replaced it, and after the lock (G6).
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn why_a_candidate_was_not_installed_is_told_to_callers_of_io() {
        let lost = || CloseReason::Lost(Arc::new(io::Error::other("it was cut")));
        for (error, kind, text) in [
            (InstallError::Full, io::ErrorKind::ResourceBusy, "no place is free for the session"),
            (InstallError::Stopped, io::ErrorKind::NotConnected, "the manager has stopped"),
            (InstallError::NotProven(CloseReason::NotProven), io::ErrorKind::TimedOut, "did not answer in time"),
            (InstallError::NotProven(lost()), io::ErrorKind::ConnectionReset, "it was cut"),
        ] {
            assert!(error.to_string().contains(text), "{error}");
            let source = error.to_string();
            let error = io::Error::from(error);
            assert_eq!((error.kind(), error.to_string()), (kind, source));
        }
    }
}
