use std::{
    future::poll_fn,
    sync::atomic::{AtomicUsize, Ordering},
    task::{Wake, Waker},
};

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, Empty, duplex, empty};

use super::*;

fn broken_pipe() -> io::Error {
    io::ErrorKind::BrokenPipe.into()
}

fn pair(pipe: usize) -> (Strict<DuplexStream>, DuplexStream) {
    let (near, far) = duplex(pipe);
    (Strict::new(near), far)
}

/// What is in the pipe.
async fn arrived(far: &mut DuplexStream) -> Vec<u8> {
    let mut bytes = vec![0; 1 << 20];
    let read = tokio::time::timeout(std::time::Duration::ZERO, far.read(&mut bytes)).await;
    bytes.truncate(read.map_or(0, Result::unwrap));
    bytes
}

async fn write_parts(io: &mut Strict<impl AsyncWrite + Unpin>, parts: &[&[u8]]) -> usize {
    let parts: Vec<_> = parts.iter().map(|part| IoSlice::new(part)).collect();
    io.write_vectored(&parts).await.unwrap()
}

#[tokio::test]
#[should_panic(expected = "poll_read was called after poll_read had said end of file")]
async fn no_read_after_the_end_of_file() {
    let mut io = Strict::new(empty());
    assert_eq!(io.read(&mut [0; 8]).await.unwrap(), 0);
    let _ = io.read(&mut [0; 8]).await;
}

#[tokio::test]
async fn a_read_into_no_room_is_no_end_of_file() {
    let mut io = Strict::new(&b"x"[..]);
    assert_eq!(io.read(&mut []).await.unwrap(), 0);
    assert_eq!(io.read(&mut [0; 8]).await.unwrap(), 1);
}

#[tokio::test]
#[should_panic(expected = "poll_read was called after poll_read had failed: broken pipe")]
async fn no_read_after_an_error_of_reading() {
    let mut io = Strict::new(empty()).fail_reads_at(0, broken_pipe());
    io.read(&mut [0; 8]).await.unwrap_err();
    let _ = io.read(&mut [0; 8]).await;
}

#[tokio::test]
#[should_panic(expected = "poll_write was called after poll_write had failed: broken pipe")]
async fn no_write_after_an_error_of_a_write() {
    let mut io = Strict::new(empty()).fail_writes_at(0, broken_pipe());
    io.write(b"x").await.unwrap_err();
    let _ = io.write(b"x").await;
}

#[tokio::test]
#[should_panic(expected = "poll_flush was called after poll_write had failed: broken pipe")]
async fn no_flush_after_an_error_of_a_write() {
    let mut io = Strict::new(empty()).fail_writes_at(0, broken_pipe());
    io.write(b"x").await.unwrap_err();
    let _ = io.flush().await;
}

#[tokio::test]
#[should_panic(expected = "poll_shutdown was called after poll_flush had failed: broken pipe")]
async fn no_shutdown_after_an_error_of_a_flush() {
    let mut io = Strict::new(empty()).fail_flush_at(0, broken_pipe());
    io.flush().await.unwrap_err();
    let _ = io.shutdown().await;
}

#[tokio::test]
#[should_panic(expected = "poll_write was called after poll_shutdown was called")]
async fn no_write_after_a_shutdown_has_begun() {
    let (io, _far) = pair(1);
    let mut io = io.needs_flush();
    io.write_all(b"more than the pipe holds").await.unwrap();
    begin_shutdown(&mut io).await;
    let _ = io.write(b"x").await;
}

#[tokio::test]
#[should_panic(expected = "poll_flush was called after poll_shutdown was called")]
async fn no_flush_after_a_shutdown_has_begun() {
    let (io, _far) = pair(1);
    let mut io = io.needs_flush();
    io.write_all(b"more than the pipe holds").await.unwrap();
    begin_shutdown(&mut io).await;
    let _ = io.flush().await;
}

