//! One attempt to reach a host: resolve its name, then race its addresses.
//!
//! The operating system is behind [`Network`], so that this part can run in paused time and on any answers.

use std::{
    fmt::{self, Display, Formatter},
    future::Future,
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{sleep, timeout},
};

use super::{Connect, Connected};
use crate::{
    config::Config,
    error::{ConnectError, StartError},
};

/// The head start that one address has over the next: the "Connection Attempt Delay" of RFC 8305, section 5.
const HEAD_START: Duration = Duration::from_millis(250);

/// The maximum number of addresses of one name that are tried in one attempt (G19).
const MAX_ADDRESSES: usize = 64;

/// Where a [`Dialer`] looks names up, and by what it connects to an address: the operating system, or a resolver, a
/// proxy or a transport of your own.
pub trait Network: Send + Sync + 'static {
    /// The connection.
    type Io: AsyncRead + AsyncWrite + Send + Unpin + 'static;

    /// Looks up the addresses of a host, with this port. `host` is a name, or an IP address without brackets.
    ///
    /// # Errors
    ///
    /// That there is no answer. It is asked again at the next attempt.
    ///
    /// # Cancel safety
    ///
    /// An implementation must be cancel-safe: the future is dropped after
    /// [`Config::resolve_timeout`](crate::Config::resolve_timeout), or when the manager shuts down.
    fn lookup(&self, host: &str, port: u16) -> impl Future<Output = io::Result<Vec<SocketAddr>>> + Send;

    /// Connects to one address.
    ///
    /// # Errors
    ///
    /// [`ConnectError::transient`], which `?` makes of an [`io::Error`], if there is no connection: the other addresses
    /// of the host are tried as well, and all of them again at the next attempt. [`ConnectError::fatal`] if none can be
    /// reached, now or later, since a proxy does not accept this program, for example: nothing else is tried, and the
    /// manager gives up. [`InvalidInput`](io::ErrorKind::InvalidInput) is as good as fatal for a host that was given as
    /// an IP address.
    ///
    /// # Cancel safety
    ///
    /// An implementation must be cancel-safe: of several that race, all but the first to connect are dropped, and the
    /// last ones after [`Config::connect_timeout`](crate::Config::connect_timeout), or when the manager shuts down.
    fn connect(&self, address: SocketAddr) -> impl Future<Output = Result<Connected<Self::Io>, ConnectError>> + Send;
}

/// Dials a host by its name over any [`Network`], as [`TcpConnector`](super::TcpConnector) does over that of the
/// operating system: each attempt looks the name up anew and races its addresses. What is to be done for each socket is
/// the network's to do: for TCP, [`Connected::dialled`] does what `TcpConnector` does.
///
/// A connection whose two addresses are the same was connected to itself. It is dropped, and counts as refused.
///
/// ```
/// use std::{io, net::SocketAddr};
/// use evermux::{Config, Connected, MuxManager, error::ConnectError, provider::net::{Dialer, Network}};
/// use tokio::net::TcpStream;
///
/// /// Names that the program knows itself.
/// struct Known(SocketAddr);
///
/// impl Network for Known {
///     type Io = TcpStream;
///
///     async fn lookup(&self, host: &str, _: u16) -> io::Result<Vec<SocketAddr>> {
///         if host == "hub" { Ok(vec![self.0]) } else { Err(io::Error::other("only hub is known")) }
///     }
///
///     async fn connect(&self, address: SocketAddr) -> Result<Connected<TcpStream>, ConnectError> {
///         Ok(Connected::dialled(TcpStream::connect(address).await?)?)
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let receiver = MuxManager::receive("127.0.0.1:0").start().await?;
/// let known = Known(receiver.local_addr().unwrap());
/// let dialer = Dialer::new(known, "hub:7233", &Config::default())?;
/// let manager = MuxManager::establish_with(dialer).start().await?;
/// manager.session().await?.ping().await?;
/// # manager.shutdown().await;
/// # receiver.shutdown().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Dialer<N> {
    network: N,
    host: Host,
    resolve_timeout: Duration,
    connect_timeout: Duration,
}

impl<N: Network> Dialer<N> {
    /// A dialer of `address`, `"HOST:PORT"`: a name or an IPv4 address, or an IPv6 address in brackets. The port must
    /// not be 0.
    ///
    /// Nothing is looked up or dialled yet.
    ///
    /// # Errors
    ///
    /// [`StartError::Address`] if `address` has another form.
    pub fn new(network: N, address: impl Into<String>, config: &Config) -> Result<Self, StartError> {
        let address = address.into();
        match Host::parse(&address) {
            Some(host) if host.port != 0 => Ok(Self {
                network,
                host,
                resolve_timeout: config.resolve_timeout(),
                connect_timeout: config.connect_timeout(),
            }),
            _ => Err(StartError::Address { address }),
        }
    }
}

impl<N: Network> Connect for Dialer<N> {
    type Io = N::Io;

    async fn connect(&self) -> Result<Connected<N::Io>, ConnectError> {
        let addresses = resolve(&self.network, &self.host, self.resolve_timeout).await?;
        let mut failures = Failures { host: self.host.clone(), answers: Vec::new(), timeout: None };
        match timeout(self.connect_timeout, race(&self.network, addresses, &mut failures.answers)).await {
            Ok(Some(connected)) => return Ok(connected),
            Ok(None) if self.host.is_fatal(&failures.answers) => return Err(ConnectError::fatal(failures)),
            Ok(None) => {}
            Err(_) => failures.timeout = Some(self.connect_timeout),
        }
        Err(ConnectError::transient(failures))
    }
}

