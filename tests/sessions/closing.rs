//! How a closing ends: whether the peer has taken everything, and for how long it is waited for (G17).

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use crate::support::{
    against, client_against_peer, client_against_peer_over, in_time, next, pair, pair_with, read_all, send_all, strict,
};
use evermux::{CloseReason, Config, MuxManager, MuxStream, Session};
use testkit::frames::{Flags, Header, Kind, Peer};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, duplex},
    task::JoinHandle,
    time::{Instant, sleep},
};

fn close(session: &Session) -> JoinHandle<CloseReason> {
    let session = session.clone();
    tokio::spawn(async move { session.close().await })
}

/// A stream, and the same stream at its acceptor.
async fn stream_of(near: &Session, far: &Session) -> (MuxStream, MuxStream) {
    let stream = near.open_stream().await.unwrap();
    (stream, in_time(far.accept_stream()).await.unwrap())
}

fn reason_of(error: &io::Error) -> CloseReason {
    error.get_ref().unwrap().downcast_ref::<CloseReason>().unwrap_or_else(|| panic!("{error:?}")).clone()
}

#[tokio::test]
async fn a_peer_that_vanishes_is_not_a_good_end() {
    let (session, mut peer) = client_against_peer(Config::builder()).await;
    let mut stream = session.open_stream().await.unwrap();
    stream.write_all(b"the last words").await.unwrap();
    let closing = close(&session);
    in_time(session.draining()).await;
    assert_eq!(next(&mut peer).await.0.stream_id, 1);
    drop(peer);
    assert!(matches!(in_time(closing).await.unwrap(), CloseReason::Lost(_)));
    assert!(matches!(reason_of(&stream.write_all(b"x").await.unwrap_err()), CloseReason::Lost(_)));
}

#[tokio::test(start_paused = true)]
async fn streams_that_the_deadline_cuts_are_counted() {
    let (near, far) = pair(4096).await;
    let mut streams = Vec::new();
    for _ in 0..3 {
        streams.push(stream_of(&near, &far).await);
    }
    let (mut done, mut other) = streams.pop().unwrap();
    let closing = close(&near);
    send_all(&mut done, b"to the end").await.unwrap();
    assert_eq!(read_all(&mut other).await.unwrap(), b"to the end");
    other.shutdown().await.unwrap();
    let reason = in_time(closing).await.unwrap();
    assert!(matches!(reason, CloseReason::DrainTimedOut { streams: 2 }), "{reason:?}");
    assert_eq!(reason.to_string(), "the session was closed, and 2 streams did not end in time");
    let error = streams[0].0.write_all(b"x").await.unwrap_err();
    assert!(matches!(reason_of(&error), CloseReason::DrainTimedOut { streams: 2 }));
}

#[tokio::test]
async fn a_manager_tells_what_its_shutdown_has_cut() {
    let receiver = MuxManager::receive("127.0.0.1:0").start().await.unwrap();
    let address = receiver.local_addr().unwrap().to_string();
    let config = Config::builder().drain_timeout(Duration::from_millis(200)).build().unwrap();
    let establisher = MuxManager::establish(address).config(config).start().await.unwrap();
    let session = in_time(establisher.session()).await.unwrap();
    let stream = session.open_stream().await.unwrap();
    in_time(establisher.shutdown()).await;
    assert!(matches!(session.closed().await, CloseReason::DrainTimedOut { streams: 1 }));
    drop(stream);
    in_time(receiver.shutdown()).await;
}

