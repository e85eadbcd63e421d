//! The ends of streams and sessions are honest (G17), frame by frame.

use std::{io::ErrorKind, time::Duration};

use crate::support::{
    against, client_against_peer, in_time, next, pair, pair_with, payload, read_all, send_all, server_against_peer,
    shape,
};
use evermux::{CloseReason, Config, OpenError, Session};
use testkit::{
    frames::{Flags, Header, Kind, Peer},
    strict::Strict,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, duplex},
    net::{TcpListener, TcpStream},
    time::{Instant, timeout},
};

const NONE: Flags = Flags::NONE;

#[tokio::test]
async fn reset_reads_as_eof() {
    let (session, mut peer) = client_against_peer(Config::builder()).await;
    let mut stream = session.open_stream().await.unwrap();
    peer.send_data(1, Flags::ACK, b"abc").await.unwrap();
    peer.send(Header::window_update(1, Flags::RST, 0), &[]).await.unwrap();
    let mut bytes = Vec::new();
    let error = in_time(stream.read_to_end(&mut bytes)).await.unwrap_err();
    assert_eq!(bytes, b"abc", "what came before the reset is read first");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert_eq!(stream.write_all(b"x").await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(stream.shutdown().await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert!(!session.is_closed());
}

#[tokio::test]
async fn abrupt_kill_mid_transfer() {
    let (session, mut peer) = client_against_peer(Config::builder()).await;
    let mut stream = session.open_stream().await.unwrap();
    peer.send_data(1, Flags::ACK, b"abc").await.unwrap();
    drop(peer);
    let mut bytes = Vec::new();
    let error = in_time(stream.read_to_end(&mut bytes)).await.unwrap_err();
    assert_eq!(bytes, b"abc");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert!(matches!(session.closed().await, CloseReason::Lost(_)));
    assert!(matches!(session.open_stream().await, Err(OpenError::Lost(CloseReason::Lost(_)))));
}

#[tokio::test]
async fn fin_seen_but_data_lost() {
    let (session, mut peer) = client_against_peer(Config::builder()).await;
    let mut stream = session.open_stream().await.unwrap();
    let bytes = payload(100_000);
    peer.send_data(1, Flags::ACK, &bytes[..60_000]).await.unwrap();
    peer.send_data(1, Flags::FIN, &bytes[60_000..]).await.unwrap();
    drop(peer);
    in_time(session.closed()).await;
    assert!(read_all(&mut stream).await.unwrap() == bytes, "a finished stream is read to its end after the loss");
    assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0);
    assert_eq!(stream.write_all(b"x").await.unwrap_err().kind(), ErrorKind::ConnectionReset);

    // The header with the FIN came, and not all of the body that it speaks of.
    let (session, mut peer) = client_against_peer(Config::builder()).await;
    let mut stream = session.open_stream().await.unwrap();
    peer.send_data(1, Flags::ACK, &bytes[..60_000]).await.unwrap();
    peer.send(Header::data(1, Flags::FIN, 40_000), &bytes[60_000..70_000]).await.unwrap();
    drop(peer);
    in_time(session.closed()).await;
    let mut read = Vec::new();
    let end = in_time(stream.read_to_end(&mut read)).await.map_err(|error| error.kind());
    assert_eq!(end, Err(ErrorKind::ConnectionReset), "after {} bytes", read.len());
    assert!(read == bytes[..60_000]);
}

#[tokio::test]
async fn a_reset_after_a_fin_fails_writes_alone() {
    let (session, mut peer) = client_against_peer(Config::builder()).await;
    let mut stream = session.open_stream().await.unwrap();
    peer.send_data(1, Flags::ACK | Flags::FIN, b"abc").await.unwrap();
    peer.send(Header::window_update(1, Flags::RST, 0), &[]).await.unwrap();
    // An answer says that all before it was taken.
    tokio::select! {
        pong = session.ping() => drop(pong.unwrap()),
        frame = peer.recv_until(|header| header.stream_id > 1) => panic!("{frame:?}"),
    }
    assert_eq!(read_all(&mut stream).await.unwrap(), b"abc");
    assert_eq!(in_time(stream.write_all(b"x")).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn what_follows_a_fin_or_a_reset_reaches_nobody() {
    let (session, mut peer) = client_against_peer(Config::builder()).await;
    let mut first = session.open_stream().await.unwrap();
    let mut second = session.open_stream().await.unwrap();
    peer.send_data(1, Flags::ACK | Flags::FIN, b"abc").await.unwrap();
    peer.send_data(1, NONE, b"more").await.unwrap();
    peer.send(Header::window_update(3, Flags::RST, 0), &[]).await.unwrap();
    peer.send_data(3, Flags::FIN, b"more").await.unwrap();
    assert_eq!(read_all(&mut first).await.unwrap(), b"abc");
    assert_eq!(read_all(&mut second).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert!(!session.is_closed());
}

#[tokio::test]
async fn dropped_reply_reads_as_complete() {
    let (session, mut peer) = server_against_peer(Config::builder()).await;
    peer.send_data(1, Flags::SYN | Flags::FIN, b"request").await.unwrap();
    let mut stream = in_time(session.accept_stream()).await.unwrap();
    assert_eq!(read_all(&mut stream).await.unwrap(), b"request");
    stream.write_all(b"half a re").await.unwrap();
    drop(stream);
    assert_eq!(shape(&next(&mut peer).await.0), (Kind::Data, Flags::ACK, 1));
    let (header, body) = next(&mut peer).await;
    assert_eq!((shape(&header), &body[..]), ((Kind::Data, NONE, 1), &b"half a re"[..]));
    let (header, _) = next(&mut peer).await;
    assert!(header.flags.contains(Flags::RST) && !header.flags.contains(Flags::FIN), "{header:?}");
}

#[tokio::test]
async fn a_stream_dropped_before_its_end_is_reset_after_what_was_written() {
    let (session, mut peer) = client_against_peer(Config::builder()).await;
    let mut stream = session.open_stream().await.unwrap();
    stream.write_all(b"half a re").await.unwrap();
    let (read, write) = stream.into_split();
    drop(write);
    assert_eq!(shape(&next(&mut peer).await.0), (Kind::Data, Flags::SYN, 1));
    assert_eq!(next(&mut peer).await.1, b"half a re");
    let (header, _) = next(&mut peer).await;
    assert!(header.flags.contains(Flags::RST), "{header:?}");
    drop(read);
    assert_eq!(session.open_streams(), 0);
}

/// The reading half alone keeps nobody from writing, until the window is full; the stream goes on the other way.
#[tokio::test]
async fn a_read_half_that_is_dropped_alone_changes_nothing_for_the_writer() {
    let (near, far) = pair(4096).await;
    let (read, mut write) = near.open_stream().await.unwrap().into_split();
    let mut inbound = in_time(far.accept_stream()).await.unwrap();
    drop(read);
    in_time(inbound.write_all(&vec![0; 256 << 10])).await.unwrap();
    let more = timeout(Duration::from_millis(100), inbound.write_all(&[0])).await;
    assert!(more.is_err(), "nobody reads, so there is no credit for more");
    send_all(&mut write, b"still here").await.unwrap();
    assert_eq!(read_all(&mut inbound).await.unwrap(), b"still here");
    assert!(!near.is_closed() && !far.is_closed());
}

#[tokio::test]
async fn double_fin_kills_session() {
    let (session, mut peer) = client_against_peer(Config::builder()).await;
    let mut stream = session.open_stream().await.unwrap();
    stream.shutdown().await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(stream.write_all(b"x").await.unwrap_err().kind(), ErrorKind::BrokenPipe);
    // Whatever the crate has queued for the stream goes out before the drop of a later one is noticed.
    for id in [3, 5] {
        drop(session.open_stream().await.unwrap());
        peer.send(Header::window_update(id, Flags::ACK, 0), &[]).await.unwrap();
    }
    let mut fins = 0;
    loop {
        let (header, _) = next(&mut peer).await;
        fins += usize::from(header.stream_id == 1 && header.flags.contains(Flags::FIN));
        if header.stream_id == 5 && header.flags.contains(Flags::RST) {
            break;
        }
    }
    assert_eq!(fins, 1);
}

#[tokio::test]
async fn reset_after_fin_destroys_reply() {
    let (session, mut peer) = server_against_peer(Config::builder()).await;
    peer.send_data(1, Flags::SYN, b"request").await.unwrap();
    let mut stream = in_time(session.accept_stream()).await.unwrap();
    send_all(&mut stream, b"reply").await.unwrap();
    drop(stream);
    assert_eq!(shape(&next(&mut peer).await.0), (Kind::Data, Flags::ACK, 1));
    assert_eq!(next(&mut peer).await.1, b"reply");
    assert_eq!(shape(&next(&mut peer).await.0), (Kind::Data, Flags::FIN, 1));
    // The peer is not finished, and its stream keeps its place.
    assert_eq!(session.open_streams(), 1);
    peer.send_data(1, Flags::FIN, b"").await.unwrap();
    let marker = in_time(session.open_stream()).await.unwrap();
    let (header, _) = next(&mut peer).await;
    assert_eq!(shape(&header), (Kind::Data, Flags::SYN, 2), "no RST after both have finished");
    drop(marker);
}

#[tokio::test(start_paused = true)]
async fn reader_gone_after_fin_hangs_writer() {
    let (session, mut peer) = client_against_peer(Config::builder()).await;
    let mut stream = session.open_stream().await.unwrap();
    stream.shutdown().await.unwrap();
    drop(stream);
    assert_eq!(shape(&next(&mut peer).await.0), (Kind::Data, Flags::SYN, 1));
    assert_eq!(shape(&next(&mut peer).await.0), (Kind::Data, Flags::FIN, 1));
    // Credit flows while what comes is discarded, and after 1 MiB the stream is reset.
    let mut credit = 256 << 10;
    let mut sent = 0;
    let reset = loop {
        while credit >= 32 << 10 {
            peer.send_data(1, NONE, &vec![0; 32 << 10]).await.unwrap();
            credit -= 32 << 10;
            sent += 32 << 10;
        }
        let (header, _) = next(&mut peer).await;
        if header.flags.contains(Flags::RST) {
            break header;
        }
        assert_eq!(header.kind, Kind::WindowUpdate);
        credit += header.length;
    };
    assert_eq!(reset.stream_id, 1);
    assert!((1 << 20..=(1 << 20) + (512 << 10)).contains(&sent), "{sent}");
    assert_eq!(session.open_streams(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_stream_dropped_after_its_end_is_reset_when_the_peer_does_not_finish_in_time() {
    let (session, mut peer) = client_against_peer(Config::builder()).await;
    let mut stream = session.open_stream().await.unwrap();
    stream.shutdown().await.unwrap();
    let begin = Instant::now();
    drop(stream);
    next(&mut peer).await;
    assert_eq!(shape(&next(&mut peer).await.0), (Kind::Data, Flags::FIN, 1));
    let (header, _) = next(&mut peer).await;
    assert!(header.flags.contains(Flags::RST), "{header:?}");
    let took = begin.elapsed();
    assert!((Duration::from_secs(10)..Duration::from_secs(11)).contains(&took), "{took:?}");
    assert_eq!(session.open_streams(), 0);
}

#[tokio::test]
async fn reset_ends_both_directions_after_what_was_written() {
    let (session, mut peer) = client_against_peer(Config::builder()).await;
    let mut open = session.open_stream().await.unwrap();
    open.write_all(b"abc").await.unwrap();
    open.reset();
    let mut finished = session.open_stream().await.unwrap();
    finished.shutdown().await.unwrap();
    finished.reset();
    let mut seen = [Vec::new(), Vec::new()];
    while seen.iter().any(|flags| !flags.last().is_some_and(|flags: &Flags| flags.contains(Flags::RST))) {
        let (header, _) = next(&mut peer).await;
        seen[usize::from(header.stream_id == 3)].push(header.flags);
    }
    assert_eq!(seen[0], [Flags::SYN, NONE, Flags::RST]);
    assert_eq!(seen[1], [Flags::SYN, Flags::FIN, Flags::RST]);
    assert_eq!(session.open_streams(), 0);
}

#[tokio::test]
async fn local_close_strands_readers() {
    for abort in [true, false] {
        let (near, far) = pair_with(4096, Config::builder().drain_timeout(Duration::from_millis(200))).await;
        let stream = near.open_stream().await.unwrap();
        let far_stream = in_time(far.accept_stream()).await.unwrap();
        let (mut read, mut write) = stream.into_split();
        let reader = tokio::spawn(async move { read.read(&mut [0; 8]).await });
        let writer = tokio::spawn(async move { write.write_all(&vec![0; 1 << 20]).await });
        // The writer is out of credit when the peer has everything that it gave credit for.
        tokio::task::yield_now().await;
        if abort {
            near.abort();
        } else {
            in_time(near.close()).await;
        }
        assert_eq!(in_time(reader).await.unwrap().unwrap_err().kind(), ErrorKind::ConnectionReset);
        assert_eq!(in_time(writer).await.unwrap().unwrap_err().kind(), ErrorKind::ConnectionReset);
        drop(far_stream);
    }
}

#[tokio::test]
async fn goaway_looks_like_a_cut() {
    let reason_of = async |code: Option<u32>| {
        let (session, mut peer) = client_against_peer(Config::builder()).await;
        if let Some(code) = code {
            peer.send(Header::go_away(code), &[]).await.unwrap();
        }
        if code == Some(0) {
            // We say goodbye as well, and read to the end.
            let (header, _) = next(&mut peer).await;
            assert_eq!((header.kind, header.length), (Kind::GoAway, 0));
            peer.expect_end().await.unwrap();
        }
        drop(peer);
        in_time(session.closed()).await
    };
    assert!(matches!(reason_of(Some(0)).await, CloseReason::PeerClosed));
    assert!(matches!(reason_of(Some(1)).await, CloseReason::PeerError(1)));
    assert!(matches!(reason_of(Some(2)).await, CloseReason::PeerError(2)));
    assert!(matches!(reason_of(None).await, CloseReason::Lost(_)));
}

/// A peer that keeps its streams after a GoAway can be told before they have ended, and is, although nothing else is
/// said meanwhile. Others are told at the end.
#[tokio::test]
async fn early_go_away() {
    for early in [false, true] {
        let (session, mut peer) = server_against_peer(Config::builder().early_go_away(early)).await;
        peer.send_data(1, Flags::SYN, b"ping").await.unwrap();
        let mut stream = in_time(session.accept_stream()).await.unwrap();
        let closing = tokio::spawn(async move { session.close().await });
        let go_away = in_time(peer.recv_until(|header| header.kind == Kind::GoAway));
        assert_eq!(timeout(Duration::from_millis(300), go_away).await.is_ok(), early);
        peer.send_data(1, Flags::FIN, b"pong").await.unwrap();
        assert_eq!(read_all(&mut stream).await.unwrap(), b"pingpong");
        send_all(&mut stream, b"done").await.unwrap();
        let (_, reply) =
            in_time(peer.recv_until(|header| header.kind == Kind::Data && header.length > 0)).await.unwrap();
        assert_eq!(reply, b"done");
        if !early {
            in_time(peer.recv_until(|header| header.kind == Kind::GoAway)).await.unwrap();
        }
        drop(peer);
        assert!(matches!(in_time(closing).await.unwrap(), CloseReason::Closed));
    }
}

#[tokio::test]
async fn goaway_cuts_streams() {
    let (near, far) = pair(4096).await;
    let mut stream = near.open_stream().await.unwrap();
    let mut far_stream = in_time(far.accept_stream()).await.unwrap();
    let closing = tokio::spawn({
        let near = near.clone();
        async move { near.close().await }
    });
    // Both ends open no more; what is in flight goes on.
    while near.open_stream().await.is_ok() || far.open_stream().await.is_ok() {}
    assert!(!near.is_closed() && !far.is_closed());
    let bytes = payload(300_000);
    let (sent, received) = tokio::join!(send_all(&mut stream, &bytes), read_all(&mut far_stream));
    sent.unwrap();
    assert!(received.unwrap() == bytes);
    let (sent, received) = tokio::join!(send_all(&mut far_stream, &bytes), read_all(&mut stream));
    sent.unwrap();
    assert!(received.unwrap() == bytes);
    assert!(matches!(in_time(closing).await.unwrap(), CloseReason::Closed));
    assert!(matches!(in_time(far.closed()).await, CloseReason::PeerClosed));
}

#[tokio::test(start_paused = true)]
async fn close_never_returns() {
    let (near, far) = tokio::io::duplex(64);
    // Nothing but the deadline of the close can end it.
    let hour = Duration::from_secs(3600);
    let config = Config::builder().write_timeout(hour).heartbeat_idle(hour).build().unwrap();
    let (session, server) = tokio::try_join!(Session::client(near, &config), async {
        // It answers the proof, and never reads again.
        let mut peer = Peer::new(far);
        let (ping, _) = peer.recv().await.unwrap();
        peer.send(Header::pong(ping.length), &[]).await.unwrap();
        Ok(peer)
    })
    .unwrap();
    let mut stream = session.open_stream().await.unwrap();
    stream.write_all(&[0; 10_000]).await.unwrap();
    let begin = Instant::now();
    let reason = in_time(session.close()).await;
    assert!(matches!(reason, CloseReason::DrainTimedOut { streams: 1 }), "{reason:?}");
    assert!(begin.elapsed() <= Duration::from_millis(10_010), "{:?}", begin.elapsed());
    drop(server);
}

#[tokio::test]
async fn close_with_unread_input_loses_the_tail() {
    const TAIL: usize = 256 << 10;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (near, far) =
        tokio::try_join!(TcpStream::connect(listener.local_addr().unwrap()), async { Ok(listener.accept().await?.0) })
            .unwrap();
    let mut peer = Peer::new(far);
    peer.answer_pings(true);
    let config = Config::default();
    let session = against(Session::client(near, &config), &mut peer).await;
    // The peer says nothing on the stream, gives all the credit there is, and leaves the last bytes unread.
    let mut stream = session.open_stream().await.unwrap();
    peer.send(Header::window_update(1, Flags::ACK | Flags::FIN, 4 << 20), &[]).await.unwrap();
    let bytes = payload(4 << 20);
    let mut received = Vec::new();
    let receiving = async {
        while received.len() < bytes.len() - TAIL {
            received.extend(next(&mut peer).await.1);
        }
    };
    let (sent, ()) = tokio::join!(send_all(&mut stream, &bytes), receiving);
    sent.unwrap();
    drop(stream);
    let closing = tokio::spawn(async move { session.close().await });
    // What comes after the last frame of ours is read, and thrown away.
    for _ in 0..1000 {
        peer.send(Header::window_update(3, NONE, 0), &[]).await.unwrap();
        tokio::task::yield_now().await;
    }
    let last = loop {
        let (header, body) = next(&mut peer).await;
        received.extend(body);
        if header.kind == Kind::GoAway {
            break header;
        }
    };
    assert_eq!(last, Header::go_away(0));
    assert!(received == bytes, "all that was sent has arrived");
    peer.expect_end().await.unwrap();
    drop(peer);
    assert!(matches!(in_time(closing).await.unwrap(), CloseReason::Closed));
}

#[tokio::test]
async fn a_stream_that_was_finished_before_the_close_arrives_whole() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (near, far) =
        tokio::try_join!(TcpStream::connect(listener.local_addr().unwrap()), async { Ok(listener.accept().await?.0) })
            .unwrap();
    let config = Config::default();
    let (near, far) = tokio::try_join!(Session::client(near, &config), Session::server(far, &config)).unwrap();
    let bytes = payload(4 << 20);
    let (mut up, mut down) = (near.open_stream().await.unwrap(), near.open_stream().await.unwrap());
    let (mut far_up, mut far_down) = (far.accept_stream().await.unwrap(), far.accept_stream().await.unwrap());
    if far_up.id() != up.id() {
        std::mem::swap(&mut far_up, &mut far_down);
    }
    // What comes the other way is never read.
    let unread = tokio::spawn(async move { far_down.write_all(&vec![1; 8 << 20]).await });
    let reading = tokio::spawn(async move { read_all(&mut far_up).await });
    down.write_all(b"x").await.unwrap();
    send_all(&mut up, &bytes).await.unwrap();
    drop((up, down));
    assert!(matches!(in_time(near.close()).await, CloseReason::Closed));
    assert!(in_time(reading).await.unwrap().unwrap() == bytes, "all that was sent has arrived");
    assert!(in_time(unread).await.unwrap().is_err());
}

#[tokio::test]
async fn the_last_handle_closes_the_session() {
    let (near, far) = pair(4096).await;
    let mut stream = near.open_stream().await.unwrap();
    drop(near);
    let mut far_stream = in_time(far.accept_stream()).await.unwrap();
    // The stream keeps its session.
    send_all(&mut stream, b"still here").await.unwrap();
    assert_eq!(read_all(&mut far_stream).await.unwrap(), b"still here");
    send_all(&mut far_stream, b"good").await.unwrap();
    assert_eq!(read_all(&mut stream).await.unwrap(), b"good");
    drop(stream);
    assert!(matches!(in_time(far.closed()).await, CloseReason::PeerClosed));
}

#[tokio::test]
async fn a_close_loses_nothing_that_was_written_before_it() {
    let (near, far) = pair(4096).await;
    tokio::spawn(async move {
        while let Ok(mut stream) = far.accept_stream().await {
            tokio::spawn(async move {
                let bytes = read_all(&mut stream).await?;
                send_all(&mut stream, &bytes.len().to_be_bytes()).await
            });
        }
    });
    // The way out is full when a last stream is opened, written and finished.
    let mut uploads = Vec::new();
    for _ in 0..4 {
        let mut stream = near.open_stream().await.unwrap();
        uploads.push(tokio::spawn(async move {
            send_all(&mut stream, &vec![0; 1 << 20]).await?;
            read_all(&mut stream).await
        }));
    }
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
    let mut last = near.open_stream().await.unwrap();
    send_all(&mut last, b"request").await.unwrap();
    let closing = tokio::spawn(async move { near.close().await });
    assert_eq!(read_all(&mut last).await.unwrap(), 7_usize.to_be_bytes());
    for upload in uploads {
        assert_eq!(in_time(upload).await.unwrap().unwrap(), (1_usize << 20).to_be_bytes());
    }
    assert!(matches!(in_time(closing).await.unwrap(), CloseReason::Closed));
}

/// What cannot be written any more does not hide what the peer said before it left.
#[tokio::test]
async fn a_goodbye_is_heard_though_writing_has_failed() {
    let (near, far) = duplex(1 << 16);
    let io = Strict::new(near).fail_writes_at(1000, ErrorKind::BrokenPipe.into());
    let config = Config::default();
    let mut peer = Peer::new(far);
    peer.answer_pings(true);
    let session = against(Session::client(io, &config), &mut peer).await;
    let mut stream = session.open_stream().await.unwrap();
    stream.write_all(&[0; 10_000]).await.unwrap();
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    peer.send(Header::go_away(0), &[]).await.unwrap();
    drop(peer);
    let goodbye = in_time(session.draining()).await;
    assert!(matches!(goodbye, CloseReason::PeerClosed), "{goodbye:?}");
    let reason = in_time(session.closed()).await;
    assert!(matches!(&reason, CloseReason::Lost(error) if error.kind() == ErrorKind::BrokenPipe), "{reason:?}");
}

/// Whatever fails first: the transport is called no more in the direction that has failed, and the reason is the
/// failure. A transport that is made of futures would panic.
#[tokio::test]
async fn a_transport_is_not_called_again_after_its_error() {
    let failure = |kind: ErrorKind| std::io::Error::new(kind, "as the test wants it");
    for at in [0, 12, 24, 40, 5000, 70_000] {
        for how in 0..5 {
            let (near, far) = duplex(1 << 16);
            let io = Strict::new(near).vectored(how % 2 == 0).needs_flush();
            let io = match how {
                0 => io
                    .fail_flush_at(at, failure(ErrorKind::BrokenPipe))
                    .fail_reads_at(40, failure(ErrorKind::ConnectionReset)),
                1 => io
                    .fail_writes_at(at, failure(ErrorKind::BrokenPipe))
                    .fail_reads_at(40, failure(ErrorKind::ConnectionReset)),
                2 => io.fail_writes_at(at, failure(ErrorKind::BrokenPipe)),
                3 => io.fail_reads_at(at.min(40), failure(ErrorKind::ConnectionReset)),
                _ => io.fail_flush_at(at, failure(ErrorKind::BrokenPipe)),
            };
            let report = io.report();
            let quick = Duration::from_millis(100);
            let settings = Config::builder().write_timeout(quick).build().unwrap();
            // Something comes by itself: after the output has failed, and before that ends the session.
            let talks = Config::builder().heartbeat_idle(quick / 2).build().unwrap();
            let far = tokio::spawn(async move {
                let session = Session::server(far, &talks).await?;
                while let Ok(mut stream) = session.accept_stream().await {
                    tokio::spawn(async move { stream.read_to_end(&mut Vec::new()).await });
                }
                Ok::<_, CloseReason>(())
            });
            let reason = match in_time(Session::client(io, &settings)).await {
                Err(reason) => reason,
                Ok(session) => {
                    let mut stream = session.open_stream().await.ok();
                    if let Some(stream) = &mut stream {
                        let _ = in_time(stream.write_all(&vec![0; 100_000])).await;
                    }
                    in_time(session.closed()).await
                }
            };
            assert_eq!(report.broken(), None, "{how} at {at}");
            assert!(reason.to_string().contains("as the test wants it"), "{how} at {at}: {reason}");
            far.abort();
        }
    }
}
