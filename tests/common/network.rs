//! A network of pipes in memory, for managers.

use std::net::SocketAddr;

use evermux::{
    Accept, Connect, Connected,
    error::{AcceptError, ConnectError},
};
use tokio::{
    io::{DuplexStream, duplex},
    sync::{Mutex, mpsc},
};

const PIPE: usize = 64 << 10;

/// Dials into a [`PipeAcceptor`].
#[derive(Clone)]
pub struct PipeConnector {
    backlog: mpsc::UnboundedSender<DuplexStream>,
}

/// Takes what a [`PipeConnector`] dials.
pub struct PipeAcceptor(Mutex<mpsc::UnboundedReceiver<DuplexStream>>);

/// Both ends of a network.
pub fn network() -> (PipeConnector, PipeAcceptor) {
    let (backlog, receiver) = mpsc::unbounded_channel();
    (PipeConnector { backlog }, PipeAcceptor(Mutex::new(receiver)))
}

impl Connect for PipeConnector {
    type Io = DuplexStream;

    async fn connect(&self) -> Result<Connected<DuplexStream>, ConnectError> {
        let (near, far) = duplex(PIPE);
        if self.backlog.send(far).is_err() {
            return Err(ConnectError::transient("refused"));
        }
        Ok(Connected::anonymous(near))
    }
}

impl Accept for PipeAcceptor {
    type Io = DuplexStream;
    type Pending = DuplexStream;

    async fn accept(&self) -> Result<DuplexStream, AcceptError> {
        match self.0.lock().await.recv().await {
            Some(io) => Ok(io),
            None => std::future::pending().await,
        }
    }

    async fn finish(&self, io: DuplexStream) -> Result<Connected<DuplexStream>, AcceptError> {
        Ok(Connected::anonymous(io))
    }

    fn local_addr(&self) -> Option<SocketAddr> {
        None
    }
}
