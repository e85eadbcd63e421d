//! A shutdown ends everything, at once where nothing is in flight, and for every caller (G4, G5).

use std::{
    future::{Future, pending},
    io,
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc as threads,
    },
    task::{Context, Poll, Wake, Waker},
    thread,
    time::Duration,
};

use crate::support::{
    Occupied, establisher, exact, in_time, log::Log, network, occupied, own_address, quick, receiver, until,
};
use evermux::{
    Accept, CloseReason, Connected, MuxManager, MuxStream, OpenError, Provide, Session, StartError, Stopped,
    StreamError,
    error::{AcceptError, ConnectError},
    manager::Activity,
    provider::Installer,
};
use testkit::frames::{Flags, Header, Kind, Peer};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    net::{TcpListener, TcpStream},
    runtime,
    sync::mpsc,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

const SECOND: Duration = Duration::from_secs(1);

/// Whether nobody listens there, and somebody can.
fn can_be_bound(address: SocketAddr) -> bool {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(address).and_then(|()| socket.listen(1)).is_ok()
}

async fn assert_is_gone(manager: &MuxManager) {
    assert!(matches!(manager.session().await, Err(Stopped::ShutDown)));
    assert!(matches!(manager.open_stream().await, Err(OpenError::Stopped(Stopped::ShutDown))));
    assert!(manager.try_session().is_none() && manager.reader().session().is_none());
    let status = manager.status();
    assert_eq!(status.activity, Activity::Stopped);
    assert!(matches!(status.stopped, Some(Stopped::ShutDown)) && status.sessions.is_empty());
    assert!(manager.is_shutting_down());
}

#[tokio::test]
async fn receiver_own_shutdown() {
    let (receiver, address) = receiver(quick()).await;
    let establisher = establisher(address, quick()).await;
    let session = in_time(receiver.session()).await.unwrap();
    in_time(receiver.shutdown()).await;
    assert!(session.is_closed());
    assert!(can_be_bound(address));
    assert_is_gone(&receiver).await;
    in_time(establisher.shutdown()).await;
}

/// At any moment of the life of a session, and by several callers at once, on several threads.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_a_shutdown_returns_to_whomever_it_is_complete() {
    for round in 0..200 {
        let (receiver, address) = receiver(quick()).await;
        let establisher = establisher(address, quick()).await;
        let session = if round % 4 == 3 { in_time(receiver.session()).await.ok() } else { None };
        for _ in 0..round {
            tokio::task::yield_now().await;
        }
        let callers: Vec<_> = (0..4)
            .map(|_| {
                let (receiver, session) = (receiver.clone(), session.clone());
                tokio::spawn(async move {
                    receiver.shutdown().await;
                    assert!(session.is_none_or(|session| session.is_closed()));
                    assert_is_gone(&receiver).await;
                    // Not listening and not bound: no other caller is in the way of this.
                    TcpStream::connect(address).await.is_err()
                })
            })
            .collect();
        for caller in callers {
            assert!(in_time(caller).await.unwrap());
        }
        assert!(can_be_bound(address));
        in_time(establisher.shutdown()).await;
    }
}

#[tokio::test]
async fn accept_not_interrupted() {
    let (receiver, address) = receiver(quick()).await;
    in_time(receiver.shutdown()).await;
    assert!(can_be_bound(address));
    assert_is_gone(&receiver).await;
}

#[tokio::test]
async fn live_provider_ignores_shutdown() {
    let (receiver, address) = receiver(quick()).await;
    let establisher = establisher(address, quick()).await;
    let session = in_time(establisher.session()).await.unwrap();
    in_time(establisher.shutdown()).await;
    assert!(matches!(session.closed().await, CloseReason::Closed));
    assert_is_gone(&establisher).await;
    in_time(receiver.shutdown()).await;
}

