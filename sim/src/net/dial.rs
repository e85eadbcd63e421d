//! Dialling.

use std::future::pending;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use evermux::error::ConnectError;
use evermux::{Connect, Connected};
use tokio::io::AsyncWriteExt;

use super::carrier::Carrier;
use super::conditions::{Condition, Conditions};
use super::socket::{HELLO, Socket};

/// Dials a port of a host by its name, which may come to stand for another host.
#[derive(Clone, Debug)]
pub struct Connector {
    /// The TCP of the host that dials.
    pub carrier: Carrier,
    /// The host that is dialled.
    pub name: Arc<Mutex<&'static str>>,
    /// Its port.
    pub port: u16,
    /// What faults do to the sockets of the host that dials.
    pub conditions: Conditions,
    /// Whether a connection begins with a handshake of the transport's own.
    pub handshake: bool,
}

impl Connect for Connector {
    type Io = Socket;

    async fn connect(&self) -> Result<Connected<Socket>, ConnectError> {
        if self.conditions.is(Condition::Fatal) {
            return Err(ConnectError::fatal(io::Error::other("the connector fails for good")));
        }
        if self.conditions.is(Condition::BlackHole) {
            // Nobody will ever answer this one.
            pending::<()>().await;
        }
        let host = *self.name.lock().unwrap_or_else(PoisonError::into_inner);
        let mut socket = Socket::connect(&self.carrier, host, self.port, &self.conditions).await?;
        if self.handshake {
            socket.write_all(&[HELLO]).await?;
        }
        let (local, peer) = (socket.local_addr(), socket.peer_addr());
        Ok(Connected::new(socket, Some(local), Some(peer)))
    }
}
