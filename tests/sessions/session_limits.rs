//! Limits hurt one stream, never the session (G16), and bad frames hurt their sender alone (G19).

use std::{
    io::{self, ErrorKind},
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use crate::support::{
    against, client_against_peer, in_time, next, pair, pair_with, read_all, send_all, server_against_peer, shape,
};
use evermux::{CloseReason, Config, OpenError, Session, StreamError};
use testkit::frames::{Flags, Header, Kind, Peer};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, duplex},
    time::{Instant, timeout},
};

const NONE: Flags = Flags::NONE;

fn stream_error(error: &io::Error) -> Option<&StreamError> {
    error.get_ref().and_then(|source| source.downcast_ref())
}

#[tokio::test]
async fn read_first_stream_never_opens() {
    let (near, far) = pair(4096).await;
    let mut stream = near.open_stream().await.unwrap();
    let server = tokio::spawn(async move {
        let mut stream = far.accept_stream().await.unwrap();
        stream.write_all(b"server speaks first").await.unwrap();
        (far, stream)
    });
    let mut bytes = [0; 19];
    in_time(stream.read_exact(&mut bytes)).await.unwrap();
    assert_eq!(&bytes, b"server speaks first");
    drop(in_time(server).await.unwrap());
}

/// A stream is acknowledged when it is taken: not when it arrives, and not only when something is written on it.
#[tokio::test]
async fn ack_only_on_first_write() {
    let (session, mut peer) = server_against_peer(Config::builder()).await;
    peer.send(Header::window_update(1, Flags::SYN, 0), &[]).await.unwrap();
    assert!(timeout(Duration::from_millis(50), next(&mut peer)).await.is_err(), "nobody has taken it");
    let _stream = in_time(session.accept_stream()).await.unwrap();
    assert_eq!(shape(&next(&mut peer).await.0), (Kind::Data, Flags::ACK, 1));
    assert_eq!(session.open_streams(), 1);
}

#[tokio::test]
async fn a_go_peer_opens_more_than_256_streams_that_are_only_read() {
    let settings = Config::builder().max_concurrent_streams(1000).accept_backlog(1000);
    let (session, mut peer) = server_against_peer(settings).await;
    let mut streams = Vec::new();
    for id in (1..1200).step_by(2) {
        peer.send(Header::window_update(id, Flags::SYN, 0), &[]).await.unwrap();
        streams.push(in_time(session.accept_stream()).await.unwrap());
        assert_eq!(shape(&next(&mut peer).await.0), (Kind::Data, Flags::ACK, id));
    }
    assert_eq!(session.open_streams(), 600);
}

/// Those that were taken have a limit, which makes their takers wait, and those that wait have one, past which they are
/// refused. Neither costs the session.
#[tokio::test]
async fn stream_limit_kills_session() {
    let (session, mut peer) =
        server_against_peer(Config::builder().max_concurrent_streams(256).accept_backlog(10)).await;
    let mut streams = Vec::new();
    for id in (1..512).step_by(2) {
        peer.send(Header::window_update(id, Flags::SYN, 0), &[]).await.unwrap();
        streams.push(in_time(session.accept_stream()).await.unwrap());
        assert_eq!(shape(&next(&mut peer).await.0), (Kind::Data, Flags::ACK, id));
    }
    for id in (513..533).step_by(2) {
        peer.send(Header::window_update(id, Flags::SYN, 0), &[]).await.unwrap();
    }
    let mut waiting = Box::pin(session.accept_stream());
    assert!(timeout(Duration::from_millis(50), waiting.as_mut()).await.is_err(), "256 are taken");
    peer.send(Header::window_update(599, Flags::SYN, 0), &[]).await.unwrap();
    assert_eq!(shape(&next(&mut peer).await.0), (Kind::WindowUpdate, Flags::RST, 599));
    // A refused stream's frames go nowhere.
    peer.send_data(599, Flags::FIN, b"lost").await.unwrap();
    assert_eq!(session.open_streams(), 266);
    // A place returns when both ends are finished on the wire.
    streams.truncate(255);
    assert!(next(&mut peer).await.0.flags.contains(Flags::RST));
    assert_eq!(in_time(waiting).await.unwrap().id(), 513);
    assert_eq!(shape(&next(&mut peer).await.0), (Kind::Data, Flags::ACK, 513));
    assert!(!session.is_closed());
}

