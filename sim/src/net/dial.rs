//! Dialling.

use std::future::pending;
use std::sync::{Arc, Mutex, PoisonError};

use evermux::error::ConnectError;
use evermux::{Connect, Connected};

use super::conditions::{Condition, Conditions};
use super::socket::{HELLO, Socket};
use tokio::io::AsyncWriteExt;

/// Dials a port of a host by its name, which may come to stand for another host.
#[derive(Clone, Debug)]
pub struct Connector {
    name: Arc<Mutex<&'static str>>,
    port: u16,
    conditions: Conditions,
    handshake: bool,
}

impl Connector {
    /// Dials this port of the host that the name stands for, from a host under these conditions, and begins with a
    /// handshake of the transport's own, or does not.
    pub fn new(name: Arc<Mutex<&'static str>>, port: u16, conditions: Conditions, handshake: bool) -> Self {
        Self { name, port, conditions, handshake }
    }
}

impl Connect for Connector {
    type Io = Socket;

    async fn connect(&self) -> Result<Connected<Socket>, ConnectError> {
        if self.conditions.is(Condition::BlackHole) {
            // Nobody will ever answer this one.
            pending::<()>().await;
        }
        let host = *self.name.lock().unwrap_or_else(PoisonError::into_inner);
        let mut socket = Socket::connect(host, self.port, &self.conditions).await?;
        if self.handshake {
            socket.write_all(&[HELLO]).await?;
        }
        let (local, peer) = (socket.local_addr(), socket.peer_addr());
        Ok(Connected::new(socket, Some(local), Some(peer)))
    }
}
