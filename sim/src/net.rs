//! The simulated network: turmoil's TCP, with every byte accounted for in the trace.
//!
//! turmoil's TCP does not retransmit. What is sent into a partition is lost for ever, and the connection with it: both
//! ends stay silent after the repair, until someone notices. Connecting into a partition is refused at once.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use evermux::error::{AcceptError, ConnectError};
use evermux::{Accept, Connect, Connected};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tracing::trace;
use turmoil::net::{TcpListener, TcpStream};
use twox_hash::XxHash3_64;

/// A simulated TCP connection. Its trace has the length and the hash of all that is read and written.
#[derive(Debug)]
pub struct Socket {
    inner: TcpStream,
    local: SocketAddr,
    peer: SocketAddr,
    write_closed: bool,
    _open: Option<OpenSocket>,
}

/// Counts the sockets of one owner that are open.
#[derive(Debug, Default)]
pub struct OpenSockets(Arc<AtomicUsize>);

impl OpenSockets {
    /// How many sockets are open.
    pub fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Counts one more until it is dropped.
    fn open(&self) -> OpenSocket {
        self.0.fetch_add(1, Ordering::Relaxed);
        OpenSocket(Arc::clone(&self.0))
    }
}

#[derive(Debug)]
struct OpenSocket(Arc<AtomicUsize>);

impl Drop for OpenSocket {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Socket {
    /// Connects to a host by its name.
    pub async fn connect(host: &str, port: u16) -> io::Result<Self> {
        Self::new(TcpStream::connect((host, port)).await?, None)
    }

    fn new(inner: TcpStream, open: Option<OpenSocket>) -> io::Result<Self> {
        let (local, peer) = (inner.local_addr()?, inner.peer_addr()?);
        Ok(Self { inner, local, peer, write_closed: false, _open: open })
    }

    fn connected(self) -> Connected<Self> {
        trace!(local = %self.local, peer = %self.peer, "connected");
        let (local, peer) = (self.local, self.peer);
        Connected::new(self, Some(local), Some(peer))
    }

    /// The address of this end.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// The address of the other end.
    pub fn peer_addr(&self) -> SocketAddr {
        self.peer
    }
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = ready!(Pin::new(&mut self.inner).poll_read(cx, buf));
        let read = &buf.filled()[before..];
        let (local, peer) = (self.local, self.peer);
        match &result {
            Ok(()) => trace!(%local, %peer, bytes = read.len(), hash = %hash(read), "read"),
            Err(error) => trace!(%local, %peer, %error, "read"),
        }
        Poll::Ready(result)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let result = ready!(Pin::new(&mut self.inner).poll_write(cx, buf));
        let (local, peer) = (self.local, self.peer);
        match &result {
            Ok(bytes) => trace!(%local, %peer, bytes, hash = %hash(&buf[..*bytes]), "written"),
            Err(error) => trace!(%local, %peer, %error, "written"),
        }
        Poll::Ready(result)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    /// The kernel's TCP takes a second shutdown as done; turmoil's says that the socket is not connected.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.write_closed {
            return Poll::Ready(Ok(()));
        }
        let result = ready!(Pin::new(&mut self.inner).poll_shutdown(cx));
        self.write_closed = result.is_ok();
        trace!(local = %self.local, peer = %self.peer, ok = self.write_closed, "shut down");
        Poll::Ready(result)
    }
}

/// Dials a port of a host by its name.
#[derive(Clone, Debug)]
pub struct Connector {
    host: &'static str,
    port: u16,
    open: Arc<OpenSockets>,
}

impl Connector {
    /// Dials this port of this host.
    pub fn new(host: &'static str, port: u16) -> Self {
        Self { host, port, open: Arc::default() }
    }

    /// The sockets that it has made.
    pub fn sockets(&self) -> &OpenSockets {
        &self.open
    }
}

impl Connect for Connector {
    type Io = Socket;

    async fn connect(&self) -> Result<Connected<Socket>, ConnectError> {
        let stream = TcpStream::connect((self.host, self.port)).await?;
        Ok(Socket::new(stream, Some(self.open.open()))?.connected())
    }
}

impl Accept for Listener {
    type Io = Socket;
    type Pending = Socket;

    async fn accept(&self) -> Result<Socket, AcceptError> {
        Ok(Listener::accept(self).await?)
    }

    async fn finish(&self, socket: Socket) -> Result<Connected<Socket>, AcceptError> {
        Ok(socket.connected())
    }

    fn local_addr(&self) -> Option<SocketAddr> {
        Listener::local_addr(self).ok()
    }

    fn peer_addr(socket: &Socket) -> Option<SocketAddr> {
        Some(socket.peer)
    }
}

/// A simulated TCP listener on all addresses of the host it was bound on.
pub struct Listener {
    inner: TcpListener,
}

impl Listener {
    /// Listens on a port of the host that is running.
    pub async fn bind(port: u16) -> io::Result<Self> {
        Ok(Self { inner: TcpListener::bind((IpAddr::V4(Ipv4Addr::UNSPECIFIED), port)).await? })
    }

    /// Waits for the next connection.
    ///
    /// # Cancel safety
    ///
    /// No connection is lost: one that was taken is returned in the same poll.
    pub async fn accept(&self) -> io::Result<Socket> {
        let (stream, _) = self.inner.accept().await?;
        Socket::new(stream, None)
    }

    /// The address that was bound.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }
}

fn hash(bytes: &[u8]) -> String {
    format!("{:016x}", XxHash3_64::oneshot(bytes))
}