/// Far more opens than places: each has its turn, and the session lives.
#[tokio::test]
async fn ten_thousand_streams_against_the_limit_all_succeed() {
    let (near, far) = pair(1 << 16).await;
    let serving = tokio::spawn({
        let far = far.clone();
        async move {
            while let Ok(mut stream) = far.accept_stream().await {
                tokio::spawn(async move {
                    let text = read_all(&mut stream).await.unwrap();
                    send_all(&mut stream, &text).await.unwrap();
                });
            }
        }
    });
    let opens: Vec<_> = (0..10_000_u32)
        .map(|number| {
            let near = near.clone();
            tokio::spawn(async move {
                let mut stream = near.open_stream().await.unwrap();
                send_all(&mut stream, &number.to_be_bytes()).await.unwrap();
                assert_eq!(read_all(&mut stream).await.unwrap(), number.to_be_bytes());
            })
        })
        .collect();
    for open in opens {
        in_time(open).await.unwrap();
    }
    assert!(!near.is_closed() && !far.is_closed());
    drop(near);
    in_time(serving).await.unwrap();
}

/// Where no place comes free, each of them is told so at its deadline.
#[tokio::test(start_paused = true)]
async fn ten_thousand_streams_against_the_limit_all_get_their_error() {
    let (near, far) = pair_with(1 << 16, Config::builder().open_timeout(Duration::from_secs(3))).await;
    let mut held = Vec::new();
    for _ in 0..256 {
        held.push((near.open_stream().await.unwrap(), far.accept_stream().await.unwrap()));
    }
    let begun = Instant::now();
    let opens = futures_util::future::join_all((0..10_000).map(|_| near.open_stream())).await;
    assert!(opens.iter().all(|open| matches!(open, Err(OpenError::TimedOut))));
    assert!((3.0..4.0).contains(&begun.elapsed().as_secs_f64()));
    drop(held);
    drop(in_time(near.open_stream()).await.unwrap());
    assert!(!near.is_closed() && !far.is_closed());
}

/// A peer that ignores limits hurts its own streams: those within the limit live, the rest are refused one by one.
#[tokio::test]
async fn a_peer_that_opens_ten_thousand_streams_hurts_its_own_alone() {
    let (session, mut peer) = server_against_peer(Config::builder()).await;
    let mut ours = session.open_stream().await.unwrap();
    let mut refused = 0;
    for first in (0..10_000_u32).step_by(100) {
        let mut burst = Vec::new();
        for number in first..first + 100 {
            burst.extend(Header::window_update(2 * number + 1, Flags::SYN, 0).encode());
        }
        peer.send_raw(&burst).await.unwrap();
        // Nobody takes them: 256 wait.
        while refused < (first + 100).saturating_sub(256) {
            let (header, _) = next(&mut peer).await;
            // The SYN of our own stream is in between.
            if header.stream_id % 2 == 1 {
                assert_eq!(header.flags, Flags::RST);
                refused += 1;
            }
        }
    }
    for _ in 0..256 {
        drop(in_time(session.accept_stream()).await.unwrap());
    }
    // Ours is none of them.
    peer.send_data(2, Flags::ACK | Flags::FIN, b"fine").await.unwrap();
    assert_eq!(read_all(&mut ours).await.unwrap(), b"fine");
    assert!(!session.is_closed());
}

