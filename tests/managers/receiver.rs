//! Accepting never stalls, and a candidate without a place waits for one (G13, G14, G15).

use std::{
    future::pending,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use crate::support::{
    Occupied, client, establisher, exact, half_prove, in_time, log::Log, network, occupied, quick, receiver, until,
};
use evermux::{
    Accept, Connected, MuxManager, TcpAcceptor,
    error::{AcceptError, CloseReason},
    manager::Activity,
};
use testkit::frames::{Flags, Header, Kind, Peer};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite},
    net::TcpStream,
    sync::Semaphore,
    time::{Instant, sleep, timeout},
};

const SECOND: Duration = Duration::from_secs(1);

async fn pong<Io: AsyncRead + AsyncWrite + Unpin>(peer: &mut Peer<Io>) -> Result<(), std::io::Error> {
    peer.recv_until(|header| *header == Header::pong(77)).await.map(|_| ())
}

/// Waits for the end of the connection; no ping is answered before it.
async fn the_end<Io: AsyncRead + AsyncWrite + Unpin>(peer: &mut Peer<Io>) {
    let answered = peer.recv_until(|header| header.kind == Kind::Ping && header.flags == Flags::ACK).await;
    assert_eq!(answered.unwrap_err().kind(), std::io::ErrorKind::UnexpectedEof);
}

