//! Dialling.

use std::future::pending;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use evermux::error::ConnectError;
use evermux::{Connect, Connected};
use testkit::strict::Strict;
use tokio::io::AsyncWriteExt;

use super::conditions::{Condition, Conditions};
use super::kernel::Kernel;
use super::socket::{HELLO, Socket};

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
}

impl Connector {
    /// Dials once.
    pub(crate) async fn dial(&self) -> Result<Socket, ConnectError> {
        if self.conditions.is(Condition::Fatal) {
            return Err(ConnectError::fatal(io::Error::other("the connector fails for good")));
        }
        if self.conditions.is(Condition::BlackHole) {
            // Nobody will ever answer this one.
            pending::<()>().await;
        }
        let host = *self.name.lock().unwrap_or_else(PoisonError::into_inner);
        let mut socket = Socket::connect(&self.kernel, host, self.port, &self.conditions).await?;
        if self.handshake {
            socket.write_all(&[HELLO]).await?;
        }
        Ok(socket)
    }
}

impl Connect for Connector {
    type Io = Strict<Socket>;

    async fn connect(&self) -> Result<Connected<Strict<Socket>>, ConnectError> {
        let socket = self.dial().await?;
        let (local, peer) = (socket.local_addr(), socket.peer_addr());
        Ok(Connected::new(Strict::new(socket), Some(local), Some(peer)))
    }
}
