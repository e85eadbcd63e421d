//! The manager: a slot, a provider, and the shutdown. It is the only module that knows all of them.

mod builder;
mod incoming;
mod open;
mod reader;
mod shutdown;
mod source;
mod status;
mod threads;

use std::{future::Future, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{runtime, sync::Notify};

use self::shutdown::Shutdown;
pub use self::{
    builder::Builder,
    incoming::Incoming,
    reader::Reader,
    source::{EstablishTcp, EstablishWith, Listens, ProvideWith, ReceiveTcp, ReceiveWith, Source},
    status::{SessionStatus, Status},
};
pub use crate::provider::progress::Activity;
use crate::{
    error::Stopped,
    events::Events,
    provider::{Accept, Connect, Provide, installer::Slot, progress::Progress},
    session::Session,
};

/// Keeps one logical connection alive, and hands its live session to callers.
///
/// Cheap to clone; clones refer to the same manager. When the last one is dropped, the manager shuts down in the
/// background within [`Config::drain_timeout`](crate::Config::drain_timeout), even if sessions are still held.
///
/// It runs on the runtime that it was started on. If that ends, or the provider fails for good, waiting callers get
/// [`Stopped::GaveUp`].
///
/// ```
/// use evermux::MuxManager;
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let receiver = MuxManager::receive("127.0.0.1:0").start().await?;
/// let address = receiver.local_addr().expect("TCP has addresses");
/// let establisher = MuxManager::establish(address.to_string()).name("to-us-west").start().await?;
///
/// let mut stream = establisher.open_stream().await?;
/// stream.write_all(b"hello").await?;
/// stream.shutdown().await?;
///
/// let mut inbound = receiver.session().await?.accept_stream().await?;
/// let mut text = String::new();
/// inbound.read_to_string(&mut text).await?;
/// assert_eq!(text, "hello");
///
/// drop((stream, inbound));
/// establisher.shutdown().await;
/// receiver.shutdown().await;
/// # Ok(())
/// # }
/// ```
#[must_use = "a manager shuts down when its last handle is dropped"]
#[derive(Clone)]
pub struct MuxManager(Arc<Handles>);

/// Shared by all handles of a manager. Readers and tasks do not hold it, so it is dropped with the last handle.
struct Handles {
    name: Option<Arc<str>>,
    slot: Arc<Slot>,
    progress: Arc<Progress>,
    reconnect_now: Arc<Notify>,
    shutdown: Shutdown,
    drain_timeout: Duration,
    local_addr: Option<SocketAddr>,
    /// The runtime that it runs on, and whose clock it uses.
    runtime: runtime::Handle,
}

impl Drop for Handles {
    fn drop(&mut self) {
        self.shutdown.request(self.drain_timeout);
    }
}

impl MuxManager {
    /// A manager that dials `HOST:PORT` over TCP.
    ///
    /// The name is resolved anew at each attempt, and all its addresses are tried.
    pub fn establish(address: impl Into<String>) -> Builder<EstablishTcp> {
        Builder::new(EstablishTcp(address.into()))
    }

    /// A manager that listens on `HOST:PORT` over TCP. With port 0 the operating system chooses one: see
    /// [`local_addr`](Self::local_addr).
    pub fn receive(address: impl Into<String>) -> Builder<ReceiveTcp> {
        Builder::new(ReceiveTcp(address.into()))
    }

    /// A manager that dials with a custom connector: TLS, a Unix socket, a pipe.
    pub fn establish_with<C: Connect>(connector: C) -> Builder<EstablishWith<C>> {
        Builder::new(EstablishWith(connector))
    }

    /// A manager that listens with a custom acceptor.
    pub fn receive_with<A: Accept>(acceptor: A) -> Builder<ReceiveWith<A>> {
        Builder::new(ReceiveWith(acceptor))
    }

    /// A manager whose sessions come from a custom provider.
    pub fn provide_with<P: Provide>(provider: P) -> Builder<ProvideWith<P>> {
        Builder::new(ProvideWith(provider))
    }

    /// Returns the live session. Waits while there is none, through losses, pauses and attempts.
    ///
    /// A lost session is never returned to a caller that already knows of its loss (G3).
    ///
    /// ```
    /// use std::time::Duration;
    /// use evermux::{MuxManager, Stopped};
    /// use tokio::time::timeout;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let manager = MuxManager::receive("127.0.0.1:0").start().await?;
    /// let nobody = timeout(Duration::from_millis(10), manager.session()).await;
    /// assert!(nobody.is_err(), "nobody has dialled yet");
    ///
    /// let peer = MuxManager::establish(manager.local_addr().unwrap().to_string()).start().await?;
    /// let session = manager.session().await?;
    /// println!("{:?} is here, {:?} away", session.peer_addr(), session.ping().await?);
    ///
    /// peer.shutdown().await;
    /// manager.shutdown().await;
    /// assert!(matches!(manager.session().await, Err(Stopped::ShutDown)));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Stopped`]: no more sessions will be made.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves nothing behind. Set a deadline with [`tokio::time::timeout`].
    pub async fn session(&self) -> Result<Session, Stopped> {
        self.0.slot.wait().await
    }

    /// The live session, if there is one now. Never waits.
    ///
    /// For very frequent reads, [`reader`](Self::reader) is cheaper.
    pub fn try_session(&self) -> Option<Session> {
        self.0.slot.peek()
    }

    /// A handle for hot paths: a read takes a few nanoseconds and writes nothing shared. Use one per thread.
    ///
    /// It does not keep the manager running.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let manager = evermux::MuxManager::receive("127.0.0.1:0").start().await?;
    /// let mut reader = manager.reader();
    /// assert!(reader.session().is_none(), "nobody has dialled yet");
    /// # manager.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn reader(&self) -> Reader {
        Reader(self.0.slot.reader())
    }

    /// Calls the closure with the live session, once there is one, and returns the output of its future.
    ///
    /// ```no_run
    /// # async fn example(manager: evermux::MuxManager) -> Result<(), Box<dyn std::error::Error>> {
    /// let stream = manager.with_session(async |session| session.open_stream().await).await??;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Stopped`]: no more sessions will be made; the closure was not called.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the closure's future.
    pub async fn with_session<F, Fut>(&self, f: F) -> Result<Fut::Output, Stopped>
    where
        F: FnOnce(Session) -> Fut,
        Fut: Future,
    {
        let session = self.session().await?;
        Ok(f(session).await)
    }

    /// The streams that peers open, across all sessions: for servers.
    ///
    /// Each stream goes to one taker, here or in [`Session::accept_stream`]. Sessions take turns. Keep one [`Incoming`]
    /// for as long as streams are served, not one per stream: once the last is dropped, streams are refused, except on
    /// sessions from which [`Session::accept_stream`] takes. An evermux peer knows that it may repeat what it sent on
    /// them.
    ///
    /// ```
    /// use evermux::MuxManager;
    /// use tokio::io::AsyncWriteExt;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let server = MuxManager::receive("127.0.0.1:0").start().await?;
    /// let client = MuxManager::establish(server.local_addr().unwrap().to_string()).start().await?;
    /// let serving = tokio::spawn({
    ///     let mut incoming = server.incoming();
    ///     async move {
    ///         while let Some(mut stream) = incoming.next().await {
    ///             tokio::spawn(async move {
    ///                 let _ = stream.write_all(b"hello").await;
    ///                 let _ = stream.shutdown().await;
    ///             });
    ///         }
    ///     }
    /// });
    ///
    /// let mut stream = client.open_stream().await?;
    /// let mut text = String::new();
    /// tokio::io::AsyncReadExt::read_to_string(&mut stream, &mut text).await?;
    /// assert_eq!(text, "hello");
    /// # drop(stream);
    /// client.shutdown().await;
    /// server.shutdown().await;
    /// serving.await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn incoming(&self) -> Incoming {
        Incoming::new(self.0.shutdown.tasks().arrivals())
    }

    /// The manager's events, from now on.
    ///
    /// Up to [`Config::event_backlog`](crate::Config::event_backlog) events are kept for a slow reader; past that,
    /// [`Event::Missed`](crate::Event::Missed) has the number of those lost. Nothing waits for a reader.
    ///
    /// ```
    /// use evermux::{Event, MuxManager};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let receiver = MuxManager::receive("127.0.0.1:0").start().await?;
    /// let mut events = receiver.events();
    /// let establisher = MuxManager::establish(receiver.local_addr().unwrap().to_string()).start().await?;
    /// while let Some(event) = events.next().await {
    ///     match event {
    ///         Event::SessionLive { session, peer, .. } => {
    ///             println!("session {session} with {peer:?} is live");
    ///             establisher.shutdown().await;
    ///         }
    ///         Event::SessionClosed { session, reason } => {
    ///             println!("session {session} has ended: {reason}");
    ///             break;
    ///         }
    ///         Event::Missed(events) => println!("too slow for {events} events"),
    ///         other => println!("{other:?}"),
    ///     }
    /// }
    /// # receiver.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn events(&self) -> Events {
        self.0.progress.events()
    }

    /// Ends the current pause before the next attempt, if there is one: for example when a network has come back.
    ///
    /// It changes nothing else: an attempt under way continues, the pauses after it are as long as they would have
    /// been, and the call has no effect on a later pause. A receiver makes no attempts.
    pub fn reconnect_now(&self) {
        self.0.reconnect_now.notify_waiters();
    }

    /// The address that a receiver listens on, with the port that the operating system chose. `None` for an
    /// establisher, a custom provider, and a transport without such addresses.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.0.local_addr
    }

    /// Its name, if it was given one.
    pub fn name(&self) -> Option<&str> {
        self.0.name.as_deref()
    }

    /// What it is doing now.
    ///
    /// ```
    /// use evermux::{MuxManager, manager::Activity};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let receiver = MuxManager::receive("127.0.0.1:0").start().await?;
    /// let status = receiver.status();
    /// assert_eq!(status.activity, Activity::Listening);
    /// assert!(status.sessions.is_empty() && status.stopped.is_none());
    ///
    /// let establisher = MuxManager::establish(receiver.local_addr().unwrap().to_string()).start().await?;
    /// receiver.session().await?;
    /// for session in receiver.status().sessions {
    ///     println!("{} with {:?}: {} streams", session.id, session.peer, session.open_streams);
    /// }
    /// # establisher.shutdown().await;
    /// # receiver.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn status(&self) -> Status {
        Status::collect(&self.0)
    }

    /// Closes everything, and waits until that is done (G5).
    ///
    /// Callers that wait for a session get [`Stopped::ShutDown`] at once. Streams in flight may finish within
    /// [`Config::drain_timeout`](crate::Config::drain_timeout). After that no task of the manager runs, every socket is
    /// closed, and the port can be bound again. A name lookup that the operating system has begun may still run; its
    /// result is discarded.
    ///
    /// It may be called any number of times: each call returns when everything is closed, at once if it already is. A
    /// connector or acceptor that calls it is dropped by the shutdown, and nothing after the call runs.
    ///
    /// ```
    /// use evermux::{MuxManager, Stopped};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let manager = MuxManager::receive("127.0.0.1:0").start().await?;
    /// let address = manager.local_addr().unwrap().to_string();
    /// let waiting = tokio::spawn({
    ///     let manager = manager.clone();
    ///     async move { manager.session().await.map(drop) }
    /// });
    /// manager.shutdown().await;
    /// assert!(matches!(waiting.await?, Err(Stopped::ShutDown)));
    /// let next = MuxManager::receive(address).start().await?; // the port is free
    /// # next.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Once polled, dropping the future does not stop the shutdown.
    pub async fn shutdown(&self) {
        self.shutdown_within(self.0.drain_timeout).await;
    }

    /// Begins a shutdown that has no time limit yet, for programs that have something to do between its first step and
    /// its last.
    ///
    /// No more sessions are made, and each live session begins to close: an evermux peer opens its next streams on its
    /// next session, perhaps with another receiver. Servers are notified by
    /// [`MuxStream::draining`](crate::MuxStream::draining). Waiting streams can still be taken, then
    /// [`incoming`](Self::incoming) ends. Streams in flight may finish for as long as the peer lets them: an evermux
    /// peer gives them its own [`Config::drain_timeout`](crate::Config::drain_timeout). This side opens no more streams
    /// either, and callers that wait for a session get [`Stopped::ShutDown`] at once. [`shutdown`](Self::shutdown) sets
    /// the limit, and waits.
    ///
    /// Never waits.
    pub fn stop_accepting(&self) {
        self.0.shutdown.request(Duration::MAX);
    }

    /// [`shutdown`](Self::shutdown), with a different limit for the streams in flight. The earliest limit counts,
    /// including the peer's own.
    ///
    /// # Cancel safety
    ///
    /// Once polled, dropping the future does not stop the shutdown.
    pub async fn shutdown_within(&self, within: Duration) {
        self.0.shutdown.request(within);
        self.0.shutdown.finished().await;
    }

    /// Whether a shutdown was requested, by a call or by the token of [`shutdown_on`](Builder::shutdown_on). This is
    /// `false` for a manager that gave up by itself: see [`status`](Self::status).
    pub fn is_shutting_down(&self) -> bool {
        self.0.shutdown.is_requested()
    }
}

