//! Dead peers are found, live ones kept (G10).

use std::{
    io,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
    time::Duration,
};

use crate::support::{
    against, client_against_peer, client_against_peer_over, in_time, pair, pair_with, payload, read_all, send_all,
};
use evermux::{CloseReason, Config, OpenError, Session};
use testkit::{
    frames::{Flags, Header, Kind, Peer},
    strict::Strict,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf, duplex, split},
    time::{Instant, sleep, timeout},
};

const IDLE: Duration = Duration::from_secs(10);
const TIMEOUT: Duration = Duration::from_secs(5);
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
const SLACK: Duration = Duration::from_millis(10);

fn is_about(took: Duration, expected: Duration) -> bool {
    (expected..expected + SLACK).contains(&took)
}

#[tokio::test(start_paused = true)]
async fn half_open_forever() {
    let (session, peer) = client_against_peer(Config::builder()).await;
    let begin = Instant::now();
    let reason = timeout(Duration::from_secs(60), session.closed()).await.unwrap();
    assert!(matches!(reason, CloseReason::HeartbeatTimeout), "{reason:?}");
    assert!(is_about(begin.elapsed(), IDLE + TIMEOUT), "{:?}", begin.elapsed());
    drop(peer);
}

#[tokio::test(start_paused = true)]
async fn two_idle_sessions_live_for_a_day() {
    let (near, far) = pair(4096).await;
    let day = Duration::from_secs(24 * 3600);
    assert!(timeout(day, near.closed()).await.is_err());
    assert!(!far.is_closed());
}

#[tokio::test(start_paused = true)]
async fn a_ping_is_sent_after_silence_and_not_before() {
    let (session, mut peer) = client_against_peer(Config::builder()).await;
    peer.answer_pings(false);
    let begin = Instant::now();
    // A byte restarts the time.
    sleep(Duration::from_secs(6)).await;
    peer.send(Header::window_update(1, Flags::NONE, 0), &[]).await.unwrap();
    let (ping, _) = in_time(peer.recv()).await.unwrap();
    assert_eq!((ping.kind, ping.flags), (Kind::Ping, Flags::SYN));
    assert!(is_about(begin.elapsed(), Duration::from_secs(16)), "{:?}", begin.elapsed());
    // So does every byte while the answer is out, and a byte alone is no answer.
    for _ in 0..3 {
        sleep(Duration::from_secs(4)).await;
        peer.send(Header::window_update(1, Flags::NONE, 0), &[]).await.unwrap();
    }
    let last = Instant::now();
    assert!(matches!(session.closed().await, CloseReason::HeartbeatTimeout));
    assert!(is_about(last.elapsed(), TIMEOUT), "{:?}", last.elapsed());
}

#[tokio::test(start_paused = true)]
async fn stalled_writer_unnoticed() {
    let (session, mut peer) = client_against_peer_over(4096, Config::builder()).await;
    let begin = Instant::now();
    let mut stream = session.open_stream().await.unwrap();
    let writer = tokio::spawn(async move { stream.write_all(&vec![0; 200 << 10]).await });
    // The peer does not read, and sends all the time.
    let send_without_end = async {
        loop {
            sleep(Duration::from_secs(1)).await;
            peer.send(Header::window_update(1, Flags::NONE, 0), &[]).await.unwrap();
        }
    };
    let reason = tokio::select! {
        reason = in_time(session.closed()) => reason,
        () = send_without_end => unreachable!(),
    };
    assert!(matches!(reason, CloseReason::WriteStalled), "{reason:?}");
    assert!(is_about(begin.elapsed(), WRITE_TIMEOUT), "{:?}", begin.elapsed());
    assert!(writer.await.unwrap().is_err());
}

