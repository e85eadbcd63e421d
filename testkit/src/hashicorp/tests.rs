use std::{
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::{
    io::{AsyncWriteExt, DuplexStream, duplex},
    time::{Instant, sleep, timeout},
};

use super::*;
use crate::frames::{Flags, Header, INITIAL_WINDOW, Kind, Peer};

const NONE: Flags = Flags::NONE;
const WINDOW: usize = INITIAL_WINDOW as usize;

fn pair_with(config: &Config) -> (Session, Session) {
    let (near, far) = duplex(1 << 16);
    (Session::client(near, config.clone()), Session::server(far, config.clone()))
}

fn pair() -> (Session, Session) {
    pair_with(&Config::default())
}

/// One stream between two of them.
async fn stream_of(near: &Session, far: &Session) -> (Stream, Stream) {
    tokio::try_join!(near.open(), far.accept()).unwrap()
}

/// A session that sends no pings, and a peer that answers none.
fn server_and_peer() -> (Session, Peer<DuplexStream>) {
    let (near, far) = duplex(1 << 20);
    (Session::server(near, Config::default().enable_keepalive(false)), Peer::new(far))
}

fn client_and_peer() -> (Session, Peer<DuplexStream>) {
    let (near, far) = duplex(1 << 20);
    (Session::client(near, Config::default().enable_keepalive(false)), Peer::new(far))
}

async fn syn(peer: &mut Peer<DuplexStream>, id: u32) {
    peer.send(Header::window_update(id, Flags::SYN, 0), &[]).await.unwrap();
}

/// A stream that the peer has opened, and its ACK.
async fn inbound(session: &Session, peer: &mut Peer<DuplexStream>, id: u32) -> Stream {
    syn(peer, id).await;
    let stream = session.accept().await.unwrap();
    peer.expect(Kind::WindowUpdate, Flags::ACK, id).await.unwrap();
    stream
}

/// Whatever is on its way has arrived then, and nothing more comes.
async fn expect_nothing(peer: &mut Peer<DuplexStream>) {
    if let Ok(frame) = timeout(Duration::from_millis(1), peer.recv()).await {
        panic!("expected nothing, got {frame:?}");
    }
}

#[tokio::test]
async fn an_echo_comes_back() {
    let (near, far) = pair();
    let (opened, accepted) = stream_of(&near, &far).await;
    opened.write(b"hello").await.unwrap();
    let mut bytes = [0; 8];
    let count = accepted.read(&mut bytes).await.unwrap();
    accepted.write(&bytes[..count]).await.unwrap();
    assert_eq!(opened.read(&mut bytes).await.unwrap(), 5);
    assert_eq!(&bytes[..5], b"hello");
    assert_eq!((opened.id(), near.counters().unacked_opens), (1, 0));
    assert_eq!(stream_of(&far, &near).await.0.id(), 2);
}

#[tokio::test]
async fn more_than_a_window_goes_through_while_it_is_read() {
    let (near, far) = pair();
    let (opened, accepted) = stream_of(&near, &far).await;
    let sent: Vec<u8> = (0..1 << 20).map(|number: u32| number.to_le_bytes()[number as usize % 3]).collect();
    let writing = async {
        opened.write(&sent).await.unwrap();
        opened.close().await;
    };
    let (received, ()) = tokio::join!(accepted.read_to_end(), writing);
    assert!(received.unwrap() == sent);
    assert_eq!(near.counters().largest_frame_sent, WINDOW);
}

#[tokio::test(start_paused = true)]
async fn a_frame_is_as_long_as_the_window_is_open() {
    let (session, mut peer) = client_and_peer();
    let stream = session.open().await.unwrap();
    assert_eq!(peer.expect(Kind::WindowUpdate, Flags::SYN, 1).await.unwrap().0.length, 0);
    let writing = tokio::spawn(async move { stream.write(&vec![7; 1 << 20]).await });
    for length in [WINDOW, 100, 1 << 19] {
        assert_eq!(peer.expect(Kind::Data, NONE, 1).await.unwrap().1.len(), length);
        expect_nothing(&mut peer).await;
        let credit = if length == WINDOW { 100 } else { 1 << 19 };
        peer.send(Header::window_update(1, NONE, credit), &[]).await.unwrap();
    }
    peer.expect(Kind::Data, NONE, 1).await.unwrap();
    writing.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_window_is_opened_again_at_half_of_it_and_never_grows() {
    let (session, mut peer) = server_and_peer();
    let stream = inbound(&session, &mut peer, 1).await;
    let mut bytes = vec![0; WINDOW];
    for _ in 0..20 {
        peer.send_data(1, NONE, &bytes[..WINDOW / 2 - 1]).await.unwrap();
        assert_eq!(stream.read(&mut bytes).await.unwrap(), WINDOW / 2 - 1);
        expect_nothing(&mut peer).await;
        peer.send_data(1, NONE, b"x").await.unwrap();
        assert_eq!(stream.read(&mut bytes).await.unwrap(), 1);
        let (header, _) = peer.expect(Kind::WindowUpdate, NONE, 1).await.unwrap();
        assert_eq!(header.length as usize, WINDOW / 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_window_is_opened_again_also_when_both_sides_have_finished() {
    let (session, mut peer) = server_and_peer();
    let stream = inbound(&session, &mut peer, 1).await;
    peer.send_data(1, Flags::FIN, &vec![5; WINDOW - 1]).await.unwrap();
    sleep(Duration::from_millis(1)).await;
    stream.close().await;
    peer.expect(Kind::WindowUpdate, Flags::FIN, 1).await.unwrap();
    assert_eq!(session.counters().streams, 0);
    assert_eq!(stream.read_to_end().await.unwrap().len(), WINDOW - 1);
    let (update, _) = peer.expect(Kind::WindowUpdate, NONE, 1).await.unwrap();
    assert_eq!(update.length as usize, WINDOW / 2);
    expect_nothing(&mut peer).await;
}

#[tokio::test(start_paused = true)]
async fn a_larger_window_comes_with_the_syn_and_the_ack() {
    let (near, far) = duplex(4096);
    let session = Session::client(near, Config::default().max_stream_window_size(4 * INITIAL_WINDOW));
    let mut peer = Peer::new(far);
    session.open().await.unwrap();
    assert_eq!(peer.expect(Kind::WindowUpdate, Flags::SYN, 1).await.unwrap().0.length, 3 * INITIAL_WINDOW);
    syn(&mut peer, 2).await;
    session.accept().await.unwrap();
    assert_eq!(peer.expect(Kind::WindowUpdate, Flags::ACK, 2).await.unwrap().0.length, 3 * INITIAL_WINDOW);
}

#[tokio::test(start_paused = true)]
async fn a_stream_is_acknowledged_when_it_is_accepted() {
    let (session, mut peer) = server_and_peer();
    syn(&mut peer, 1).await;
    expect_nothing(&mut peer).await;
    session.accept().await.unwrap();
    peer.expect(Kind::WindowUpdate, Flags::ACK, 1).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_finished_before_it_is_accepted_is_never_acknowledged() {
    let (session, mut peer) = server_and_peer();
    peer.send_data(1, Flags::SYN | Flags::FIN, b"all").await.unwrap();
    let stream = session.accept().await.unwrap();
    assert_eq!(stream.read_to_end().await.unwrap(), b"all");
    stream.write(b"answer").await.unwrap();
    stream.close().await;
    peer.expect(Kind::Data, NONE, 1).await.unwrap();
    peer.expect(Kind::WindowUpdate, Flags::FIN, 1).await.unwrap();
    assert_eq!(session.counters().streams, 0);
}

#[tokio::test(start_paused = true)]
async fn of_257_streams_that_nobody_accepts_the_last_is_reset() {
    let (session, mut peer) = server_and_peer();
    // Ids are not looked at.
    for id in 0..256 {
        syn(&mut peer, id).await;
    }
    expect_nothing(&mut peer).await;
    peer.send_data(300, Flags::SYN, b"thrown away").await.unwrap();
    peer.expect(Kind::WindowUpdate, Flags::RST, 300).await.unwrap();
    let counters = session.counters();
    assert_eq!((counters.refused_by_backlog, counters.frames_without_stream, counters.streams), (1, 1, 256));
    session.accept().await.unwrap();
    syn(&mut peer, 302).await;
    peer.expect(Kind::WindowUpdate, Flags::ACK, 0).await.unwrap();
    expect_nothing(&mut peer).await;
}

#[tokio::test(start_paused = true)]
async fn an_accept_that_waits_takes_one_of_a_burst() {
    let (session, mut peer) = server_and_peer();
    let accepting = tokio::spawn(async move { session.accept().await.map(|stream| stream.id()) });
    tokio::task::yield_now().await;
    let burst: Vec<u8> = (0..257).flat_map(|id| Header::window_update(id, Flags::SYN, 0).encode()).collect();
    peer.send_raw(&burst).await.unwrap();
    assert_eq!(accepting.await.unwrap().unwrap(), 0);
    peer.expect(Kind::WindowUpdate, Flags::ACK, 0).await.unwrap();
    expect_nothing(&mut peer).await;
}

#[tokio::test(start_paused = true)]
async fn behind_256_opens_without_an_ack_the_next_waits() {
    let (session, mut peer) = client_and_peer();
    for _ in 0..256 {
        session.open().await.unwrap();
    }
    let short = Duration::from_secs(1);
    assert!(timeout(short, session.open()).await.is_err());
    assert_eq!(session.counters().unacked_opens, 256);
    peer.send(Header::window_update(1, Flags::ACK, 0), &[]).await.unwrap();
    session.open().await.unwrap();
    // As good as another stream's.
    peer.send(Header::window_update(1, Flags::ACK, 0), &[]).await.unwrap();
    session.open().await.unwrap();
    assert!(timeout(short, session.open()).await.is_err());
    peer.send(Header::window_update(3, Flags::RST, 0), &[]).await.unwrap();
    session.open().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_half_close_of_a_stream_without_an_ack_leaves_the_next_open_waiting() {
    let (near, far) = duplex(4096);
    let session = Session::client(near, Config::default().accept_backlog(1));
    let mut peer = Peer::new(far);
    let stream = session.open().await.unwrap();
    stream.close().await;
    assert!(timeout(Duration::from_secs(1), session.open()).await.is_err());
    peer.send_data(1, Flags::FIN, &[]).await.unwrap();
    session.open().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_stream_without_an_ack_ends_the_session_after_75_seconds() {
    let (session, _peer) = client_and_peer();
    let begin = Instant::now();
    let stream = session.open().await.unwrap();
    assert_eq!(session.ended().await, Error::SessionShutdown);
    assert_eq!(begin.elapsed().as_secs(), 75);
    assert_eq!(session.counters().open_timeouts, 1);
    assert_eq!(stream.read_to_end().await.unwrap(), b"");
    assert_eq!(session.open().await.unwrap_err(), Error::SessionShutdown);
}

#[tokio::test(start_paused = true)]
async fn an_ack_a_fin_a_rst_and_a_close_spare_the_session() {
    let (session, mut peer) = client_and_peer();
    session.open().await.unwrap().close().await;
    for flags in [Flags::ACK, Flags::FIN, Flags::RST] {
        let stream = session.open().await.unwrap();
        peer.send(Header::window_update(stream.id(), flags, 0), &[]).await.unwrap();
    }
    sleep(Duration::from_secs(200)).await;
    assert_eq!(session.end_reason(), None);
}

#[tokio::test]
async fn either_side_may_finish_first() {
    let (near, far) = pair();
    for opener_first in [true, false] {
        let (opened, accepted) = stream_of(&near, &far).await;
        let (first, last) = if opener_first { (opened, accepted) } else { (accepted, opened) };
        first.write(b"first").await.unwrap();
        first.close().await;
        first.close().await;
        assert_eq!(first.write(b"more").await.unwrap_err(), Error::StreamClosed);
        assert_eq!(last.read_to_end().await.unwrap(), b"first");
        last.write(b"last").await.unwrap();
        last.close().await;
        assert_eq!(first.read_to_end().await.unwrap(), b"last");
        assert_eq!((near.counters().streams, far.counters().streams), (0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_reset_what_was_not_read_is_lost() {
    let (session, mut peer) = server_and_peer();
    let stream = inbound(&session, &mut peer, 1).await;
    peer.send_data(1, NONE, b"lost").await.unwrap();
    peer.send(Header::window_update(1, Flags::RST, 0), &[]).await.unwrap();
    sleep(Duration::from_millis(1)).await;
    assert_eq!(stream.read(&mut [0; 8]).await.unwrap_err(), Error::ConnectionReset);
    assert_eq!(stream.write(b"x").await.unwrap_err(), Error::ConnectionReset);
    stream.close().await;
    peer.send_data(1, NONE, b"thrown away").await.unwrap();
    expect_nothing(&mut peer).await;
    assert_eq!(session.counters().frames_without_stream, 1);
}

#[tokio::test]
async fn a_second_fin_ends_the_session_without_a_goodbye() {
    let (session, mut peer) = server_and_peer();
    let stream = inbound(&session, &mut peer, 1).await;
    peer.send_data(1, Flags::FIN, b"one").await.unwrap();
    // Bytes after it are taken.
    peer.send_data(1, NONE, b" two").await.unwrap();
    peer.send_data(1, Flags::FIN, b"").await.unwrap();
    assert_eq!(session.ended().await, Error::UnexpectedFlag);
    peer.expect_end().await.unwrap();
    assert_eq!(stream.read_to_end().await.unwrap(), b"one two");
}

#[tokio::test]
async fn what_is_not_allowed_ends_the_session() {
    let too_long = Header::data(1, Flags::SYN, INITIAL_WINDOW + 1).encode().to_vec();
    let syn = Header::window_update(1, Flags::SYN, 0).encode();
    let mut unknown = [0; 12];
    unknown[1] = 4;
    let mut version = [0; 12];
    version[0] = 1;
    let go_away = |code| Header::go_away(code).encode().to_vec();
    for (bytes, reason) in [
        (too_long, Error::RecvWindowExceeded),
        ([syn, syn].concat(), Error::DuplicateStream),
        (unknown.to_vec(), Error::InvalidMsgType),
        (version.to_vec(), Error::InvalidVersion),
        (go_away(1), Error::RemoteProtocolError),
        (go_away(2), Error::RemoteInternalError),
        (go_away(3), Error::UnexpectedGoAway),
    ] {
        let (session, mut peer) = server_and_peer();
        peer.send_raw(&bytes).await.unwrap();
        assert_eq!(session.ended().await, reason);
        peer.expect_end().await.unwrap();
    }
}

#[tokio::test]
async fn a_goodbye_of_the_peer_ends_opens_alone() {
    let (session, mut peer) = server_and_peer();
    let stream = inbound(&session, &mut peer, 1).await;
    peer.send(Header::go_away(0), &[]).await.unwrap();
    peer.send(Header::ping(7), &[]).await.unwrap();
    peer.expect(Kind::Ping, Flags::ACK, 0).await.unwrap();
    assert_eq!(session.open().await.unwrap_err(), Error::RemoteGoAway);
    stream.write(b"still here").await.unwrap();
    peer.expect(Kind::Data, NONE, 1).await.unwrap();
    inbound(&session, &mut peer, 3).await;
}

#[tokio::test]
async fn after_its_own_goodbye_streams_are_refused() {
    let (session, mut peer) = server_and_peer();
    session.go_away().await.unwrap();
    peer.expect(Kind::GoAway, NONE, 0).await.unwrap();
    syn(&mut peer, 1).await;
    peer.expect(Kind::WindowUpdate, Flags::RST, 1).await.unwrap();
    assert_eq!(session.counters().refused_by_go_away, 1);
    session.open().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn after_the_end_there_is_the_rest_and_half_a_frame_and_an_end_of_file() {
    let (session, mut peer) = server_and_peer();
    let stream = inbound(&session, &mut peer, 1).await;
    peer.send_data(1, NONE, b"whole ").await.unwrap();
    peer.send(Header::data(1, NONE, 10), b"half").await.unwrap();
    sleep(Duration::from_millis(1)).await;
    // Nobody reads while a body comes in.
    assert!(timeout(Duration::from_secs(1), stream.read(&mut [0; 8])).await.is_err());
    drop(peer);
    assert_eq!(session.ended().await, Error::Eof);
    assert_eq!(stream.read_to_end().await.unwrap(), b"whole half");
    assert_eq!(stream.write(b"x").await.unwrap_err(), Error::StreamClosed);
    assert_eq!(session.accept().await.unwrap_err(), Error::Eof);
}

#[tokio::test(start_paused = true)]
async fn a_close_that_is_not_answered_ends_in_a_reset() {
    let (session, mut peer) = server_and_peer();
    let stream = inbound(&session, &mut peer, 1).await;
    peer.send_data(1, NONE, b"unread").await.unwrap();
    stream.close().await;
    peer.expect(Kind::WindowUpdate, Flags::FIN, 1).await.unwrap();
    let begin = Instant::now();
    peer.expect(Kind::WindowUpdate, Flags::RST, 1).await.unwrap();
    assert_eq!(begin.elapsed().as_secs(), 300);
    assert_eq!(stream.read_to_end().await.unwrap(), b"unread");
    assert_eq!(session.counters().streams, 0);
}

#[tokio::test(start_paused = true)]
async fn a_close_that_is_answered_is_the_end() {
    let (session, mut peer) = server_and_peer();
    let stream = inbound(&session, &mut peer, 1).await;
    stream.close().await;
    peer.expect(Kind::WindowUpdate, Flags::FIN, 1).await.unwrap();
    peer.send_data(1, Flags::FIN, &[]).await.unwrap();
    assert_eq!(stream.read_to_end().await.unwrap(), b"");
    sleep(Duration::from_secs(400)).await;
    expect_nothing(&mut peer).await;
}

#[tokio::test(start_paused = true)]
async fn a_fin_counts_when_the_body_of_its_frame_is_there() {
    let (session, mut peer) = server_and_peer();
    let stream = inbound(&session, &mut peer, 1).await;
    peer.send(Header::data(1, Flags::FIN, 4), &[]).await.unwrap();
    assert!(timeout(Duration::from_secs(1), stream.read(&mut [0; 8])).await.is_err());
    peer.send_raw(b"last").await.unwrap();
    assert_eq!(stream.read_to_end().await.unwrap(), b"last");
}

#[tokio::test(start_paused = true)]
async fn a_ping_without_an_answer_ends_the_session_after_40_seconds() {
    let (near, far) = duplex(4096);
    let session = Session::client(near, Config::default());
    let mut peer = Peer::new(far);
    let begin = Instant::now();
    for value in 0..2 {
        let (ping, _) = peer.expect(Kind::Ping, Flags::SYN, 0).await.unwrap();
        assert_eq!((ping.length, begin.elapsed().as_secs()), (value, 30 * u64::from(value + 1)));
        if value == 0 {
            peer.send(Header::pong(0), &[]).await.unwrap();
        }
    }
    assert_eq!(session.ended().await, Error::KeepAliveTimeout);
    assert_eq!(begin.elapsed().as_secs(), 70);
}

#[tokio::test(start_paused = true)]
async fn a_ping_is_answered_or_times_out() {
    let (near, far) = pair();
    near.ping().await.unwrap();
    far.close().await;
    assert_eq!(near.ping().await.unwrap_err(), Error::SessionShutdown);
    let (session, _peer) = client_and_peer();
    assert_eq!(session.ping().await.unwrap_err(), Error::Timeout);
    assert!(!session.is_closed());
}

/// It goes out later, and the window is not reduced by it: so the real one may send more than it may.
#[tokio::test(start_paused = true)]
async fn a_write_that_the_transport_does_not_take_times_out() {
    let (near, far) = duplex(1024);
    let session = Session::client(near, Config::default().enable_keepalive(false));
    let stream = session.open().await.unwrap();
    let begin = Instant::now();
    assert_eq!(stream.write(&[1; 4096]).await.unwrap_err(), Error::ConnectionWriteTimeout);
    assert_eq!(begin.elapsed().as_secs(), 10);
    let mut peer = Peer::new(far);
    peer.expect(Kind::WindowUpdate, Flags::SYN, 1).await.unwrap();
    assert_eq!(peer.expect(Kind::Data, NONE, 1).await.unwrap().1, [1; 4096]);
    let writing = tokio::spawn(async move { stream.write(&vec![2; WINDOW]).await });
    assert_eq!(peer.expect(Kind::Data, NONE, 1).await.unwrap().1.len(), WINDOW);
    writing.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn dropped_calls_lose_nothing() {
    let (near, far) = duplex(16);
    let session = Session::server(near, Config::default().enable_keepalive(false));
    let mut peer = Peer::new(far);
    // The pipe has room for one frame alone.
    let pinging = tokio::spawn({
        let session = session.clone();
        async move { session.ping().await }
    });
    tokio::task::yield_now().await;
    let short = Duration::from_millis(1);
    peer.send_data(1, Flags::SYN, b"kept").await.unwrap();
    assert!(timeout(short, session.accept()).await.is_err());
    assert!(timeout(short, session.open()).await.is_err());
    let stream = session.accept().await.unwrap();
    peer.expect(Kind::Ping, Flags::SYN, 0).await.unwrap();
    peer.send(Header::pong(0), &[]).await.unwrap();
    pinging.await.unwrap().unwrap();
    peer.expect(Kind::WindowUpdate, Flags::ACK, 1).await.unwrap();
    // Nobody has the stream that was opened.
    peer.expect(Kind::WindowUpdate, Flags::SYN, 2).await.unwrap();
    peer.expect(Kind::WindowUpdate, Flags::FIN, 2).await.unwrap();
    let mut bytes = [0; 8];
    assert_eq!(stream.read(&mut bytes).await.unwrap(), 4);
    assert!(timeout(short, stream.read(&mut bytes)).await.is_err());
    peer.send_data(1, Flags::FIN, b"!").await.unwrap();
    assert_eq!(stream.read_to_end().await.unwrap(), b"!");
}

#[tokio::test(start_paused = true)]
async fn a_read_that_is_dropped_before_its_window_update_is_sent_reads_nothing() {
    let (near, far) = duplex(1024);
    let session = Session::server(near, Config::default().enable_keepalive(false));
    let mut peer = Peer::new(far);
    let stream = inbound(&session, &mut peer, 1).await;
    peer.send_data(1, NONE, &vec![3; WINDOW / 2]).await.unwrap();
    // The transport is full.
    assert!(timeout(Duration::from_secs(1), stream.write(&[4; 1024])).await.is_err());
    let mut bytes = vec![0; WINDOW];
    assert!(timeout(Duration::from_secs(1), stream.read(&mut bytes)).await.is_err());
    peer.expect(Kind::Data, NONE, 1).await.unwrap();
    let (update, _) = peer.expect(Kind::WindowUpdate, NONE, 1).await.unwrap();
    assert_eq!(update.length as usize, WINDOW / 2);
    assert_eq!(stream.read(&mut bytes).await.unwrap(), WINDOW / 2);
    expect_nothing(&mut peer).await;
}

#[tokio::test]
async fn a_close_leaves_no_task_and_sends_nothing() {
    let before = crate::count::tasks();
    let (session, mut peer) = server_and_peer();
    let stream = inbound(&session, &mut peer, 1).await;
    session.open().await.unwrap();
    peer.expect(Kind::WindowUpdate, Flags::SYN, 2).await.unwrap();
    stream.close().await;
    peer.expect(Kind::WindowUpdate, Flags::FIN, 1).await.unwrap();
    session.close().await;
    let ended = std::pin::pin!(peer.expect_end()).poll(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(ended, Poll::Ready(Ok(()))));
    tokio::task::yield_now().await;
    assert_eq!(crate::count::tasks(), before);
    assert_eq!(session.end_reason(), Some(Error::SessionShutdown));
}

#[tokio::test]
async fn a_connection_that_ends_within_a_header_has_failed() {
    let (near, mut far) = duplex(4096);
    let session = Session::server(near, Config::default());
    far.write_all(&[0; 5]).await.unwrap();
    drop(far);
    assert_eq!(session.ended().await, Error::Io(io::ErrorKind::UnexpectedEof));
}
