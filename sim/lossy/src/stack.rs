//! The TCP of a host: its ports, its connections, and the task that moves segments.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tracing::trace;
use turmoil::net::UdpSocket;

use super::connection::{Connection, Owner, Phase};
use super::count::{Count, Counter};
use super::impairments::{Egress, Impairments};
use super::segment::{Flags, HEADER, PAYLOAD_MAX, Segment, trace_segment};
use super::settings::Settings;
use super::stream::Stream;

/// The port of the datagrams that carry segments, on every host.
pub const UDP_PORT: u16 = 6;
/// Where the ports of connections that were not bound begin.
const EPHEMERAL: u16 = 49_152;

/// The TCP of one running host. Clones speak of the same thing.
#[derive(Clone)]
pub struct Stack(Arc<Shared>);

/// What the task of a stack and its handles share.
pub(super) struct Shared {
    hub: Mutex<Hub>,
    /// Tells the task that something is to be sent.
    wake: Notify,
    /// Tells whoever waits that a connection is over.
    over: Notify,
}

/// All that a stack knows. Whoever changes a connection names it in `touched`.
pub(super) struct Hub {
    settings: Arc<Settings>,
    counter: Counter,
    rng: ChaCha8Rng,
    /// How much time had passed when it worked last.
    elapsed: Duration,
    next_id: u64,
    next_port: u16,
    connections: BTreeMap<u64, Connection>,
    /// The connections for which segments may come, by the peer and the local port.
    places: BTreeMap<(SocketAddr, u16), u64>,
    listeners: BTreeMap<u16, Backlog>,
    touched: BTreeSet<u64>,
    /// What is to be sent on behalf of no connection.
    out: Vec<Segment>,
}

/// What a stream would find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Readiness {
    /// The address of this end.
    pub local: SocketAddr,
    /// The address of the other end.
    pub peer: SocketAddr,
    /// Bytes have arrived that were not read.
    pub is_readable: bool,
    /// A write would take bytes.
    pub is_writable: bool,
}

struct Backlog {
    id: u64,
    /// Those that may be accepted, oldest first.
    open: VecDeque<u64>,
    arrived: Arc<Notify>,
}

impl Stack {
    /// Starts the TCP of the host that is running, with the settings of Linux.
    ///
    /// # Errors
    ///
    /// When the host has started one already.
    pub async fn start(impairments: Impairments, rng: ChaCha8Rng, counter: Arc<dyn Count>) -> io::Result<Self> {
        Self::start_with(Settings::default(), impairments, rng, counter).await
    }

    /// Starts the TCP of the host that is running.
    ///
    /// # Errors
    ///
    /// When the host has started one already.
    pub async fn start_with(
        settings: Settings,
        impairments: Impairments,
        mut rng: ChaCha8Rng,
        counter: Arc<dyn Count>,
    ) -> io::Result<Self> {
        let socket = UdpSocket::bind((IpAddr::V4(Ipv4Addr::UNSPECIFIED), UDP_PORT)).await?;
        let egress = Egress::new(impairments, ChaCha8Rng::seed_from_u64(rng.random()));
        let hub = Hub {
            settings: Arc::new(settings),
            counter,
            elapsed: turmoil::sim_elapsed().unwrap_or_default(),
            next_id: 0,
            next_port: rng.random_range(EPHEMERAL..=u16::MAX),
            rng,
            connections: BTreeMap::new(),
            places: BTreeMap::new(),
            listeners: BTreeMap::new(),
            touched: BTreeSet::new(),
            out: Vec::new(),
        };
        let shared = Arc::new(Shared { hub: Mutex::new(hub), wake: Notify::new(), over: Notify::new() });
        tokio::spawn(drive(Arc::clone(&shared), socket, egress));
        Ok(Self(shared))
    }

    /// Connects to a port of a host.
    ///
    /// # Errors
    ///
    /// `ConnectionRefused` when nobody listens there, and `TimedOut` when nothing answers to the last SYN.
    ///
    /// # Cancel safety
    ///
    /// A call that is dropped leaves no connection.
    pub async fn connect(&self, peer: SocketAddr) -> io::Result<Stream> {
        let (id, local) = self.0.lock().connect(peer)?;
        // It ends the attempt if it is dropped.
        let mut stream = Stream::new(Arc::clone(&self.0), id, local, peer);
        self.0.wake.notify_one();
        let local = poll_fn(|cx| self.0.poll_on(id, |it| it.poll_connected(cx).map_ok(|()| it.local))).await?;
        stream.set_local(local);
        Ok(stream)
    }

    /// Listens on a port.
    ///
    /// # Errors
    ///
    /// `AddrInUse` when another listener of this host has it. Connections do not keep a port.
    pub fn bind(&self, port: u16) -> io::Result<Listener> {
        let mut hub = self.0.lock();
        if hub.listeners.contains_key(&port) {
            return Err(io::Error::from_raw_os_error(libc::EADDRINUSE));
        }
        let (id, arrived) = (hub.new_id(), Arc::default());
        hub.listeners.insert(port, Backlog { id, open: VecDeque::new(), arrived: Arc::clone(&arrived) });
        drop(hub);
        Ok(Listener { shared: Arc::clone(&self.0), port, arrived })
    }

