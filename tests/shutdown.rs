//! Shutdown frees everyone (G4) and is complete (G5), from every state.
#![allow(missing_docs, reason = "test names say it")]

mod common;

use std::time::Duration;

use common::{in_time, network::network};
use evermux::{
    CloseReason, Config, Connected, MuxManager, OpenError, StartError, Stopped, error::ConnectError, manager::Activity,
};
use testkit::count;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    net::{TcpListener, TcpStream},
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

const SECOND: Duration = Duration::from_secs(1);

/// The tasks of this runtime, once those that have ended are counted out.
async fn settled_tasks(expected: usize) -> usize {
    for _ in 0..1000 {
        if count::tasks() <= Some(expected) {
            break;
        }
        tokio::task::yield_now().await;
    }
    count::tasks().unwrap()
}

#[tokio::test]
async fn receiver_own_shutdown() {
    let before = count::tasks().unwrap();
    let receiver = MuxManager::receive("127.0.0.1:0").start().await.unwrap();
    let address = receiver.local_addr().unwrap();
    in_time(receiver.shutdown()).await;
    assert!(matches!(receiver.session().await, Err(Stopped::ShutDown)));
    assert_eq!(receiver.status().activity, Activity::Stopped);
    TcpListener::bind(address).await.expect("the port is free");
    assert_eq!(settled_tasks(before).await, before);
}

#[tokio::test]
async fn accept_not_interrupted() {
    let receiver = MuxManager::receive("127.0.0.1:0").start().await.unwrap();
    let address = receiver.local_addr().unwrap();
    // It waits in accept, with one connection in its handshake.
    let mut silent = TcpStream::connect(address).await.unwrap();
    in_time(silent.read_u8()).await.unwrap();
    let begin = Instant::now();
    in_time(receiver.shutdown()).await;
    assert!(begin.elapsed() < SECOND, "no drain for what is no session");
    TcpListener::bind(address).await.expect("the port is free");
    let mut rest = Vec::new();
    let _ = in_time(silent.read_to_end(&mut rest)).await;
}

#[tokio::test]
async fn live_provider_ignores_shutdown() {
    let before = count::tasks().unwrap();
    let receiver = MuxManager::receive("127.0.0.1:0").start().await.unwrap();
    let address = receiver.local_addr().unwrap();
    let establisher = MuxManager::establish(address.to_string()).start().await.unwrap();
    let session = in_time(establisher.session()).await.unwrap();
    let far = in_time(receiver.session()).await.unwrap();
    in_time(establisher.shutdown()).await;
    assert!(session.is_closed());
    assert!(matches!(session.closed().await, CloseReason::Closed));
    assert!(matches!(in_time(far.closed()).await, CloseReason::PeerClosed));
    in_time(receiver.shutdown()).await;
    TcpListener::bind(address).await.expect("the port is free");
    assert!(matches!(establisher.open_stream().await, Err(OpenError::Stopped(Stopped::ShutDown))));
    drop((session, far));
    assert_eq!(settled_tasks(before).await, before);
}

