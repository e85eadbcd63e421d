//! evermux over this TCP.

use std::net::SocketAddr;

use evermux::error::{AcceptError, ConnectError};
use evermux::{Accept, Connect, Connected};

use super::{Listener, Stack, Stream};

/// Dials a port of a host by its name.
#[derive(Clone, Debug)]
pub struct Connector {
    stack: Stack,
    host: &'static str,
    port: u16,
}

impl Connector {
    /// Dials this port of this host, from the host whose stack it is.
    pub fn new(stack: Stack, host: &'static str, port: u16) -> Self {
        Self { stack, host, port }
    }
}

impl Connect for Connector {
    type Io = Stream;

    async fn connect(&self) -> Result<Connected<Stream>, ConnectError> {
        let peer = SocketAddr::new(turmoil::lookup(self.host), self.port);
        Ok(connected(self.stack.connect(peer).await?))
    }
}

impl Accept for Listener {
    type Io = Stream;
    type Pending = Stream;

    async fn accept(&self) -> Result<Stream, AcceptError> {
        Ok(Listener::accept(self).await?)
    }

    async fn finish(&self, stream: Stream) -> Result<Connected<Stream>, AcceptError> {
        Ok(connected(stream))
    }

    fn local_addr(&self) -> Option<SocketAddr> {
        Some(Listener::local_addr(self))
    }

    fn peer_addr(stream: &Stream) -> Option<SocketAddr> {
        Some(stream.peer_addr())
    }
}

fn connected(stream: Stream) -> Connected<Stream> {
    let (local, peer) = (stream.local_addr(), stream.peer_addr());
    Connected::new(stream, Some(local), Some(peer))
}
