//! Threads without async at a manager.
#![allow(missing_docs, reason = "test names say it")]

mod support;

use std::{
    io::{Read, Write},
    panic::{AssertUnwindSafe, catch_unwind},
    thread,
    time::Duration,
};

use evermux::{Connected, MuxManager, StartError, Stopped, WaitError, error::ConnectError};
use support::{PATIENCE, echo, establisher, own_address, quick, receiver, soon, until};
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

/// Whether a thread of a manager runs, by its name.
fn a_runtime_runs() -> bool {
    let Ok(threads) = std::fs::read_dir("/proc/self/task") else { return false };
    threads
        .flatten()
        .any(|thread| std::fs::read_to_string(thread.path().join("comm")).is_ok_and(|name| name.trim() == "evermux"))
}

fn until_no_runtime_runs() {
    Runtime::new().unwrap().block_on(until(|| !a_runtime_runs()));
}

/// Managers on runtimes of their own: in one test, since it looks at the threads of the process.
#[test]
fn without_async_at_all() {
    let config = || quick().build().unwrap();
    let receiver = MuxManager::receive(own_address()).config(config()).start_blocking().unwrap();
    let address = receiver.local_addr().unwrap().to_string();
    assert!(a_runtime_runs() || !cfg!(target_os = "linux"));
    let establisher = MuxManager::establish(&*address).config(config()).start_blocking().unwrap();
    let serving = thread::spawn({
        let receiver = receiver.clone();
        move || {
            let session = receiver.session_blocking().unwrap();
            let mut stream = session.accept_stream_blocking().unwrap().into_blocking();
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            stream.write_all(text.to_uppercase().as_bytes()).unwrap();
            stream.shutdown().unwrap();
        }
    });
    let mut stream = establisher.session_blocking().unwrap().open_stream_blocking().unwrap().into_blocking();
    stream.write_all(b"hello").unwrap();
    stream.shutdown().unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    assert_eq!(reply, "HELLO");
    serving.join().unwrap();
    drop(stream);

    // What is wrong comes out here, not later.
    let taken = MuxManager::receive(&*address).start_blocking().unwrap_err();
    assert!(matches!(taken, StartError::Bind { .. }), "{taken}");
    assert!(matches!(MuxManager::establish("nowhere").start_blocking(), Err(StartError::Address { .. })));

    // One is shut down, the other is dropped: the thread of each ends.
    receiver.shutdown_blocking();
    assert!(matches!(receiver.session_blocking(), Err(Stopped::ShutDown)));
    drop(establisher);
    until_no_runtime_runs();

    // A manager that is dropped within async code drops no runtime there.
    let runtime = Runtime::new().unwrap();
    let manager = MuxManager::establish(&*address).start_blocking().unwrap();
    runtime.block_on(async move { drop(manager) });
    until_no_runtime_runs();
    runtime.block_on(async { assert!(panics(|| MuxManager::receive("127.0.0.1:0").start_blocking())) });
    until_no_runtime_runs();
}

#[test]
fn a_manager_can_be_started_on_a_runtime_that_is_there() {
    let runtime = Runtime::new().unwrap();
    let manager = MuxManager::receive(own_address()).start_on(runtime.handle()).unwrap();
    assert!(manager.local_addr().is_some());
    manager.shutdown_blocking();
    let lonely = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let error = MuxManager::receive(own_address()).start_on(lonely.handle()).unwrap_err();
    assert!(matches!(error, StartError::CurrentThread));
    assert!(error.to_string().contains("multi-thread"), "{error}");
}
