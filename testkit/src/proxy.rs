//! A TCP link on loopback whose faults are commands.
//!
//! ```text
//! dialler ──upstream──▶ FaultProxy ──upstream──▶ target
//!         ◀─downstream─            ◀─downstream─
//! ```
//!
//! A fault holds from the moment its method returns:
//!
//! 1. The state of all links is under one mutex. A link is accepted and entered there in one step.
//! 2. A fault that is about existing links first enters what the kernel has accepted and the proxy has not yet seen.
//!    So a dialler whose `connect` has returned is an existing link.
//! 3. A link looks at its orders after every read and before every write: bytes sent after a freeze has begun stay where
//!    they are until it ends.
//! 4. The first cut of a link counts. A cut also ends a link that is frozen.

use std::{
    collections::BTreeMap,
    future::poll_fn,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpStream},
    runtime::Handle,
    sync::{Notify, watch},
    task::{JoinHandle, JoinSet},
};

mod link;

/// The most links at once; what comes beyond is refused.
pub const MAX_LINKS: usize = 4096;

/// The most bytes that a link with a [`delay`](FaultProxy::delay) has on the way in one direction.
pub const MAX_DELAYED_BYTES: usize = link::BUFFER_BYTES * link::DELAYED_PIECES;

/// The most connections that the kernel may hold for the proxy, with room to spare.
const MAX_BACKLOG: usize = 8192;

/// How long the proxy waits after the system could not accept a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

/// A TCP link between a dialler and a target, which does what it is told.
///
/// It runs on the tokio runtime that it was started on. Dropping it ends it, without waiting.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// use testkit::FaultProxy;
/// use tokio::{io::AsyncReadExt, net::{TcpListener, TcpStream}};
///
/// let target = TcpListener::bind("127.0.0.1:0").await?;
/// let proxy = FaultProxy::start(target.local_addr()?)?;
/// let mut dialler = TcpStream::connect(proxy.addr()).await?;
/// proxy.cut_fin();
/// assert_eq!(dialler.read(&mut [0]).await?, 0);
/// proxy.shutdown().await;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct FaultProxy {
    shared: Arc<Shared>,
    addr: SocketAddr,
    task: tokio::sync::Mutex<Option<JoinHandle<()>>>,
}

/// How a link ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    /// FIN to both ends.
    Fin,
    /// RST to both ends.
    Rst,
    /// RST to both ends, also in the middle of a polite end: the proxy is shut down.
    Stop,
}

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// From the dialler to the target.
    Up,
    /// From the target to the dialler.
    Down,
}

impl Way {
    fn back(self) -> Self {
        match self {
            Self::Up => Self::Down,
            Self::Down => Self::Up,
        }
    }
}

/// What one link has to do.
#[derive(Clone, Copy, Debug)]
struct Orders {
    cut: Option<Cut>,
    frozen_up: bool,
    frozen_down: bool,
    /// Frozen both ways, and no thaw ends it.
    dead: bool,
    bytes_per_second: Option<u64>,
    /// How long each byte takes to the other end. What a link has at its beginning counts.
    delay: Duration,
}

impl Orders {
    fn frozen(&self, way: Way) -> bool {
        self.dead
            || match way {
                Way::Up => self.frozen_up,
                Way::Down => self.frozen_down,
            }
    }
}

#[derive(Debug)]
struct State {
    stopped: bool,
    refusing: bool,
    /// What a new link has to do.
    fresh: Orders,
    target: SocketAddr,
    next_link: u64,
    links: BTreeMap<u64, watch::Sender<Orders>>,
    /// Links that have no task yet; they count among [`MAX_LINKS`].
    entered: Vec<Newcomer>,
    /// The socket of the accept task once more, to empty the kernel's queue without waiting; none after the stop.
    backlog: Option<std::net::TcpListener>,
}

