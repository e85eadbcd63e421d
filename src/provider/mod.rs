//! Where connections come from.
//!
//! [`net`] defines what a network is: [`Connect`] dials, [`Accept`] listens, and TCP has one of each. [`backoff`]
//! decides how long to pause between attempts. Both stand alone: a custom provider may use either.
//!
//! Two providers are built in, one that dials and one that listens. A [`Provide`] is a custom source of sessions: it
//! gets an [`Installer`], and puts sessions where callers find them.

use std::{error::Error, future::Future};

pub mod backoff;
mod candidate;
pub(crate) mod establisher;
mod handshakes;
pub(crate) mod installer;
pub mod net;
mod outbox;
pub(crate) mod place;
pub(crate) mod progress;
pub(crate) mod receiver;
mod refusals;
mod seldom;
pub(crate) mod tasks;

pub use backoff::{Backoff, Retry};
pub use candidate::{Candidate, InstallError};
pub use installer::Installer;
pub use net::{Accept, Connect, Connected, TcpAcceptor, TcpConnector};

/// Makes sessions for a manager: see [`MuxManager::provide_with`](crate::MuxManager::provide_with).
///
/// ```
/// use std::error::Error;
/// use evermux::{Connected, MuxManager, Provide, provider::Installer};
/// use tokio::{io::DuplexStream, sync::mpsc};
///
/// /// Takes its connections from a channel.
/// struct FromChannel(mpsc::Receiver<DuplexStream>);
///
/// impl Provide for FromChannel {
///     async fn provide(mut self, installer: Installer) -> Result<(), Box<dyn Error + Send + Sync>> {
///         loop {
///             let pipe = tokio::select! {
///                 () = installer.stopped() => return Ok(()),
///                 pipe = self.0.recv() => pipe.ok_or("nobody makes connections any more")?,
///             };
///             let mut candidate = installer.client(Connected::anonymous(pipe)).await;
///             match candidate.install().await {
///                 Ok(session) => drop(session.closed().await),
///                 Err(error) => eprintln!("a connection came to nothing: {error}"),
///             }
///         }
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn Error>> {
/// let (sender, receiver) = mpsc::channel(1);
/// let manager = MuxManager::provide_with(FromChannel(receiver)).start().await?;
/// let (near, far) = tokio::io::duplex(4096);
/// sender.send(near).await?;
/// let peer = evermux::Session::server(far, &evermux::Config::default()).await?;
/// let session = manager.session().await?;
/// # drop(peer);
/// # manager.shutdown().await;
/// # Ok(())
/// # }
/// ```
pub trait Provide: Send + 'static {
    /// Makes sessions until [`Installer::stopped`], and then returns.
    ///
    /// It is one task of the manager. The shutdown waits for it, and drops it when its time is up.
    ///
    /// # Errors
    ///
    /// If it can make no more sessions. The manager then gives up with this error; it also gives up if this returns
    /// `Ok` before it was asked to.
    fn provide(self, installer: Installer) -> impl Future<Output = Result<(), Box<dyn Error + Send + Sync>>> + Send;
}
