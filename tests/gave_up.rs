//! A provider that ends frees its callers, with the cause (G12).
#![allow(missing_docs, reason = "test names say it")]

mod common;

use std::{sync::mpsc, thread, time::Duration};

use common::{in_time, network::network};
use evermux::{
    CloseReason, Config, Connected, MuxManager, Stopped,
    error::{AcceptError, ConnectError, GaveUp, GaveUpCause},
    manager::Activity,
};
use tokio::{io::DuplexStream, runtime, time::timeout};

fn cause(stopped: &Stopped) -> &GaveUp {
    match stopped {
        Stopped::GaveUp(gave_up) => gave_up,
        other => panic!("{other:?}"),
    }
}

type Attempt = Result<Connected<DuplexStream>, ConnectError>;

#[tokio::test]
async fn provider_death_hangs_callers() {
    let (fail, failing) = tokio::sync::oneshot::channel::<()>();
    let failing = tokio::sync::Mutex::new(Some(failing));
    let failing = std::sync::Arc::new(failing);
    let manager = MuxManager::establish_with(move || {
        let failing = std::sync::Arc::clone(&failing);
        async move {
            let _ = failing.lock().await.take().unwrap().await;
            Attempt::Err(ConnectError::fatal("the certificate has expired"))
        }
    });
    let manager = manager.start().await.unwrap();
    let task = tokio::spawn({
        let manager = manager.clone();
        async move { manager.session().await.map(drop).unwrap_err() }
    });
    let thread = tokio::task::spawn_blocking({
        let manager = manager.clone();
        move || manager.session_blocking().map(drop).unwrap_err()
    });
    tokio::task::yield_now().await;
    fail.send(()).unwrap();
    for stopped in [in_time(task).await.unwrap(), in_time(thread).await.unwrap()] {
        let gave_up = cause(&stopped);
        assert_eq!((gave_up.cause, gave_up.attempts), (GaveUpCause::Fatal, 1));
        assert_eq!(gave_up.last_error.as_ref().unwrap().to_string(), "the certificate has expired");
    }
    // It has stopped, and a shutdown finds nothing to do.
    in_time(manager.shutdown()).await;
    assert_eq!(manager.status().activity, Activity::Stopped);
    assert!(matches!(manager.session().await, Err(Stopped::GaveUp(_))), "the first reason stays");
}

#[tokio::test(start_paused = true)]
async fn after_so_many_attempts_the_manager_gives_up() {
    let (connector, _acceptor) = network();
    connector.refuse(true);
    let config = Config::builder().max_attempts(Some(3)).build().unwrap();
    let manager = MuxManager::establish_with(connector.clone()).config(config).start().await.unwrap();
    let stopped = timeout(Duration::from_secs(10), manager.session()).await.unwrap().unwrap_err();
    let gave_up = cause(&stopped);
    assert_eq!((gave_up.cause, gave_up.attempts), (GaveUpCause::Exhausted, 3));
    assert_eq!(gave_up.last_error.as_ref().unwrap().to_string(), "refused");
    assert_eq!(connector.attempts().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn after_so_long_without_a_session_the_manager_gives_up() {
    let (connector, _acceptor) = network();
    connector.refuse(true);
    let config = Config::builder().max_elapsed(Some(Duration::from_secs(20))).build().unwrap();
    let manager = MuxManager::establish_with(connector).config(config).start().await.unwrap();
    assert!(timeout(Duration::from_secs(19), manager.session()).await.is_err());
    let stopped = timeout(Duration::from_secs(2), manager.session()).await.unwrap().unwrap_err();
    assert_eq!(cause(&stopped).cause, GaveUpCause::Exhausted);
}

#[tokio::test]
async fn a_panic_in_the_connector_is_given_as_the_cause() {
    let manager = MuxManager::establish_with(|| async { if true { panic!("a bug of the test") } else { dead() } });
    let manager = manager.start().await.unwrap();
    let stopped = in_time(manager.session()).await.unwrap_err();
    assert_eq!(cause(&stopped).cause, GaveUpCause::Panicked);
    in_time(manager.shutdown()).await;
}

fn dead() -> Attempt {
    Err(ConnectError::transient("never"))
}

#[tokio::test]
async fn a_fatal_error_of_the_acceptor_ends_the_receiver() {
    struct Broken;
    impl evermux::Accept for Broken {
        type Io = DuplexStream;
        type Pending = DuplexStream;

        async fn accept(&self) -> Result<DuplexStream, AcceptError> {
            Err(AcceptError::fatal("the listener is gone"))
        }

        async fn finish(&self, io: DuplexStream) -> Result<Connected<DuplexStream>, AcceptError> {
            Ok(Connected::anonymous(io))
        }

        fn local_addr(&self) -> Option<std::net::SocketAddr> {
            None
        }
    }
    let manager = MuxManager::receive_with(Broken).start().await.unwrap();
    let stopped = in_time(manager.session()).await.unwrap_err();
    assert_eq!(cause(&stopped).cause, GaveUpCause::Fatal);
    assert!(stopped.to_string().contains("cannot mend"), "{stopped}");
}

#[test]
fn runtime_gone_strands_threads() {
    let runtime = runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (session_of, waiting, stream_of) = runtime.block_on(async {
        let (connector, acceptor) = network();
        let receiver = MuxManager::receive_with(acceptor).start().await.unwrap();
        let establisher = MuxManager::establish_with(connector).start().await.unwrap();
        let stream = in_time(establisher.open_stream()).await.unwrap();
        let (connector, _acceptor) = network();
        connector.refuse(true);
        let absent = MuxManager::establish_with(connector).start().await.unwrap();
        (absent, receiver, (establisher, stream))
    });
    let (done, ended) = mpsc::channel();
    let (establisher, stream) = stream_of;
    let threads = [
        thread::spawn({
            let done = done.clone();
            move || {
                let stopped = session_of.session_blocking().map(drop).unwrap_err();
                assert_eq!(cause(&stopped).cause, GaveUpCause::RuntimeEnded);
                done.send("session_blocking").unwrap();
            }
        }),
        thread::spawn({
            let done = done.clone();
            move || {
                let error = std::io::Read::read(&mut stream.into_blocking(), &mut [0; 8]).unwrap_err();
                assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
                done.send("read").unwrap();
            }
        }),
        thread::spawn(move || {
            let session = establisher.session_blocking().unwrap();
            // Nobody opens a stream on the other side.
            let reason = session.accept_stream_blocking().unwrap_err();
            assert!(matches!(reason, CloseReason::RuntimeEnded), "{reason:?}");
            done.send("accept_stream_blocking").unwrap();
        }),
    ];
    // They wait, most likely; whichever does not is freed as well.
    assert!(ended.recv_timeout(Duration::from_millis(50)).is_err(), "nobody is freed before the end");
    runtime.shutdown_background();
    for _ in 0..threads.len() {
        ended.recv_timeout(Duration::from_secs(30)).expect("a thread is stranded");
    }
    for thread in threads {
        thread.join().unwrap();
    }
    drop(waiting);
}