async fn begin_shutdown(io: &mut Strict<DuplexStream>) {
    let poll = poll_fn(|cx| Poll::Ready(Pin::new(&mut *io).poll_shutdown(cx))).await;
    assert!(poll.is_pending());
}

#[tokio::test]
#[should_panic(expected = "poll_shutdown was called after poll_shutdown had succeeded")]
async fn no_shutdown_after_a_shutdown_is_done() {
    let mut io: Strict<Empty> = Strict::new(empty());
    io.shutdown().await.unwrap();
    let _ = io.shutdown().await;
}

#[tokio::test]
async fn a_shutdown_that_is_pending_is_polled_again_and_reading_goes_on() {
    let (io, mut far) = pair(1);
    let mut io = io.needs_flush();
    io.write_all(b"held").await.unwrap();
    begin_shutdown(&mut io).await;
    let mut bytes = Vec::new();
    let (shutdown, read) = tokio::join!(io.shutdown(), far.read_to_end(&mut bytes));
    shutdown.unwrap();
    read.unwrap();
    assert_eq!(bytes, b"held");
    far.write_all(b"!").await.unwrap();
    assert_eq!(io.read_u8().await.unwrap(), b'!');
}

#[tokio::test]
async fn the_directions_end_by_themselves() {
    let mut io = Strict::new(empty()).fail_writes_at(0, broken_pipe());
    io.write(b"x").await.unwrap_err();
    assert_eq!(io.read(&mut [0; 8]).await.unwrap(), 0);
    let mut io = Strict::new(empty()).fail_reads_at(0, broken_pipe());
    io.read(&mut [0; 8]).await.unwrap_err();
    io.write_all(b"x").await.unwrap();
    io.shutdown().await.unwrap();
    assert_eq!(io.report().broken(), None);
}

/// The next flush is what a driver does that goes on with its writing after a flush has failed.
#[tokio::test]
async fn a_report_tells_of_a_panic_in_a_task() {
    let mut io = Strict::new(empty()).fail_flush_at(1, broken_pipe()).fail_reads_at(0, broken_pipe());
    let report = io.report();
    let task = tokio::spawn(async move {
        io.flush().await.unwrap();
        io.write_all(b"x").await.unwrap();
        io.flush().await.unwrap_err();
        io.read(&mut [0; 8]).await.unwrap_err();
        let _ = io.flush().await;
    });
    assert!(task.await.unwrap_err().is_panic());
    assert_eq!(report.broken(), Some("poll_flush was called after poll_flush had failed: broken pipe"));
}

#[tokio::test]
async fn a_pending_write_may_come_again_with_other_bytes() {
    let (mut io, mut far) = pair(1);
    io.write_all(b"1").await.unwrap();
    let poll = poll_fn(|cx| Poll::Ready(Pin::new(&mut io).poll_write(cx, b"2"))).await;
    assert!(poll.is_pending());
    assert_eq!(far.read_u8().await.unwrap(), b'1');
    io.write_all(b"3").await.unwrap();
    assert_eq!(far.read_u8().await.unwrap(), b'3');
}

#[tokio::test]
async fn a_vectored_write_is_as_able_as_the_transport_below() {
    let (mut io, mut far) = pair(64);
    assert_eq!(io.is_write_vectored(), io.io().is_write_vectored());
    let count = write_parts(&mut io, &[b"", b"ab", b"cd"]).await;
    assert_eq!(arrived(&mut far).await, b"abcd"[..count]);
}

#[tokio::test]
async fn vectored_writes_can_be_turned_off() {
    let (io, mut far) = pair(64);
    let mut io = io.vectored(false);
    assert!(!io.is_write_vectored());
    assert_eq!(write_parts(&mut io, &[b"", b"ab", b"cd"]).await, 2);
    assert_eq!(write_parts(&mut io, &[]).await, 0);
    assert_eq!(arrived(&mut far).await, b"ab");
}

/// A transport that can do no vectored writes.
struct Plain(DuplexStream);