/// It takes all that is said, and does not close the connection.
#[tokio::test(start_paused = true)]
async fn a_peer_that_stays_is_waited_for_no_longer_than_for_an_answer() {
    let settings = Config::builder().heartbeat_timeout(Duration::from_secs(5)).drain_timeout(Duration::from_secs(60));
    let (session, mut peer) = client_against_peer(settings).await;
    let begin = Instant::now();
    let closing = close(&session);
    assert_eq!(next(&mut peer).await.0, Header::go_away(0));
    peer.expect_end().await.unwrap();
    // A byte is a sign of life, as ever.
    sleep(Duration::from_secs(3)).await;
    peer.send_raw(b"x").await.unwrap();
    let reason = in_time(closing).await.unwrap();
    assert!(matches!(reason, CloseReason::DrainTimedOut { streams: 0 }), "{reason:?}");
    assert_eq!(reason.to_string(), "the session was closed, and the peer did not end the connection in time");
    assert_eq!(begin.elapsed().as_secs(), 8);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_was_asked_in_vain_is_not_waited_for() {
    let settings = Config::builder().heartbeat_timeout(Duration::from_secs(5)).drain_timeout(Duration::from_secs(60));
    let (session, mut peer) = client_against_peer(settings).await;
    peer.answer_pings(false);
    assert_eq!(in_time(peer.recv()).await.unwrap().0.kind, Kind::Ping);
    let begin = Instant::now();
    sleep(Duration::from_secs(2)).await;
    let closing = close(&session);
    peer.expect(Kind::GoAway, Flags::NONE, 0).await.unwrap();
    peer.expect_end().await.unwrap();
    assert!(matches!(in_time(closing).await.unwrap(), CloseReason::HeartbeatTimeout));
    assert_eq!(begin.elapsed().as_secs(), 5);
}

/// One that writes and does not read before it has written. Both wait for each other where the closing side does not
/// read.
#[tokio::test(start_paused = true)]
async fn whoever_closes_reads_while_it_writes() {
    let (session, mut peer) = client_against_peer_over(64, Config::builder()).await;
    let mut stream = session.open_stream().await.unwrap();
    stream.write_all(&[7; 10_000]).await.unwrap();
    let closing = close(&session);
    in_time(session.draining()).await;
    // Nothing is open any more, and most of the output has not been taken.
    peer.send(Header::window_update(1, Flags::RST, 0), &[]).await.unwrap();
    for value in 0..1_000 {
        in_time(peer.send(Header::window_update(1, Flags::NONE, value), &[])).await.unwrap();
    }
    in_time(peer.recv_until(|header| header.kind == Kind::GoAway)).await.unwrap();
    peer.expect_end().await.unwrap();
    drop(peer);
    let reason = in_time(closing).await.unwrap();
    assert!(matches!(reason, CloseReason::Closed), "{reason:?}");
}

/// It knows that we close, and says so too; and then its host is gone.
#[tokio::test]
async fn a_peer_that_answers_the_goodbye_and_vanishes_is_not_a_good_end() {
    let (session, mut peer) = client_against_peer(Config::builder().early_go_away(true)).await;
    let mut stream = session.open_stream().await.unwrap();
    stream.write_all(b"the last words").await.unwrap();
    let closing = close(&session);
    in_time(peer.recv_until(|header| header.kind == Kind::GoAway)).await.unwrap();
    peer.send(Header::window_update(1, Flags::ACK, 0), &[]).await.unwrap();
    peer.send(Header::go_away(0), &[]).await.unwrap();
    drop(peer);
    let reason = in_time(closing).await.unwrap();
    assert!(matches!(reason, CloseReason::Lost(_)), "{reason:?}");
}

/// A frame is half written when the time is over.
#[tokio::test(start_paused = true)]
async fn a_stream_that_is_cut_in_the_middle_of_a_frame_counts_once() {
    for pipe in [16, 64, 100, 1000] {
        let (near, far) = duplex(pipe);
        // Nothing but the deadline of the close can end it.
        let config = Config::builder().write_timeout(Duration::from_secs(3600)).build().unwrap();
        let proving = async {
            let mut peer = Peer::new(far);
            let (ping, _) = peer.recv().await.unwrap();
            peer.send(Header::pong(ping.length), &[]).await.unwrap();
            Ok(peer)
        };
        let (session, peer) = tokio::try_join!(Session::client(near, &config), proving).unwrap();
        let mut writing = Vec::new();
        for _ in 0..3 {
            let mut stream = session.open_stream().await.unwrap();
            writing.push(tokio::spawn(async move { stream.write_all(&vec![7; 100_000]).await }));
        }
        sleep(Duration::from_secs(1)).await;
        let reason = in_time(close(&session)).await.unwrap();
        assert!(matches!(reason, CloseReason::DrainTimedOut { streams: 3 }), "{pipe}: {reason:?}");
        drop(peer);
    }
}

/// Where everything was said and taken, it does not matter who closes the connection first.
#[tokio::test]
async fn two_sides_that_close_at_once_both_end_well() {
    for _ in 0..50 {
        let (near, far) = pair_with(64, Config::builder()).await;
        let (mut stream, mut other) = stream_of(&near, &far).await;
        let sending = async {
            send_all(&mut stream, b"request").await.unwrap();
            read_all(&mut stream).await.unwrap()
        };
        let answering = async {
            assert_eq!(read_all(&mut other).await.unwrap(), b"request");
            send_all(&mut other, b"answer").await.unwrap();
        };
        let (answer, ()) = tokio::join!(sending, answering);
        assert_eq!(answer, b"answer");
        let (reason, of_far) = in_time(async { tokio::join!(near.close(), far.close()) }).await;
        assert!(matches!(reason, CloseReason::Closed | CloseReason::PeerClosed), "{reason:?}");
        assert!(matches!(of_far, CloseReason::Closed | CloseReason::PeerClosed), "{of_far:?}");
    }
}

/// A transport whose writes fail from some moment on.
struct Mute {
    io: DuplexStream,
    is_broken: Arc<AtomicBool>,
}

impl AsyncRead for Mute {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for Mute {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.is_broken.load(Ordering::Relaxed) {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[tokio::test(start_paused = true)]
async fn an_end_that_was_thrown_away_is_none() {
    let (near, far) = duplex(1 << 16);
    let is_broken = Arc::new(AtomicBool::new(false));
    let io = strict(Mute { io: near, is_broken: Arc::clone(&is_broken) });
    let config = Config::default();
    let serving = async {
        let mut peer = Peer::new(far);
        let (ping, _) = peer.recv().await.unwrap();
        peer.send(Header::pong(ping.length), &[]).await.unwrap();
        Ok(peer)
    };
    let (session, mut peer) = tokio::try_join!(Session::client(io, &config), serving).unwrap();
    let mut stream = session.open_stream().await.unwrap();
    peer.send_data(1, Flags::ACK | Flags::FIN, b"all").await.unwrap();
    assert_eq!(read_all(&mut stream).await.unwrap(), b"all");
    is_broken.store(true, Ordering::Relaxed);
    stream.write_all(b"never said").await.unwrap();
    sleep(Duration::from_secs(1)).await;
    stream.shutdown().await.unwrap();
    let error = in_time(stream.closed()).await.unwrap_err();
    assert!(matches!(reason_of(&error), CloseReason::Lost(_)));
    let reason = in_time(session.close()).await;
    assert!(matches!(&reason, CloseReason::Lost(error) if error.kind() == io::ErrorKind::BrokenPipe), "{reason:?}");
}

/// A session whose peer reads no more, and a stream that was written to its end into what nobody takes.
async fn written_to_the_end() -> (Session, Peer<DuplexStream>, MuxStream) {
    let (near, far) = duplex(1024);
    let mut peer = Peer::new(far);
    peer.answer_pings(true);
    let session = against(Session::client(near, &Config::default()), &mut peer).await;
    let mut stream = session.open_stream().await.unwrap();
    stream.write_all(&[7; 8000]).await.unwrap();
    stream.shutdown().await.unwrap();
    sleep(Duration::from_millis(1)).await;
    (session, peer, stream)
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_the_peer_has_never_seen_is_no_loss_of_the_session() {
    let (session, mut peer, stream) = written_to_the_end().await;
    peer.send(Header::go_away(0), &[]).await.unwrap();
    peer.shutdown().await.unwrap();
    let reason = in_time(session.closed()).await;
    assert!(matches!(reason, CloseReason::PeerClosed), "{reason:?}");
    // To its user it is one all the same.
    assert!(matches!(reason_of(&in_time(stream.closed()).await.unwrap_err()), CloseReason::PeerClosed));
}

/// Its answer is whole before it has read the request, and then the connection is too.
#[tokio::test(start_paused = true)]
async fn what_an_answered_stream_has_not_sent_is_a_loss_of_the_session() {
    let (session, mut peer, stream) = written_to_the_end().await;
    peer.send_data(1, Flags::ACK | Flags::FIN, b"").await.unwrap();
    in_time(stream.closed()).await.unwrap();
    peer.send(Header::go_away(0), &[]).await.unwrap();
    peer.shutdown().await.unwrap();
    let reason = in_time(session.closed()).await;
    assert!(matches!(&reason, CloseReason::Lost(error) if error.kind() == io::ErrorKind::UnexpectedEof), "{reason:?}");
}

/// The peer resets the connection, as a kernel does where a program was killed.
#[tokio::test]
async fn a_connection_that_is_reset_is_not_a_good_end() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dialled = tokio::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (accepted, _) = listener.accept().await.unwrap();
    accepted.set_zero_linger().unwrap();
    let serving = async {
        let mut peer = Peer::new(accepted);
        let (ping, _) = peer.recv().await.unwrap();
        peer.send(Header::pong(ping.length), &[]).await.unwrap();
        Ok(peer)
    };
    let config = Config::default();
    let (session, mut peer) = tokio::try_join!(Session::client(dialled, &config), serving).unwrap();
    let mut stream = session.open_stream().await.unwrap();
    send_all(&mut stream, b"the last words").await.unwrap();
    in_time(peer.recv_until(|header| header.flags.contains(Flags::FIN))).await.unwrap();
    peer.send_data(1, Flags::ACK | Flags::FIN, b"").await.unwrap();
    let mut end = Vec::new();
    in_time(stream.read_to_end(&mut end)).await.unwrap();
    let closing = close(&session);
    in_time(session.draining()).await;
    drop(peer);
    assert!(matches!(in_time(closing).await.unwrap(), CloseReason::Lost(_)));
}