#[tokio::test(start_paused = true)]
async fn past_our_own_limit_an_open_waits_and_then_says_so() {
    let settings = Config::builder().max_concurrent_streams(2).open_timeout(Duration::from_secs(3));
    let (near, far) = pair_with(4096, settings).await;
    let mut first = near.open_stream().await.unwrap();
    let _second = near.open_stream().await.unwrap();
    let begin = Instant::now();
    assert!(matches!(near.open_stream().await, Err(OpenError::TimedOut)));
    assert_eq!(begin.elapsed().as_secs(), 3);
    let waiting = tokio::spawn({
        let near = near.clone();
        async move { near.open_stream().await }
    });
    // One place returns when both ends are finished.
    send_all(&mut first, b"x").await.unwrap();
    let mut far_first = in_time(far.accept_stream()).await.unwrap();
    assert!(!waiting.is_finished());
    send_all(&mut far_first, b"y").await.unwrap();
    assert_eq!(read_all(&mut first).await.unwrap(), b"y");
    assert!(in_time(waiting).await.unwrap().is_ok());
    assert!(!near.is_closed() && !far.is_closed());
}

/// Whoever has finished and left leaves a stream that the peer may still send on: it has its place until that has
/// ended.
#[tokio::test(start_paused = true)]
async fn a_place_comes_free_with_the_end_on_the_wire_and_not_with_the_handle() {
    let (session, mut peer) = client_against_peer(Config::builder().max_concurrent_streams(1)).await;
    let mut stream = session.open_stream().await.unwrap();
    stream.shutdown().await.unwrap();
    drop(stream);
    let mut waiting = Box::pin(session.open_stream());
    assert!(timeout(Duration::from_secs(5), waiting.as_mut()).await.is_err());
    peer.send(Header::window_update(1, Flags::ACK | Flags::FIN, 0), &[]).await.unwrap();
    assert_eq!(in_time(waiting).await.unwrap().id(), 3);
}

#[tokio::test(start_paused = true)]
async fn behind_256_streams_without_an_ack_an_open_waits_for_one() {
    let settings = Config::builder().max_concurrent_streams(1000).open_timeout(Duration::from_secs(3));
    let (session, mut peer) = client_against_peer(settings).await;
    let mut streams = Vec::new();
    for _ in 0..256 {
        streams.push(session.open_stream().await.unwrap());
    }
    assert!(matches!(session.open_stream().await, Err(OpenError::TimedOut)));
    let waiting = tokio::spawn({
        let session = session.clone();
        async move { session.open_stream().await }
    });
    peer.send(Header::window_update(1, Flags::ACK, 0), &[]).await.unwrap();
    assert!(in_time(waiting).await.unwrap().is_ok());
    assert!(!session.is_closed());
}

/// What is finished still waits at a peer that has not acknowledged it: one more of them, and hashicorp's would reset
/// it.
#[tokio::test]
async fn a_half_close_of_a_stream_without_an_ack_makes_no_room_at_the_peer() {
    let (session, mut peer) = client_against_peer(Config::builder().max_concurrent_streams(1000)).await;
    let mut streams = Vec::new();
    for _ in 0..256 {
        let mut stream = session.open_stream().await.unwrap();
        stream.shutdown().await.unwrap();
        streams.push(stream);
    }
    let mut waiting = Box::pin(session.open_stream());
    assert!(timeout(Duration::from_millis(50), waiting.as_mut()).await.is_err());
    peer.send(Header::window_update(1, Flags::ACK, 0), &[]).await.unwrap();
    drop(in_time(waiting).await.unwrap());
}

