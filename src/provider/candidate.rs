//! A session on its way into the slot.
//!
//! Whoever installs has the permit for a place, and the session holds it until it has left the slot (see [`Claim`]). So
//! an install finds its place free, and who waits for one is served in the order of asking.
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

use tokio::sync::OwnedSemaphorePermit;
use tracing::info;

use super::{installer::Installer, place::PlacePermit};
use crate::{
    error::{CloseReason, Stopped},
    session::{Goodbye, Session},
    sync::{Claim, Refused, SessionId},
};

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
    place: Option<PlacePermit>,
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
    pub(super) fn new(
        installer: Installer,
        session: Session,
        claim: Claim<Session, Stopped, OwnedSemaphorePermit>,
        load: Arc<AtomicUsize>,
        place: Option<PlacePermit>,
    ) -> Self {
        Self { installer, session: Some(session), claim, load, place }
    }

    /// The session's id, which stays the same when it is installed.
    pub fn id(&self) -> SessionId {
        self.claim.id()
    }

    /// Waits for a round trip that proves the session (G15), until
    /// [`Config::handshake_timeout`](crate::Config::handshake_timeout) after its begin.
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
    /// Dropping the future passes the turn on.
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

    /// Puts the session into the place of another one, which ends with [`CloseReason::Replaced`]. Waits for its
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
        let Some(ghost) = self.installer.core().tasks.hold_of(old) else { return Err(InstallError::Full) };
        let session = self.session().clone();
        let replaced = self.claim.replace((old, &ghost), session, Arc::clone(&self.load));
        let old = replaced.map_err(|refused| not_installed(&refused))?;
        if let Some(old) = &old {
            info!(event = "session_replaced", session = %old.id(), by = %self.id(), "session replaced");
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
