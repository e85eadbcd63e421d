//! When a session is lost the next one is made, at once or after a civil pause (G11), and never before it is proven
//! (G15).
#![allow(missing_docs, reason = "test names say it")]

mod common;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use common::{in_time, network::network, read_all, send_all};
use evermux::{CloseReason, Config, ConfigBuilder, Connected, MuxManager, error::ConnectError, manager::Activity};
use testkit::FaultProxy;
use tokio::{
    io::{DuplexStream, duplex},
    time::{Instant, sleep, timeout},
};

const SECOND: Duration = Duration::from_secs(1);

/// The defaults without jitter: pauses of 1 s, 1.5 s, 2.25 s.
fn exact() -> ConfigBuilder {
    Config::builder().backoff_jitter(0.0)
}

fn pauses(attempts: &[Instant]) -> Vec<Duration> {
    let pauses = attempts.windows(2).map(|pair| pair[1] - pair[0]);
    // The timer of tokio is exact to a millisecond.
    pauses.map(|pause| Duration::from_millis(u64::try_from(pause.as_millis()).unwrap())).collect()
}

fn is_about(took: Duration, expected: Duration) -> bool {
    (expected..=expected + Duration::from_millis(20)).contains(&took)
}

/// Serves every stream of every session with an echo.
fn serve(manager: &MuxManager) {
    let manager = manager.clone();
    tokio::spawn(async move {
        while let Ok(session) = manager.session().await {
            while let Ok(mut stream) = session.accept_stream().await {
                tokio::spawn(async move {
                    let bytes = read_all(&mut stream).await.ok()?;
                    send_all(&mut stream, &bytes).await.ok()
                });
            }
        }
    });
}

async fn request(manager: &MuxManager, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = manager.open_stream().await?;
    send_all(&mut stream, bytes).await?;
    read_all(&mut stream).await
}

/// Both managers over TCP, with a link between them that can fail.
async fn over_proxy(settings: ConfigBuilder) -> (MuxManager, MuxManager, FaultProxy) {
    let config = settings.build().unwrap();
    let receiver = MuxManager::receive("127.0.0.1:0").config(config.clone()).start().await.unwrap();
    let proxy = FaultProxy::start(receiver.local_addr().unwrap()).unwrap();
    let establisher = MuxManager::establish(proxy.addr().to_string()).config(config).start().await.unwrap();
    serve(&receiver);
    (establisher, receiver, proxy)
}

#[tokio::test]
async fn after_each_cut_the_next_session_serves_everybody() {
    let settings = exact().stable_after(Duration::ZERO);
    let (establisher, receiver, proxy) = over_proxy(settings).await;
    for round in 0..20 {
        let session = in_time(establisher.session()).await.unwrap();
        assert_eq!(in_time(request(&establisher, b"ping")).await.unwrap(), b"ping");
        if round % 2 == 0 {
            proxy.cut_rst();
        } else {
            proxy.cut_fin();
        }
        // Whoever has learnt of the end is given another session (G3).
        let reason = in_time(session.closed()).await;
        assert!(matches!(reason, CloseReason::Lost(_)), "{reason:?}");
        assert_ne!(in_time(establisher.session()).await.unwrap().id(), session.id());
    }
    assert_eq!(establisher.status().sessions_so_far, 21);
    in_time(establisher.shutdown()).await;
    in_time(receiver.shutdown()).await;
    proxy.shutdown().await;
}

