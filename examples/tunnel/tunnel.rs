//! What carries connections: the loop that accepts them, the loop that forwards them, and how both end.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use evermux::{Events, MuxManager, MuxStream};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{Instant, sleep, timeout, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    connection::{self, Bytes, Failure},
    report::Report,
};

/// How long the forward address may take to answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long to wait after a connection could not be accepted: the process may be out of files for a while.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long what was cut off may take to end.
pub(crate) const GRACE: Duration = Duration::from_secs(1);

/// One side of a tunnel.
pub(crate) struct Tunnel {
    manager: MuxManager,
    report: Arc<Report>,
    /// Each way, with those that wait for a session.
    max_connections: usize,
    bytes: Bytes,
    connections: AtomicU64,
    open: AtomicUsize,
    cut_off: AtomicUsize,
    /// Every task that carries something, and the two loops.
    tasks: TaskTracker,
    draining: CancellationToken,
    cut: CancellationToken,
}

impl Tunnel {
    pub(crate) fn new(manager: MuxManager, report: Arc<Report>, max_connections: usize) -> Arc<Self> {
        Arc::new(Self {
            manager,
            report,
            max_connections,
            bytes: Bytes::default(),
            connections: AtomicU64::new(0),
            open: AtomicUsize::new(0),
            cut_off: AtomicUsize::new(0),
            tasks: TaskTracker::new(),
            draining: CancellationToken::new(),
            cut: CancellationToken::new(),
        })
    }

    /// Carries what connects to this listener to the other side.
    pub(crate) fn listen(self: &Arc<Self>, listener: TcpListener) {
        let tunnel = Arc::clone(self);
        self.tasks.spawn(async move { tunnel.draining.run_until_cancelled(tunnel.accept_all(listener)).await });
    }

    /// Connects what the other side carries here to this address.
    pub(crate) fn forward(self: &Arc<Self>, address: String) {
        self.tasks.spawn(Arc::clone(self).forward_all(address.into()));
    }

    /// Tells what happens to the manager, until it has ended.
    pub(crate) async fn watch(&self, mut events: Events) {
        while let Some(event) = events.next().await {
            self.report.manager(&event);
        }
    }

    /// Shows how it stands, until it is dropped.
    pub(crate) async fn show(&self) {
        self.report.show(&self.manager, || self.open(), &self.bytes).await;
    }

    /// How many connections are open, with those that wait for a session.
    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Accepts nothing more, and waits until what is in flight has finished, or the time is over.
    pub(crate) async fn drain(&self, within: Duration) {
        let deadline = Instant::now() + within;
        self.draining.cancel();
        self.tasks.close();
        // It frees who waits for a session, and ends the sessions when their streams have finished.
        self.manager.shutdown_within(within).await;
        // The sessions are done, but a slow reader may not have taken all yet.
        let _ = timeout_at(deadline, self.tasks.wait()).await;
    }

    /// Ends what is left, by reset. Returns how many connections that were.
    pub(crate) async fn cut(&self) -> usize {
        self.cut.cancel();
        self.draining.cancel();
        self.tasks.close();
        let _ = timeout(GRACE, self.tasks.wait()).await;
        let _ = timeout(GRACE, self.manager.shutdown_within(Duration::ZERO)).await;
        self.cut_off.load(Ordering::Relaxed)
    }

    async fn accept_all(self: &Arc<Self>, listener: TcpListener) {
        let places = Arc::new(Semaphore::new(self.max_connections));
        loop {
            // What is not accepted waits in the kernel.
            let place = Arc::clone(&places).acquire_owned().await;
            match listener.accept().await {
                Ok((tcp, peer)) => {
                    let tunnel = Arc::clone(self);
                    self.tasks.spawn(async move {
                        tunnel.track("listen", &peer.to_string(), |bytes| tunnel.carry_out(tcp, bytes)).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    self.report.accept_failed("listen", &error.to_string());
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn forward_all(self: Arc<Self>, address: Arc<str>) {
        let places = Arc::new(Semaphore::new(self.max_connections));
        let mut incoming = self.manager.incoming();
        loop {
            // What is not taken waits in the session, which resets what is too many.
            let place = Arc::clone(&places).acquire_owned().await;
            let Some(stream) = incoming.next().await else { return };
            let (tunnel, address) = (Arc::clone(&self), Arc::clone(&address));
            self.tasks.spawn(async move {
                let from = format!("session {}, stream {}", stream.session_id(), stream.id());
                tunnel.track("forward", &from, |bytes| tunnel.carry_in(stream, &address, bytes)).await;
                drop(place);
            });
        }
    }

    /// Counts a connection and tells of it. The connection is handed over, so that its end comes before it is told.
    async fn track<F>(&self, way: &str, from: &str, carry: impl FnOnce(Arc<Bytes>) -> F)
    where
        F: Future<Output = Result<(), Failure>>,
    {
        let number = self.connections.fetch_add(1, Ordering::Relaxed) + 1;
        let bytes = Arc::new(Bytes::default());
        self.open.fetch_add(1, Ordering::Relaxed);
        self.report.opened(number, way, from);
        let carried = self.cut.run_until_cancelled(carry(Arc::clone(&bytes))).await;
        let ended = carried.unwrap_or(Err(Failure::CutOff));
        self.open.fetch_sub(1, Ordering::Relaxed);
        let by_us = matches!(ended, Err(Failure::CutOff | Failure::Stream(_) | Failure::Open(_)));
        if by_us && self.draining.is_cancelled() {
            self.cut_off.fetch_add(1, Ordering::Relaxed);
        }
        self.report.closed(number, way, &ended, &bytes);
    }

    /// Carries a connection that was accepted here to the other side, once there is a session.
    async fn carry_out(&self, tcp: TcpStream, bytes: Arc<Bytes>) -> Result<(), Failure> {
        connection::prepare(&tcp).map_err(Failure::Tcp)?;
        let stream = tokio::select! {
            biased;
            opened = self.manager.open_stream() => opened.map_err(Failure::Open)?,
            error = connection::broken(&tcp) => return Err(Failure::Tcp(error)),
        };
        connection::carry(&tcp, stream, [&self.bytes, &bytes]).await
    }

    /// Carries a stream of the other side to an address here.
    async fn carry_in(&self, stream: MuxStream, address: &str, bytes: Arc<Bytes>) -> Result<(), Failure> {
        let connected = timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await;
        let tcp = connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map_err(Failure::Connect)?;
        // TCP connects a socket to itself where nobody listens on a port of the ephemeral range.
        if tcp.local_addr().is_ok_and(|local| tcp.peer_addr().is_ok_and(|peer| peer == local)) {
            return Err(Failure::Connect(io::ErrorKind::ConnectionRefused.into()));
        }
        connection::prepare(&tcp).map_err(Failure::Tcp)?;
        connection::carry(&tcp, stream, [&self.bytes, &bytes]).await
    }
}
