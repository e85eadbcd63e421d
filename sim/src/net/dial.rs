//! Dialling.

use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use evermux::error::ConnectError;
use evermux::provider::net::Network;
use evermux::{Connect, Connected};
use testkit::strict::Strict;
use tokio::io::AsyncWriteExt;
use tokio::time::sleep;

use super::conditions::{Condition, Conditions};
use super::kernel::Kernel;
use super::socket::{HELLO, Socket};
use crate::yields::yielding;

/// What connect(2) fails with on Linux: EACCES, EADDRNOTAVAIL, ENETDOWN, ENETUNREACH, ENOBUFS, ETIMEDOUT, ECONNREFUSED,
/// EHOSTUNREACH, EMFILE.
const ERRORS: [i32; 9] = [13, 99, 100, 101, 105, 110, 111, 113, 24];

/// What a refusal by an address on which nobody listens takes.
const REFUSED_AFTER: Duration = Duration::from_millis(20);

/// Dials a port of a host by its name, which may come to stand for another host.
#[derive(Clone, Debug)]
pub struct Connector {
    /// The kernel of the host that dials.
    pub kernel: Kernel,
    /// The host that is dialled.
    pub name: Arc<Mutex<&'static str>>,
    /// Its port.
    pub port: u16,
    /// What faults do to the sockets of the host that dials.
    pub conditions: Conditions,
    /// Whether a connection begins with a handshake of the transport's own.
    pub handshake: bool,
    /// Addresses that the name has besides, on which nobody answers, or refuses.
    pub dead: Vec<SocketAddr>,
}

impl Connector {
    /// Dials once, the one address that the name stands for.
    pub(crate) async fn dial(&self) -> Result<Socket, ConnectError> {
        if self.conditions.is(Condition::Fatal) {
            return Err(for_good());
        }
        let address = self.resolve().await?;
        Ok(self.connect_to(address).await?)
    }

    /// The address that the name stands for: another one after the host has moved.
    async fn resolve(&self) -> io::Result<SocketAddr> {
        self.conditions.until(Condition::NamesSlow, false).await;
        if self.conditions.is(Condition::NamesLost) {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the name is not known"));
        }
        let host = *self.name.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(SocketAddr::new(self.kernel.address_of(host)?, self.port))
    }

    async fn connect_to(&self, address: SocketAddr) -> io::Result<Socket> {
        if self.conditions.is(Condition::DialErrors) {
            return Err(self.conditions.one_of(&ERRORS));
        }
        if self.conditions.is(Condition::BlackHole) {
            // Nobody will ever answer this one.
            pending::<()>().await;
        }
        let mut socket = Socket::connect(&self.kernel, address, &self.conditions).await?;
        if self.handshake {
            socket.write_all(&[HELLO]).await?;
        }
        Ok(socket)
    }
}

fn for_good() -> ConnectError {
    ConnectError::fatal(io::Error::other("the connector fails for good"))
}

fn connected(socket: Socket) -> Connected<Strict<Socket>> {
    let (local, peer) = (socket.local_addr(), socket.peer_addr());
    Connected::new(Strict::new(socket), Some(local), Some(peer)).with_unsent_limit(Socket::set_unsent_limit)
}

impl Connect for Connector {
    type Io = Strict<Socket>;

    async fn connect(&self) -> Result<Connected<Strict<Socket>>, ConnectError> {
        yielding(self.dial()).await.map(connected)
    }
}

/// What a [`Dialer`](evermux::provider::net::Dialer) dials over.
impl Network for Connector {
    type Io = Strict<Socket>;

    async fn lookup(&self, _: &str, _: u16) -> io::Result<Vec<SocketAddr>> {
        // Whether a name is not known, or has no addresses: resolvers say either.
        if self.conditions.is(Condition::NamesLost) && self.dead.is_empty() {
            return Ok(Vec::new());
        }
        let mut addresses = self.dead.clone();
        addresses.push(yielding(self.resolve()).await?);
        Ok(addresses)
    }

    async fn connect(&self, address: SocketAddr) -> Result<Connected<Strict<Socket>>, ConnectError> {
        if self.conditions.is(Condition::Fatal) {
            return Err(for_good());
        }
        match self.dead.iter().position(|dead| *dead == address) {
            Some(silent) if silent % 2 == 0 => pending().await,
            Some(_) => {
                sleep(REFUSED_AFTER).await;
                Err(io::Error::from(io::ErrorKind::ConnectionRefused).into())
            }
            None => Ok(connected(yielding(self.connect_to(address)).await?)),
        }
    }
}