    /// The open streams of this host, each with whether a read, and a write, would find something to do.
    pub fn readiness(&self) -> Vec<Readiness> {
        let hub = self.0.lock();
        let open = hub.connections.values().filter(|it| it.owner == Owner::Stream && it.phase == Phase::Open);
        let readiness = open.map(|it| Readiness {
            local: it.local,
            peer: it.peer,
            is_readable: it.has_unread(),
            is_writable: it.has_room(),
        });
        readiness.collect()
    }

    /// How many streams of this host have not been dropped.
    pub fn open_streams(&self) -> usize {
        self.0.lock().connections.values().filter(|it| it.owner == Owner::Stream).count()
    }

    /// Waits until no connection is left but in TIME-WAIT. The stack of a turmoil client ends with its future: whoever
    /// wrote something and dropped the stream waits here for the delivery.
    pub async fn settled(&self) {
        loop {
            let over = self.0.over.notified();
            if self.0.lock().connections.values().all(|it| it.phase == Phase::TimeWait) {
                return;
            }
            over.await;
        }
    }
}

impl fmt::Debug for Stack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stack").field("connections", &self.0.lock().connections.len()).finish_non_exhaustive()
    }
}

/// Listens on a port of one host. Dropping it frees the port at once, and resets the connections that it has not given
/// out.
pub struct Listener {
    shared: Arc<Shared>,
    port: u16,
    arrived: Arc<Notify>,
}

impl Listener {
    /// Waits for the next connection.
    ///
    /// # Errors
    ///
    /// None: one that has died meanwhile is given out, and tells of it.
    ///
    /// # Cancel safety
    ///
    /// No connection is lost: one that was taken is returned in the same poll.
    pub async fn accept(&self) -> io::Result<Stream> {
        loop {
            if let Some(stream) = self.try_accept() {
                return Ok(stream);
            }
            self.arrived.notified().await;
        }
    }

    fn try_accept(&self) -> Option<Stream> {
        let mut hub = self.shared.lock();
        let backlog = hub.listeners.get_mut(&self.port)?;
        let id = backlog.open.pop_front()?;
        let connection = hub.connections.get_mut(&id)?;
        connection.owner = Owner::Stream;
        Some(Stream::new(Arc::clone(&self.shared), id, connection.local, connection.peer))
    }

    /// The address that was bound: all addresses of the host.
    pub fn local_addr(&self) -> SocketAddr {
        SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), self.port)
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener").field("port", &self.port).finish_non_exhaustive()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let mut hub = self.shared.lock();
        let Some(backlog) = hub.listeners.remove(&self.port) else { return };
        let orphans = hub.connections.iter_mut().filter(|(_, it)| it.owner == Owner::Listener(backlog.id));
        let orphans = orphans.map(|(id, it)| {
            it.abandon();
            *id
        });
        let orphans = orphans.collect::<Vec<_>>();
        hub.touched.extend(orphans);
        drop(hub);
        self.shared.wake.notify_one();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Hub> {
        self.hub.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something to a connection that a stream has, and has sent what follows from it.
    pub(super) fn on<R>(&self, id: u64, act: impl FnOnce(&mut Connection) -> R) -> R {
        let mut hub = self.lock();
        hub.touched.insert(id);
        let result = act(hub.connections.get_mut(&id).expect("a connection stays as long as its stream"));
        drop(hub);
        self.wake.notify_one();
        result
    }

    /// As [`on`](Self::on), when nothing is to be sent while it waits.
    pub(super) fn poll_on<R>(&self, id: u64, act: impl FnOnce(&mut Connection) -> Poll<R>) -> Poll<R> {
        let mut hub = self.lock();
        let result = act(hub.connections.get_mut(&id).expect("a connection stays as long as its stream"));
        if result.is_ready() {
            hub.touched.insert(id);
            drop(hub);
            self.wake.notify_one();
        }
        result
    }
}

impl Hub {
    fn new_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// The first number of a connection. The clock keeps those of a host that was restarted from repeating (RFC 6528).
    fn first_number(&mut self) -> u64 {
        let clock = self.elapsed.as_micros() / 4;
        u64::from(self.rng.random::<u32>()) + u64::try_from(clock).unwrap_or_default()
    }