/// Ids are not used again: before they end, the session makes way for the next one, as a session that is closed does.
#[tokio::test]
async fn ids_exhausted() {
    let (near, far) = pair_with(4096, Config::builder().max_streams_per_session(3)).await;
    let mut streams = Vec::new();
    let mut inbound = Vec::new();
    for _ in 0..3 {
        streams.push(near.open_stream().await.unwrap());
        inbound.push(in_time(far.accept_stream()).await.unwrap());
    }
    assert!(matches!(near.open_stream().await, Err(OpenError::Draining)));
    assert!(matches!(in_time(far.open_stream()).await, Err(OpenError::Draining)), "the peer is told");
    for (stream, inbound) in streams.iter_mut().zip(&mut inbound) {
        send_all(inbound, b"still here").await.unwrap();
        assert_eq!(read_all(stream).await.unwrap(), b"still here");
        stream.shutdown().await.unwrap();
        assert_eq!(read_all(inbound).await.unwrap(), b"");
    }
    assert!(matches!(in_time(near.closed()).await, CloseReason::Closed));
    assert!(matches!(in_time(far.closed()).await, CloseReason::PeerClosed));
}

/// A byte in each frame takes far more memory than the window says: past the limit that stream is reset.
#[tokio::test]
async fn a_flood_of_tiny_frames_costs_its_stream_alone() {
    const FRAMES: usize = 1 << 16;
    let (session, mut peer) = server_against_peer(Config::builder()).await;
    let flood = [&Header::data(1, NONE, 1).encode()[..], b"x"].concat().repeat(FRAMES + 1);
    peer.send(Header::window_update(1, Flags::SYN, 0), &[]).await.unwrap();
    let mut stream = in_time(session.accept_stream()).await.unwrap();
    let sent = tokio::spawn(async move {
        peer.send_raw(&flood).await.unwrap();
        let reset = |header: &Header| header.stream_id == 1 && header.flags.contains(Flags::RST);
        in_time(peer.recv_until(reset)).await.unwrap();
        // Another stream is as good as before.
        peer.send_data(3, Flags::SYN | Flags::FIN, b"fine").await.unwrap();
        peer
    });
    let _peer = in_time(sent).await.unwrap();
    let mut other = in_time(session.accept_stream()).await.unwrap();
    assert_eq!(read_all(&mut other).await.unwrap(), b"fine");
    // What it holds is gone, and both directions say why.
    for error in [stream.read(&mut [0]).await.map(drop), stream.write_all(b"x").await] {
        let error = error.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        assert!(matches!(stream_error(&error), Some(StreamError::Flooded)), "{error}");
    }
    assert!(!session.is_closed());
}

/// As many frames are fine where they are read.
#[tokio::test]
async fn tiny_frames_that_are_read_are_no_flood() {
    const FRAMES: usize = 3 << 16;
    let (near, far) = pair(1 << 16).await;
    let mut stream = near.open_stream().await.unwrap();
    let mut inbound = in_time(far.accept_stream()).await.unwrap();
    let writing = async {
        for _ in 0..FRAMES {
            stream.write_all(b"x").await.unwrap();
        }
        stream.shutdown().await.unwrap();
    };
    let mut read = Vec::new();
    let ((), count) = in_time(async { tokio::join!(writing, inbound.read_to_end(&mut read)) }).await;
    assert_eq!(count.unwrap(), FRAMES);
}

#[tokio::test]
async fn cancelled_open_leaks_stream() {
    let (near, far) = pair_with(4096, Config::builder().max_concurrent_streams(2)).await;
    for _ in 0..100 {
        let held = (near.open_stream().await.unwrap(), near.open_stream().await.unwrap());
        // It waits for a place, and is dropped.
        let mut third = Box::pin(near.open_stream());
        assert!(futures_util::poll!(&mut third).is_pending());
        drop(third);
        drop(held);
        // It has asked the driver, and is dropped before the answer.
        let mut fourth = Box::pin(near.open_stream());
        let _ = futures_util::poll!(&mut fourth);
        drop(fourth);
    }
    let settled = async {
        while near.open_streams() + far.open_streams() > 0 {
            // The last one may be taken while its end is still on the way.
            drop(timeout(Duration::from_millis(1), far.accept_stream()).await);
        }
    };
    in_time(settled).await;
    // All places are there.
    let _both = (in_time(near.open_stream()).await.unwrap(), in_time(near.open_stream()).await.unwrap());
}

