//! A network as two small traits, and their TCP implementations; [`Dialer`] dials by name over anything else.
//!
//! TCP, TLS, Unix sockets, pipes in memory and simulated networks all fit behind [`Connect`] and [`Accept`]. Nothing
//! else in this crate names a socket.

use std::{future::Future, io, net::SocketAddr, sync::Arc};

use tokio::io::{AsyncRead, AsyncWrite};

use crate::{
    error::{AcceptError, ConnectError},
    session::UnsentLimit,
};

pub use dial::{Dialer, Network};
pub use tcp::{TcpAcceptor, TcpConnector, set_unsent_limit};

mod dial;
mod tcp;

/// Makes connections by dialling.
///
/// A closure that returns a future is a `Connect`; so is an [`Arc`] of one.
///
/// ```
/// use evermux::{Connect, Connected};
/// use tokio::net::TcpStream;
///
/// fn takes(_: impl Connect) {}
///
/// takes(|| async {
///     let stream = TcpStream::connect("127.0.0.1:7233").await?;
///     Ok(Connected::anonymous(stream))
/// });
/// ```
pub trait Connect: Send + Sync + 'static {
    /// A connection: any ordered, bidirectional stream of bytes.
    type Io: AsyncRead + AsyncWrite + Send + Unpin + 'static;

    /// Makes one attempt, and waits until it has succeeded or failed.
    ///
    /// It should finish in bounded time. Transport handshakes belong in it. It is called again after each failure that
    /// is not fatal, and after each loss of a connection, with pauses in between. Several calls may run at once.
    ///
    /// # Errors
    ///
    /// [`ConnectError::transient`] if another attempt may succeed, [`ConnectError::fatal`] if none can: the manager
    /// then gives up.
    ///
    /// # Cancel safety
    ///
    /// An implementation must be cancel-safe: whatever the attempt holds is closed when the future is dropped. That
    /// is how a shutdown ends an attempt.
    fn connect(&self) -> impl Future<Output = Result<Connected<Self::Io>, ConnectError>> + Send;
}

/// Makes connections by listening.
///
/// Accepting is split in two, so that a peer that is slow or silent in its handshake keeps nobody else out (G13). An
/// [`Arc`] of an `Accept` is one.
///
/// ```
/// use evermux::{Accept, Connected, error::AcceptError};
/// use tokio::net::{UnixListener, UnixStream};
///
/// struct Unix(UnixListener);
///
/// impl Accept for Unix {
///     type Io = UnixStream;
///     type Pending = UnixStream;
///
///     async fn accept(&self) -> Result<UnixStream, AcceptError> {
///         Ok(self.0.accept().await?.0)
///     }
///
///     async fn finish(&self, pending: UnixStream) -> Result<Connected<UnixStream>, AcceptError> {
///         Ok(Connected::anonymous(pending))
///     }
///
///     fn local_addr(&self) -> Option<std::net::SocketAddr> {
///         None
///     }
/// }
/// ```
pub trait Accept: Send + Sync + 'static {
    /// A connection: any ordered, bidirectional stream of bytes.
    type Io: AsyncRead + AsyncWrite + Send + Unpin + 'static;

    /// A connection that was accepted and still has to be finished. Dropping it closes it.
    type Pending: Send + 'static;

    /// Takes the next connection and nothing more; waits until there is one. Called by one task, one call at a time.
    ///
    /// # Errors
    ///
    /// [`AcceptError::connection`] if one connection was lost before it could be taken: `accept` is called again at
    /// once, or after a pause if that happens 64 times in a row. [`AcceptError::transient`] if none can be taken now,
    /// perhaps for want of file descriptors: it is called again after a pause of 100 ms. [`AcceptError::fatal`] if none
    /// ever will be: the manager then gives up. `?` on an [`io::Error`] tells the first two apart.
    ///
    /// # Cancel safety
    ///
    /// An implementation must be cancel-safe: when the future is dropped, a connection that it has not returned is
    /// either still waiting to be accepted or closed.
    fn accept(&self) -> impl Future<Output = Result<Self::Pending, AcceptError>> + Send;

    /// Finishes what [`accept`](Self::accept) took, for example with a TLS handshake, and waits until that has
    /// succeeded or failed. Many run at once, each under a deadline set by the caller.
    ///
    /// # Errors
    ///
    /// [`AcceptError::fatal`] if no other connection will ever be accepted: the manager then gives up. Any other error
    /// costs only this connection.
    ///
    /// # Cancel safety
    ///
    /// An implementation must be cancel-safe: dropping the future closes the connection.
    fn finish(&self, pending: Self::Pending) -> impl Future<Output = Result<Connected<Self::Io>, AcceptError>> + Send;

    /// The address that it listens on, with the port that the operating system chose; `None` if the transport has no
    /// addresses.
    fn local_addr(&self) -> Option<SocketAddr>;

    /// The peer's address of a connection that is not finished; `None`, the default, if the transport has no addresses.
    fn peer_addr(pending: &Self::Pending) -> Option<SocketAddr> {
        let _ = pending;
        None
    }
}

