//! One yamux session over one connection.
//!
//! socket → wire → yamux crate → driver → handles. The driver is the only task that touches the crate.
//! It knows nothing of slots and managers: that a session must leave its slot before anyone learns of its death (rule
//! 7) reaches it as a hook.

mod blocking;
mod buffer;
mod command;
pub(crate) mod driver;
mod end;
mod entry;
#[cfg(not(feature = "__internals"))]
mod frame;
#[cfg(feature = "__internals")]
#[doc(hidden)]
pub mod frame;
mod goodbye;
mod handed;
#[cfg(not(feature = "__internals"))]
mod heartbeat;
#[cfg(feature = "__internals")]
#[doc(hidden)]
pub mod heartbeat;
mod inbound;
mod input;
mod ledger;
mod output;
mod pace;
mod pings;
mod record;
mod state;
mod stream;
mod stream_core;
mod unread;
pub(crate) mod wire;

use std::{future::poll_fn, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    runtime,
    sync::{mpsc, oneshot},
    time::{Instant, timeout},
};
use tokio_util::context::TokioContext;
use tracing::{Instrument, debug, info_span};

pub(crate) use self::goodbye::{Goodbye, turn_away};
pub(crate) use self::inbound::Inbound;
pub(crate) use self::pace::{Outlet, UnsentLimit};
pub(crate) use self::state::{Identity, Retirement};
pub use self::{
    blocking::{Blocking, BlockingStream},
    stream::{MuxStream, ReadHalf, WriteHalf},
};
use self::{
    command::Command,
    driver::Driver,
    entry::{LoadGuard, OpenPermit},
    state::SessionState,
    wire::{Role, WireCore},
};
use crate::{
    blocking::{block_on, block_on_timeout},
    config::Config,
    deadline,
    error::{CloseReason, OpenError},
    sync::{Lane, LaneLimits, SessionId},
};

/// One yamux session over one connection. Cheap to clone; clones speak of the same session.
///
/// A [`MuxManager`](crate::MuxManager) hands sessions out. [`Session::client`] and [`Session::server`] make one alone.
///
/// Inbound streams wait in one queue: each goes to one caller of [`accept_stream`](Self::accept_stream).
///
/// ```
/// use evermux::{Config, Session};
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (near, far) = tokio::io::duplex(4096);
/// let config = Config::default();
/// let (client, server) = tokio::try_join!(Session::client(near, &config), Session::server(far, &config))?;
///
/// let mut stream = client.open_stream().await?;
/// stream.write_all(b"hello").await?;
/// stream.shutdown().await?;
///
/// let mut inbound = server.accept_stream().await?;
/// let mut text = String::new();
/// inbound.read_to_string(&mut text).await?;
/// assert_eq!(text, "hello");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Session(Arc<Handle>);

/// What a session runs on.
pub(crate) struct Transport<Io> {
    pub(crate) io: Io,
    /// Of this side, and of the peer.
    pub(crate) addresses: (Option<SocketAddr>, Option<SocketAddr>),
    pub(crate) unsent_limit: Option<UnsentLimit<Io>>,
}

struct Handle {
    state: Arc<SessionState>,
    commands: mpsc::UnboundedSender<Command>,
    inbound: Lane<Inbound>,
    /// Where its driver runs, and its time.
    runtime: runtime::Handle,
    open_timeout: Duration,
    drain_timeout: Duration,
}

