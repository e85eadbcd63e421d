//! An establisher makes the next connection when one is lost, and is civil about it (G11, G15).

use std::{
    future::pending,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use crate::support::{echo, establisher, exact, in_time, network, quick, receiver, request, session_after, until};
use evermux::{CloseReason, Connected, MuxManager, Session, error::ConnectError, manager::Activity};
use testkit::{
    FaultProxy,
    frames::{Flags, Header, Kind, Peer},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    net::{TcpListener, TcpStream},
    time::{Instant, sleep},
};

const SECOND: Duration = Duration::from_secs(1);

/// How far two moments are apart, in milliseconds: the timers of tokio have no finer grain.
fn pauses(moments: &[Instant]) -> Vec<u128> {
    moments.windows(2).map(|pair| (pair[1] - pair[0]).as_millis()).collect()
}

fn assert_near(measured: &[u128], expected: &[u128]) {
    let near =
        measured.len() == expected.len() && measured.iter().zip(expected).all(|(m, e)| (*e..=e + 20).contains(m));
    assert!(near, "{measured:?} is not {expected:?}");
}

/// Over TCP, through every fault of a link.
#[tokio::test]
async fn a_lost_session_is_followed_by_a_new_one_that_works() {
    let (receiver, address) = receiver(quick()).await;
    let proxy = FaultProxy::start(address).unwrap();
    let establisher = establisher(proxy.addr(), quick().heartbeat_timeout(Duration::from_millis(300))).await;
    let echo = echo(&receiver);
    let mut session = in_time(establisher.session()).await.unwrap();
    in_time(request(&session)).await.unwrap();
    for fault in [FaultProxy::cut_fin, FaultProxy::cut_rst, FaultProxy::freeze_links] {
        fault(&proxy);
        let next = session_after(&establisher, &session).await;
        in_time(request(&next)).await.unwrap();
        let reason = in_time(session.closed()).await;
        assert!(matches!(reason, CloseReason::Lost(_) | CloseReason::HeartbeatTimeout), "{reason}");
        session = next;
    }
    let status = establisher.status();
    assert_eq!((status.activity, status.sessions_so_far), (Activity::Live, 4));
    in_time(establisher.shutdown()).await;
    in_time(receiver.shutdown()).await;
    in_time(echo).await.unwrap();
    proxy.shutdown().await;
}

/// The peer goes away in the middle of a transfer: the reader gets an error and never an end of file.
#[tokio::test]
async fn abrupt_kill_mid_transfer() {
    let (receiver, address) = receiver(quick()).await;
    let proxy = FaultProxy::start(address).unwrap();
    let establisher = establisher(proxy.addr(), quick()).await;
    let sender = tokio::spawn({
        let session = in_time(establisher.session()).await.unwrap();
        async move {
            let mut stream = session.open_stream().await.unwrap();
            // Never finishes: only the cut ends it.
            loop {
                if let Err(error) = stream.write_all(&[7; 8 << 10]).await {
                    return error.kind();
                }
            }
        }
    });
    let session = in_time(receiver.session()).await.unwrap();
    let mut stream = in_time(session.accept_stream()).await.unwrap();
    let mut buffer = vec![0; 64 << 10];
    let mut count = 0;
    let error = in_time(async {
        loop {
            match stream.read(&mut buffer).await {
                Ok(0) => panic!("a cut transfer looks complete"),
                Ok(n) => {
                    assert!(buffer[..n].iter().all(|byte| *byte == 7));
                    count += n;
                    if count > 1 << 20 {
                        proxy.cut_rst();
                    }
                }
                Err(error) => return error,
            }
        }
    })
    .await;
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    assert_eq!(in_time(sender).await.unwrap(), std::io::ErrorKind::ConnectionReset);
    session_after(&receiver, &session).await;
    in_time(establisher.shutdown()).await;
    in_time(receiver.shutdown()).await;
}

/// A peer that closes cleanly says so, and a cut does not pass for that.
#[tokio::test]
async fn goaway_looks_like_a_cut() {
    let (receiver, address) = receiver(quick()).await;
    let proxy = FaultProxy::start(address).unwrap();
    let establisher = establisher(proxy.addr(), quick()).await;
    let first = in_time(establisher.session()).await.unwrap();
    in_time(in_time(receiver.session()).await.unwrap().close()).await;
    assert!(matches!(in_time(first.closed()).await, CloseReason::PeerClosed));
    let second = session_after(&establisher, &first).await;
    proxy.cut_fin();
    assert!(matches!(in_time(second.closed()).await, CloseReason::Lost(_)));
    in_time(establisher.shutdown()).await;
    in_time(receiver.shutdown()).await;
}

/// A session that is told to end leaves its place at once; its streams go on while the next one is made.
#[tokio::test]
async fn drain_blocks_redial() {
    let (receiver, address) = receiver(quick().drain_timeout(Duration::from_secs(60))).await;
    let establisher = establisher(address, quick().drain_timeout(Duration::from_secs(60))).await;
    let old = in_time(establisher.session()).await.unwrap();
    let mut stream = in_time(old.open_stream()).await.unwrap();
    stream.write_all(b"before").await.unwrap();
    let far = in_time(receiver.session()).await.unwrap();
    let mut far_stream = in_time(far.accept_stream()).await.unwrap();
    let closing = tokio::spawn({
        let far = far.clone();
        async move { far.close().await }
    });

    let next = in_time(async {
        loop {
            let session = establisher.session().await.unwrap();
            if session.id() != old.id() {
                return session;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(!old.is_closed() && !far.is_closed(), "the old session drains");
    let echo = echo(&receiver);
    in_time(request(&next)).await.unwrap();
    stream.write_all(b" and after").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut text = String::new();
    in_time(far_stream.read_to_string(&mut text)).await.unwrap();
    assert_eq!(text, "before and after");
    drop(far_stream);
    drop(stream);
    assert!(matches!(in_time(closing).await.unwrap(), CloseReason::Closed));
    assert!(matches!(in_time(old.closed()).await, CloseReason::PeerClosed));
    in_time(establisher.shutdown()).await;
    in_time(receiver.shutdown()).await;
    in_time(echo).await.unwrap();
}

/// The peer proves the session and drops it at once: pauses grow all the same.
#[tokio::test(start_paused = true)]
async fn backoff_reset_on_accept() {
    let (connector, acceptor) = network();
    let manager = MuxManager::establish_with(connector.clone()).config(exact().build().unwrap()).start().await.unwrap();
    let config = exact().build().unwrap();
    for _ in 0..6 {
        let session = Session::server(acceptor.next().await, &config).await.unwrap();
        manager.session().await.unwrap();
        session.abort();
    }
    assert_near(&pauses(&connector.dialled()), &[1000, 2000, 4000, 8000, 8000]);
    assert_eq!(manager.status().sessions_so_far, 6);
    manager.shutdown().await;
}

/// The same over TCP, with a peer that drops the connection before there is a session.
#[tokio::test]
async fn a_peer_that_accepts_and_drops_at_once_meets_growing_pauses() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config =
        quick().backoff_initial(Duration::from_millis(10)).backoff_max(SECOND).backoff_factor(2.0).backoff_jitter(0.0);
    let began = Instant::now();
    let manager = establisher(listener.local_addr().unwrap(), config).await;
    for _ in 0..6 {
        drop(in_time(listener.accept()).await.unwrap());
    }
    // 10 + 20 + 40 + 80 + 160
    assert!(began.elapsed() >= Duration::from_millis(310), "{:?}", began.elapsed());
    assert_eq!(manager.status().sessions_so_far, 0);
    in_time(manager.shutdown()).await;
}

/// A peer that falls silent is lost by the heartbeat, and the loss of a young session is followed by a pause.
#[tokio::test(start_paused = true)]
async fn redial_without_backoff() {
    let (connector, acceptor) = network();
    let config = exact().heartbeat_idle(SECOND).heartbeat_timeout(SECOND);
    let manager = MuxManager::establish_with(connector.clone()).config(config.build().unwrap()).start().await.unwrap();
    let mut silent = Vec::new();
    for _ in 0..4 {
        let mut peer = Peer::new(acceptor.next().await);
        let (ping, _) = peer.recv_until(|header| header.kind == Kind::Ping).await.unwrap();
        peer.send(Header::pong(ping.length), &[]).await.unwrap();
        let session = manager.session().await.unwrap();
        silent.push(peer);
        assert!(matches!(session.closed().await, CloseReason::HeartbeatTimeout));
    }
    acceptor.next().await;
    // Idle and timeout, then the pause.
    assert_near(&pauses(&connector.dialled()), &[3000, 4000, 6000, 10_000]);
    manager.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn after_a_stable_session_the_next_attempt_is_made_at_once() {
    let (connector, acceptor) = network();
    let config = exact().build().unwrap();
    let manager = MuxManager::establish_with(connector.clone()).config(config.clone()).start().await.unwrap();
    for _ in 0..3 {
        let session = Session::server(acceptor.next().await, &config).await.unwrap();
        manager.session().await.unwrap();
        sleep(10 * SECOND).await;
        session.abort();
    }
    acceptor.next().await;
    assert_near(&pauses(&connector.dialled()), &[10_000; 3]);
    assert_eq!(manager.status().backoff_slept, Duration::ZERO);
    manager.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn reconnect_now_ends_the_pause_and_nothing_else() {
    let attempts = Arc::new(AtomicUsize::new(0));
    let hangs = Arc::new(AtomicUsize::new(0));
    let connector = {
        let (attempts, hangs) = (Arc::clone(&attempts), Arc::clone(&hangs));
        move || {
            attempts.fetch_add(1, Ordering::SeqCst);
            let hangs = hangs.load(Ordering::SeqCst) > 0;
            async move {
                if hangs {
                    pending::<()>().await;
                }
                Err::<Connected<DuplexStream>, _>(ConnectError::transient("refused"))
            }
        }
    };
    let hour = Duration::from_secs(3600);
    let config = exact().backoff_initial(hour).backoff_max(hour).build().unwrap();
    let manager = MuxManager::establish_with(connector).config(config).start().await.unwrap();
    let began = Instant::now();
    until(|| manager.status().activity == Activity::BackingOff).await;
    hangs.store(1, Ordering::SeqCst);
    manager.reconnect_now();
    until(|| manager.status().activity == Activity::Connecting).await;
    assert!(began.elapsed() < SECOND);
    assert_eq!(attempts.load(Ordering::SeqCst), 2);

    // An attempt goes on, and the call is not kept for the next pause.
    manager.reconnect_now();
    hangs.store(0, Ordering::SeqCst);
    until(|| manager.status().activity == Activity::BackingOff).await;
    assert_eq!(attempts.load(Ordering::SeqCst), 2);
    sleep(hour / 2).await;
    assert_eq!(manager.status().activity, Activity::BackingOff);
    assert!(manager.status().backoff_slept >= hour / 2);
    manager.shutdown().await;
}

/// What was slept stays counted when the pause is over.
#[tokio::test(start_paused = true)]
async fn every_pause_is_in_the_time_that_was_slept() {
    let attempts = Arc::new(AtomicUsize::new(0));
    let connector = {
        let attempts = Arc::clone(&attempts);
        move || {
            let hangs = attempts.fetch_add(1, Ordering::SeqCst) == 3;
            async move {
                if hangs {
                    pending::<()>().await;
                }
                Err::<Connected<DuplexStream>, _>(ConnectError::transient("refused"))
            }
        }
    };
    let manager = MuxManager::establish_with(connector).config(exact().build().unwrap()).start().await.unwrap();
    until(|| attempts.load(Ordering::SeqCst) == 4).await;
    sleep(2 * SECOND).await;
    let slept = manager.status().backoff_slept;
    assert!((7 * SECOND..8 * SECOND).contains(&slept), "1, 2 and 4 s were slept, and not {slept:?}");
    manager.shutdown().await;
}

/// A connector that never ends is ended by the manager.
#[tokio::test(start_paused = true)]
async fn dial_without_deadline() {
    let moments = Arc::new(Mutex::new(Vec::new()));
    let connector = {
        let moments = Arc::clone(&moments);
        move || {
            moments.lock().unwrap().push(Instant::now());
            pending::<Result<Connected<DuplexStream>, ConnectError>>()
        }
    };
    let manager = MuxManager::establish_with(connector).config(exact().build().unwrap()).start().await.unwrap();
    while moments.lock().unwrap().len() < 3 {
        sleep(SECOND / 10).await;
    }
    // Resolving, connecting and the handshake; then the pause.
    assert_near(&pauses(&moments.lock().unwrap()), &[21_000, 22_000]);
    assert_eq!(manager.status().last_error.unwrap().to_string(), "no connection within 20s");
    manager.shutdown().await;
}

/// Connected, through a load balancer perhaps, to something that never answers.
#[tokio::test]
async fn phantom_session() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = quick().handshake_timeout(Duration::from_millis(50));
    let manager = establisher(listener.local_addr().unwrap(), config).await;
    let mut phantoms = Vec::new();
    for _ in 0..3 {
        phantoms.push(in_time(listener.accept()).await.unwrap());
        assert!(manager.try_session().is_none());
    }
    let status = manager.status();
    assert_eq!((status.sessions_so_far, status.sessions.len()), (0, 0));
    assert!(status.attempts >= 2);
    assert_eq!(status.last_error.unwrap().to_string(), CloseReason::NotProven.to_string());
    in_time(manager.shutdown()).await;
}

/// The handshake of a transport belongs to the attempt: nothing is published before it has ended.
#[tokio::test]
async fn lazy_tls_handshake() {
    let (receiver, address) = receiver(quick()).await;
    let (handshake, connected) = (Arc::new(tokio::sync::Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
    let connector = {
        let (handshake, connected) = (Arc::clone(&handshake), Arc::clone(&connected));
        move || {
            let (handshake, connected) = (Arc::clone(&handshake), Arc::clone(&connected));
            async move {
                let stream = TcpStream::connect(address).await?;
                connected.fetch_add(1, Ordering::SeqCst);
                handshake.acquire().await.unwrap().forget();
                Ok(Connected::anonymous(stream))
            }
        }
    };
    let manager = MuxManager::establish_with(connector).config(quick().build().unwrap()).start().await.unwrap();
    until(|| connected.load(Ordering::SeqCst) == 1).await;
    assert!(manager.try_session().is_none() && receiver.try_session().is_none());
    assert_eq!(manager.status().activity, Activity::Connecting);
    handshake.add_permits(1);
    let session = in_time(manager.session()).await.unwrap();
    assert!(session.round_trip().is_some());
    in_time(manager.shutdown()).await;
    in_time(receiver.shutdown()).await;
}

/// The peer moves to another address; each attempt asks anew where it is.
#[tokio::test]
async fn stale_dns() {
    let (first, address) = receiver(quick()).await;
    let record = Arc::new(Mutex::new(address));
    let connector = {
        let record = Arc::clone(&record);
        move || {
            let address = *record.lock().unwrap();
            async move { Ok(Connected::anonymous(TcpStream::connect(address).await?)) }
        }
    };
    let manager = MuxManager::establish_with(connector).config(quick().build().unwrap()).start().await.unwrap();
    let session = in_time(manager.session()).await.unwrap();
    in_time(first.shutdown()).await;
    let (second, address) = receiver(quick()).await;
    *record.lock().unwrap() = address;
    session_after(&manager, &session).await;
    assert!(in_time(second.session()).await.is_ok());
    in_time(manager.shutdown()).await;
    in_time(second.shutdown()).await;
}

/// A raw peer that never opens or accepts anything is a peer like any other: only the round trip counts.
#[tokio::test(start_paused = true)]
async fn a_session_is_live_when_the_peer_has_answered_and_not_before() {
    let (connector, acceptor) = network();
    let manager = MuxManager::establish_with(connector).config(exact().build().unwrap()).start().await.unwrap();
    let mut peer = Peer::new(acceptor.next().await);
    let (ping, _) = peer.recv_until(|header| header.kind == Kind::Ping && header.flags == Flags::SYN).await.unwrap();
    sleep(9 * SECOND).await;
    assert!(manager.try_session().is_none());
    peer.send(Header::pong(ping.length), &[]).await.unwrap();
    let session = manager.session().await.unwrap();
    assert!(session.round_trip().unwrap() >= 9 * SECOND);
    manager.shutdown().await;
}
