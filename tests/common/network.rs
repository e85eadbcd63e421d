//! A network of pipes in memory, for managers on paused time.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use evermux::{
    Accept, Connect, Connected,
    error::{AcceptError, ConnectError},
};
use tokio::{
    io::{DuplexStream, duplex},
    sync::{Mutex as AsyncMutex, mpsc},
    time::Instant,
};

const PIPE: usize = 64 << 10;

/// Dials into a [`PipeAcceptor`].
#[derive(Clone)]
pub struct PipeConnector {
    backlog: mpsc::UnboundedSender<DuplexStream>,
    attempts: Arc<Mutex<Vec<Instant>>>,
    refuses: Arc<AtomicBool>,
}

/// Takes what a [`PipeConnector`] dials.
pub struct PipeAcceptor(AsyncMutex<mpsc::UnboundedReceiver<DuplexStream>>);

/// Both ends of a network.
pub fn network() -> (PipeConnector, PipeAcceptor) {
    let (backlog, receiver) = mpsc::unbounded_channel();
    let connector = PipeConnector { backlog, attempts: Arc::default(), refuses: Arc::default() };
    (connector, PipeAcceptor(AsyncMutex::new(receiver)))
}

impl PipeConnector {
    /// When each attempt was made.
    pub fn attempts(&self) -> Vec<Instant> {
        self.attempts.lock().unwrap().clone()
    }

    pub fn refuse(&self, refuses: bool) {
        self.refuses.store(refuses, Ordering::Relaxed);
    }
}

impl Connect for PipeConnector {
    type Io = DuplexStream;

    async fn connect(&self) -> Result<Connected<DuplexStream>, ConnectError> {
        self.attempts.lock().unwrap().push(Instant::now());
        let (near, far) = duplex(PIPE);
        if self.refuses.load(Ordering::Relaxed) || self.backlog.send(far).is_err() {
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