impl Session {
    /// Makes a session on a connection that this side has made. It is driven on the current runtime.
    ///
    /// Waits for a round trip on it, at most [`Config::handshake_timeout`].
    ///
    /// # Errors
    ///
    /// [`CloseReason::NotProven`] when the peer does not answer in time, or what ended the connection before that.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub async fn client<Io>(io: Io, config: &Config) -> Result<Self, CloseReason>
    where
        Io: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        Self::standalone(io, Role::Client, config).await
    }

    /// Makes a session on a connection that the peer has made. All else is as for [`client`](Self::client).
    ///
    /// # Errors
    ///
    /// As [`client`](Self::client).
    pub async fn server<Io>(io: Io, config: &Config) -> Result<Self, CloseReason>
    where
        Io: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        Self::standalone(io, Role::Server, config).await
    }

    async fn standalone<Io>(io: Io, role: Role, config: &Config) -> Result<Self, CloseReason>
    where
        Io: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let prove_by = deadline::after(Instant::now(), config.handshake_timeout());
        let transport = Transport { io, addresses: (None, None), unsent_limit: None };
        let (session, driver) = Self::launch(transport, role, false, prove_by, Identity::standalone(config), config);
        tokio::spawn(driver);
        session.proven().await?;
        session.publish();
        session.give_streams();
        Ok(session)
    }

    /// Makes a session, and the task that drives it. Without a round trip on it by `prove_by` it ends.
    ///
    /// With `withhold`, the peer's pings are not answered before [`publish`](Self::publish): an evermux peer publishes
    /// nothing until then (G14).
    pub(crate) fn launch<Io>(
        transport: Transport<Io>,
        role: Role,
        withhold: bool,
        prove_by: Instant,
        identity: Identity,
        config: &Config,
    ) -> (Self, impl Future<Output = ()> + Send + use<Io>)
    where
        Io: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let Identity { id, clear, load, arrivals } = identity;
        // The peer's brake is at 256 that were not taken, and is not ours.
        let lane = arrivals
            .lane(LaneLimits { waiting: config.accept_backlog(), taken: config.max_concurrent_streams() as usize });
        let Transport { io, addresses, unsent_limit } = transport;
        let state =
            Arc::new(SessionState::new((id, clear, Arc::clone(&load)), addresses, config.max_concurrent_streams()));
        let outlet = Outlet { unsent_limit, gate: Arc::clone(&state.gate) };
        let core = WireCore::new(io, role, withhold, prove_by, config, (lane.clone(), load), outlet);
        let (commands, receiver) = mpsc::unbounded_channel();
        let channel = (commands.downgrade(), receiver);
        let driver = Driver::new(core, role, Arc::clone(&state), config, lane.clone(), channel);
        let span = info_span!("session", %id, peer = addresses.1.map(tracing::field::display));
        let handle = Handle {
            state,
            commands,
            inbound: lane,
            runtime: runtime::Handle::current(),
            open_timeout: config.open_timeout(),
            drain_timeout: config.drain_timeout(),
        };
        (Self(Arc::new(handle)), driver.instrument(span))
    }

    /// Waits for the round trip that proves the session (G15), or for its end without one.
    pub(crate) async fn proven(&self) -> Result<(), CloseReason> {
        self.0.state.proven().await
    }

    /// The session is where callers find it: it answers pings.
    pub(crate) fn publish(&self) {
        debug!(id = %self.id(), "session published");
        self.command(Command::Publish);
    }

    /// Whoever is to know of the session does: the streams of its peer can be taken.
    pub(crate) fn give_streams(&self) {
        self.0.inbound.show();
    }

    /// Waits until the session is out of its slot: it is closed, or no longer takes new streams.
    pub(crate) async fn retired(&self) -> Retirement {
        self.0.state.retired().await
    }

    /// Opens a stream. The peer is told at once.
    ///
    /// Waits for a place when [`Config::max_concurrent_streams`] are open, and while the peer has 256 streams that it
    /// has not acknowledged, whether or not they are finished; at most [`Config::open_timeout`]. Places are given in
    /// the order of asking.
    ///
    /// That it is open does not mean that the peer has taken it. Where the peer resets it before that, its calls fail
    /// with [`StreamError::Refused`](crate::StreamError::Refused), and it is safe to repeat.
    ///
    /// # Errors
    ///
    /// [`OpenError::TimedOut`], [`OpenError::Draining`] when the session is closing, and [`OpenError::Lost`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future opens nothing, or resets what was opened.
    pub async fn open_stream(&self) -> Result<MuxStream, OpenError> {
        // Whoever asks may run on something else than tokio, whose time it is.
        let opening = async { timeout(self.0.open_timeout, self.open()).await };
        TokioContext::new(opening, self.0.runtime.clone()).await.unwrap_or(Err(OpenError::TimedOut))
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
        block_on_timeout(self.0.open_timeout, self.open()).unwrap_or(Err(OpenError::TimedOut))
    }

    async fn open(&self) -> Result<MuxStream, OpenError> {
        let state = &self.0.state;
        let load = LoadGuard::new(&state.load);
        let permit = Arc::clone(&state.permits).acquire_owned().await.map_err(|_| state.open_error())?;
        let (reply, stream) = oneshot::channel();
        self.command(Command::Open(OpenPermit { permit, load }, reply));
        stream.await.map_err(|_| state.open_error())
    }

    /// Takes the next stream that the peer has opened, and tells the peer so.
    ///
    /// Waits for one; and while [`Config::max_concurrent_streams`] that were taken are open. A stream that nobody takes
    /// within [`Config::accept_timeout`] is reset.
    ///
    /// ```
    /// # use evermux::{CloseReason, Config, Session};
    /// use tokio::io::AsyncWriteExt;
    ///
    /// /// Answers each stream in a task of its own, until the session ends.
    /// async fn serve(session: Session) -> CloseReason {
    ///     loop {
    ///         let mut stream = match session.accept_stream().await {
    ///             Ok(stream) => stream,
    ///             Err(reason) => return reason,
    ///         };
    ///         tokio::spawn(async move {
    ///             stream.write_all(b"hello").await?;
    ///             stream.shutdown().await
    ///         });
    ///     }
    /// }
    ///
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (near, far) = tokio::io::duplex(4096);
    /// # let config = Config::default();
    /// # let (client, server) = tokio::try_join!(Session::client(near, &config), Session::server(far, &config))?;
    /// let serving = tokio::spawn(serve(server));
    /// let mut text = String::new();
    /// tokio::io::AsyncReadExt::read_to_string(&mut client.open_stream().await?, &mut text).await?;
    /// assert_eq!(text, "hello");
    /// client.close().await;
    /// assert!(matches!(serving.await?, CloseReason::PeerClosed));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Why the session ended, once the streams that came before are taken.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future takes no stream.
    pub async fn accept_stream(&self) -> Result<MuxStream, CloseReason> {
        let mut taker = self.0.inbound.taker();
        while let Some(inbound) = poll_fn(|cx| taker.poll_take(cx)).await {
            if let Some(stream) = inbound.accept() {
                return Ok(stream);
            }
        }
        Err(self.closed().await)
    }

    /// [`accept_stream`](Self::accept_stream) for threads.
    ///
    /// # Errors
    ///
    /// As [`accept_stream`](Self::accept_stream).
    ///
    /// # Panics
    ///
    /// Where it would have to wait inside an async context.
    pub fn accept_stream_blocking(&self) -> Result<MuxStream, CloseReason> {
        block_on(self.accept_stream())
    }

    /// Pings the peer, and returns the round-trip time.
    ///
    /// Waits for the answer, and as long as the session lives. Calls that wait at the same time share one ping.
    ///
    /// # Errors
    ///
    /// Why the session ended.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    pub async fn ping(&self) -> Result<Duration, CloseReason> {
        let (reply, answer) = oneshot::channel();
        self.command(Command::Ping(reply));
        match answer.await {
            Ok(round_trip) => Ok(round_trip),
            Err(_) => Err(self.closed().await),
        }
    }

    /// Asks the peer for a sign of life, and waits for one from now on: a byte of any kind, or room for bytes of ours
    /// where there was none. Says whether it gave none in this time. A session that ends meanwhile is not silent.
    pub(crate) async fn is_silent(&self, within: Duration) -> bool {
        let (reply, silent) = oneshot::channel();
        self.command(Command::Probe(within, reply));
        // Refused by a session that has ended.
        silent.await.unwrap_or(false)
    }

    /// Waits for the end of the session, and returns its reason.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    pub async fn closed(&self) -> CloseReason {
        self.0.state.closed().await
    }

    /// Waits until the session opens no more streams and begins to refuse what the peer opens, and returns the reason:
    /// it closes cleanly, on this side or at the peer's wish, or it has ended.
    ///
    /// A session that closes waits for its streams, up to [`Config::drain_timeout`]. Whoever keeps one open that would
    /// never end by itself, such as a connection of HTTP/2, says its own goodbye now, and the closing is over in a
    /// round trip.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    pub async fn draining(&self) -> CloseReason {
        self.retired().await.reason
    }

    /// Whether the session opens no more streams: it is closing, or has ended.
    pub fn is_draining(&self) -> bool {
        self.0.state.retirement().is_some()
    }

    /// Closes the session cleanly, waits until it is closed, and returns how that ended.
    ///
    /// It leaves its manager at once. No stream is opened any more; those in flight may finish within
    /// [`Config::drain_timeout`], then they are reset.
    ///
    /// [`CloseReason::Closed`] means that every stream had ended, that the transport has taken every byte, and that the
    /// peer has ended the connection cleanly. Whether an application has read the bytes, only that can say.
    /// [`CloseReason::DrainTimedOut`] counts what was cut; any other reason is what was met on the way.
    ///
    /// ```
    /// use evermux::CloseReason;
    /// # use evermux::{Config, Session};
    /// # use tokio::io::{AsyncReadExt, AsyncWriteExt};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (near, far) = tokio::io::duplex(4096);
    /// # let config = Config::default();
    /// # let (client, server) = tokio::try_join!(Session::client(near, &config), Session::server(far, &config))?;
    /// let mut stream = client.open_stream().await?;
    /// stream.write_all(b"the last words").await?;
    /// stream.shutdown().await?;
    /// let reading = tokio::spawn(async move {
    ///     let mut stream = server.accept_stream().await?;
    ///     let mut text = String::new();
    ///     stream.read_to_string(&mut text).await?;
    ///     stream.shutdown().await?;
    ///     Ok::<_, std::io::Error>(text)
    /// });
    /// match client.close().await {
    ///     CloseReason::Closed => println!("nothing was cut"),
    ///     CloseReason::DrainTimedOut { streams } => panic!("{streams} streams were cut"),
    ///     reason => panic!("the session was lost as it closed: {reason}"),
    /// }
    /// assert_eq!(reading.await??, "the last words");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Once polled, dropping the future does not stop the closing.
    pub async fn close(&self) -> CloseReason {
        self.close_within(self.0.drain_timeout).await
    }

    pub(crate) async fn close_within(&self, within: Duration) -> CloseReason {
        self.0.state.retire(CloseReason::Closed, Some(within));
        self.command(Command::Close(within));
        self.closed().await
    }

    /// Ends the session at once: nothing more is sent, and the connection is dropped.
    pub fn abort(&self) {
        self.end(CloseReason::Aborted);
    }

    pub(crate) fn end(&self, reason: CloseReason) {
        self.0.state.retire(reason.clone(), None);
        self.command(Command::Abort(reason));
    }

    /// Closes the session, which nobody was given, and tells the peer why. Waits until that is done, for a second at
    /// most.
    pub(crate) async fn refuse(&self, goodbye: Goodbye) {
        self.command(Command::Refuse(goodbye));
        self.closed().await;
    }

    fn command(&self, command: Command) {
        // Refused by a session that has ended: what the command carries is dropped, and so answered.
        let _ = self.0.commands.send(command);
    }

    /// The session's id, unique within its manager.
    pub fn id(&self) -> SessionId {
        self.0.state.id
    }

    pub(crate) fn close_reason(&self) -> Option<CloseReason> {
        self.0.state.close_reason()
    }

    /// When the peer was last heard of before the session was proven.
    pub(crate) fn last_heard(&self) -> Option<Instant> {
        self.0.state.last_heard()
    }

    /// Whether the session has ended. One that is closing has not.
    pub fn is_closed(&self) -> bool {
        self.0.state.close_reason().is_some()
    }

    /// The round trip of the last ping that was answered: the one that proved the session, one of the heartbeat's, or a
    /// [`ping`](Self::ping). The time for which an evermux receiver withheld its answer is left out of it.
    pub fn round_trip(&self) -> Option<Duration> {
        self.0.state.round_trip()
    }

    /// How many streams are open, both ways, with the calls that wait to open one.
    pub fn open_streams(&self) -> usize {
        self.0.state.load.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// The address of the other side, where the transport has one.
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.0.state.peer
    }

    /// The address of this side, where the transport has one.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.0.state.local
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("id", &self.id()).field("peer", &self.peer_addr()).finish_non_exhaustive()
    }
}