impl AsyncWrite for Plain {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn vectored_writes_can_be_turned_on_where_there_are_none() {
    let (near, mut far) = duplex(64);
    let mut io = Strict::new(Plain(near));
    assert!(!io.is_write_vectored());
    assert_eq!(write_parts(&mut io, &[b"ab", b"cd"]).await, 2);
    let mut io = io.vectored(true);
    assert!(io.is_write_vectored());
    assert_eq!(write_parts(&mut io, &[b"ef", b"gh"]).await, 4);
    assert_eq!(arrived(&mut far).await, b"abefgh");
}

#[tokio::test]
async fn short_writes_end_in_the_middle_of_a_slice() {
    let (io, mut far) = pair(64);
    let mut io = io.short_writes(3);
    assert_eq!(io.write(b"12345").await.unwrap(), 3);
    for needs_flush in [false, true] {
        io = if needs_flush { io.needs_flush() } else { io.vectored(true) };
        assert_eq!(write_parts(&mut io, &[b"ab", b"cd", b"ef"]).await, 3);
        io.flush().await.unwrap();
    }
    assert_eq!(arrived(&mut far).await, b"123abcabc");
}

#[tokio::test]
async fn short_reads_give_no_more() {
    let mut io = Strict::new(&b"abcde"[..]).short_reads(2);
    let mut bytes = [0; 8];
    assert_eq!(io.read(&mut bytes).await.unwrap(), 2);
    io.read_exact(&mut bytes[2..5]).await.unwrap();
    assert_eq!(&bytes[..5], b"abcde");
}

#[tokio::test(start_paused = true)]
async fn what_needs_a_flush_stays_until_it_comes() {
    let (io, mut far) = pair(64);
    let mut io = io.needs_flush();
    io.write_all(b"one").await.unwrap();
    assert_eq!(arrived(&mut far).await, b"");
    io.flush().await.unwrap();
    assert_eq!(arrived(&mut far).await, b"one");
    io.write_all(b"two").await.unwrap();
    io.shutdown().await.unwrap();
    assert_eq!(arrived(&mut far).await, b"two");
}

#[tokio::test]
async fn what_is_more_than_it_can_hold_goes_out() {
    let (io, mut far) = pair(1024);
    let mut io = io.needs_flush();
    let sent = vec![7; MAX_HELD_BYTES + 1];
    let (write, read) = tokio::join!(io.write_all(&sent), far.read_u8());
    write.unwrap();
    assert_eq!(read.unwrap(), 7);
}

#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn every_third_call_of_a_kind_is_pending_and_wakes_its_task() {
    let woken = Arc::new(Wakes::default());
    let waker = Waker::from(Arc::clone(&woken));
    let mut cx = Context::from_waker(&waker);
    let mut io = Strict::new(empty()).spurious_pending(3);
    for call in 1..=9 {
        let write = Pin::new(&mut io).poll_write(&mut cx, b"x").is_pending();
        let flush = Pin::new(&mut io).poll_flush(&mut cx).is_pending();
        assert_eq!((write, flush), (call % 3 == 0, call % 3 == 0));
        assert_eq!(woken.0.load(Ordering::Relaxed), call / 3 * 2);
    }
}

#[tokio::test]
async fn writes_and_reads_go_up_to_the_byte_at_which_they_fail() {
    let (io, mut far) = pair(64);
    let mut io = io.fail_writes_at(3, broken_pipe()).fail_reads_at(2, io::ErrorKind::ConnectionReset.into());
    assert_eq!(io.write(b"12345").await.unwrap(), 3);
    assert_eq!(io.write(b"45").await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    far.write_all(b"abc").await.unwrap();
    let mut bytes = [0; 8];
    assert_eq!(io.read(&mut bytes).await.unwrap(), 2);
    assert_eq!(io.read(&mut bytes).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    assert_eq!(arrived(&mut far).await, b"123");
}