/// A link that has no task yet.
#[derive(Debug)]
struct Newcomer {
    id: u64,
    dialler: TcpStream,
    orders: watch::Receiver<Orders>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Where sockets that a fault takes from the kernel's queue belong.
    runtime: Handle,
    /// Wakes the accept task: there are newcomers, or it has to stop.
    news: Notify,
    connections: AtomicU64,
    refused: AtomicU64,
    bytes_up: AtomicU64,
    bytes_down: AtomicU64,
}

impl FaultProxy {
    /// Listens on a free port of 127.0.0.1 and forwards to `target`.
    ///
    /// # Errors
    ///
    /// There is no tokio runtime here, or the system gave no socket.
    pub fn start(target: SocketAddr) -> io::Result<Self> {
        let runtime = Handle::try_current().map_err(io::Error::other)?;
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let addr = listener.local_addr()?;
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                stopped: false,
                refusing: false,
                fresh: Orders {
                    cut: None,
                    frozen_up: false,
                    frozen_down: false,
                    dead: false,
                    bytes_per_second: None,
                    delay: Duration::ZERO,
                },
                target,
                next_link: 0,
                links: BTreeMap::new(),
                entered: Vec::new(),
                backlog: Some(listener.try_clone()?),
            }),
            runtime: runtime.clone(),
            news: Notify::new(),
            connections: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            bytes_up: AtomicU64::new(0),
            bytes_down: AtomicU64::new(0),
        });
        let task = runtime.spawn(accept_links(TcpListener::from_std(listener)?, Arc::clone(&shared)));
        Ok(Self { shared, addr, task: tokio::sync::Mutex::new(Some(task)) })
    }

    /// Where to dial.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Closes every link politely: both ends read what was forwarded before, then end of file.
    pub fn cut_fin(&self) {
        self.cut(Cut::Fin);
    }

    /// Closes every link by RST: both ends get a reset, and lose what they had not read.
    pub fn cut_rst(&self) {
        self.cut(Cut::Rst);
    }

    /// Forwards nothing and closes nothing until [`thaw`](Self::thaw). New connections are accepted and stay silent.
    pub fn freeze(&self) {
        self.freeze_ways(true, true);
    }

    /// Forwards nothing from the dialler to the target until [`thaw`](Self::thaw); new connections do not reach the
    /// target either.
    pub fn freeze_upstream(&self) {
        self.freeze_ways(true, false);
    }

    /// Forwards nothing from the target to the dialler until [`thaw`](Self::thaw).
    pub fn freeze_downstream(&self) {
        self.freeze_ways(false, true);
    }

    /// Freezes the existing links for good, as a dead path does. New connections go through.
    pub fn freeze_links(&self) {
        let mut state = self.shared.enter_backlog();
        state.order(|orders| orders.dead = true);
    }

    /// Ends the freezes of both ways. What was held back goes on, in order.
    pub fn thaw(&self) {
        self.shared.lock().order_all(|orders| (orders.frozen_up, orders.frozen_down) = (false, false));
    }

    /// Closes new connections at once until [`accept_again`](Self::accept_again). Existing links stay.
    pub fn refuse(&self) {
        self.shared.enter_backlog().refusing = true;
    }

    /// Ends [`refuse`](Self::refuse). A connection that was made before is refused still.
    pub fn accept_again(&self) {
        self.shared.enter_backlog().refusing = false;
    }

    /// Forwards at most this many bytes a second, at least one, on each link in each direction.
    pub fn throttle(&self, bytes_per_second: u64) {
        self.shared.lock().order_all(|orders| orders.bytes_per_second = Some(bytes_per_second.max(1)));
    }

    /// Ends [`throttle`](Self::throttle).
    pub fn unthrottle(&self) {
        self.shared.lock().order_all(|orders| orders.bytes_per_second = None);
    }

    /// From now on, new links carry each byte for so long, in each direction: the round trip is longer by twice that.
    /// It costs no throughput as long as a link has at most [`MAX_DELAYED_BYTES`] on the way in a direction.
    pub fn delay(&self, each_way: Duration) {
        self.shared.lock().fresh.delay = each_way;
    }

    /// Where links that have not reached their target yet, and later ones, go.
    pub fn set_target(&self, target: SocketAddr) {
        self.shared.lock().target = target;
    }

    /// How many links there are that were not cut and have not ended.
    pub fn links(&self) -> usize {
        self.shared.lock().links.values().filter(|link| link.borrow().cut.is_none()).count()
    }

    /// How many connections became a link so far.
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// How many connections were refused so far.
    pub fn refused(&self) -> u64 {
        self.shared.refused.load(Ordering::Relaxed)
    }

    /// How many bytes went from diallers to the target so far.
    pub fn bytes_upstream(&self) -> u64 {
        self.shared.bytes_up.load(Ordering::Relaxed)
    }

    /// How many bytes went from the target to diallers so far.
    pub fn bytes_downstream(&self) -> u64 {
        self.shared.bytes_down.load(Ordering::Relaxed)
    }

    /// Stops listening, resets every link, and returns when no task of the proxy runs and all its sockets are closed.
    pub async fn shutdown(&self) {
        self.shared.stop();
        let mut task = self.task.lock().await;
        if let Some(running) = task.as_mut() {
            // A panic in the accept task has been printed by then, and leaves nothing to wait for.
            let _ = running.await;
            *task = None;
        }
    }

    fn cut(&self, cut: Cut) {
        let mut state = self.shared.enter_backlog();
        state.order(|orders| _ = orders.cut.get_or_insert(cut));
    }

    fn freeze_ways(&self, up: bool, down: bool) {
        self.shared.lock().order_all(|orders| {
            orders.frozen_up |= up;
            orders.frozen_down |= down;
        });
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.shared.stop();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes links of what the kernel has accepted.
    fn enter_backlog(&self) -> MutexGuard<'_, State> {
        let _context = self.runtime.enter();
        let mut state = self.lock();
        for _ in 0..MAX_BACKLOG {
            let Some(Ok((socket, _))) = state.backlog.as_ref().map(std::net::TcpListener::accept) else { break };
            if let Ok(socket) = socket.set_nonblocking(true).and_then(|()| TcpStream::from_std(socket)) {
                self.enter(&mut state, socket);
            }
        }
        self.news.notify_one();
        state
    }

    /// Accepts one connection and makes a link of it, in one step.
    fn poll_accept(&self, listener: &TcpListener, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.lock();
        let (socket, _) = ready!(listener.poll_accept(context))?;
        self.enter(&mut state, socket);
        Poll::Ready(Ok(()))
    }

    fn enter(&self, state: &mut State, dialler: TcpStream) {
        if state.stopped || state.refusing || state.links.len() >= MAX_LINKS {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.connections.fetch_add(1, Ordering::Relaxed);
        let id = state.next_link;
        state.next_link += 1;
        let (sender, orders) = watch::channel(state.fresh);
        state.links.insert(id, sender);
        state.entered.push(Newcomer { id, dialler, orders });
    }

    fn stop(&self) {
        let mut state = self.lock();
        state.stopped = true;
        state.backlog = None;
        state.order(|orders| orders.cut = Some(Cut::Stop));
        self.news.notify_one();
    }
}

impl State {
    fn order(&mut self, change: impl Fn(&mut Orders)) {
        for link in self.links.values() {
            link.send_modify(&change);
        }
    }

    fn order_all(&mut self, change: impl Fn(&mut Orders)) {
        change(&mut self.fresh);
        self.order(change);
    }
}

async fn accept_links(listener: TcpListener, shared: Arc<Shared>) {
    let mut links = JoinSet::new();
    loop {
        let (entered, stopped) = {
            let mut state = shared.lock();
            (std::mem::take(&mut state.entered), state.stopped)
        };
        for newcomer in entered {
            links.spawn(link::run(newcomer, Arc::clone(&shared)));
        }
        if stopped {
            break;
        }
        tokio::select! {
            biased;
            () = shared.news.notified() => {}
            Some(_) = links.join_next() => {}
            accepted = poll_fn(|context| shared.poll_accept(&listener, context)) => if accepted.is_err() {
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    while links.join_next().await.is_some() {}
}

#[cfg(test)]
mod tests;