/// The timer is set to something that comes later when a write begins to stall.
#[tokio::test(start_paused = true)]
async fn a_write_that_stalls_beside_a_late_deadline_is_found_in_time() {
    let (session, _peer) =
        client_against_peer_over(4096, Config::builder().heartbeat_idle(Duration::from_secs(3600))).await;
    // The time of the proof is over as well.
    sleep(2 * Config::default().handshake_timeout()).await;
    let begin = Instant::now();
    let mut stream = session.open_stream().await.unwrap();
    let error = in_time(stream.write_all(&vec![0; 200 << 10])).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    let reason = in_time(session.closed()).await;
    assert!(matches!(reason, CloseReason::WriteStalled), "{reason:?}");
    assert!(is_about(begin.elapsed(), WRITE_TIMEOUT), "{:?}", begin.elapsed());
}

#[tokio::test(start_paused = true)]
async fn write_timeout_leaves_session() {
    let (session, _peer) = client_against_peer_over(4096, Config::builder()).await;
    let mut stream = session.open_stream().await.unwrap();
    let error = in_time(stream.write_all(&vec![0; 1 << 20])).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    assert!(matches!(session.open_stream().await, Err(OpenError::Lost(CloseReason::WriteStalled))));
}

#[tokio::test(start_paused = true)]
async fn a_silent_peer_is_given_up_at_the_proof() {
    let (near, far) = duplex(64);
    let config = Config::default();
    let begin = Instant::now();
    let error = Session::client(near, &config).await.unwrap_err();
    assert!(matches!(error, CloseReason::NotProven), "{error:?}");
    assert!(is_about(begin.elapsed(), Duration::from_secs(10)), "{:?}", begin.elapsed());
    drop(far);
}

/// Whoever answers something else has not heard what was said.
#[tokio::test(start_paused = true)]
async fn only_the_answer_to_the_proof_proves_a_session() {
    let (near, far) = duplex(4096);
    let config = Config::default();
    let mut peer = Peer::new(far);
    for value in [0, 1, 1 << 31, (1 << 31) + 1, u32::MAX] {
        peer.send(Header::pong(value), &[]).await.unwrap();
    }
    let mut proving = Box::pin(Session::client(near, &config));
    assert!(timeout(Duration::from_secs(1), proving.as_mut()).await.is_err());
    peer.answer_pings(true);
    against(proving, &mut peer).await;
}

/// A transport that encrypts has more to write than it was given, and may be late to flush it.
#[tokio::test(start_paused = true)]
async fn a_flush_that_was_late_is_no_stall() {
    let (near, far) = duplex(4096);
    let hour = Duration::from_secs(3600);
    let config = Config::builder().heartbeat_idle(hour).build().unwrap();
    let near = Strict::new(near).needs_flush().spurious_pending(2);
    let (near, far) = tokio::try_join!(Session::client(near, &config), Session::server(far, &config)).unwrap();
    for _ in 0..4 {
        in_time(near.ping()).await.unwrap();
        sleep(3 * WRITE_TIMEOUT).await;
        assert!(!near.is_closed(), "{}", near.closed().await);
    }
    drop(far);
}

/// A transport that encrypts takes answers to pings while the peer takes nothing: the peer is found all the same.
#[tokio::test(start_paused = true)]
async fn what_tls_takes_is_progress() {
    let (near, far) = duplex(4096);
    let mut peer = Peer::new(far);
    let config = Config::default();
    let proven = async {
        let (ping, _) = peer.recv().await.unwrap();
        peer.send(Header::pong(ping.length), &[]).await.unwrap();
    };
    let (session, ()) = tokio::join!(Session::client(Strict::new(near).needs_flush(), &config), proven);
    let session = session.unwrap();
    let mut stream = session.open_stream().await.unwrap();
    in_time(stream.write_all(&[0; 5000])).await.unwrap();
    let begin = Instant::now();
    let mut closed = Box::pin(session.closed());
    let reason = loop {
        tokio::select! {
            reason = &mut closed => break reason,
            () = sleep(WRITE_TIMEOUT / 3) => peer.send(Header::ping(7), &[]).await.unwrap(),
        }
    };
    assert!(matches!(reason, CloseReason::WriteStalled), "{reason:?}");
    assert!(is_about(begin.elapsed(), WRITE_TIMEOUT), "{:?}", begin.elapsed());
}

