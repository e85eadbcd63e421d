//! TCP: dialling by name, and listening.

use std::{future::Future, io, net::SocketAddr, time::Duration};

use socket2::SockRef;
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    runtime::Handle,
};

use super::{
    Accept, Connect, Connected,
    dial::{Dialer, Host, Network, nothing_resolved, resolve, to_itself},
};
use crate::{
    config::Config,
    error::{AcceptError, ConnectError, StartError},
};

/// How many connections may wait in the kernel to be accepted. The kernel may allow fewer (`net.core.somaxconn`).
const BACKLOG: u32 = 1024;

/// How many unsent bytes the kernel may hold. A heartbeat's ping waits behind them (G10).
const NOTSENT_LOWAT_BYTES: u32 = 128 << 10;

/// Dials a host and a port over TCP.
///
/// Each attempt resolves the name anew, so that an address that has moved is found, and tries all its addresses, at
/// most 64: the two families alternate, and the next one starts after 250 ms or as soon as one has failed, whichever is
/// first. The first that connects is taken and the others are closed (RFC 8305).
///
/// Resolution is limited to `resolve_timeout`, and connecting, for all addresses together, to `connect_timeout`.
/// Sockets get `TCP_NODELAY` and, on Linux and Android, a `TCP_NOTSENT_LOWAT` from 16 KiB to 128 KiB, depending on the
/// pace of the path.
///
/// Its errors are transient, including those of names, firewalls and limits, since all of these can change. One is
/// fatal: an address given as an IP address that the operating system calls invalid.
///
/// A socket that TCP has connected to itself, which can happen if nobody listens on an ephemeral port, is closed and
/// counts as refused.
///
/// ```
/// use evermux::{Config, Connect, TcpConnector};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
/// let connector = TcpConnector::new(listener.local_addr()?.to_string(), &Config::default())?;
/// let connected = connector.connect().await?;
/// assert_eq!(connected.peer, Some(listener.local_addr()?));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct TcpConnector(Dialer<System>);

impl TcpConnector {
    /// A connector to `address`, `"HOST:PORT"`: a name or an IPv4 address, or an IPv6 address in brackets. The port
    /// must not be 0.
    ///
    /// Nothing is resolved or dialled yet.
    ///
    /// # Errors
    ///
    /// [`StartError::Address`] if `address` has another form.
    pub fn new(address: impl Into<String>, config: &Config) -> Result<Self, StartError> {
        Dialer::new(System, address, config).map(Self)
    }
}

impl Connect for TcpConnector {
    type Io = TcpStream;

    fn connect(&self) -> impl Future<Output = Result<Connected<TcpStream>, ConnectError>> + Send {
        self.0.connect()
    }
}

/// Listens on a TCP port.
///
/// The port can be bound again as soon as this is dropped, even while earlier connections are still winding down. 1,024
/// connections may wait to be accepted. Accepted sockets get `TCP_NODELAY` and, on Linux and Android, a
/// `TCP_NOTSENT_LOWAT` from 16 KiB to 128 KiB, depending on the pace of the path.
///
/// Running out of file descriptors or memory is a transient error, after which accepting pauses; a connection that is
/// lost before it is accepted costs nothing else (G13). An error is fatal when the listener itself is broken.
///
/// ```
/// use evermux::{Accept, Config, TcpAcceptor};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let acceptor = TcpAcceptor::bind("127.0.0.1:0", &Config::default()).await?;
/// let address = acceptor.local_addr().expect("TCP has addresses");
///
/// let client = tokio::net::TcpStream::connect(address).await?;
/// let pending = acceptor.accept().await?;
/// assert_eq!(TcpAcceptor::peer_addr(&pending), Some(client.local_addr()?));
/// let connected = acceptor.finish(pending).await?;
/// assert_eq!(connected.peer, Some(client.local_addr()?));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct TcpAcceptor {
    listener: TcpListener,
    local: SocketAddr,
}

impl TcpAcceptor {
    /// Listens on `address`, `"HOST:PORT"`: a name or an IPv4 address, or an IPv6 address in brackets. With port 0 the
    /// operating system chooses one, and [`local_addr`](Accept::local_addr) returns it.
    ///
    /// Waits for a name to resolve, for at most `resolve_timeout`. Of several addresses, the first that can be bound is
    /// taken.
    ///
    /// # Errors
    ///
    /// [`StartError::Address`] if `address` has another form, [`StartError::Bind`] if it cannot be resolved or bound,
    /// [`StartError::NoRuntime`] outside a tokio runtime.
    ///
    /// # Cancel safety
    ///
    /// Cancel-safe: when the future is dropped nothing stays bound.
    ///
    /// # Panics
    ///
    /// If the runtime was built without I/O or without time.
    pub async fn bind(address: &str, config: &Config) -> Result<Self, StartError> {
        let host = Host::parse(address).ok_or_else(|| StartError::Address { address: address.to_owned() })?;
        if Handle::try_current().is_err() {
            return Err(StartError::NoRuntime);
        }
        let bind = |error| StartError::Bind { address: address.to_owned(), error };
        let addresses = resolve(&System, &host, config.resolve_timeout()).await.map_err(bind)?;
        let mut failure = nothing_resolved();
        for address in addresses {
            match listen(address).and_then(|listener| Ok((listener.local_addr()?, listener))) {
                Ok((local, listener)) => return Ok(Self { listener, local }),
                Err(error) => failure = error,
            }
        }
        Err(bind(failure))
    }
}

