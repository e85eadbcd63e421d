//! A crowd of callers: one install frees all, one shutdown frees all (G1, G2, G4). Threads and tasks alike.
#![allow(missing_docs, reason = "test names say it")]

mod common;

use std::{
    io::{Read, Write},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use common::{in_time, network::network, read_all, send_all};
use evermux::{Config, MuxManager, Stopped, WaitError};
use tokio::sync::mpsc;

const TASKS: usize = 10_000;
const THREADS: usize = 200;

/// All callers wait; `freed` says how each was freed.
async fn crowd(manager: &MuxManager) -> mpsc::UnboundedReceiver<Result<(), Stopped>> {
    let (freed, outcomes) = mpsc::unbounded_channel();
    let waiting = Arc::new(AtomicUsize::new(0));
    for _ in 0..TASKS {
        let (manager, freed, waiting) = (manager.clone(), freed.clone(), Arc::clone(&waiting));
        tokio::spawn(async move {
            let mut session = Box::pin(manager.session());
            assert!(futures_util::poll!(&mut session).is_pending());
            waiting.fetch_add(1, Ordering::Relaxed);
            let _ = freed.send(session.await.map(drop));
        });
    }
    for _ in 0..THREADS {
        let (manager, freed, waiting) = (manager.clone(), freed.clone(), Arc::clone(&waiting));
        thread::spawn(move || {
            waiting.fetch_add(1, Ordering::Relaxed);
            let _ = freed.send(manager.session_blocking().map(drop));
        });
    }
    in_time(async {
        while waiting.load(Ordering::Relaxed) < TASKS + THREADS {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    outcomes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_install_frees_all() {
    let (connector, acceptor) = network();
    connector.refuse(true);
    let config = Config::builder().backoff_initial(Duration::from_secs(30)).build().unwrap();
    let manager = MuxManager::establish_with(connector.clone()).config(config).start().await.unwrap();
    let receiver = MuxManager::receive_with(acceptor).start().await.unwrap();
    let mut outcomes = crowd(&manager).await;
    connector.refuse(false);
    manager.reconnect_now();
    for _ in 0..TASKS + THREADS {
        in_time(outcomes.recv()).await.unwrap().unwrap();
    }
    drop(receiver);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_shutdown_frees_all() {
    let (connector, _acceptor) = network();
    connector.refuse(true);
    let manager = MuxManager::establish_with(connector).start().await.unwrap();
    let mut outcomes = crowd(&manager).await;
    in_time(manager.shutdown()).await;
    for _ in 0..TASKS + THREADS {
        assert!(matches!(in_time(outcomes.recv()).await.unwrap(), Err(Stopped::ShutDown)));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn threads_speak_with_tasks() {
    let receiver = MuxManager::receive("127.0.0.1:0").start().await.unwrap();
    let establisher = MuxManager::establish(receiver.local_addr().unwrap().to_string()).start().await.unwrap();
    tokio::spawn({
        let receiver = receiver.clone();
        async move {
            let session = receiver.session().await.unwrap();
            while let Ok(mut stream) = session.accept_stream().await {
                tokio::spawn(async move {
                    let bytes = read_all(&mut stream).await.unwrap();
                    send_all(&mut stream, &bytes).await.unwrap();
                });
            }
        }
    });
    let threads: Vec<_> = (0..16)
        .map(|index| {
            let establisher = establisher.clone();
            thread::spawn(move || {
                let bytes = common::payload(100_000 + index);
                let opened = establisher.with_session_blocking(|session| session.open_stream_blocking()).unwrap();
                let mut stream = opened.unwrap().into_blocking();
                stream.write_all(&bytes).unwrap();
                stream.flush().unwrap();
                stream.shutdown().unwrap();
                let mut echo = Vec::new();
                stream.read_to_end(&mut echo).unwrap();
                assert!(echo == bytes);
            })
        })
        .collect();
    for thread in threads {
        tokio::task::spawn_blocking(move || thread.join().unwrap()).await.unwrap();
    }
}

#[tokio::test]
async fn a_blocking_wait_has_a_deadline() {
    let (connector, _acceptor) = network();
    connector.refuse(true);
    let manager = MuxManager::establish_with(connector).start().await.unwrap();
    let waiting = tokio::task::spawn_blocking({
        let manager = manager.clone();
        move || manager.session_blocking_timeout(Duration::from_millis(20)).map(drop).unwrap_err()
    });
    assert!(matches!(in_time(waiting).await.unwrap(), WaitError::TimedOut(_)));
    in_time(manager.shutdown()).await;
    // What is known needs no wait, and is told in an async context as well.
    let stopped = manager.session_blocking_timeout(Duration::MAX).map(drop).unwrap_err();
    assert!(matches!(stopped, WaitError::Stopped(Stopped::ShutDown)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blocking_call_panics_in_an_async_context_alone_and_only_if_it_would_wait() {
    let (connector, acceptor) = network();
    let manager = MuxManager::establish_with(connector).start().await.unwrap();
    let waits = manager.clone();
    let panicked = tokio::spawn(async move { waits.session_blocking().map(drop) }).await.unwrap_err();
    assert!(panicked.is_panic());
    let waits = manager.clone();
    let in_place = tokio::spawn(async move { tokio::task::block_in_place(|| waits.session_blocking().map(drop)) });
    let waits = manager.clone();
    let on_thread = tokio::task::spawn_blocking(move || waits.session_blocking().map(drop));
    let receiver = MuxManager::receive_with(acceptor).start().await.unwrap();
    in_time(in_place).await.unwrap().unwrap();
    in_time(on_thread).await.unwrap().unwrap();
    manager.session_blocking().unwrap();
    drop(receiver);
}

#[tokio::test]
async fn a_reader_sees_what_the_manager_gives() {
    let (connector, acceptor) = network();
    let manager = MuxManager::establish_with(connector).start().await.unwrap();
    let mut reader = manager.reader();
    assert!(reader.session().is_none());
    assert!(manager.try_session().is_none());
    let receiver = MuxManager::receive_with(acceptor).start().await.unwrap();
    let session = in_time(manager.session()).await.unwrap();
    assert_eq!(reader.session().map(evermux::Session::id), Some(session.id()));
    assert_eq!(manager.try_session().map(|session| session.id()), Some(session.id()));
    session.abort();
    // Gone as soon as the abort has returned (G3).
    assert!(reader.session().is_none());
    assert!(manager.try_session().is_none());
    let value = in_time(manager.with_session(async |session| session.id())).await.unwrap();
    assert_ne!(value, session.id());
    drop(receiver);
}