/// A ping's time begins when the socket has taken it, in whatever way it took what came before it.
#[tokio::test(start_paused = true)]
async fn a_peer_that_falls_silent_after_bulk_is_found() {
    let (session, mut peer) = client_against_peer(Config::builder()).await;
    let mut stream = session.open_stream().await.unwrap();
    in_time(stream.write_all(&vec![0; 200 << 10])).await.unwrap();
    let mut received = 0;
    while received < 200 << 10 {
        received += in_time(peer.recv()).await.unwrap().1.len();
    }
    let begin = Instant::now();
    let reason = in_time(session.closed()).await;
    assert!(matches!(reason, CloseReason::HeartbeatTimeout), "{reason:?}");
    assert!(is_about(begin.elapsed(), IDLE + TIMEOUT), "{:?}", begin.elapsed());
}

/// What the crate may not write before it has read is written at once after it.
#[tokio::test(start_paused = true)]
async fn a_writer_that_pauses_to_read_goes_on_though_nothing_comes() {
    const STREAMS: usize = 12;
    const EACH: usize = 200 << 10;
    let (session, mut peer) = client_against_peer_over(8 << 20, Config::builder()).await;
    let begin = Instant::now();
    let mut streams = Vec::new();
    for _ in 0..STREAMS {
        streams.push(session.open_stream().await.unwrap());
    }
    let bytes = payload(EACH);
    for stream in &mut streams {
        in_time(stream.write_all(&bytes)).await.unwrap();
    }
    let mut received = 0;
    while received < STREAMS * EACH {
        received += in_time(peer.recv()).await.unwrap().1.len();
    }
    assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_waits_for_credit_is_no_stall() {
    let (near, far) = pair(4096).await;
    let mut stream = near.open_stream().await.unwrap();
    let mut far_stream = in_time(far.accept_stream()).await.unwrap();
    let bytes = payload(1 << 20);
    let sending = tokio::spawn({
        let bytes = bytes.clone();
        async move { stream.write_all(&bytes).await.and(stream.shutdown().await).map(|()| stream) }
    });
    // For an hour the peer's application reads nothing.
    sleep(Duration::from_secs(3600)).await;
    assert!(!sending.is_finished() && !near.is_closed() && !far.is_closed());
    assert!(read_all(&mut far_stream).await.unwrap() == bytes);
    drop(in_time(sending).await.unwrap().unwrap());
}

#[tokio::test(start_paused = true)]
async fn symmetric_backpressure_deadlock() {
    let (near, far) = pair(1024).await;
    let mut streams = Vec::new();
    for _ in 0..8 {
        streams.push(near.open_stream().await.unwrap());
        streams.push(in_time(far.accept_stream()).await.unwrap());
    }
    // Both ends of each fill every window, and nobody reads.
    let bytes = payload(256 << 10);
    for stream in &mut streams {
        in_time(stream.write_all(&bytes)).await.unwrap();
    }
    for session in [&near, &far] {
        in_time(session.ping()).await.unwrap();
    }
    sleep(Duration::from_secs(600)).await;
    for stream in &mut streams {
        let mut read = vec![0; bytes.len()];
        in_time(stream.read_exact(&mut read)).await.unwrap();
        assert!(read == bytes);
    }
}

/// Carries bytes one way, up to this many a second.
async fn throttle(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, bytes_per_second: u32) {
    let mut buffer = vec![0; bytes_per_second as usize];
    while let Ok(n @ 1..) = from.read(&mut buffer).await {
        sleep(Duration::from_secs(1) * u32::try_from(n).unwrap() / bytes_per_second).await;
        if to.write_all(&buffer[..n]).await.is_err() {
            return;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn keepalive_kills_busy_link() {
    // In one direction a ping waits for half a minute behind bulk data; nothing comes back meanwhile.
    let ((near, near_link), (far, far_link)) = (duplex(4096), duplex(4096));
    let ((near_read, near_write), (far_read, far_write)) = (split(near_link), split(far_link));
    tokio::spawn(throttle(near_read, far_write, 2048));
    tokio::spawn(throttle(far_read, near_write, 1 << 20));
    let config = Config::default();
    let (near, far) = tokio::try_join!(Session::client(near, &config), Session::server(far, &config)).unwrap();
    let mut stream = near.open_stream().await.unwrap();
    let mut far_stream = far.accept_stream().await.unwrap();
    let bytes = payload(400_000);
    let sending = tokio::spawn({
        let bytes = bytes.clone();
        async move { stream.write_all(&bytes).await.and(stream.shutdown().await).map(|()| stream) }
    });
    let mut received = Vec::new();
    far_stream.read_to_end(&mut received).await.unwrap();
    assert!(received == bytes);
    drop(sending.await.unwrap().unwrap());
    assert!(!near.is_closed() && !far.is_closed());
}

#[tokio::test(start_paused = true)]
async fn a_process_that_was_stopped_finds_its_peer_alive() {
    let (session, mut peer) = client_against_peer(Config::builder()).await;
    peer.answer_pings(false);
    let (ping, _) = in_time(peer.recv()).await.unwrap();
    assert_eq!(ping.kind, Kind::Ping);
    // The answer waits in the socket, and the driver is scheduled again long after the deadline.
    peer.send(Header::pong(ping.length), &[]).await.unwrap();
    tokio::time::advance(10 * TIMEOUT).await;
    peer.answer_pings(true);
    tokio::select! {
        answer = session.ping() => drop(answer.unwrap()),
        frame = peer.recv() => panic!("{frame:?}"),
    }
}

/// The last look before a session is given up counts when it has asked the socket, and not when the driver was too
/// busy.
#[tokio::test(start_paused = true)]
async fn a_look_that_did_not_come_to_the_socket_is_none() {
    let (session, mut peer) = client_against_peer(Config::builder()).await;
    peer.answer_pings(false);
    let (ping, _) = in_time(peer.recv()).await.unwrap();
    tokio::time::advance(TIMEOUT).await;
    settle().await;
    // It is about to look. The answer comes, and behind it far more to do than a task may do at once.
    peer.send(Header::pong(ping.length), &[]).await.unwrap();
    for _ in 0..20_000 {
        let _ = futures_util::poll!(Box::pin(session.ping()));
    }
    tokio::time::advance(Duration::from_millis(2)).await;
    peer.answer_pings(true);
    tokio::select! {
        answer = session.ping() => drop(answer.unwrap()),
        frame = peer.recv() => panic!("{frame:?}"),
    }
}

/// That look is not put off by what else there is to do.
#[tokio::test(start_paused = true)]
async fn a_busy_driver_looks_all_the_same() {
    let (session, mut peer) = client_against_peer_over(4096, Config::builder()).await;
    // Nothing that is written is taken, and something comes all the time.
    let mut stream = session.open_stream().await.unwrap();
    let writer = tokio::spawn(async move { stream.write_all(&vec![0; 200 << 10]).await });
    settle().await;
    tokio::time::advance(WRITE_TIMEOUT).await;
    for _ in 0..50 {
        let _ = peer.send(Header::window_update(1, Flags::NONE, 0), &[]).await;
        tokio::time::advance(Duration::from_micros(300)).await;
        settle().await;
    }
    assert!(session.is_closed());
    assert!(matches!(session.closed().await, CloseReason::WriteStalled));
    assert!(writer.await.unwrap().is_err());
}

/// Lets every task do what it can, at this time.
async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_ping_that_a_closing_leaves_unanswered_is_told_why() {
    let (session, mut peer) = client_against_peer(Config::builder().drain_timeout(Duration::from_secs(60))).await;
    let closing = tokio::spawn({
        let session = session.clone();
        async move { session.close().await }
    });
    in_time(peer.recv_until(|header| *header == Header::go_away(0))).await.unwrap();
    // It has shut its side down, and reads to the end.
    peer.expect_end().await.unwrap();
    let ping = tokio::spawn(async move { session.ping().await });
    sleep(Duration::from_secs(1)).await;
    assert!(!closing.is_finished());
    drop(peer);
    assert!(matches!(closing.await.unwrap(), CloseReason::Closed));
    assert!(matches!(ping.await.unwrap(), Err(CloseReason::Closed)));
}

#[tokio::test]
async fn settings_without_end_switch_the_checks_off() {
    let end = Duration::MAX;
    let settings = Config::builder().heartbeat_idle(end).heartbeat_timeout(end).write_timeout(end);
    let (near, far) = pair_with(100, settings.drain_timeout(end).open_timeout(end).handshake_timeout(end)).await;
    let mut stream = near.open_stream().await.unwrap();
    let mut far_stream = in_time(far.accept_stream()).await.unwrap();
    let bytes = payload(10_000);
    let (sent, received) = tokio::join!(send_all(&mut stream, &bytes), read_all(&mut far_stream));
    sent.unwrap();
    assert!(received.unwrap() == bytes);
    send_all(&mut far_stream, b"").await.unwrap();
    assert!(matches!(in_time(near.close()).await, CloseReason::Closed));
    assert!(matches!(in_time(far.closed()).await, CloseReason::PeerClosed));
}

#[tokio::test(start_paused = true)]
async fn a_busy_link_needs_no_ping() {
    let (near, far) = pair(4096).await;
    let mut stream = near.open_stream().await.unwrap();
    let mut far_stream = in_time(far.accept_stream()).await.unwrap();
    for _ in 0..100 {
        sleep(Duration::from_secs(9)).await;
        in_time(stream.write_all(b"x")).await.unwrap();
        in_time(far_stream.read_exact(&mut [0])).await.unwrap();
        in_time(far_stream.write_all(b"x")).await.unwrap();
        in_time(stream.read_exact(&mut [0])).await.unwrap();
    }
    send_all(&mut stream, b"").await.unwrap();
    assert!(!near.is_closed());
}

/// A peer that answers the proof, then sends without end and reads nothing.
struct Flood {
    written: Vec<u8>,
    answered: bool,
}

impl AsyncRead for Flood {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        // As every socket of tokio's does.
        ready!(pin!(tokio::task::consume_budget()).poll(cx));
        let frame = if self.answered {
            Header::window_update(99, Flags::NONE, 1)
        } else {
            let Some(value) = self.written.get(8..12) else {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            };
            let value = u32::from_be_bytes(value.try_into().unwrap());
            self.answered = true;
            Header::pong(value)
        };
        buf.put_slice(&frame.encode());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Flood {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.answered {
            return Poll::Pending;
        }
        self.written.extend_from_slice(buf);
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test(start_paused = true)]
async fn a_flood_does_not_hide_that_nothing_is_taken() {
    let session = Session::client(Flood { written: Vec::new(), answered: false }, &Config::default()).await.unwrap();
    let _stream = session.open_stream().await.unwrap();
    settle().await;
    // And the look at the socket after it.
    for time in [WRITE_TIMEOUT, Duration::from_millis(1)] {
        tokio::time::advance(time).await;
        settle().await;
    }
    assert!(session.is_closed());
    assert!(matches!(session.closed().await, CloseReason::WriteStalled));
}

/// The yamux crate reads no more once it has found a mistake, and its word of it waits behind what cannot be written. A
/// peer that takes nothing, and then breaks the rules, must not live forever by that.
#[tokio::test]
async fn a_peer_that_takes_nothing_and_breaks_the_rules_is_found() {
    let settings = Config::builder().write_timeout(Duration::from_secs(20));
    let (session, mut peer) = client_against_peer(settings).await;
    peer.send(Header::window_update(2, Flags::SYN, 16 << 20), &[]).await.unwrap();
    let mut stream = in_time(session.accept_stream()).await.unwrap();
    let writing = tokio::spawn(async move { stream.write_all(&vec![7; 8 << 20]).await });
    sleep(Duration::from_millis(100)).await;
    // More credit than there can be.
    peer.send(Header::window_update(2, Flags::NONE, u32::MAX), &[]).await.unwrap();
    let begun = Instant::now();
    let reason = in_time(session.closed()).await;
    assert!(matches!(reason, CloseReason::Protocol(_)), "{reason:?}");
    assert!(begun.elapsed() < Duration::from_secs(5), "at once, and not when something else wakes the driver");
    assert!(in_time(writing).await.unwrap().is_err());
}