/// Paused time stands still during each shutdown: it waits for no clock.
#[tokio::test(start_paused = true)]
async fn uninterruptible_sleep() {
    let refused = || async { Err::<Connected<DuplexStream>, _>(ConnectError::transient("refused")) };
    let manager = MuxManager::establish_with(refused).config(exact().build().unwrap()).start().await.unwrap();
    until(|| manager.status().activity == Activity::BackingOff).await;
    let began = Instant::now();
    manager.shutdown().await;
    assert_eq!(began.elapsed(), Duration::ZERO);
    assert_is_gone(&manager).await;
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_ends_a_dial() {
    let dial = pending::<Result<Connected<DuplexStream>, ConnectError>>;
    let manager = MuxManager::establish_with(dial).start().await.unwrap();
    sleep(SECOND).await;
    let began = Instant::now();
    manager.shutdown().await;
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_ends_a_proof_that_never_comes() {
    let (connector, acceptor) = network();
    let manager = MuxManager::establish_with(connector).start().await.unwrap();
    let mut silent = acceptor.next().await;
    sleep(SECOND).await;
    let began = Instant::now();
    manager.shutdown().await;
    assert_eq!(began.elapsed(), Duration::ZERO);
    assert!(silent.read_to_end(&mut Vec::new()).await.is_ok(), "the connection is closed");
}

/// Takes a while to be dropped, and tells when it was.
struct Witness(Arc<AtomicBool>);

impl Drop for Witness {
    #[expect(clippy::disallowed_methods, reason = "a drop cannot wait in any other way")]
    fn drop(&mut self) {
        std::thread::sleep(Duration::from_millis(20));
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Every handshake hangs. `accept` panics when it is told to.
struct Stuck {
    listener: TcpListener,
    panics: CancellationToken,
    dropped: Arc<AtomicBool>,
    handshakes: mpsc::UnboundedSender<()>,
}

impl Accept for Stuck {
    type Io = TcpStream;
    type Pending = TcpStream;

    async fn accept(&self) -> Result<TcpStream, AcceptError> {
        tokio::select! {
            accepted = self.listener.accept() => Ok(accepted?.0),
            () = self.panics.cancelled() => panic!("told to"),
        }
    }

    async fn finish(&self, _pending: TcpStream) -> Result<Connected<TcpStream>, AcceptError> {
        let _witness = Witness(Arc::clone(&self.dropped));
        self.handshakes.send(()).unwrap();
        pending().await
    }

    fn local_addr(&self) -> Option<SocketAddr> {
        self.listener.local_addr().ok()
    }
}

/// A manager with one handshake that hangs, the client, and what tells that the handshake is gone.
async fn with_a_stuck_handshake() -> (MuxManager, TcpStream, CancellationToken, Arc<AtomicBool>) {
    let (sender, mut handshakes) = mpsc::unbounded_channel();
    let (panics, dropped) = (CancellationToken::new(), Arc::new(AtomicBool::new(false)));
    let listener = TcpListener::bind(own_address()).await.unwrap();
    let acceptor = Stuck { listener, panics: panics.clone(), dropped: Arc::clone(&dropped), handshakes: sender };
    let manager = MuxManager::receive_with(acceptor).config(quick().build().unwrap()).start().await.unwrap();
    let client = TcpStream::connect(manager.local_addr().unwrap()).await.unwrap();
    in_time(handshakes.recv()).await.unwrap();
    (manager, client, panics, dropped)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shutdown_ends_handshakes() {
    let (manager, _client, _, dropped) = with_a_stuck_handshake().await;
    let address = manager.local_addr().unwrap();
    in_time(manager.shutdown()).await;
    assert!(dropped.load(Ordering::SeqCst));
    assert!(can_be_bound(address));
}

/// The handshakes are tasks of their own: the shutdown waits for them also when the provider is gone already.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_that_panics_leaves_no_handshake_and_no_listener() {
    let (manager, _client, panics, dropped) = with_a_stuck_handshake().await;
    let address = manager.local_addr().unwrap();
    panics.cancel();
    assert!(matches!(in_time(manager.session()).await, Err(Stopped::GaveUp(_))));
    in_time(manager.shutdown()).await;
    assert!(dropped.load(Ordering::SeqCst));
    assert!(can_be_bound(address));
}

/// A session with a stream that nobody finishes, between two managers in memory.
async fn with_a_stuck_stream() -> (MuxManager, MuxManager, (MuxStream, MuxStream)) {
    let (connector, acceptor) = network();
    let config = exact().drain_timeout(60 * SECOND).build().unwrap();
    let establisher = MuxManager::establish_with(connector).config(config.clone()).start().await.unwrap();
    let receiver = MuxManager::receive_with(acceptor).config(config).start().await.unwrap();
    let stream = establisher.open_stream().await.unwrap();
    let far_stream = receiver.session().await.unwrap().accept_stream().await.unwrap();
    (establisher, receiver, (stream, far_stream))
}

fn assert_took(began: Instant, least: Duration, most: Duration) {
    let took = began.elapsed();
    assert!((least..=most).contains(&took), "it took {took:?}");
}

#[tokio::test(start_paused = true)]
async fn streams_in_flight_have_until_the_deadline() {
    let (establisher, receiver, _streams) = with_a_stuck_stream().await;
    let began = Instant::now();
    establisher.shutdown().await;
    assert_took(began, 59 * SECOND, 61 * SECOND);
    receiver.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_ends_when_the_streams_have() {
    let (establisher, receiver, streams) = with_a_stuck_stream().await;
    let began = Instant::now();
    let ending = async {
        sleep(SECOND).await;
        drop(streams);
    };
    tokio::join!(establisher.shutdown(), ending);
    assert_took(began, SECOND, 2 * SECOND);
    receiver.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn of_several_shutdowns_the_earliest_counts_for_all() {
    let (establisher, receiver, _streams) = with_a_stuck_stream().await;
    let began = Instant::now();
    let late = async {
        sleep(5 * SECOND).await;
        establisher.shutdown_within(3 * SECOND).await;
        establisher.shutdown_within(50 * SECOND).await;
    };
    tokio::join!(establisher.shutdown_within(40 * SECOND), establisher.shutdown_within(Duration::MAX), late);
    assert_took(began, 7 * SECOND, 9 * SECOND);
    receiver.shutdown().await;
}

/// An earlier deadline is known to the sessions that close already: they end cleanly before it, and are not cut.
#[tokio::test(start_paused = true)]
async fn an_earlier_deadline_reaches_sessions_that_close() {
    let (establisher, receiver, (_stream, mut far_stream)) = with_a_stuck_stream().await;
    let began = Instant::now();
    let earlier = async {
        sleep(5 * SECOND).await;
        establisher.shutdown_within(3 * SECOND).await;
    };
    tokio::join!(establisher.shutdown_within(40 * SECOND), earlier);
    assert_took(began, 7 * SECOND, 8 * SECOND);
    let error = far_stream.read(&mut [0]).await.unwrap_err();
    let source = error.get_ref().and_then(|source| source.downcast_ref());
    assert_eq!(source, Some(&StreamError::ResetByPeer));
    receiver.shutdown_within(SECOND).await;
}

/// A session that was closed before the shutdown, and still drains, is under the deadline of the shutdown too.
#[tokio::test(start_paused = true)]
async fn a_session_that_drains_already_keeps_the_deadline_of_the_shutdown() {
    let (establisher, receiver, _streams) = with_a_stuck_stream().await;
    let session = establisher.session().await.unwrap();
    let closing = tokio::spawn({
        let session = session.clone();
        async move { session.close().await }
    });
    sleep(SECOND).await;
    let began = Instant::now();
    establisher.shutdown_within(2 * SECOND).await;
    assert_took(began, SECOND, 2 * SECOND);
    let reason = closing.await.unwrap();
    assert!(matches!(reason, CloseReason::DrainTimedOut { .. }), "{reason:?}");
    receiver.shutdown_within(SECOND).await;
}

#[tokio::test(start_paused = true)]
async fn dropping_a_shutdown_future_does_not_stop_the_shutdown() {
    let (establisher, receiver, _streams) = with_a_stuck_stream().await;
    {
        let shutdown = pin!(establisher.shutdown_within(5 * SECOND));
        assert!(shutdown.poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }
    let began = Instant::now();
    until(|| establisher.status().activity == Activity::Stopped).await;
    assert_took(began, 4 * SECOND, 6 * SECOND);
    receiver.shutdown_within(SECOND).await;
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_future_that_was_never_polled_asks_for_nothing() {
    let (connector, _acceptor) = network();
    let manager = MuxManager::establish_with(connector).start().await.unwrap();
    drop(manager.shutdown());
    sleep(SECOND).await;
    assert!(!manager.is_shutting_down());
    manager.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn the_longest_shutdown_is_no_overflow() {
    let (connector, acceptor) = network();
    let config = exact().drain_timeout(Duration::MAX).handshake_timeout(Duration::MAX).connect_timeout(Duration::MAX);
    let config = config.build().unwrap();
    let establisher = MuxManager::establish_with(connector).config(config.clone()).start().await.unwrap();
    let receiver = MuxManager::receive_with(acceptor).config(config).start().await.unwrap();
    establisher.session().await.unwrap();
    establisher.shutdown().await;
    receiver.shutdown_within(Duration::MAX).await;
    assert_is_gone(&receiver).await;
}

/// The last handle is dropped while sessions, readers and listeners of the manager are still held.
#[tokio::test]
async fn dropping_the_last_handle_closes_everything_in_the_background() {
    let (receiver, address) = receiver(quick()).await;
    let establisher = establisher(address, quick()).await;
    // This handle is dropped at once, and the manager keeps the session.
    let id = in_time(receiver.session()).await.unwrap().id();
    let session = in_time(receiver.session()).await.unwrap();
    assert_eq!(session.id(), id);
    let (mut reader, clone) = (receiver.reader(), receiver.clone());
    let (mut incoming, mut events) = (receiver.incoming(), receiver.events());
    assert!(reader.session().is_some());
    drop(receiver);
    assert!(!session.is_closed() && reader.session().is_some());
    drop(clone);
    assert!(matches!(in_time(session.closed()).await, CloseReason::Closed));
    assert!(reader.session().is_none());
    assert!(in_time(incoming.next()).await.is_none());
    while in_time(events.next()).await.is_some() {}
    until(|| can_be_bound(address)).await;
    in_time(establisher.shutdown()).await;
}

#[tokio::test]
async fn a_token_shuts_the_manager_down() {
    let token = CancellationToken::new();
    let manager = MuxManager::receive(own_address()).shutdown_on(token.clone()).start().await.unwrap();
    let waiting = tokio::spawn({
        let manager = manager.clone();
        async move { manager.session().await }
    });
    assert!(!manager.is_shutting_down());
    token.cancel();
    assert!(manager.is_shutting_down());
    assert!(matches!(in_time(waiting).await.unwrap(), Err(Stopped::ShutDown)));
    until(|| can_be_bound(manager.local_addr().unwrap())).await;
    in_time(manager.shutdown()).await;
    assert_is_gone(&manager).await;
}

/// A connector is dropped at the stop, and so never waits for a shutdown that waits for it.
#[tokio::test(start_paused = true)]
async fn shutdown_from_within() {
    let (sender, mut receiver) = mpsc::channel::<MuxManager>(1);
    let manager = MuxManager::establish_with({
        let receiver = Arc::new(tokio::sync::Mutex::new({
            let (forward, inner) = mpsc::channel::<MuxManager>(1);
            tokio::spawn(async move {
                let manager = receiver.recv().await.unwrap();
                forward.send(manager).await.unwrap();
            });
            inner
        }));
        move || {
            let receiver = Arc::clone(&receiver);
            async move {
                let manager = receiver.lock().await.recv().await.unwrap();
                manager.shutdown().await;
                Err::<Connected<DuplexStream>, _>(ConnectError::transient("never"))
            }
        }
    })
    .start()
    .await
    .unwrap();
    sender.send(manager.clone()).await.unwrap();
    let began = Instant::now();
    until(|| manager.status().activity == Activity::Stopped).await;
    assert!(began.elapsed() < SECOND);
    manager.shutdown().await;
}

/// A candidate that waits for its place when the shutdown comes is closed, and its pings are never answered.
#[tokio::test(start_paused = true)]
async fn nothing_is_installed_after_a_shutdown() {
    let Occupied { connector, receiver, holder, .. } = occupied(exact()).await;
    let late = MuxManager::establish_with(connector).config(exact().build().unwrap()).start().await.unwrap();
    sleep(SECOND).await;
    let began = Instant::now();
    receiver.shutdown().await;
    assert_eq!(began.elapsed(), Duration::ZERO);
    assert_eq!(receiver.status().sessions_so_far, 1);
    assert!(late.try_session().is_none());
    assert_eq!(late.status().sessions_so_far, 0);
    late.shutdown().await;
    holder.shutdown().await;
}

struct PanickingWaker;

impl Wake for PanickingWaker {
    fn wake(self: Arc<Self>) {
        panic!("a bug in a waker");
    }
}

/// The waker is of a future that waits for a place for its stream: the shutdown ends that wait.
#[tokio::test(start_paused = true)]
async fn a_waker_that_panics_does_not_hold_the_shutdown_up() {
    let (log, _guard) = Log::record();
    let (connector, acceptor) = network();
    let config = exact().max_concurrent_streams(1).build().unwrap();
    let establisher = MuxManager::establish_with(connector).config(config.clone()).start().await.unwrap();
    let receiver = MuxManager::receive_with(acceptor).config(config).start().await.unwrap();
    let session = establisher.session().await.unwrap();
    let _stream = session.open_stream().await.unwrap();
    {
        let waker = Waker::from(Arc::new(PanickingWaker));
        let mut waiting = pin!(session.open_stream());
        assert!(waiting.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        in_time(establisher.shutdown()).await;
    }
    assert!(session.is_closed());
    assert_is_gone(&establisher).await;
    assert_eq!(log.lines(&["ERROR"]).len(), 1, "{:?}", log.lines(&["ERROR"]));
    receiver.shutdown().await;
}

/// A peer that answers the shutdown with nothing costs its deadline and no more.
#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_read_does_not_hold_the_shutdown_up() {
    let (sender, mut far_ends) = mpsc::unbounded_channel();
    let connector = move || {
        let (near, far) = duplex(64);
        sender.send(far).unwrap();
        async { Ok(Connected::anonymous(near)) }
    };
    let manager = MuxManager::establish_with(connector).config(exact().build().unwrap()).start().await.unwrap();
    let mut peer = Peer::new(far_ends.recv().await.unwrap());
    let (ping, _) = peer.recv_until(|header| header.kind == Kind::Ping && header.flags == Flags::SYN).await.unwrap();
    peer.send(Header::pong(ping.length), &[]).await.unwrap();
    let mut stream = manager.open_stream().await.unwrap();
    stream.write_all(&[0; 4096]).await.unwrap();
    let began = Instant::now();
    manager.shutdown_within(2 * SECOND).await;
    assert_took(began, Duration::ZERO, 3 * SECOND);
    assert_is_gone(&manager).await;
}

#[tokio::test]
async fn an_address_that_is_no_address_is_an_error_that_says_what_would_be_right() {
    for address in ["localhost", "", "host:port", "::1:7233", "host:99999"] {
        let errors = [
            MuxManager::establish(address).start().await.unwrap_err(),
            MuxManager::receive(address).start().await.unwrap_err(),
        ];
        for error in errors {
            assert!(matches!(&error, StartError::Address { address: given } if given == address));
            assert!(error.to_string().contains("HOST:PORT"), "{error}");
        }
    }
}

#[tokio::test]
async fn an_address_that_is_in_use_is_an_error_of_the_start() {
    let (first, address) = receiver(quick()).await;
    let error = MuxManager::receive(address.to_string()).start().await.unwrap_err();
    assert!(matches!(&error, StartError::Bind { error, .. } if error.kind() == io::ErrorKind::AddrInUse), "{error}");
    assert!(error.to_string().contains(&address.to_string()), "{error}");
    in_time(first.shutdown()).await;
    let second = MuxManager::receive(address.to_string()).start().await.unwrap();
    in_time(second.shutdown()).await;
}

#[test]
fn a_start_outside_a_runtime_is_an_error() {
    let start = pin!(MuxManager::establish("127.0.0.1:1").start());
    let polled = start.poll(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(polled, Poll::Ready(Err(StartError::NoRuntime))));
}

/// A session alone has no manager to shut it down.
#[tokio::test]
async fn a_shutdown_closes_no_session_of_others() {
    let (near, far) = duplex(4096);
    let config = quick().build().unwrap();
    let (alone, _far) = tokio::try_join!(Session::client(near, &config), Session::server(far, &config)).unwrap();
    let (manager, _) = receiver(quick()).await;
    in_time(manager.shutdown()).await;
    assert!(!alone.is_closed());
}

/// What a task of a manager holds. Its drop takes so long that a shutdown which does not wait for it returns meanwhile,
/// and says whether one did.
struct Slow {
    returned: threads::Receiver<()>,
    returned_early: threads::Sender<bool>,
}

impl Drop for Slow {
    fn drop(&mut self) {
        let early = self.returned.recv_timeout(Duration::from_millis(200)).is_ok();
        self.returned_early.send(early).unwrap();
    }
}

/// Holds one while it provides nothing, and spawns a task that holds the other, which is younger than the manager's
/// own.
struct HoldsTwo {
    older: Slow,
    younger: Slow,
    spawned: Arc<AtomicBool>,
}

impl Provide for HoldsTwo {
    async fn provide(self, installer: Installer) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let Self { older: _older, younger, spawned } = self;
        installer.spawn(async move {
            let _younger = younger;
            pending::<()>().await;
        });
        spawned.store(true, Ordering::SeqCst);
        pending().await
    }
}

/// A runtime drops its tasks one after the other. The one that watches over the manager is not the last.
#[test]
fn a_shutdown_waits_for_every_task_that_its_runtime_drops() {
    let (early, returned_early) = threads::channel();
    let slow = || {
        let (returns, returned) = threads::channel();
        (returns, Slow { returned, returned_early: early.clone() })
    };
    let ((tells_older, older), (tells_younger, younger)) = (slow(), slow());
    let spawned = Arc::new(AtomicBool::new(false));
    let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let manager = runtime.block_on(async {
        let provider = HoldsTwo { older, younger, spawned: Arc::clone(&spawned) };
        let manager = MuxManager::provide_with(provider).config(quick().build().unwrap()).start().await.unwrap();
        until(|| spawned.load(Ordering::SeqCst)).await;
        manager
    });
    let shutdown = thread::spawn({
        let manager = manager.clone();
        move || {
            manager.shutdown_blocking();
            let _ = (tells_older.send(()), tells_younger.send(()));
        }
    });
    while !manager.is_shutting_down() {
        thread::yield_now();
    }
    drop(runtime);
    shutdown.join().unwrap();
    assert_eq!([returned_early.recv(), returned_early.recv()], [Ok(false), Ok(false)]);
    assert_eq!(manager.status().activity, Activity::Stopped);
}