#[tokio::test(start_paused = true)]
async fn uninterruptible_sleep() {
    let (connector, _acceptor) = network();
    connector.refuse(true);
    let config = Config::builder().backoff_initial(30 * SECOND).build().unwrap();
    let manager = MuxManager::establish_with(connector).config(config).start().await.unwrap();
    sleep(SECOND).await;
    assert_eq!(manager.status().activity, Activity::BackingOff);
    let begin = Instant::now();
    manager.shutdown().await;
    assert_eq!(begin.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_dial_and_a_handshake_end_at_once() {
    let begin = Instant::now();
    let dialling = MuxManager::establish_with(std::future::pending::<Result<Connected<DuplexStream>, ConnectError>>);
    let dialling = dialling.start().await.unwrap();
    sleep(SECOND).await;
    dialling.shutdown().await;
    let (connector, _acceptor) = network();
    let proving = MuxManager::establish_with(connector).start().await.unwrap();
    sleep(SECOND).await;
    assert_eq!(proving.status().activity, Activity::Connecting);
    proving.shutdown().await;
    assert_eq!(begin.elapsed(), 2 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn streams_in_flight_have_until_the_deadline() {
    let (connector, acceptor) = network();
    let receiver = MuxManager::receive_with(acceptor).start().await.unwrap();
    let establisher = MuxManager::establish_with(connector).start().await.unwrap();
    let mut stream = in_time(establisher.open_stream()).await.unwrap();
    let far = in_time(receiver.session()).await.unwrap();
    let mut far_stream = in_time(far.accept_stream()).await.unwrap();
    far_stream.write_all(b"half").await.unwrap();

    // Two callers, and one that goes away: the earliest deadline counts, and nothing stops it.
    let begin = Instant::now();
    let patient = tokio::spawn({
        let establisher = establisher.clone();
        async move { establisher.shutdown().await }
    });
    sleep(SECOND).await;
    assert!(establisher.is_shutting_down());
    assert!(timeout(SECOND, establisher.shutdown_within(3 * SECOND)).await.is_err());
    assert!(!patient.is_finished());
    in_time(patient).await.unwrap();
    let took = begin.elapsed();
    // 1 s and 3 s, less the tenth that is kept for the last frames.
    assert!((3 * SECOND..=4 * SECOND + Duration::from_millis(20)).contains(&took), "{took:?}");
    let mut bytes = Vec::new();
    let error = in_time(stream.read_to_end(&mut bytes)).await.unwrap_err();
    assert_eq!((&bytes[..], error.kind()), (&b"half"[..], std::io::ErrorKind::ConnectionReset));
    // And the other side saw a reset, not an end.
    let error = in_time(far_stream.read_to_end(&mut Vec::new())).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_never_reads_does_not_hold_the_shutdown() {
    let (kept, mut far) = tokio::sync::mpsc::unbounded_channel();
    let connector = move || {
        let (near, far) = tokio::io::duplex(1 << 20);
        kept.send(far).unwrap();
        async move { Ok::<_, ConnectError>(Connected::anonymous(near)) }
    };
    let manager = MuxManager::establish_with(connector).start().await.unwrap();
    let mut peer = testkit::frames::Peer::new(far.recv().await.unwrap());
    let (ping, _) = peer.recv().await.unwrap();
    peer.send(testkit::frames::Header::pong(ping.length), &[]).await.unwrap();
    let mut streams = Vec::new();
    for _ in 0..8 {
        let mut stream = in_time(manager.open_stream()).await.unwrap();
        stream.write_all(&vec![0; 256 << 10]).await.unwrap();
        streams.push(stream);
    }
    let begin = Instant::now();
    manager.shutdown_within(2 * SECOND).await;
    assert!(begin.elapsed() <= 2 * SECOND + Duration::from_millis(20), "{:?}", begin.elapsed());
}

#[tokio::test]
async fn every_kind_of_caller_is_freed() {
    let (connector, _acceptor) = network();
    connector.refuse(true);
    let manager = MuxManager::establish_with(connector).start().await.unwrap();
    let mut waiting = Vec::new();
    for _ in 0..10 {
        let session = manager.clone();
        waiting.push(tokio::spawn(async move { session.session().await.map(drop).unwrap_err() }));
        let stream = manager.clone();
        waiting.push(tokio::spawn(async move {
            match stream.open_stream().await {
                Err(OpenError::Stopped(stopped)) => stopped,
                other => panic!("{other:?}"),
            }
        }));
        let blocking = manager.clone();
        waiting.push(tokio::task::spawn_blocking(move || blocking.session_blocking().map(drop).unwrap_err()));
    }
    tokio::task::yield_now().await;
    in_time(manager.shutdown()).await;
    for caller in waiting {
        assert!(matches!(in_time(caller).await.unwrap(), Stopped::ShutDown));
    }
}

#[tokio::test]
async fn a_token_from_outside_shuts_down() {
    let token = CancellationToken::new();
    let manager = MuxManager::receive("127.0.0.1:0").shutdown_on(token.clone()).start().await.unwrap();
    let address = manager.local_addr().unwrap();
    token.cancel();
    assert!(matches!(in_time(manager.session()).await, Err(Stopped::ShutDown)));
    assert!(manager.is_shutting_down());
    in_time(manager.shutdown()).await;
    TcpListener::bind(address).await.expect("the port is free");
}

#[tokio::test]
async fn the_last_handle_shuts_down_whatever_is_still_held() {
    let before = count::tasks().unwrap();
    let receiver = MuxManager::receive("127.0.0.1:0").start().await.unwrap();
    let address = receiver.local_addr().unwrap();
    let establisher = MuxManager::establish(address.to_string()).start().await.unwrap();
    let session = in_time(establisher.session()).await.unwrap();
    let mut reader = establisher.reader();
    assert_eq!(reader.session().map(evermux::Session::id), Some(session.id()));
    let second = establisher.clone();
    drop(establisher);
    tokio::task::yield_now().await;
    assert!(!session.is_closed(), "a clone is left");
    drop(second);
    assert!(matches!(in_time(session.closed()).await, CloseReason::Closed));
    assert!(reader.session().is_none());
    drop(receiver);
    in_time(async {
        while TcpListener::bind(address).await.is_err() {
            sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    assert_eq!(settled_tasks(before).await, before);
}

#[tokio::test]
async fn failed_start_forgotten() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let error = MuxManager::receive(address.clone()).start().await.unwrap_err();
    assert!(matches!(&error, StartError::Bind { address: named, .. } if *named == address), "{error:?}");
    for bad in ["", "localhost", "host:port", "1.2.3.4:99999", ":80"] {
        let error = MuxManager::establish(bad).start().await.unwrap_err();
        assert!(matches!(&error, StartError::Address { .. }), "{bad:?}: {error:?}");
        assert!(error.to_string().contains("HOST:PORT"), "{error}");
        assert!(MuxManager::receive(bad).start().await.is_err(), "{bad:?}");
    }
}

#[test]
fn a_start_without_a_runtime_says_so() {
    let start = MuxManager::establish("127.0.0.1:1").start();
    let error = futures_util::FutureExt::now_or_never(start).unwrap().unwrap_err();
    assert!(matches!(error, StartError::NoRuntime), "{error:?}");
}
