//! Threads without async at a manager.
#![allow(missing_docs, reason = "test names say it")]

mod support;

use std::{
    io::{Read, Write},
    panic::{AssertUnwindSafe, catch_unwind},
    thread,
    time::Duration,
};

use evermux::{Connected, MuxManager, Stopped, WaitError, error::ConnectError};
use support::{PATIENCE, echo, establisher, quick, receiver, soon};
use tokio::{
    io::DuplexStream,
    runtime::Runtime,
    task::{block_in_place, spawn_blocking},
    time::Instant,
};

const SHORT: Duration = Duration::from_millis(20);

async fn without_a_session() -> MuxManager {
    let refused = || async { Err::<Connected<DuplexStream>, _>(ConnectError::transient("refused")) };
    MuxManager::establish_with(refused).config(quick().build().unwrap()).start().await.unwrap()
}

fn panics<T>(f: impl FnOnce() -> T) -> bool {
    catch_unwind(AssertUnwindSafe(f)).is_err()
}

#[test]
fn threads_get_a_session_and_a_stream_that_work() {
    let runtime = Runtime::new().unwrap();
    let (receiver, establisher, echo) = runtime.block_on(async {
        let (receiver, address) = receiver(quick()).await;
        let echo = echo(&receiver);
        (receiver, establisher(address, quick()).await, echo)
    });
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let establisher = establisher.clone();
            thread::spawn(move || {
                let session = establisher.session_blocking().unwrap();
                let mut stream = session.open_stream_blocking().unwrap().into_blocking();
                stream.write_all(b"hello").unwrap();
                let mut reply = [0; 5];
                stream.read_exact(&mut reply).unwrap();
                assert_eq!(&reply, b"hello");
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    let id = establisher.with_session_blocking(|session| session.id()).unwrap();
    assert_eq!(id, establisher.session_blocking_timeout(Duration::ZERO).unwrap().id());
    runtime.block_on(async {
        soon(establisher.shutdown()).await;
        soon(receiver.shutdown()).await;
        soon(echo).await.unwrap();
    });
    assert!(matches!(establisher.session_blocking(), Err(Stopped::ShutDown)));
}

#[test]
fn a_deadline_ends_the_wait_of_a_thread() {
    let runtime = Runtime::new().unwrap();
    let manager = runtime.block_on(without_a_session());
    let began = Instant::now();
    let outcome = manager.session_blocking_timeout(SHORT);
    assert!(matches!(outcome, Err(WaitError::TimedOut(SHORT))));
    assert!(began.elapsed() >= SHORT);
    assert!(matches!(manager.session_blocking_timeout(Duration::ZERO), Err(WaitError::TimedOut(Duration::ZERO))));
    runtime.block_on(manager.shutdown());
}

#[test]
fn a_shutdown_frees_threads_that_wait_for_ever() {
    let runtime = Runtime::new().unwrap();
    let manager = runtime.block_on(without_a_session());
    let threads = [Duration::MAX, PATIENCE].map(|timeout| {
        let manager = manager.clone();
        thread::spawn(move || manager.session_blocking_timeout(timeout))
    });
    let endless = thread::spawn({
        let manager = manager.clone();
        move || manager.session_blocking()
    });
    runtime.block_on(manager.shutdown());
    for thread in threads {
        assert!(matches!(thread.join().unwrap(), Err(WaitError::Stopped(Stopped::ShutDown))));
    }
    assert!(matches!(endless.join().unwrap(), Err(Stopped::ShutDown)));
}

#[tokio::test]
async fn a_wait_within_async_code_panics_and_an_answer_that_is_there_does_not() {
    let manager = without_a_session().await;
    assert!(panics(|| manager.session_blocking()));
    assert!(panics(|| manager.session_blocking_timeout(PATIENCE)));
    assert!(panics(|| manager.with_session_blocking(|_| ())));
    assert!(matches!(manager.session_blocking_timeout(Duration::ZERO), Err(WaitError::TimedOut(_))), "it waits not");
    soon(manager.shutdown()).await;
    assert!(matches!(manager.session_blocking(), Err(Stopped::ShutDown)));

    let (receiver, address) = receiver(quick()).await;
    let establisher = establisher(address, quick()).await;
    let session = soon(establisher.session()).await.unwrap();
    assert_eq!(establisher.session_blocking().unwrap().id(), session.id());
    assert_eq!(establisher.session_blocking_timeout(PATIENCE).unwrap().id(), session.id());
    soon(establisher.shutdown()).await;
    soon(receiver.shutdown()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wait_is_fine_where_blocking_is() {
    let manager = without_a_session().await;
    let in_place = block_in_place(|| manager.session_blocking_timeout(SHORT));
    assert!(matches!(in_place, Err(WaitError::TimedOut(_))));
    let spawned = spawn_blocking({
        let manager = manager.clone();
        move || manager.session_blocking_timeout(SHORT)
    });
    assert!(matches!(spawned.await.unwrap(), Err(WaitError::TimedOut(_))));
    soon(manager.shutdown()).await;
}
