//! Threads without async at a manager.
#![allow(missing_docs, reason = "test names say it")]

mod support;

use std::{
    io::{self, Read, Write},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    thread,
    time::Duration,
};

use evermux::{Connected, MuxManager, OpenError, StartError, Stopped, WaitError, error::ConnectError};
use support::{PATIENCE, echo, establisher, in_time, own_address, quick, receiver, until};
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

/// What runs a future outside tokio.
fn run<F: Future>(future: F) -> F::Output {
    struct Unpark(thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
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
        in_time(establisher.shutdown()).await;
        in_time(receiver.shutdown()).await;
        in_time(echo).await.unwrap();
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
    in_time(manager.shutdown()).await;
    assert!(matches!(manager.session_blocking(), Err(Stopped::ShutDown)));

    let (receiver, address) = receiver(quick()).await;
    let establisher = establisher(address, quick()).await;
    let session = in_time(establisher.session()).await.unwrap();
    assert_eq!(establisher.session_blocking().unwrap().id(), session.id());
    assert_eq!(establisher.session_blocking_timeout(PATIENCE).unwrap().id(), session.id());
    in_time(establisher.shutdown()).await;
    in_time(receiver.shutdown()).await;
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
    in_time(manager.shutdown()).await;
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

/// A receiver and an establisher that have a session, each on the runtime that is given.
fn connected(runtime: &Runtime, settings: evermux::ConfigBuilder) -> (MuxManager, MuxManager) {
    runtime.block_on(async {
        let (receiver, address) = receiver(quick()).await;
        let establisher = establisher(address, settings).await;
        drop(in_time(establisher.session()).await.unwrap());
        (receiver, establisher)
    })
}

#[test]
fn every_call_works_on_another_executor() {
    let runtime = Runtime::new().unwrap();
    // Enough for what has room, on a machine that is busy.
    let settings = quick().max_concurrent_streams(1).open_timeout(Duration::from_millis(500));
    let (receiver, establisher) = connected(&runtime, settings);
    let session = run(establisher.session()).unwrap();
    let mut incoming = receiver.incoming();
    let first = run(session.open_stream()).unwrap();
    let accepted = run(incoming.next()).unwrap();
    assert!(matches!(run(session.open_stream()), Err(OpenError::TimedOut)), "there is one place");
    assert!(matches!(run(establisher.open_stream()), Err(OpenError::TimedOut)));
    assert!(matches!(run(establisher.open_stream_within(SHORT)), Err(OpenError::TimedOut)));
    run(session.ping()).unwrap();
    drop((first, accepted));
    run(session.close());
    run(establisher.shutdown());
    run(receiver.shutdown());
    assert!(run(incoming.next()).is_none());
}

#[test]
fn a_call_outlives_the_runtime_of_its_session() {
    let runtime = Runtime::new().unwrap();
    let (_receiver, establisher) = connected(&runtime, quick().max_concurrent_streams(1));
    let session = establisher.try_session().unwrap();
    let _first = run(session.open_stream()).unwrap();
    let waiting = thread::spawn({
        let session = session.clone();
        move || run(session.open_stream())
    });
    runtime.block_on(until(|| session.open_streams() == 2));
    drop(runtime);
    // Its manager ends first, and takes it out of use.
    assert!(matches!(waiting.join().unwrap(), Err(OpenError::Draining | OpenError::Lost(_))));
}

#[test]
fn no_session_in_time_is_told_with_its_reason() {
    let runtime = Runtime::new().unwrap();
    let manager = runtime.block_on(without_a_session());
    runtime.block_on(until(|| manager.status().attempts > 0));
    let within = runtime.block_on(manager.open_stream_within(SHORT)).unwrap_err();
    let blocking = manager.open_stream_blocking_within(SHORT).unwrap_err();
    for error in [within, blocking] {
        assert_eq!(error.to_string(), "there was no session within 20ms; the last attempt failed: refused");
        assert_eq!(io::Error::from(error).kind(), io::ErrorKind::TimedOut);
    }
    runtime.block_on(manager.shutdown());

    // Nothing has failed where nobody has dialled yet.
    let receiver = MuxManager::receive("127.0.0.1:0").start_on(runtime.handle()).unwrap();
    let error = receiver.open_stream_blocking_within(SHORT).unwrap_err();
    assert_eq!(error.to_string(), "there was no session within 20ms");
    receiver.shutdown_blocking();
    assert!(matches!(receiver.open_stream_blocking(), Err(OpenError::Stopped(Stopped::ShutDown))));
}

#[test]
fn two_threads_use_the_two_directions_of_a_stream() {
    const BYTES: usize = 4 << 20;
    let runtime = Runtime::new().unwrap();
    let (receiver, establisher) = connected(&runtime, quick());
    let serving = thread::spawn({
        let mut incoming = receiver.incoming();
        move || {
            let mut stream = incoming.next_blocking().unwrap().into_blocking();
            io::copy(&mut stream, &mut io::sink()).map(|bytes| (bytes, stream))
        }
    });
    let (mut reader, mut writer) = establisher.open_stream_blocking().unwrap().into_blocking().into_split();
    // Nobody says anything yet: a thread that only reads is in nobody's way.
    let reading = thread::spawn(move || {
        let mut reply = Vec::new();
        reader.read_to_end(&mut reply).map(|_| reply)
    });
    writer.write_all(&vec![7; BYTES]).unwrap();
    writer.shutdown().unwrap();
    let (bytes, mut stream) = serving.join().unwrap().unwrap();
    assert_eq!(bytes, BYTES as u64);
    stream.write_all(b"reply").unwrap();
    stream.shutdown().unwrap();
    assert_eq!(reading.join().unwrap().unwrap(), b"reply");
    establisher.shutdown_blocking();
    receiver.shutdown_blocking();
}

#[test]
fn a_thread_can_limit_its_reads_and_writes() {
    let runtime = Runtime::new().unwrap();
    let (receiver, establisher) = connected(&runtime, quick());
    let mut incoming = receiver.incoming();
    let mut stream = establisher.open_stream_blocking().unwrap().into_blocking();
    stream.set_read_timeout(Some(SHORT));
    stream.set_write_timeout(Some(SHORT));
    assert_eq!(stream.read(&mut [0; 8]).unwrap_err().kind(), io::ErrorKind::TimedOut);
    // Nobody reads: its window is full at some time.
    let mut written = 0;
    let error = loop {
        match stream.write(&[7; 4 << 10]) {
            Ok(bytes) => written += bytes,
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    let (mut reader, mut writer) = stream.into_split();
    assert_eq!(reader.read(&mut [0; 8]).unwrap_err().kind(), io::ErrorKind::TimedOut, "it stays with its half");

    // What failed so has taken nothing, and the stream goes on.
    let mut accepted = incoming.next_blocking().unwrap().into_blocking();
    let reading = thread::spawn(move || {
        let mut bytes = Vec::new();
        accepted.read_to_end(&mut bytes).map(|_| (bytes, accepted))
    });
    writer.set_write_timeout(None);
    writer.write_all(b"end").unwrap();
    writer.shutdown().unwrap();
    let (bytes, mut accepted) = reading.join().unwrap().unwrap();
    assert_eq!(bytes.len(), written + 3);
    accepted.write_all(b"reply").unwrap();
    reader.set_read_timeout(None);
    reader.read_exact(&mut [0; 5]).unwrap();
    drop((reader, writer, accepted));
    establisher.shutdown_blocking();
    receiver.shutdown_blocking();
}

#[test]
fn a_thread_waits_for_the_end_of_a_stream_and_gives_one_up() {
    let runtime = Runtime::new().unwrap();
    let (receiver, establisher) = connected(&runtime, quick());
    let mut incoming = receiver.incoming();
    let mut opened = establisher.open_stream_blocking().unwrap().into_blocking();
    opened.write_all(b"x").unwrap();
    let accepted = incoming.next_blocking().unwrap().into_blocking();
    let (reader, writer) = opened.into_inner().into_split();
    let named = (accepted.get_ref().id(), reader.session_id());
    assert_eq!((reader.id(), writer.session_id()), named);
    assert_eq!((writer.id(), reader.session_id()), named);
    let draining = reader.draining();
    let waiting = thread::spawn(move || accepted.closed().map_err(|error| error.kind()));
    drop((reader, writer));
    assert_eq!(waiting.join().unwrap(), Err(io::ErrorKind::ConnectionReset));

    let opened = establisher.open_stream_blocking().unwrap().into_blocking();
    let mut accepted = incoming.next_blocking().unwrap().into_blocking();
    opened.reset();
    assert_eq!(accepted.read(&mut [0; 8]).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    drop(accepted);
    establisher.shutdown_blocking();
    runtime.block_on(async { in_time(draining).await });
    receiver.shutdown_blocking();
}
