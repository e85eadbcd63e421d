//! The manager: a slot, a provider, and the shutdown. It is the only place that knows all of them.

mod builder;
mod incoming;
mod shutdown;
mod source;
mod status;

use std::{
    future::Future,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{runtime, sync::Notify, time::timeout};
use tokio_util::context::TokioContext;

use self::shutdown::Shutdown;
pub use self::{
    builder::Builder,
    incoming::Incoming,
    source::{EstablishTcp, EstablishWith, Listens, ProvideWith, ReceiveTcp, ReceiveWith, Source},
    status::{SessionStatus, Status},
};
pub use crate::provider::progress::Activity;
use crate::{
    blocking,
    error::{OpenError, Stopped, WaitError},
    events::Events,
    provider::{Accept, Connect, Provide, installer::Slot, progress::Progress},
    session::{MuxStream, Session},
    sync::{SlotReader, WaitUntilError},
};

/// Keeps one logical connection alive, and hands its live session to whoever asks.
///
/// Cheap to clone; clones speak of the same manager. When the last one is dropped the manager shuts down in the
/// background under [`Config::drain_timeout`](crate::Config::drain_timeout), whatever sessions are still held.
///
/// It runs on the runtime that it was started on. When that ends, or its provider fails for good, whoever waits is told
/// so with [`Stopped::GaveUp`].
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

/// What all handles of a manager share. Readers and tasks do not hold it: its drop is the drop of the last handle.
struct Handles {
    name: Option<Arc<str>>,
    slot: Arc<Slot>,
    progress: Arc<Progress>,
    reconnect_now: Arc<Notify>,
    shutdown: Shutdown,
    drain_timeout: Duration,
    local_addr: Option<SocketAddr>,
    /// Where it runs, and its time.
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

    /// A manager that listens on `HOST:PORT` over TCP. Port 0 lets the operating system choose:
    /// [`local_addr`](Self::local_addr) tells.
    pub fn receive(address: impl Into<String>) -> Builder<ReceiveTcp> {
        Builder::new(ReceiveTcp(address.into()))
    }

    /// A manager that dials with a connector of your own: TLS, a Unix socket, a pipe.
    pub fn establish_with<C: Connect>(connector: C) -> Builder<EstablishWith<C>> {
        Builder::new(EstablishWith(connector))
    }

    /// A manager that listens with an acceptor of your own.
    pub fn receive_with<A: Accept>(acceptor: A) -> Builder<ReceiveWith<A>> {
        Builder::new(ReceiveWith(acceptor))
    }

    /// A manager whose sessions come from a provider of your own.
    pub fn provide_with<P: Provide>(provider: P) -> Builder<ProvideWith<P>> {
        Builder::new(ProvideWith(provider))
    }

    /// The live session, once there is one. Waits as long as there is none: through losses, pauses and attempts.
    ///
    /// A session that is lost is never returned to whoever has learnt of its loss (G3).
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
    /// Dropping the future leaves nothing behind. Put a deadline on it with [`tokio::time::timeout`].
    pub async fn session(&self) -> Result<Session, Stopped> {
        self.0.slot.wait().await
    }

    /// The live session, if there is one now. Never waits.
    ///
    /// For reading it very often, [`reader`](Self::reader) is cheaper.
    pub fn try_session(&self) -> Option<Session> {
        self.0.slot.peek()
    }

    /// A handle for hot paths: a look costs a few nanoseconds and writes nothing shared. One for each thread.
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

    /// Calls the closure with the live session, once there is one, and returns what it returns.
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
    /// Dropping the future drops what the closure returned.
    pub async fn with_session<F, Fut>(&self, f: F) -> Result<Fut::Output, Stopped>
    where
        F: FnOnce(Session) -> Fut,
        Fut: Future,
    {
        let session = self.session().await?;
        Ok(f(session).await)
    }

    /// Opens a stream on the live session; moves on to the next one if this one is lost or closing.
    ///
    /// Waits for a session, and for a place as [`Session::open_stream`] does.
    ///
    /// ```
    /// use std::time::Duration;
    /// use evermux::{Config, MuxManager};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let receiver = MuxManager::receive("127.0.0.1:0").start().await?;
    /// let address = receiver.local_addr().unwrap().to_string();
    /// let config = Config::builder().backoff_initial(Duration::from_millis(10)).build()?;
    /// let manager = MuxManager::establish(address).config(config).start().await?;
    ///
    /// let stream = manager.open_stream().await?;
    /// manager.session().await?.abort();
    /// // The stream has gone with its session. This one waits for the next session.
    /// let next = manager.open_stream().await?;
    /// assert_ne!(stream.session_id(), next.session_id());
    /// # drop((stream, next));
    /// # manager.shutdown().await;
    /// # receiver.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`OpenError::TimedOut`] when a live session had no place in time, and [`OpenError::Stopped`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future opens nothing, or resets what was opened.
    pub async fn open_stream(&self) -> Result<MuxStream, OpenError> {
        self.open(&AtomicBool::new(false)).await
    }

    /// Opens a stream, and notes whether it waits for a place in a session, not for a session.
    async fn open(&self, has_session: &AtomicBool) -> Result<MuxStream, OpenError> {
        loop {
            has_session.store(false, Ordering::Relaxed);
            let session = self.session().await?;
            has_session.store(true, Ordering::Relaxed);
            match session.open_stream().await {
                // It left the slot before this was said, so the next turn waits for another.
                Err(OpenError::Draining | OpenError::Lost(_)) => {}
                outcome => return outcome,
            }
        }
    }

    /// [`open_stream`](Self::open_stream), waiting for at most `within`.
    ///
    /// # Errors
    ///
    /// [`OpenError::NoSession`] when there was no session in time, with the error of the last attempt; and as
    /// [`open_stream`](Self::open_stream).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future opens nothing, or resets what was opened.
    pub async fn open_stream_within(&self, within: Duration) -> Result<MuxStream, OpenError> {
        let has_session = AtomicBool::new(false);
        let opening = async { timeout(within, self.open(&has_session)).await };
        let opened = TokioContext::new(opening, self.0.runtime.clone()).await;
        opened.unwrap_or_else(|_| Err(self.not_opened(within, &has_session)))
    }

    /// [`open_stream_within`](Self::open_stream_within) for threads.
    ///
    /// # Errors
    ///
    /// As [`open_stream_within`](Self::open_stream_within).
    ///
    /// # Panics
    ///
    /// Where it would have to wait inside an async context.
    pub fn open_stream_blocking_within(&self, within: Duration) -> Result<MuxStream, OpenError> {
        let has_session = AtomicBool::new(false);
        let opened = blocking::block_on_timeout(within, self.open(&has_session));
        opened.unwrap_or_else(|| Err(self.not_opened(within, &has_session)))
    }

    /// [`open_stream`](Self::open_stream) for threads.
    ///
    /// # Errors
    ///
    /// As [`open_stream`](Self::open_stream).
    ///
    /// # Panics
    ///
    /// Where it would have to wait inside an async context.
    pub fn open_stream_blocking(&self) -> Result<MuxStream, OpenError> {
        blocking::block_on(self.open_stream())
    }

    /// Why no stream was opened in this time.
    fn not_opened(&self, within: Duration, has_session: &AtomicBool) -> OpenError {
        if has_session.load(Ordering::Relaxed) {
            return OpenError::TimedOut;
        }
        // One of an attempt before the last session says nothing of now.
        let notes = self.0.progress.get();
        let last_attempt = notes.last_error.filter(|_| notes.attempts > 0);
        OpenError::NoSession { within, last_attempt }
    }

    /// [`session`](Self::session) for threads.
    ///
    /// ```
    /// use std::time::Duration;
    /// use evermux::{MuxManager, WaitError};
    ///
    /// let runtime = tokio::runtime::Runtime::new()?;
    /// let manager = runtime.block_on(MuxManager::receive("127.0.0.1:0").start())?;
    /// let nobody = manager.session_blocking_timeout(Duration::from_millis(10));
    /// assert!(matches!(nobody, Err(WaitError::TimedOut(_))));
    /// runtime.block_on(manager.shutdown());
    /// assert!(manager.session_blocking().is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`session`](Self::session). When the runtime of the manager ends, waiting threads are freed with
    /// [`Stopped::GaveUp`].
    ///
    /// # Panics
    ///
    /// Where it would have to wait inside an async context. `spawn_blocking` and `block_in_place` are fine.
    pub fn session_blocking(&self) -> Result<Session, Stopped> {
        if let Some(outcome) = self.outcome() {
            return outcome;
        }
        blocking::assert_may_wait();
        self.0.slot.wait_blocking()
    }

    /// [`session`](Self::session) for threads, waiting for at most `timeout`. Zero never waits.
    ///
    /// # Errors
    ///
    /// [`WaitError::TimedOut`], or [`WaitError::Stopped`] as for [`session`](Self::session).
    ///
    /// # Panics
    ///
    /// Where it would have to wait inside an async context.
    #[allow(clippy::disallowed_methods, reason = "a thread has no other clock, and a simulation has no threads")]
    pub fn session_blocking_timeout(&self, timeout: Duration) -> Result<Session, WaitError> {
        if let Some(outcome) = self.outcome() {
            return outcome.map_err(WaitError::Stopped);
        }
        if timeout.is_zero() {
            return Err(WaitError::TimedOut(timeout));
        }
        blocking::assert_may_wait();
        let Some(deadline) = Instant::now().checked_add(timeout) else {
            // Longer than the clock can tell.
            return self.0.slot.wait_blocking().map_err(WaitError::Stopped);
        };
        self.0.slot.wait_until(deadline).map_err(|error| match error {
            WaitUntilError::TimedOut => WaitError::TimedOut(timeout),
            WaitUntilError::Stopped(stopped) => WaitError::Stopped(stopped),
        })
    }

    /// [`with_session`](Self::with_session) for threads. The closure is called on this thread.
    ///
    /// # Errors
    ///
    /// As [`session_blocking`](Self::session_blocking).
    ///
    /// # Panics
    ///
    /// As [`session_blocking`](Self::session_blocking).
    pub fn with_session_blocking<T>(&self, f: impl FnOnce(Session) -> T) -> Result<T, Stopped> {
        self.session_blocking().map(f)
    }

    fn outcome(&self) -> Option<Result<Session, Stopped>> {
        self.0.slot.stopped().map(Err).or_else(|| self.try_session().map(Ok))
    }

    /// The streams that the peers open, across all sessions: for servers.
    ///
    /// Each stream goes to one taker, here or in [`Session::accept_stream`]. The sessions take turns. Keep one as long
    /// as streams are served, and not one for each: with the last one dropped they are refused, but those of sessions
    /// from which [`Session::accept_stream`] takes. An evermux peer knows that it may repeat what it sent on them.
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

    /// What happens to the manager, from now on.
    ///
    /// [`Config::event_backlog`](crate::Config::event_backlog) events are kept for a reader that is slow; then it is
    /// told how many it has missed. Nothing waits for a reader.
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

    /// Ends the pause before the next attempt, if there is one now: when a network has come back, for example.
    ///
    /// It changes nothing else: an attempt that is under way goes on, the pauses after it are as long as they would
    /// have been, and nothing is kept for a later pause. A receiver makes no attempts.
    pub fn reconnect_now(&self) {
        self.0.reconnect_now.notify_waiters();
    }

    /// Where a receiver listens, with the port that the operating system chose. `None` for an establisher.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.0.local_addr
    }

    /// The name that it was given.
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

    /// Closes everything, and waits until it is closed (G5).
    ///
    /// Callers who wait for a session are freed at once with [`Stopped::ShutDown`]. Streams in flight may finish within
    /// [`Config::drain_timeout`](crate::Config::drain_timeout). Then no task of the manager runs, every socket is
    /// closed, and the port can be bound again. A lookup of a name that the operating system has begun may still run;
    /// its result is thrown away.
    ///
    /// Any number may call it, and it returns to all of them when everything is closed; at once if it already is. A
    /// connector or acceptor that calls it is dropped by the shutdown, and what follows the call does not run.
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

    /// Begins a shutdown that has no limit yet: for whoever has something to do between the first step and the last.
    ///
    /// No more sessions are made, and each that is live begins to close: an evermux peer opens its next streams on its
    /// next session, with another receiver perhaps. Whoever serves is told by [`MuxStream::draining`]. What waits to be
    /// taken can still be taken, then [`incoming`](Self::incoming) ends. Streams in flight may finish, as long as the
    /// peer lets them: an evermux peer gives them its own [`Config::drain_timeout`](crate::Config::drain_timeout). On
    /// this side nothing is opened any more either, and callers who wait for a session are freed at once with
    /// [`Stopped::ShutDown`]. [`shutdown`](Self::shutdown) sets the limit, and waits.
    ///
    /// Never waits.
    pub fn stop_accepting(&self) {
        self.0.shutdown.request(Duration::MAX);
    }

    /// [`shutdown`](Self::shutdown), with another limit for the streams in flight. Of several the earliest counts, and
    /// the peer's own as well.
    ///
    /// # Cancel safety
    ///
    /// Once polled, dropping the future does not stop the shutdown.
    pub async fn shutdown_within(&self, within: Duration) {
        self.0.shutdown.request(within);
        self.0.shutdown.finished().await;
    }

    /// [`shutdown`](Self::shutdown) for threads.
    ///
    /// # Panics
    ///
    /// Where it would have to wait inside an async context.
    pub fn shutdown_blocking(&self) {
        blocking::block_on(self.shutdown());
    }

    /// Whether a shutdown was asked for, by a call or by the token of [`shutdown_on`](Builder::shutdown_on). A manager
    /// that gave up by itself was not asked: [`status`](Self::status) tells.
    pub fn is_shutting_down(&self) -> bool {
        self.0.shutdown.is_requested()
    }
}

impl std::fmt::Debug for MuxManager {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MuxManager").field("name", &self.0.name).finish_non_exhaustive()
    }
}

/// Reads the live session of a [`MuxManager`] on a hot path: see [`MuxManager::reader`].
#[derive(Clone, Debug)]
pub struct Reader(SlotReader<Session, Stopped>);

impl Reader {
    /// The live session, if there is one now. Never waits.
    ///
    /// It holds a clone of the session until the look that finds it gone.
    pub fn session(&mut self) -> Option<&Session> {
        self.0.session()
    }
}