impl std::fmt::Debug for MuxManager {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MuxManager").field("name", &self.0.name).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{error::Error, fmt::Debug, future::pending};

    use tokio::io::{DuplexStream, duplex};

    use super::*;
    use crate::{
        config::Config,
        error::ConnectError,
        provider::{Connected, Installer},
    };

    fn shows(value: &dyn Debug, name: &str) {
        let text = format!("{value:?}");
        assert!(text.starts_with(name), "{name} shows {text:?}");
    }

    /// Shows what it makes, and ends.
    struct Shows(DuplexStream);

    impl Provide for Shows {
        async fn provide(self, installer: Installer) -> Result<(), Box<dyn Error + Send + Sync>> {
            shows(&installer, "Installer { places: 3");
            let candidate = installer.server(Connected::anonymous(self.0));
            shows(&candidate, "Candidate { id");
            installer.stopped().await;
            Ok(())
        }
    }

    #[tokio::test]
    async fn each_handle_shows_its_name_and_what_matters() {
        let dial = || pending::<Result<Connected<DuplexStream>, ConnectError>>();
        let builder = MuxManager::establish_with(dial).name("north");
        shows(&MuxManager::receive("127.0.0.1:0").name("north"), "Builder");
        let manager = builder.start().await.unwrap();
        shows(&manager, "MuxManager { name: Some(\"north\")");
        shows(&manager.incoming(), "Incoming");
        shows(&manager.events(), "Events");
        shows(&manager.reader(), "Reader");
        manager.shutdown().await;
        let (near, far) = duplex(4_096);
        let config = Config::default();
        let (client, server) = tokio::join!(Session::client(near, &config), Session::server(far, &config));
        let (client, server) = (client.unwrap(), server.unwrap());
        shows(&client, "Session { id: ");
        let stream = client.open_stream().await.unwrap();
        shows(&stream, "MuxStream { session: ");
        let (read, write) = stream.into_split();
        shows(&read, "ReadHalf { id: 1");
        shows(&write, "WriteHalf { id: 1");
        drop(server);
        // A panic of the provider is the reason for which it has stopped.
        let manager = MuxManager::provide_with(Shows(duplex(64).0)).sessions(3).start().await.unwrap();
        tokio::task::yield_now().await;
        manager.shutdown().await;
        assert!(matches!(manager.session().await, Err(Stopped::ShutDown)), "{:?}", manager.status().stopped);
    }
}