/// A new connection, with its addresses if it has any.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Connected<Io> {
    /// The connection.
    pub io: Io,
    /// The address of this end.
    pub local: Option<SocketAddr>,
    /// The address of the peer's end.
    pub peer: Option<SocketAddr>,
    pub(crate) unsent_limit: Option<UnsentLimit<Io>>,
}

impl<Io> Connected<Io> {
    /// A connection with its addresses, as far as they are known.
    pub fn new(io: Io, local: Option<SocketAddr>, peer: Option<SocketAddr>) -> Self {
        Self { io, local, peer, unsent_limit: None }
    }

    /// A connection without addresses.
    pub fn anonymous(io: Io) -> Self {
        Self::new(io, None, None)
    }

    /// Whether both ends are one.
    fn is_to_itself(&self) -> bool {
        // Without what an IPv6 address has besides.
        let ends = self.local.zip(self.peer);
        ends.is_some_and(|(local, peer)| (local.ip(), local.port()) == (peer.ip(), peer.port()))
    }

    /// Sets the function that limits how many unsent bytes the transport may hold.
    ///
    /// On a slow path a short message waits behind what the kernel holds. The limit is set to what the path carries in
    /// 32 ms, from 16 KiB to 128 KiB. An error changes nothing. [`TcpConnector`] and [`TcpAcceptor`] use
    /// [`set_unsent_limit`]; a wrapper of a socket passes it on:
    ///
    /// ```
    /// use evermux::{Connected, provider::net::set_unsent_limit};
    /// use tokio::{io::BufStream, net::TcpStream};
    ///
    /// fn wrapped(stream: TcpStream) -> Connected<BufStream<TcpStream>> {
    ///     let connected = Connected::anonymous(BufStream::new(stream));
    ///     connected.with_unsent_limit(|stream, bytes| set_unsent_limit(stream.get_ref(), bytes))
    /// }
    /// ```
    #[must_use]
    pub fn with_unsent_limit(self, set: fn(&Io, u32) -> io::Result<()>) -> Self {
        Self { unsent_limit: Some(set), ..self }
    }
}

impl<F, Fut, Io> Connect for F
where
    F: Fn() -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Connected<Io>, ConnectError>> + Send,
    Io: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    type Io = Io;

    fn connect(&self) -> impl Future<Output = Result<Connected<Io>, ConnectError>> + Send {
        self()
    }
}

impl<T: Connect> Connect for Arc<T> {
    type Io = T::Io;

    fn connect(&self) -> impl Future<Output = Result<Connected<Self::Io>, ConnectError>> + Send {
        T::connect(self)
    }
}

impl<T: Accept> Accept for Arc<T> {
    type Io = T::Io;
    type Pending = T::Pending;

    fn accept(&self) -> impl Future<Output = Result<Self::Pending, AcceptError>> + Send {
        T::accept(self)
    }

    fn finish(&self, pending: Self::Pending) -> impl Future<Output = Result<Connected<Self::Io>, AcceptError>> + Send {
        T::finish(self, pending)
    }

    fn local_addr(&self) -> Option<SocketAddr> {
        T::local_addr(self)
    }

    fn peer_addr(pending: &Self::Pending) -> Option<SocketAddr> {
        T::peer_addr(pending)
    }
}