    fn connect(&mut self, peer: SocketAddr) -> io::Result<(u64, SocketAddr)> {
        let port = (EPHEMERAL..=u16::MAX).find_map(|_| {
            let port = self.next_port;
            self.next_port = port.checked_add(1).unwrap_or(EPHEMERAL);
            let is_free = !self.places.contains_key(&(peer, port)) && !self.listeners.contains_key(&port);
            is_free.then_some(port)
        });
        let port = port.ok_or_else(|| io::Error::from_raw_os_error(libc::EADDRNOTAVAIL))?;
        // Which of its addresses the host has towards the peer it learns from the answer.
        let local = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port);
        let first = self.first_number();
        let connection = Connection::connect(Arc::clone(&self.settings), Arc::clone(&self.counter), local, peer, first);
        Ok((self.insert(connection), local))
    }

    fn insert(&mut self, connection: Connection) -> u64 {
        let id = self.new_id();
        self.places.insert((connection.peer, connection.local.port()), id);
        self.connections.insert(id, connection);
        self.touched.insert(id);
        id
    }

    fn on_segment(&mut self, now: Instant, from: SocketAddr, segment: &Segment) {
        let place = (from, segment.destination.port());
        if let Some(&id) = self.places.get(&place) {
            let connection = self.connections.get_mut(&id).expect("every place is a connection's");
            if !connection.yields_to(segment) {
                let before = connection.phase;
                connection.on_segment(now, segment);
                self.touched.insert(id);
                if before == Phase::SynReceived && connection.phase == Phase::Open {
                    self.offer(id);
                }
                self.forget_place(id);
                return;
            }
            connection.phase = Phase::Closed;
            self.touched.insert(id);
            self.forget_place(id);
        }
        if segment.flags == Flags::SYN
            && let Some(backlog) = self.listeners.get(&place.1)
        {
            let (listener, limit) = (backlog.id, self.settings.backlog);
            let held = self.connections.values().filter(|it| it.owner == Owner::Listener(listener)).count();
            if held >= limit {
                trace!(port = place.1, "the backlog is full");
                self.counter.count("backlog overflows");
                return;
            }
            let first = self.first_number();
            let (settings, counter) = (Arc::clone(&self.settings), Arc::clone(&self.counter));
            self.insert(Connection::accept(settings, counter, from, segment, first, listener));
        } else if !segment.flags.has(Flags::RST) {
            self.counter.count("resets sent");
            self.out.push(segment.reset(from));
        }
    }

    /// Gives an open connection to its listener.
    fn offer(&mut self, id: u64) {
        let owner = self.connections.get(&id).map(|it| it.owner);
        let backlog = self.listeners.values_mut().find(|backlog| owner == Some(Owner::Listener(backlog.id)));
        if let Some(backlog) = backlog {
            backlog.open.push_back(id);
            backlog.arrived.notify_one();
        }
    }

    /// Nothing comes any more for a connection that is closed.
    fn forget_place(&mut self, id: u64) {
        if let Some(connection) = self.connections.get(&id)
            && connection.phase == Phase::Closed
        {
            let place = (connection.peer, connection.local.port());
            if self.places.get(&place) == Some(&id) {
                self.places.remove(&place);
            }
        }
    }

    /// Does what is due, gives all that is to be sent to `send`, and says whether a connection is over.
    fn work(&mut self, now: Instant, mut send: impl FnMut(&Segment)) -> bool {
        self.elapsed = turmoil::sim_elapsed().unwrap_or_default();
        for (id, connection) in &mut self.connections {
            if connection.deadline().is_some_and(|at| at <= now) {
                connection.on_timer(now);
                self.touched.insert(*id);
            }
        }
        for segment in self.out.drain(..) {
            send(&segment);
        }
        let mut is_over = false;
        for id in std::mem::take(&mut self.touched) {
            let Some(connection) = self.connections.get_mut(&id) else { continue };
            for segment in connection.output(now) {
                send(&segment);
            }
            is_over |= matches!(connection.phase, Phase::TimeWait | Phase::Closed);
            self.forget_place(id);
            self.remove_if_over(id);
        }
        is_over
    }

    fn remove_if_over(&mut self, id: u64) {
        if self.connections.get(&id).is_some_and(Connection::is_over) {
            self.connections.remove(&id);
        }
    }

    fn deadline(&self) -> Option<Instant> {
        self.connections.values().filter_map(Connection::deadline).min()
    }
}

/// Moves segments between the socket and the connections until the host ends.
async fn drive(shared: Arc<Shared>, socket: UdpSocket, mut egress: Egress) {
    let mut buffer = [0; HEADER + PAYLOAD_MAX];
    loop {
        let now = Instant::now();
        let is_over = shared.lock().work(now, |segment| {
            trace_segment!(segment, "segment sent");
            egress.send(now, segment, UDP_PORT);
        });
        if is_over {
            shared.over.notify_waiters();
        }
        while let Some((to, bytes)) = egress.take(now) {
            // A host that is not there is one that does not answer.
            let _ = socket.try_send_to(&bytes, to);
        }
        let next = [shared.lock().deadline(), egress.next_at()].into_iter().flatten().min();
        let due = async {
            match next {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            received = socket.recv_from(&mut buffer) => {
                let mut received = received;
                while let Ok((length, from)) = received {
                    if let Some(segment) = Segment::decode(&buffer[..length]) {
                        let from = SocketAddr::new(from.ip(), segment.source);
                        trace_segment!(&segment, "segment received");
                        shared.lock().on_segment(Instant::now(), from, &segment);
                    }
                    received = socket.try_recv_from(&mut buffer);
                }
            }
            () = shared.wake.notified() => {}
            () = due => {}
        }
    }
}