#[tokio::test]
async fn a_frozen_link_is_found_and_replaced() {
    let settings = exact()
        .stable_after(Duration::ZERO)
        .heartbeat_idle(Duration::from_millis(100))
        .heartbeat_timeout(Duration::from_millis(200));
    let (establisher, receiver, proxy) = over_proxy(settings).await;
    let session = in_time(establisher.session()).await.unwrap();
    proxy.freeze_links();
    let reason = in_time(session.closed()).await;
    assert!(matches!(reason, CloseReason::HeartbeatTimeout), "{reason:?}");
    assert_eq!(in_time(request(&establisher, b"ping")).await.unwrap(), b"ping");
    in_time(establisher.shutdown()).await;
    in_time(receiver.shutdown()).await;
    proxy.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn the_first_attempt_after_a_stable_session_is_immediate() {
    let (connector, acceptor) = network();
    let receiver = MuxManager::receive_with(acceptor).start().await.unwrap();
    let establisher =
        MuxManager::establish_with(connector.clone()).config(exact().build().unwrap()).start().await.unwrap();
    let session = in_time(establisher.session()).await.unwrap();
    sleep(10 * SECOND).await;
    session.abort();
    in_time(establisher.session()).await.unwrap();
    let attempts = connector.attempts();
    assert!(is_about(attempts[1] - attempts[0], 10 * SECOND), "{:?}", pauses(&attempts));
    drop(receiver);
}

#[tokio::test(start_paused = true)]
async fn redial_without_backoff() {
    let (connector, _acceptor) = network();
    connector.refuse(true);
    let manager = MuxManager::establish_with(connector.clone()).config(exact().build().unwrap()).start().await.unwrap();
    assert!(timeout(100 * SECOND, manager.session()).await.is_err());
    let pauses = pauses(&connector.attempts());
    assert_eq!(pauses[..3], [1000, 1500, 2250].map(Duration::from_millis));
    assert!(pauses.len() < 12, "{pauses:?}");
    let status = manager.status();
    assert_eq!(status.activity, Activity::BackingOff);
    assert_eq!(status.attempts as usize, connector.attempts().len());
    assert_eq!(status.last_error.unwrap().to_string(), "refused");
    assert!(is_about(status.backoff_slept, 100 * SECOND), "{:?}", status.backoff_slept);
}

#[tokio::test(start_paused = true)]
async fn backoff_reset_on_accept() {
    // The peer takes each session, and drops it at once.
    let (connector, acceptor) = network();
    let receiver = MuxManager::receive_with(acceptor).start().await.unwrap();
    let establisher =
        MuxManager::establish_with(connector.clone()).config(exact().build().unwrap()).start().await.unwrap();
    for _ in 0..4 {
        in_time(establisher.session()).await.unwrap();
        let session = in_time(receiver.session()).await.unwrap();
        session.abort();
        in_time(async {
            while establisher.try_session().is_some() {
                sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
    }
    timeout(60 * SECOND, establisher.session()).await.unwrap().unwrap();
    let pauses = pauses(&connector.attempts());
    for (pause, expected) in pauses.iter().zip([1000, 1500, 2250, 3375]) {
        assert!(is_about(*pause, Duration::from_millis(expected)), "{pauses:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn reconnect_now_ends_the_pause_alone() {
    let (connector, acceptor) = network();
    connector.refuse(true);
    let settings = exact().backoff_initial(100 * SECOND).backoff_max(100 * SECOND);
    let establisher =
        MuxManager::establish_with(connector.clone()).config(settings.build().unwrap()).start().await.unwrap();
    let receiver = MuxManager::receive_with(acceptor).start().await.unwrap();
    sleep(SECOND).await;
    assert_eq!(establisher.status().activity, Activity::BackingOff);
    connector.refuse(false);
    establisher.reconnect_now();
    let session = timeout(SECOND, establisher.session()).await.unwrap().unwrap();
    // With a live session there is nothing to skip, now or later.
    establisher.reconnect_now();
    sleep(SECOND).await;
    assert!(!session.is_closed());
    session.abort();
    assert!(timeout(50 * SECOND, establisher.session()).await.is_err());
    assert_eq!(connector.attempts().len(), 2);
    drop(receiver);
}

#[tokio::test(start_paused = true)]
async fn dial_without_deadline() {
    let attempts = Arc::new(AtomicUsize::new(0));
    let connector = {
        let attempts = Arc::clone(&attempts);
        move || {
            attempts.fetch_add(1, Ordering::Relaxed);
            std::future::pending::<Result<Connected<DuplexStream>, ConnectError>>()
        }
    };
    let manager = MuxManager::establish_with(connector).config(exact().build().unwrap()).start().await.unwrap();
    // 5 s to resolve, 5 s to connect, 10 s for the handshake, and a pause of 1 s.
    assert!(timeout(Duration::from_millis(20_900), manager.session()).await.is_err());
    assert_eq!(attempts.load(Ordering::Relaxed), 1);
    assert!(manager.status().last_error.unwrap().to_string().contains("20s"));
    assert!(timeout(SECOND, manager.session()).await.is_err());
    assert_eq!(attempts.load(Ordering::Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn phantom_session() {
    // A load balancer with nothing behind it: it takes connections and keeps them.
    let (kept, mut balancer) = tokio::sync::mpsc::unbounded_channel();
    let connector = move || {
        let (near, far) = duplex(4096);
        kept.send(far).unwrap();
        async move { Ok::<_, ConnectError>(Connected::anonymous(near)) }
    };
    let manager = MuxManager::establish_with(connector).config(exact().build().unwrap()).start().await.unwrap();
    assert!(timeout(30 * SECOND, manager.session()).await.is_err());
    let status = manager.status();
    assert_eq!(status.sessions_so_far, 0);
    assert_eq!(status.attempts, 2);
    assert!(matches!(status.last_error.unwrap().downcast_ref(), Some(CloseReason::NotProven)));
    drop(balancer.recv().await);
}

#[tokio::test(start_paused = true)]
async fn withheld_pong_trips_heartbeat() {
    let (connector, acceptor) = network();
    let settings = exact().heartbeat_idle(SECOND).heartbeat_timeout(SECOND);
    let config = settings.build().unwrap();
    let receiver = MuxManager::receive_with(acceptor).config(config.clone()).start().await.unwrap();
    let first = MuxManager::establish_with(connector.clone()).config(config.clone()).start().await.unwrap();
    in_time(first.session()).await.unwrap();
    // The second waits for the place that the first holds, longer than its heartbeat would wait for a pong.
    let second = MuxManager::establish_with(connector.clone()).config(config).start().await.unwrap();
    assert!(timeout(5 * SECOND, second.session()).await.is_err());
    first.shutdown().await;
    let session = timeout(SECOND, second.session()).await.unwrap().unwrap();
    assert_eq!(connector.attempts().len(), 2, "the same connection all the time");
    assert!(!session.is_closed());
    assert_eq!(receiver.status().sessions_so_far, 2);
}

#[tokio::test(start_paused = true)]
async fn a_candidate_without_a_place_is_closed_at_its_deadline_and_was_never_published() {
    let (connector, acceptor) = network();
    let receiver = MuxManager::receive_with(acceptor).start().await.unwrap();
    let first = MuxManager::establish_with(connector.clone()).start().await.unwrap();
    let session = in_time(first.session()).await.unwrap();
    let second = MuxManager::establish_with(connector.clone()).start().await.unwrap();
    assert!(timeout(60 * SECOND, second.session()).await.is_err());
    // Its peer never publishes what has no place here (G14).
    assert_eq!(second.status().sessions_so_far, 0);
    assert!(second.status().attempts >= 4);
    assert_eq!(receiver.status().sessions_so_far, 1);
    assert!(!session.is_closed(), "nobody is evicted");
}

#[tokio::test(start_paused = true)]
async fn drain_blocks_redial() {
    let (connector, acceptor) = network();
    let receiver = MuxManager::receive_with(acceptor).start().await.unwrap();
    let establisher = MuxManager::establish_with(connector.clone()).start().await.unwrap();
    let session = in_time(establisher.session()).await.unwrap();
    sleep(20 * SECOND).await;
    // A stream in flight holds the drain open.
    let mut stream = in_time(session.open_stream()).await.unwrap();
    let far = in_time(receiver.session()).await.unwrap();
    let mut far_stream = in_time(far.accept_stream()).await.unwrap();
    let closing = tokio::spawn(async move { far.close().await });
    let begin = Instant::now();
    in_time(session.open_stream()).await.map(drop).ok();
    let next = in_time(async {
        loop {
            let next = establisher.session().await.unwrap();
            if next.id() != session.id() {
                break next;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(begin.elapsed() < Duration::from_millis(20), "{:?}", begin.elapsed());
    assert!(!session.is_closed() && !next.is_closed());
    // And the stream still ends well.
    send_all(&mut stream, b"late").await.unwrap();
    assert_eq!(read_all(&mut far_stream).await.unwrap(), b"late");
    send_all(&mut far_stream, b"well").await.unwrap();
    assert_eq!(read_all(&mut stream).await.unwrap(), b"well");
    assert!(matches!(in_time(closing).await.unwrap(), CloseReason::Closed));
    assert!(matches!(in_time(session.closed()).await, CloseReason::PeerClosed));
}