#[tokio::test]
async fn a_stream_too_many_for_the_queue_is_reset_alone() {
    let (near, far) = pair_with(4096, Config::builder().accept_backlog(2)).await;
    let mut streams = Vec::new();
    for _ in 0..3 {
        streams.push(near.open_stream().await.unwrap());
    }
    // Nobody was given it, so its opener may repeat what it did.
    let error = read_all(&mut streams[2]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    assert_eq!(stream_error(&error), Some(&StreamError::Refused));
    assert_eq!(streams[2].write_all(b"x").await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    for stream in &mut streams[..2] {
        let mut inbound = in_time(far.accept_stream()).await.unwrap();
        send_all(&mut inbound, b"fine").await.unwrap();
        assert_eq!(read_all(stream).await.unwrap(), b"fine");
    }
    assert!(!near.is_closed() && !far.is_closed());
}

#[tokio::test]
async fn unread_inbound_stalls_all() {
    let (near, far) = pair_with(4096, Config::builder().accept_backlog(4)).await;
    let mut busy = near.open_stream().await.unwrap();
    let mut far_busy = in_time(far.accept_stream()).await.unwrap();
    let mut unread = Vec::new();
    for _ in 0..8 {
        let mut stream = near.open_stream().await.unwrap();
        let _ = stream.write_all(&[0; 10_000]).await;
        unread.push(stream);
    }
    // Nobody accepts them; pings and the other stream go on.
    in_time(near.ping()).await.unwrap();
    in_time(far.ping()).await.unwrap();
    send_all(&mut busy, b"fine").await.unwrap();
    assert_eq!(read_all(&mut far_busy).await.unwrap(), b"fine");
}

#[tokio::test]
async fn slow_stream_stalls_others() {
    let (near, far) = pair(65_536).await;
    let mut unread = near.open_stream().await.unwrap();
    let _never_read = in_time(far.accept_stream()).await.unwrap();
    // As much as its window takes; then this stream alone waits.
    unread.write_all(&vec![0; 256 << 10]).await.unwrap();
    let mut more = Box::pin(unread.write_all(b"more"));
    assert!(futures_util::poll!(&mut more).is_pending());
    let mut other = near.open_stream().await.unwrap();
    let bytes = crate::support::payload(1 << 20);
    let mut far_other = in_time(far.accept_stream()).await.unwrap();
    let (sent, received) = tokio::join!(send_all(&mut other, &bytes), read_all(&mut far_other));
    sent.unwrap();
    assert!(received.unwrap() == bytes);
}

async fn reason_of(bytes: &[u8]) -> (CloseReason, Option<Header>) {
    let (session, mut peer) = server_against_peer(Config::builder()).await;
    peer.send_raw(bytes).await.unwrap();
    let reason = in_time(session.closed()).await;
    // On a machine that is busy it was asked for the round trip, and nobody is there for the answer.
    peer.answer_pings(false);
    let mut last = None;
    while let Ok((header, _)) = peer.recv().await {
        last = Some(header);
    }
    (reason, last)
}

#[tokio::test]
async fn what_is_not_yamux_ends_the_session_and_says_what_it_was() {
    let syn = Header::window_update(1, Flags::SYN, 0).encode();
    let cases = [
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), "version 71"),
        (vec![0, 7, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0], "type 7"),
        (
            Header::data(1, Flags::SYN, 2 << 20).encode().to_vec(),
            "2097152 bytes on stream 1, whose credit is 262144 bytes",
        ),
        (Header::window_update(2, Flags::SYN, 0).encode().to_vec(), "parity"),
        (Header::data(0, NONE, 0).encode().to_vec(), "stream 0"),
        ([syn, syn].concat(), "twice"),
        (
            [&syn[..], &Header::data(1, NONE, 300_000).encode(), &vec![0; 300_000]].concat(),
            "300000 bytes on stream 1, whose credit",
        ),
        (
            Header::window_update(1, Flags::SYN, u32::MAX).encode().to_vec(),
            "a credit of 4294967295 bytes more on stream 1, which has 262144: 4 GiB is too much",
        ),
        (
            [syn, Header::window_update(1, NONE, 1 << 31).encode(), Header::window_update(1, NONE, 1 << 31).encode()]
                .concat(),
            "a credit of 2147483648 bytes more on stream 1, which has 2147745792",
        ),
    ];
    for (bytes, text) in cases {
        let (reason, last) = reason_of(&bytes).await;
        assert!(matches!(reason, CloseReason::Protocol(_)), "{reason:?}");
        assert!(reason.to_string().contains(text), "{reason} should contain {text:?}");
        let last = last.expect("the peer is told");
        assert_eq!((last.kind, last.length), (Kind::GoAway, 1), "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn own_ping_confused_with_the_crates() {
    let (near, far) = duplex(1 << 16);
    let config = Config::default();
    let mut peer = Peer::new(far);
    // On a path so long the crate learns of answers to its own pings, to let windows grow.
    let (session, ()) = tokio::join!(Session::client(near, &config), async {
        for _ in 0..2 {
            let (ping, _) = peer.recv().await.unwrap();
            tokio::time::sleep(Duration::from_millis(5)).await;
            peer.send(Header::pong(ping.length), &[]).await.unwrap();
        }
    });
    let session = session.unwrap();
    peer.answer_pings(true);
    // Answers that nobody asked for: the crate would end the session at the first.
    for value in [0, 1, 2, 77, 1 << 31, (1 << 31) + 5, u32::MAX] {
        peer.send(Header::pong(value), &[]).await.unwrap();
    }
    for _ in 0..3 {
        tokio::select! {
            pong = session.ping() => drop(pong.unwrap()),
            frame = peer.recv() => panic!("{frame:?}"),
        }
    }
    assert!(!session.is_closed());
}

/// A session, and a peer behind a pipe that is soon full.
async fn behind_a_short_pipe(config: &Config) -> (Session, Peer<DuplexStream>) {
    let (near, far) = duplex(256);
    let mut peer = Peer::new(far);
    peer.answer_pings(true);
    let session = against(Session::server(near, config), &mut peer).await;
    (session, peer)
}

#[tokio::test]
async fn ping_flood() {
    let (session, mut peer) = behind_a_short_pipe(&Config::default()).await;
    // It never reads the answers. The pipe holds 21 of them, the buffer of the socket more.
    let flood = async {
        for value in 0.. {
            if peer.send(Header::ping(value), &[]).await.is_err() {
                break;
            }
        }
    };
    let (reason, ()) = in_time(async { tokio::join!(session.closed(), flood) }).await;
    assert!(matches!(reason, CloseReason::PingFlood), "{reason:?}");
}

#[tokio::test]
async fn a_peer_that_causes_resets_and_reads_none_is_a_flood() {
    let (session, mut peer) = behind_a_short_pipe(&Config::builder().accept_backlog(1).build().unwrap()).await;
    let flood = async {
        for id in (1..).step_by(2) {
            if peer.send(Header::window_update(id, Flags::SYN, 0), &[]).await.is_err() {
                break;
            }
        }
    };
    let (reason, ()) = in_time(async { tokio::join!(session.closed(), flood) }).await;
    assert!(matches!(reason, CloseReason::ControlFlood), "{reason:?}");
}

/// When a transport panics: at which read, at which write.
struct Fuses {
    reads: AtomicUsize,
    writes: AtomicUsize,
}

impl Fuses {
    fn burn(fuse: &AtomicUsize) {
        assert_ne!(fuse.fetch_sub(1, Ordering::Relaxed), 1, "the fuse of the test");
    }
}

/// A transport that panics.
struct Fuse(DuplexStream, Arc<Fuses>);

impl Fuse {
    fn new(io: DuplexStream) -> (Self, Arc<Fuses>) {
        let fuses = Arc::new(Fuses { reads: usize::MAX.into(), writes: usize::MAX.into() });
        (Self(io, Arc::clone(&fuses)), fuses)
    }
}

impl AsyncRead for Fuse {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Fuses::burn(&self.1.reads);
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Fuse {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Fuses::burn(&self.1.writes);
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[tokio::test]
async fn a_panic_in_the_driver_frees_whoever_is_parked() {
    // The crate is at work in the read, and not in the write.
    for in_a_read in [true, false] {
        let (near, far) = duplex(1 << 20);
        let config = Config::default();
        let (fuse, fuses) = Fuse::new(near);
        let (near, far) = tokio::try_join!(Session::client(fuse, &config), Session::server(far, &config)).unwrap();
        let (mut read, mut write) = near.open_stream().await.unwrap().into_split();
        let mut far_stream = in_time(far.accept_stream()).await.unwrap();
        let accepting = tokio::spawn({
            let near = near.clone();
            async move { near.accept_stream().await }
        });
        let reading = tokio::spawn(async move { read.read(&mut [0; 8]).await });
        let writing = tokio::spawn(async move { write.write_all(&vec![0; 1 << 20]).await });
        // All of its window has come: the writer is parked until there is credit.
        in_time(far_stream.read_exact(&mut vec![0; 100 << 10])).await.unwrap();
        in_time(near.ping()).await.unwrap();
        if in_a_read {
            fuses.reads.store(1, Ordering::Relaxed);
            assert!(in_time(far.ping()).await.is_err());
        } else {
            fuses.writes.store(1, Ordering::Relaxed);
            assert!(in_time(near.ping()).await.is_err());
        }
        assert!(matches!(in_time(near.closed()).await, CloseReason::Panicked));
        assert_eq!(in_time(reading).await.unwrap().unwrap_err().kind(), ErrorKind::ConnectionReset);
        assert_eq!(in_time(writing).await.unwrap().unwrap_err().kind(), ErrorKind::ConnectionReset);
        assert!(matches!(in_time(accepting).await.unwrap(), Err(CloseReason::Panicked)));
    }
}

#[tokio::test]
async fn an_open_that_waits_when_the_session_is_lost_is_told_of_the_loss() {
    /// Notes at each wake-up whether the reason is there.
    struct Look(Session, Mutex<Vec<bool>>);

    impl Wake for Look {
        fn wake(self: Arc<Self>) {
            self.1.lock().unwrap().push(self.0.is_closed());
        }
    }

    let (session, peer) = client_against_peer(Config::builder().max_concurrent_streams(1)).await;
    let _held = session.open_stream().await.unwrap();
    let look = Arc::new(Look(session.clone(), Mutex::default()));
    let mut waiting = Box::pin(session.open_stream());
    assert!(waiting.as_mut().poll(&mut Context::from_waker(&Waker::from(Arc::clone(&look)))).is_pending());
    drop(peer);
    in_time(session.closed()).await;
    // A thread could ask at once. It is woken by the semaphore, and by the end of the session.
    let woken = look.1.lock().unwrap().clone();
    assert!(!woken.is_empty() && woken.iter().all(|is_closed| *is_closed), "{woken:?}");
    let error = in_time(waiting).await.unwrap_err();
    assert!(matches!(error, OpenError::Lost(CloseReason::Lost(_))), "{error:?}");
}

/// tokio's semaphore drops the wakers behind one that panics.
#[tokio::test]
async fn wakers_that_panic_at_the_end_of_a_session_strand_no_opener() {
    struct Panics;

    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            panic!("this waker panics");
        }
    }

    struct Told(AtomicBool);

    impl Wake for Told {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    let (session, peer) = client_against_peer(Config::builder().max_concurrent_streams(1)).await;
    let _held = session.open_stream().await.unwrap();
    let told = Arc::new(Told(AtomicBool::new(false)));
    let panics = Waker::from(Arc::new(Panics));
    let mut openers = [&panics, &Waker::from(Arc::clone(&told)), &panics].map(|waker| {
        let mut opener = Box::pin(session.open_stream());
        assert!(opener.as_mut().poll(&mut Context::from_waker(waker)).is_pending());
        opener
    });
    drop(peer);
    in_time(session.closed()).await;
    // The driver reports the rest of the end in the same poll.
    tokio::task::yield_now().await;
    assert!(told.0.load(Ordering::Relaxed), "it waits for its turn until it times out");
    for opener in &mut openers {
        assert!(matches!(in_time(opener).await, Err(OpenError::Lost(CloseReason::Lost(_)))));
    }
}

#[tokio::test]
async fn a_burst_that_is_answered_is_no_flood() {
    let (session, mut peer) = server_against_peer(Config::builder().accept_backlog(1)).await;
    let pings: Vec<u8> = (0..1000).flat_map(|value| Header::ping(value).encode()).collect();
    peer.send_raw(&pings).await.unwrap();
    for value in 0..1000 {
        assert_eq!(in_time(peer.recv()).await.unwrap().0, Header::pong(value));
    }
    // The first takes the one place, and all others are refused.
    let opens: Vec<u8> = (0..3000).flat_map(|n| Header::window_update(2 * n + 1, Flags::SYN, 0).encode()).collect();
    peer.send_raw(&opens).await.unwrap();
    let mut refused = 0;
    while refused < 2999 {
        refused += usize::from(next(&mut peer).await.0.flags == Flags::RST);
    }
    assert!(!session.is_closed());
}

#[tokio::test]
async fn a_panic_in_the_driver_is_one_lost_session() {
    let (near, far) = duplex(4096);
    let config = Config::default();
    let (fuse, fuses) = Fuse::new(near);
    fuses.writes.store(3, Ordering::Relaxed);
    let (near, far) = tokio::try_join!(Session::client(fuse, &config), Session::server(far, &config)).unwrap();
    // The third write is somewhere here.
    let outcome = async {
        loop {
            let mut stream = near.open_stream().await?;
            stream.write_all(b"x").await.ok();
        }
    };
    let error: Result<(), OpenError> = in_time(outcome).await;
    let error = error.unwrap_err();
    assert!(matches!(error, OpenError::Lost(CloseReason::Panicked)), "{error:?}");
    assert!(matches!(near.closed().await, CloseReason::Panicked));
    assert!(matches!(in_time(far.closed()).await, CloseReason::Lost(_)));
}

/// Whoever waits for a stream is told of the end, also where what is dropped with the session panics: here the waker of
/// a reader, which is woken then.
#[tokio::test]
async fn a_panic_in_what_ends_with_a_session_strands_nobody() {
    struct Panics;

    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            assert!(std::thread::panicking(), "as the test wants it");
        }
    }

    let (near, _far) = pair(4096).await;
    let mut stream = near.open_stream().await.unwrap();
    let waker = Waker::from(Arc::new(Panics));
    let mut buffer = [0; 8];
    let mut buffer = ReadBuf::new(&mut buffer);
    assert!(Pin::new(&mut stream).poll_read(&mut Context::from_waker(&waker), &mut buffer).is_pending());
    let accepting = tokio::spawn({
        let near = near.clone();
        async move { near.accept_stream().await.map(drop) }
    });
    tokio::task::yield_now().await;
    near.abort();
    in_time(near.closed()).await;
    assert!(in_time(accepting).await.unwrap().is_err());
    assert!(in_time(near.accept_stream()).await.is_err());
}