/// The addresses of a host, at most [`MAX_ADDRESSES`] and at least one, the two families alternating.
pub(super) async fn resolve<N: Network>(network: &N, host: &Host, within: Duration) -> io::Result<Vec<SocketAddr>> {
    let resolved = match timeout(within, network.lookup(&host.name, host.port)).await {
        Ok(Ok(addresses)) if addresses.is_empty() => Err(nothing_resolved()),
        Ok(resolved) => resolved,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {within:?}"))),
    };
    match resolved {
        Ok(addresses) => Ok(by_turns(addresses)),
        Err(error) => Err(io::Error::new(error.kind(), format!("cannot resolve {:?}: {error}", host.name))),
    }
}

pub(super) fn nothing_resolved() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "the name has no addresses")
}

/// Alternates the families, beginning with the one that the resolver put first (RFC 8305, section 4): a family that
/// leads nowhere costs one head start, not one for each of its addresses.
fn by_turns(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_v4 = addresses.first().is_some_and(SocketAddr::is_ipv4);
    let (first, second): (Vec<_>, Vec<_>) = addresses.into_iter().partition(|address| address.is_ipv4() == first_is_v4);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut mixed = Vec::new();
    while mixed.len() < MAX_ADDRESSES {
        let before = mixed.len();
        mixed.extend(first.next());
        mixed.extend(second.next());
        if mixed.len() == before {
            break;
        }
    }
    mixed
}

/// Tries all addresses, each with its head start over the next; the first that connects wins. Returns `None` if all
/// failed, or one for good; `answers` has the errors.
///
/// Dropping the future closes all its sockets.
async fn race<N: Network>(
    network: &N,
    addresses: Vec<SocketAddr>,
    answers: &mut Vec<(SocketAddr, ConnectError)>,
) -> Option<Connected<N::Io>> {
    let mut waiting = addresses.into_iter();
    let mut trying = FuturesUnordered::new();
    loop {
        if let Some(peer) = waiting.next() {
            trying.push(async move { (peer, network.connect(peer).await.and_then(|made| checked(made, peer))) });
        }
        tokio::select! {
            biased;
            ended = trying.next() => match ended {
                Some((_, Ok(connected))) => return Some(connected),
                Some((peer, Err(error))) => {
                    let is_fatal = error.is_fatal();
                    answers.push((peer, error));
                    if is_fatal {
                        return None;
                    }
                }
                None => return None,
            },
            () = sleep(HEAD_START), if waiting.len() > 0 => {}
        }
    }
}

/// A connection to this address, unless it is one to itself: that would prove itself a peer (G15).
fn checked<Io>(connected: Connected<Io>, address: SocketAddr) -> Result<Connected<Io>, ConnectError> {
    let connected = Connected { peer: connected.peer.or(Some(address)), ..connected };
    if connected.is_to_itself() { Err(to_itself().into()) } else { Ok(connected) }
}

pub(super) fn to_itself() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionRefused, "the socket was connected to itself: nobody listens there")
}

/// Why no address of a host could be connected to.
#[derive(Debug)]
struct Failures {
    host: Host,
    answers: Vec<(SocketAddr, ConnectError)>,
    /// After how long the addresses that had not answered were given up.
    timeout: Option<Duration>,
}

impl Display for Failures {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "cannot connect to {}", self.host)?;
        let mut separator = ": ";
        let host = self.host.to_string();
        for (address, error) in &self.answers {
            f.write_str(separator)?;
            if address.to_string() != host {
                write!(f, "{address}: ")?;
            }
            write!(f, "{error}")?;
            separator = "; ";
        }
        if let Some(timeout) = self.timeout {
            write!(f, "{separator}no connection within {timeout:?}")?;
        }
        Ok(())
    }
}

// Its text contains the answers, so they are not sources as well.
impl std::error::Error for Failures {}

/// A host and a port, as they were given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Host {
    /// A name, or an IP address without brackets.
    name: String,
    port: u16,
}

impl Host {
    pub(super) fn parse(address: &str) -> Option<Self> {
        let (host, port) = address.rsplit_once(':')?;
        let bracketed = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let valid = match bracketed {
            // A zone may follow the address: `fe80::1%eth0` (RFC 4007, section 11).
            Some(name) => {
                let (ip, zone) = name.split_once('%').unwrap_or((name, "0"));
                ip.parse::<Ipv6Addr>().is_ok() && !zone.is_empty() && zone.chars().all(is_of_a_name)
            }
            None => !host.is_empty() && host.chars().all(is_of_a_name),
        };
        // `u16::from_str` accepts a leading plus.
        let digits = port.bytes().all(|byte| byte.is_ascii_digit());
        let port = port.parse().ok()?;
        (valid && digits).then(|| Self { name: bracketed.unwrap_or(host).to_owned(), port })
    }

    /// Whether every other attempt must fail as well.
    ///
    /// The network may know. Otherwise, what a name resolves to may change, and so may routes, firewalls and limits;
    /// that includes `EPERM`, which network policies cause, and `EAFNOSUPPORT`, since IPv6 can be switched on.
    fn is_fatal(&self, answers: &[(SocketAddr, ConnectError)]) -> bool {
        let is_invalid = |error: &ConnectError| error.io_kind() == Some(io::ErrorKind::InvalidInput);
        answers.iter().any(|(_, error)| error.is_fatal())
            || (self.name.parse::<IpAddr>().is_ok() && answers.iter().all(|(_, error)| is_invalid(error)))
    }
}

impl Display for Host {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.name.contains(':') {
            write!(f, "[{}]:{}", self.name, self.port)
        } else {
            write!(f, "{}:{}", self.name, self.port)
        }
    }
}

fn is_of_a_name(character: char) -> bool {
    character.is_alphanumeric() || matches!(character, '-' | '.' | '_')
}

#[cfg(test)]
mod tests;
