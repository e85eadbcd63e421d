//! Sessions and streams for threads without async.

use std::{
    io::{ErrorKind, Read, Write},
    panic::{AssertUnwindSafe, catch_unwind},
    thread,
};

use crate::support::{in_time, pair, pair_with, payload};
use evermux::{CloseReason, Config, OpenError, Session};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    runtime::Runtime,
};

/// A thread's calls on one side, a thread's calls on the other: request and reply, each checked to its end.
fn request_and_reply(near: &Session, far: Session) {
    let request = payload(300_000);
    let reply = payload(200_000);
    let server = thread::spawn({
        let (request, reply) = (request.clone(), reply.clone());
        move || {
            let mut stream = far.accept_stream_blocking().unwrap().into_blocking();
            let mut bytes = Vec::new();
            stream.read_to_end(&mut bytes).unwrap();
            assert!(bytes == request);
            stream.write_all(&reply).unwrap();
            stream.flush().unwrap();
            stream.shutdown().unwrap();
        }
    });
    let mut stream = near.open_stream_blocking().unwrap().into_blocking();
    stream.write_all(&request).unwrap();
    stream.shutdown().unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    assert!(bytes == reply);
    server.join().unwrap();
}

fn panics<T>(call: impl FnOnce() -> T) -> bool {
    catch_unwind(AssertUnwindSafe(call)).is_err()
}

#[test]
fn threads_open_accept_read_and_write() {
    let runtime = Runtime::new().unwrap();
    let (near, far) = runtime.block_on(pair(4096));
    request_and_reply(&near, far);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blocking_calls_work_where_blocking_is_allowed() {
    let (near, far) = pair(4096).await;
    let (near, far) = tokio::task::spawn_blocking(move || {
        request_and_reply(&near, far.clone());
        (near, far)
    })
    .await
    .unwrap();
    tokio::task::block_in_place(|| request_and_reply(&near, far));
}

#[tokio::test]
async fn a_blocking_call_in_async_code_panics_if_it_has_to_wait_and_works_if_not() {
    let (near, far) = pair(4096).await;
    assert!(panics(|| far.accept_stream_blocking()));
    assert!(panics(|| near.open_stream_blocking()));

    let mut stream = near.open_stream().await.unwrap();
    stream.write_all(b"abc").await.unwrap();
    // What was sent before a ping has come when it is answered.
    in_time(near.ping()).await.unwrap();
    let mut far_stream = far.accept_stream_blocking().unwrap().into_blocking();
    let mut bytes = [0; 3];
    far_stream.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"abc");
    assert!(panics(|| far_stream.read(&mut [0; 8])));

    // A panic has broken nothing.
    far_stream.write_all(b"def").unwrap();
    in_time(stream.read_exact(&mut bytes)).await.unwrap();
    assert_eq!(&bytes, b"def");
    let mut far_stream = far_stream.into_inner();
    stream.write_all(b"ghi").await.unwrap();
    in_time(far_stream.read_exact(&mut bytes)).await.unwrap();
    assert_eq!(&bytes, b"ghi");
}

#[test]
fn a_runtime_that_ends_frees_the_threads_that_wait() {
    let runtime = Runtime::new().unwrap();
    let (near, far) = runtime.block_on(pair_with(4096, Config::builder().max_concurrent_streams(2)));
    // One that is written to and not read, one that is read and not written to; a third has no place.
    let (_unread, mut stream, far_stream, _unwritten) = runtime.block_on(async {
        let unread = near.open_stream().await.unwrap();
        let far_stream = in_time(far.accept_stream()).await.unwrap();
        let stream = near.open_stream().await.unwrap().into_blocking();
        (unread, stream, far_stream, in_time(far.accept_stream()).await.unwrap())
    });
    let reading = thread::spawn(move || stream.read(&mut [0; 8]).unwrap_err());
    let writing = thread::spawn({
        let mut stream = far_stream.into_blocking();
        // More than the window: nobody takes it.
        move || stream.write_all(&vec![0; 1 << 20]).unwrap_err()
    });
    let opening = thread::spawn({
        let near = near.clone();
        move || near.open_stream_blocking().unwrap_err()
    });
    let accepting = thread::spawn(move || far.accept_stream_blocking().unwrap_err());
    drop(runtime);
    for error in [reading.join().unwrap(), writing.join().unwrap()] {
        assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
    }
    let error = opening.join().unwrap();
    assert!(matches!(error, OpenError::Lost(CloseReason::RuntimeEnded | CloseReason::Lost(_))), "{error:?}");
    let reason = accepting.join().unwrap();
    assert!(matches!(reason, CloseReason::RuntimeEnded | CloseReason::Lost(_)), "{reason:?}");
}
