//! One yamux session over one connection.
//!
//! socket → wire → yamux crate → driver → handles. Only the driver touches the crate. It knows nothing of slots and
//! managers: a hook takes the session out of its slot before anyone can learn of its death (rule 7).

mod blocking;
mod buffer;
mod closing;
mod command;
pub(crate) mod driver;
mod entry;
#[cfg(not(feature = "__internals"))]
mod frame;
#[cfg(feature = "__internals")]
#[doc(hidden)]
pub mod frame;
mod goodbye;
#[cfg(not(feature = "__internals"))]
mod heartbeat;
#[cfg(feature = "__internals")]
#[doc(hidden)]
pub mod heartbeat;
mod identity;
mod inbound;
mod input;
mod ledger;
mod output;
mod pace;
mod pings;
mod record;
mod role;
mod state;
mod stream;
mod stream_core;
mod unclaimed;
mod unread;
mod wire;

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
pub use self::{
    blocking::{Blocking, BlockingStream},
    stream::{MuxStream, ReadHalf, WriteHalf},
};
use self::{
    command::Command,
    driver::Driver,
    entry::{LoadGuard, OpenPermit},
    state::SessionState,
    stream_core::StreamCore,
    wire::WireCore,
};
pub(crate) use self::{identity::Identity, role::Role, state::Retirement};
use crate::{
    blocking::{block_on, block_on_timeout},
    config::Config,
    deadline,
    error::{CloseReason, OpenError},
    sync::{Lane, LaneLimits, SessionId},
};

/// One yamux session over one connection. Cheap to clone; clones refer to the same session.
///
/// Usually handed out by a [`MuxManager`](crate::MuxManager); [`Session::client`] and [`Session::server`] make a
/// standalone one.
///
/// Inbound streams wait in one queue; each goes to a single caller of [`accept_stream`](Self::accept_stream).
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

/// The transport a session runs on.
pub(crate) struct Transport<Io> {
    pub(crate) io: Io,
    /// The local address, and the peer's.
    pub(crate) addresses: (Option<SocketAddr>, Option<SocketAddr>),
    pub(crate) unsent_limit: Option<UnsentLimit<Io>>,
}

struct Handle {
    state: Arc<SessionState>,
    commands: mpsc::UnboundedSender<Command>,
    inbound: Lane<Inbound>,
    /// The runtime of its driver, whose timer its calls use.
    runtime: runtime::Handle,
    open_timeout: Duration,
    drain_timeout: Duration,
}

