//! A network of pipes in memory, for managers.

use std::{
    future::pending,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use evermux::{
    Accept, Connect, Connected,
    error::{AcceptError, ConnectError},
};
use tokio::{
    io::{DuplexStream, duplex},
    sync::mpsc,
    time::Instant,
};

/// A network in memory: what is dialled comes out at the acceptor.
pub(crate) fn network() -> (MemoryConnector, MemoryAcceptor) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let connector = MemoryConnector { sender, dialled: Arc::default() };
    (connector, MemoryAcceptor(tokio::sync::Mutex::new(receiver)))
}

#[derive(Clone)]
pub(crate) struct MemoryConnector {
    sender: mpsc::UnboundedSender<DuplexStream>,
    dialled: Arc<Mutex<Vec<Instant>>>,
}

impl MemoryConnector {
    /// When each attempt was made.
    pub(crate) fn dialled(&self) -> Vec<Instant> {
        self.dialled.lock().unwrap().clone()
    }
}

impl Connect for MemoryConnector {
    type Io = DuplexStream;

    async fn connect(&self) -> Result<Connected<DuplexStream>, ConnectError> {
        self.dialled.lock().unwrap().push(Instant::now());
        let (near, far) = duplex(64 << 10);
        self.sender.send(far).map_err(|_| ConnectError::transient("refused"))?;
        Ok(Connected::anonymous(near))
    }
}

pub(crate) struct MemoryAcceptor(tokio::sync::Mutex<mpsc::UnboundedReceiver<DuplexStream>>);

impl MemoryAcceptor {
    /// The next connection, for a test that plays the receiver itself.
    pub(crate) async fn next(&self) -> DuplexStream {
        self.0.lock().await.recv().await.expect("no one dials any more")
    }
}

impl Accept for MemoryAcceptor {
    type Io = DuplexStream;
    type Pending = DuplexStream;

    async fn accept(&self) -> Result<DuplexStream, AcceptError> {
        match self.0.lock().await.recv().await {
            Some(dialled) => Ok(dialled),
            // No connector is left. A listener does not learn of that.
            None => pending().await,
        }
    }

    async fn finish(&self, pending: DuplexStream) -> Result<Connected<DuplexStream>, AcceptError> {
        Ok(Connected::anonymous(pending))
    }

    fn local_addr(&self) -> Option<SocketAddr> {
        None
    }
}