impl Accept for TcpAcceptor {
    type Io = TcpStream;
    type Pending = (TcpStream, SocketAddr);

    async fn accept(&self) -> Result<Self::Pending, AcceptError> {
        self.listener.accept().await.map_err(accept_error)
    }

    async fn finish(&self, (stream, peer): Self::Pending) -> Result<Connected<TcpStream>, AcceptError> {
        tune(&stream).map_err(AcceptError::connection)?;
        let local = stream.local_addr().ok();
        Ok(Connected::new(stream, local, Some(peer)).with_unsent_limit(set_unsent_limit))
    }

    fn local_addr(&self) -> Option<SocketAddr> {
        Some(self.local)
    }

    fn peer_addr(pending: &Self::Pending) -> Option<SocketAddr> {
        Some(pending.1)
    }
}

/// The operating system.
#[derive(Clone, Copy, Debug)]
struct System;

impl Network for System {
    type Io = TcpStream;

    async fn lookup(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        Ok(tokio::net::lookup_host((host, port)).await?.collect())
    }

    async fn connect(&self, address: SocketAddr) -> Result<Connected<TcpStream>, ConnectError> {
        Ok(Connected::dialled(TcpStream::connect(address).await?)?)
    }
}

impl Connected<TcpStream> {
    /// Checks and tunes a socket that was dialled, as [`TcpConnector`] does: with `TCP_NODELAY`, a limit of what the
    /// kernel holds ([`set_unsent_limit`]), and its addresses.
    ///
    /// Never waits.
    ///
    /// # Errors
    ///
    /// [`ConnectionRefused`](io::ErrorKind::ConnectionRefused) for a socket that TCP has connected to itself. If nobody
    /// listens on an ephemeral port, a socket that dials it may be assigned that very port ("simultaneous open", RFC
    /// 9293, section 3.5). It would prove itself a peer, and keep the port from the receiver that comes back. Otherwise
    /// the operating system's error.
    pub fn dialled(stream: TcpStream) -> io::Result<Self> {
        // As the socket reports them: what was dialled may stand for another address, as 0.0.0.0 does for this host.
        let (local, peer) = (stream.local_addr().ok(), stream.peer_addr().ok());
        let connected = Self::new(stream, local, peer);
        if connected.is_to_itself() {
            // A reset: TIME_WAIT would hold the port for another minute.
            let _ = SockRef::from(&connected.io).set_linger(Some(Duration::ZERO));
            return Err(to_itself());
        }
        tune(&connected.io)?;
        Ok(connected.with_unsent_limit(set_unsent_limit))
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // On Windows this option would let another program take the port; there it can be bound again without it.
    #[cfg(not(windows))]
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    // An old kernel lacks this option: the connection works without it.
    if let Err(error) = set_unsent_limit(stream, NOTSENT_LOWAT_BYTES) {
        tracing::debug!(%error, "no TCP_NOTSENT_LOWAT");
    }
    Ok(())
}

/// Sets how many unsent bytes the kernel may hold for a socket (`TCP_NOTSENT_LOWAT`): see
/// [`Connected::with_unsent_limit`].
///
/// # Errors
///
/// The operating system's error; [`Unsupported`](io::ErrorKind::Unsupported) on anything but Linux and Android.
pub fn set_unsent_limit(stream: &TcpStream, bytes: u32) -> io::Result<()> {
    #[cfg(any(target_os = "android", target_os = "linux"))]
    return SockRef::from(stream).set_tcp_notsent_lowat(bytes);
    #[cfg(not(any(target_os = "android", target_os = "linux")))]
    {
        let _ = (stream, bytes);
        Err(io::ErrorKind::Unsupported.into())
    }
}

fn accept_error(error: io::Error) -> AcceptError {
    if listener_is_broken(&error) { AcceptError::fatal(error) } else { error.into() }
}

/// Whether `accept` will return this error forever. All others are temporary: those that accept(2) passes on from the
/// new socket, those of firewalls, and those of limits (G13).
#[cfg(unix)]
fn listener_is_broken(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EBADF | libc::ENOTSOCK | libc::EINVAL))
}

/// Whether `accept` will return this error forever.
#[cfg(not(unix))]
fn listener_is_broken(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::InvalidInput
}

#[cfg(test)]
mod tests;