impl Session {
    /// Makes a session on a connection that this side opened. A task on the current runtime drives it.
    ///
    /// Waits for a round trip on it, for at most [`Config::handshake_timeout`].
    ///
    /// # Errors
    ///
    /// [`CloseReason::NotProven`] if the peer does not answer in time, or the reason why the connection ended before
    /// that.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection.
    ///
    /// # Panics
    ///
    /// If called outside a tokio runtime.
    pub async fn client<Io>(io: Io, config: &Config) -> Result<Self, CloseReason>
    where
        Io: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        Self::standalone(io, Role::Client, config).await
    }

    /// Makes a session on a connection that the peer opened. Otherwise the same as [`client`](Self::client).
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

    /// Makes a session and the task that drives it. The session ends unless a round trip completes by `prove_by`.
    ///
    /// With `withhold`, the peer's pings stay unanswered until [`publish`](Self::publish): an evermux peer publishes
    /// nothing before that (G14).
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
        // A peer stops by itself at 256 streams that were not taken; that brake is not ours.
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

    /// Waits for the round trip that proves the session (G15), or for the session to end without one.
    pub(crate) async fn proven(&self) -> Result<(), CloseReason> {
        self.0.state.proven().await
    }

    /// Call this once callers can find the session: it answers pings from now on.
    pub(crate) fn publish(&self) {
        debug!(id = %self.id(), "session published");
        self.command(Command::Publish);
    }

    /// Call this once everyone concerned knows of the session: its peer's streams can be taken from now on.
    pub(crate) fn give_streams(&self) {
        self.0.inbound.show();
    }

    /// Waits until the session is out of its slot: it is closed, or no longer takes new streams.
    pub(crate) async fn retired(&self) -> Retirement {
        self.0.state.retired().await
    }

    /// Opens a stream, and announces it to the peer at once.
    ///
    /// Waits while [`Config::max_concurrent_streams`] are open, and while the peer has 256 streams that it has not
    /// acknowledged, finished or not; for at most [`Config::open_timeout`]. Callers are served in order.
    ///
    /// An open stream need not have been accepted by the peer yet. If an evermux peer resets it before that, its calls
    /// fail with [`StreamError::Refused`](crate::StreamError::Refused), and it is safe to repeat.
    ///
    /// # Errors
    ///
    /// [`OpenError::TimedOut`], [`OpenError::Draining`] if the session is closing, or [`OpenError::Lost`].
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, no stream is opened, or the stream is reset.
    pub async fn open_stream(&self) -> Result<MuxStream, OpenError> {
        // The caller may not run on tokio, whose timer this needs.
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
    /// If it would have to wait inside an async context.
    pub fn open_stream_blocking(&self) -> Result<MuxStream, OpenError> {
        block_on_timeout(self.0.open_timeout, self.open()).unwrap_or(Err(OpenError::TimedOut))
    }

    async fn open(&self) -> Result<MuxStream, OpenError> {
        let state = &self.0.state;
        let load = LoadGuard::new(&state.load);
        let permit = state.permit().await.ok_or_else(|| state.open_error())?;
        let (reply, stream) = oneshot::channel();
        self.command(Command::Open(OpenPermit { permit, load }, reply));
        let stream = stream.await.map_err(|_| state.open_error())?;
        Ok(MuxStream::new(StreamCore::new(stream, Arc::clone(state), Some(self.0.commands.clone()))))
    }

    /// Accepts the next stream that the peer opened, and acknowledges it.
    ///
    /// Waits for a stream, and while [`Config::max_concurrent_streams`] accepted ones are open. A stream that nobody
    /// accepts within [`Config::accept_timeout`] is reset.
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
    /// If the future is dropped, no stream was accepted.
    pub async fn accept_stream(&self) -> Result<MuxStream, CloseReason> {
        let mut taker = self.0.inbound.taker();
        match poll_fn(|cx| taker.poll_take(cx)).await {
            Some(inbound) => Ok(inbound.accept()),
            None => Err(self.closed().await),
        }
    }

    /// [`accept_stream`](Self::accept_stream) for threads.
    ///
    /// # Errors
    ///
    /// As [`accept_stream`](Self::accept_stream).
    ///
    /// # Panics
    ///
    /// If it would have to wait inside an async context.
    pub fn accept_stream_blocking(&self) -> Result<MuxStream, CloseReason> {
        block_on(self.accept_stream())
    }

    /// Pings the peer, and returns the round-trip time.
    ///
    /// Waits for the answer for as long as the session lives. Concurrent calls share one ping.
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

    /// Probes the peer, and returns whether it gives no sign of life within this time: a byte of any kind, or room for
    /// bytes of ours where there was none. A session that ends in the meantime is not silent.
    pub(crate) async fn is_silent(&self, within: Duration) -> bool {
        let (reply, silent) = oneshot::channel();
        self.command(Command::Probe(within, reply));
        // An error means that the session has ended.
        silent.await.unwrap_or(false)
    }

    fn command(&self, command: Command) {
        // An error means that the session has ended: dropping the command answers it.
        let _ = self.0.commands.send(command);
    }

    /// The session's id, unique within its manager.
    pub fn id(&self) -> SessionId {
        self.0.state.id
    }

    pub(crate) fn close_reason(&self) -> Option<CloseReason> {
        self.0.state.close_reason()
    }

    /// When the peer was last heard from before the session was proven.
    pub(crate) fn last_heard(&self) -> Option<Instant> {
        self.0.state.last_heard()
    }

    /// Whether the session has ended. One that is closing has not.
    pub fn is_closed(&self) -> bool {
        self.0.state.close_reason().is_some()
    }

    /// The round trip of the last ping that was answered: the one that proved the session, a heartbeat, a
    /// [`ping`](Self::ping), or one that measures a long path. It excludes the time for which an evermux receiver
    /// withheld its answer.
    pub fn round_trip(&self) -> Option<Duration> {
        self.0.state.round_trip()
    }

    /// How many streams are open in both directions, including calls that wait to open one.
    pub fn open_streams(&self) -> usize {
        self.0.state.load.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// The peer's address, if the transport has one.
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.0.state.peer
    }

    /// The local address, if the transport has one.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.0.state.local
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("id", &self.id()).field("peer", &self.peer_addr()).finish_non_exhaustive()
    }
}