/// More silent clients than there may be handshakes: those that were silent for the longest make room, and others get
/// in.
#[tokio::test]
async fn silent_clients_keep_nobody_out() {
    let (receiver, address) = receiver(quick().handshake_timeout(Duration::from_secs(600))).await;
    let mut silent = Vec::new();
    for _ in 0..65 {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    let establisher = establisher(address, quick()).await;
    in_time(establisher.session()).await.unwrap();
    in_time(receiver.session()).await.unwrap();
    for client in &mut silent[..2] {
        // Its proof was sent to it; then comes the end.
        let _ = in_time(client.read_to_end(&mut Vec::new())).await;
    }
    let mut peer = Peer::new(silent.pop().unwrap());
    in_time(half_prove(&mut peer)).await;
    in_time(establisher.shutdown()).await;
    in_time(pong(&mut peer)).await.expect("the youngest goes on");
    drop(peer);
    in_time(receiver.shutdown()).await;
}

/// Hands TCP connections on, when they are told to be finished.
struct Slow {
    inner: TcpAcceptor,
    finishing: Arc<AtomicUsize>,
    handshakes: Arc<Semaphore>,
    /// The first handshake never ends.
    first_hangs: bool,
}

impl Accept for Slow {
    type Io = TcpStream;
    type Pending = (TcpStream, SocketAddr);

    async fn accept(&self) -> Result<Self::Pending, AcceptError> {
        self.inner.accept().await
    }

    async fn finish(&self, accepted: Self::Pending) -> Result<Connected<TcpStream>, AcceptError> {
        if self.finishing.fetch_add(1, Ordering::SeqCst) == 0 && self.first_hangs {
            pending::<()>().await;
        }
        self.handshakes.acquire().await.unwrap().forget();
        self.inner.finish(accepted).await
    }

    fn local_addr(&self) -> Option<SocketAddr> {
        self.inner.local_addr()
    }
}

async fn slow(first_hangs: bool) -> (MuxManager, Arc<AtomicUsize>, Arc<Semaphore>) {
    let (finishing, handshakes) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
    let acceptor = Slow {
        inner: TcpAcceptor::bind("127.0.0.1:0", &quick().build().unwrap()).await.unwrap(),
        finishing: Arc::clone(&finishing),
        handshakes: Arc::clone(&handshakes),
        first_hangs,
    };
    let config = quick().handshake_timeout(Duration::from_secs(600)).build().unwrap();
    (MuxManager::receive_with(acceptor).config(config).start().await.unwrap(), finishing, handshakes)
}

#[tokio::test]
async fn slow_handshake_blocks_accept() {
    let (receiver, finishing, handshakes) = slow(true).await;
    let address = receiver.local_addr().unwrap();
    let _slow = TcpStream::connect(address).await.unwrap();
    until(|| finishing.load(Ordering::SeqCst) == 1).await;
    handshakes.add_permits(1);
    let establisher = establisher(address, quick()).await;
    in_time(receiver.session()).await.unwrap();
    in_time(establisher.shutdown()).await;
    in_time(receiver.shutdown()).await;
}

/// The receiver's half of the scenario: the handshake is in `finish`.
#[tokio::test]
async fn lazy_tls_handshake() {
    let (receiver, finishing, handshakes) = slow(false).await;
    let establisher = establisher(receiver.local_addr().unwrap(), quick()).await;
    until(|| finishing.load(Ordering::SeqCst) == 1).await;
    assert!(receiver.try_session().is_none() && establisher.try_session().is_none());
    assert_eq!(receiver.status().activity, Activity::Listening);
    handshakes.add_permits(1);
    in_time(receiver.session()).await.unwrap();
    in_time(establisher.session()).await.unwrap();
    in_time(establisher.shutdown()).await;
    in_time(receiver.shutdown()).await;
}

/// A client that connects and says nothing, or hangs up, is no session, and costs the live one nothing.
#[tokio::test(start_paused = true)]
async fn a_candidate_that_does_not_answer_is_dropped_at_its_deadline() {
    let (connector, acceptor) = network();
    let receiver = MuxManager::receive_with(acceptor).config(exact().build().unwrap()).start().await.unwrap();
    let began = Instant::now();
    let mut peer = client(&connector).await;
    peer.recv_until(|header| header.kind == Kind::Ping).await.unwrap();
    the_end(&mut peer).await;
    assert_eq!(began.elapsed().as_secs(), 10);
    assert_eq!(receiver.status().sessions_so_far, 0);
    receiver.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_candidate_without_a_place_gets_it_when_the_holder_leaves() {
    let Occupied { connector, receiver, holder, session: first } = occupied(exact()).await;

    let mut peer = client(&connector).await;
    half_prove(&mut peer).await;
    assert!(timeout(5 * SECOND, pong(&mut peer)).await.is_err(), "what has no place is not answered");
    assert_eq!(receiver.try_session().unwrap().id(), first.id());

    let began = Instant::now();
    holder.shutdown().await;
    pong(&mut peer).await.unwrap();
    assert!(began.elapsed() < SECOND);
    assert_ne!(receiver.session().await.unwrap().id(), first.id());
    receiver.shutdown().await;
}

/// The order is that of asking.
#[tokio::test(start_paused = true)]
async fn the_oldest_candidate_is_served_first_and_one_that_left_is_passed_over() {
    let Occupied { connector, receiver, holder, .. } = occupied(exact()).await;
    let mut peers = Vec::new();
    for _ in 0..3 {
        let mut peer = client(&connector).await;
        half_prove(&mut peer).await;
        peers.push(peer);
        sleep(SECOND / 10).await;
    }
    drop(peers.remove(0));
    holder.shutdown().await;
    pong(&mut peers[0]).await.unwrap();
    assert!(timeout(SECOND, pong(&mut peers[1])).await.is_err());
    receiver.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_candidate_waits_until_its_deadline_and_is_told() {
    let Occupied { connector, receiver, holder, session } = occupied(exact()).await;
    let mut peer = client(&connector).await;
    let began = Instant::now();
    half_prove(&mut peer).await;
    // A second before its deadline. Whoever is no evermux peer is told nothing strange.
    let (go_away, _) = peer.recv_until(|header| header.kind == Kind::GoAway).await.unwrap();
    assert_eq!((go_away.length, began.elapsed().as_secs()), (0, 9));
    the_end(&mut peer).await;
    assert!(!session.is_closed());
    holder.shutdown().await;
    receiver.shutdown().await;
}

/// Its own heartbeat does not count while an establisher waits for the receiver's answer.
#[tokio::test(start_paused = true)]
async fn withheld_pong_trips_heartbeat() {
    let config = exact().heartbeat_idle(SECOND).heartbeat_timeout(SECOND).handshake_timeout(20 * SECOND);
    let Occupied { connector, receiver, holder, .. } = occupied(config.clone()).await;
    let config = config.build().unwrap();
    let late = MuxManager::establish_with(connector.clone()).config(config).start().await.unwrap();
    sleep(15 * SECOND).await;
    assert!(late.try_session().is_none());
    assert_eq!(late.status().attempts, 0);
    holder.shutdown().await;
    let session = late.session().await.unwrap();
    assert_eq!(connector.dialled().len(), 2, "the connection that waited is the one that lives");
    assert!(session.round_trip().unwrap() < SECOND, "its wait was no round trip");
    sleep(60 * SECOND).await;
    assert!(!session.is_closed());
    late.shutdown().await;
    receiver.shutdown().await;
}

/// Past the limit of candidates the newest is closed, and the receiver goes on.
#[tokio::test(start_paused = true)]
async fn sixty_four_candidates_may_wait() {
    let Occupied { connector, receiver, holder, .. } = occupied(exact().handshake_timeout(60 * SECOND)).await;
    let mut peers = Vec::new();
    for _ in 0..65 {
        let mut peer = client(&connector).await;
        half_prove(&mut peer).await;
        peers.push(peer);
    }
    the_end(&mut peers.pop().unwrap()).await;
    assert!(timeout(SECOND, pong(&mut peers[63])).await.is_err(), "this one waits");
    holder.shutdown().await;
    pong(&mut peers[0]).await.unwrap();
    receiver.shutdown().await;
}

/// A peer that is not evermux may open a stream before it is live; the stream waits with it.
#[tokio::test(start_paused = true)]
async fn a_stream_that_came_before_the_install_is_there_after_it() {
    let Occupied { connector, receiver, holder, session: first } = occupied(exact()).await;
    let mut peer = client(&connector).await;
    peer.send_data(1, Flags::SYN, b"early").await.unwrap();
    half_prove(&mut peer).await;
    sleep(SECOND).await;
    holder.shutdown().await;
    assert!(matches!(first.closed().await, CloseReason::PeerClosed));
    let session = receiver.session().await.unwrap();
    let mut stream = session.accept_stream().await.unwrap();
    let mut early = [0; 5];
    stream.read_exact(&mut early).await.unwrap();
    assert_eq!(&early, b"early");
    receiver.shutdown().await;
}

/// Such streams wait in a queue with the same limit as any other: those past it are reset, and the rest come in order.
#[tokio::test(start_paused = true)]
async fn streams_before_the_install_are_held_up_to_the_limit_of_the_queue() {
    let Occupied { connector, receiver, holder, .. } = occupied(exact().accept_backlog(4)).await;
    let mut peer = client(&connector).await;
    for id in (1..13).step_by(2) {
        peer.send_data(id, Flags::SYN, b"").await.unwrap();
    }
    half_prove(&mut peer).await;
    for id in [9, 11] {
        let (reset, _) = peer.recv_until(|header| header.kind != Kind::Ping).await.unwrap();
        assert!(reset.flags.contains(Flags::RST) && reset.stream_id == id, "{reset:?}");
    }
    assert!(timeout(SECOND, pong(&mut peer)).await.is_err(), "nothing is said of the others");
    holder.shutdown().await;
    pong(&mut peer).await.unwrap();
    let session = receiver.session().await.unwrap();
    assert_eq!(session.open_streams(), 4);
    for id in [1, 3, 5, 7] {
        let stream = session.accept_stream().await.unwrap();
        assert_eq!(stream.id(), id);
        let (answer, _) = peer.recv_until(|header| header.kind != Kind::Ping).await.unwrap();
        assert_eq!((answer.flags, answer.stream_id), (Flags::ACK, id));
        drop(stream);
        peer.recv_until(|header| header.flags == Flags::RST && header.stream_id == id).await.unwrap();
    }
    receiver.shutdown().await;
}

#[tokio::test]
async fn a_port_scan_writes_no_line_at_info() {
    let (log, _guard) = Log::record();
    let (manager, address) = receiver(quick()).await;
    for _ in 0..3 {
        drop(TcpStream::connect(&address).await.unwrap());
    }
    until(|| log.lines(&["DEBUG", "session closed"]).len() == 3).await;
    assert_eq!(log.lines(&["INFO", "session"]), [""; 0]);
    in_time(manager.shutdown()).await;
}
