//! What broke in use, over real sockets: slow readers, frames as long as a window, a thread that stood still, bursts
//! (G10, G16).

use std::{
    fmt::Display,
    io::{ErrorKind, Read as _, Write as _},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::Poll,
    thread,
    time::Duration,
};

use crate::support::{in_time, payload, read_all, send_all};
use evermux::{CloseReason, Config, ConfigBuilder, MuxManager, MuxStream, OpenError, Session, StreamError};
use testkit::{
    frames::{Flags, Header, Kind, Peer},
    hashicorp,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, duplex},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{sleep, timeout},
};

async fn sockets() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
    let (near, far) = (near.unwrap(), far.unwrap().0);
    near.set_nodelay(true).unwrap();
    far.set_nodelay(true).unwrap();
    (near, far)
}

async fn pair_with(settings: ConfigBuilder) -> (Session, Session) {
    let (near, far) = sockets().await;
    let config = settings.build().unwrap();
    tokio::try_join!(Session::client(near, &config), Session::server(far, &config)).unwrap()
}

fn stream_error(error: &std::io::Error) -> Option<&StreamError> {
    error.get_ref().and_then(|source| source.downcast_ref())
}

/// Writes of this size arrive whole at a reader that never catches up: what it has read counts no more.
async fn a_reader_that_is_always_behind(total: usize, write: usize, read: usize) {
    let (near, far) = pair_with(Config::builder()).await;
    let mut stream = near.open_stream().await.unwrap();
    let mut inbound = in_time(far.accept_stream()).await.unwrap();
    let total = total / write * write;
    let piece = payload(write);
    let expected = piece.clone();
    let written = Arc::new(AtomicUsize::new(0));
    let writing = tokio::spawn({
        let written = Arc::clone(&written);
        async move {
            for _ in 0..total / write {
                stream.write_all(&piece).await?;
                written.fetch_add(write, Ordering::Relaxed);
            }
            stream.shutdown().await?;
            Ok::<_, std::io::Error>(stream)
        }
    });
    let mut buffer = vec![0; read];
    let mut count = 0;
    loop {
        // There is always more than it reads. Not more than a window gives without another read: the writer is told of
        // what was read when that is half of its window, as it was before the last read.
        while written.load(Ordering::Relaxed) < (count + 2 * read).min(total) {
            tokio::task::yield_now().await;
        }
        let n = inbound.read(&mut buffer).await.unwrap();
        if n == 0 {
            break;
        }
        for byte in &buffer[..n] {
            assert_eq!(*byte, expected[count % write], "at {count}");
            count += 1;
        }
    }
    assert_eq!(count, total);
    drop(writing.await.unwrap().unwrap());
    assert!(!near.is_closed() && !far.is_closed());
}

#[tokio::test]
async fn a_reader_that_is_always_behind_gets_200_000_small_frames() {
    a_reader_that_is_always_behind(200_000 * 200, 200, 8 << 10).await;
}

/// One frame is always unread when the next ones come.
#[tokio::test]
async fn frames_that_were_read_count_no_more_though_there_are_always_others() {
    let (session, mut peer) = crate::support::server_against_peer(Config::builder()).await;
    peer.send_data(1, Flags::SYN, b"x").await.unwrap();
    let mut stream = in_time(session.accept_stream()).await.unwrap();
    let frames = [&Header::data(1, Flags::NONE, 1).encode()[..], b"x"].concat().repeat(1000);
    for _ in 0..200 {
        peer.send_raw(&frames).await.unwrap();
        // They have come when the ping behind them is answered.
        peer.send(Header::ping(7), &[]).await.unwrap();
        in_time(peer.recv_until(|header| *header == Header::pong(7))).await.unwrap();
        in_time(stream.read_exact(&mut [0; 1000])).await.unwrap();
    }
    peer.send_data(1, Flags::FIN, b"").await.unwrap();
    assert_eq!(read_all(&mut stream).await.unwrap(), b"x");
}

/// They come as fast as they can be taken, and whoever reads them has the same thread.
#[tokio::test]
async fn a_burst_of_tiny_frames_is_read_as_it_comes() {
    const FRAMES: usize = 200_000;
    let (near, far) = duplex(FRAMES * 13 + 4096);
    let config = Config::default();
    let mut peer = Peer::new(far);
    peer.answer_pings(true);
    let session = crate::support::against(Session::server(near, &config), &mut peer).await;
    peer.send_data(1, Flags::SYN, b"").await.unwrap();
    let mut stream = in_time(session.accept_stream()).await.unwrap();
    let reading = tokio::spawn(async move { read_all(&mut stream).await.map(|bytes| bytes.len()) });
    peer.send_raw(&[&Header::data(1, Flags::NONE, 1).encode()[..], b"x"].concat().repeat(FRAMES)).await.unwrap();
    peer.send_data(1, Flags::FIN, b"").await.unwrap();
    assert_eq!(in_time(reading).await.unwrap().unwrap(), FRAMES);
}

/// What a peer sends costs its session time, and the other tasks of the thread wait no longer than for a few hundred
/// frames.
#[tokio::test]
async fn a_flood_leaves_others_their_turn() {
    const FRAMES: usize = 200_000;
    let (near, far) = duplex(FRAMES * 12 + 4096);
    let config = Config::default();
    let mut peer = Peer::new(far);
    peer.answer_pings(true);
    let session = crate::support::against(Session::server(near, &config), &mut peer).await;
    // Of a stream that was never open.
    peer.send_raw(&Header::window_update(9, Flags::NONE, 0).encode().repeat(FRAMES)).await.unwrap();
    peer.send_data(1, Flags::SYN, b"").await.unwrap();
    let turns = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&turns);
    // It is always ready to go on.
    let other = tokio::spawn(std::future::poll_fn(move |cx| {
        counted.fetch_add(1, Ordering::Relaxed);
        cx.waker().wake_by_ref();
        Poll::<()>::Pending
    }));
    drop(in_time(session.accept_stream()).await.unwrap());
    other.abort();
    let turns = turns.load(Ordering::Relaxed);
    assert!(turns >= FRAMES / 512, "{turns}");
}

/// A hundredth of the one below.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_is_always_behind_gets_all_of_what_is_written_in_pieces_of_200_bytes() {
    a_reader_that_is_always_behind((10 << 30) / 100, 200, 32 << 10).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it takes minutes: cargo test --release --test sessions in_use:: -- --ignored"]
async fn a_reader_that_is_always_behind_gets_10_gib() {
    a_reader_that_is_always_behind(10 << 30, 200, 32 << 10).await;
}

/// A peer may fill its window with one frame, and our own window updates let windows grow past the megabyte that the
/// yamux crate takes.
#[tokio::test]
async fn a_frame_as_long_as_the_window_arrives_however_long_that_is() {
    let (near, far) = sockets().await;
    let config = Config::default();
    let mut peer = Peer::new(far);
    // A path of 20 ms: windows grow.
    let (session, ()) = tokio::join!(Session::server(near, &config), async {
        for _ in 0..2 {
            let (ping, _) = peer.recv().await.unwrap();
            sleep(Duration::from_millis(20)).await;
            peer.send(Header::pong(ping.length), &[]).await.unwrap();
        }
    });
    let session = session.unwrap();
    let reading = tokio::spawn(async move {
        let mut stream = in_time(session.accept_stream()).await.unwrap();
        let bytes = read_all(&mut stream).await.unwrap();
        (session, bytes)
    });
    let mut credit = 256 << 10;
    let mut sent = Vec::new();
    let mut longest = 0;
    peer.send(Header::window_update(1, Flags::SYN, 0), &[]).await.unwrap();
    while sent.len() < 24 << 20 {
        let frame = payload(credit);
        peer.send_data(1, Flags::NONE, &frame).await.unwrap();
        longest = longest.max(credit);
        credit = 0;
        sent.extend(frame);
        while credit == 0 {
            let (header, _) = in_time(peer.recv()).await.unwrap();
            match header.kind {
                Kind::WindowUpdate => credit += header.length as usize,
                Kind::Ping if header.flags.contains(Flags::SYN) => {
                    peer.send(Header::pong(header.length), &[]).await.unwrap();
                }
                _ => {}
            }
        }
        // What the socket has by now is credit as well.
        while let Ok(Ok((header, _))) = timeout(Duration::from_millis(20), peer.recv()).await {
            if header.kind == Kind::WindowUpdate {
                credit += header.length as usize;
            }
        }
    }
    peer.send_data(1, Flags::FIN, b"").await.unwrap();
    let (session, bytes) = in_time(reading).await.unwrap();
    assert!(bytes == sent, "{} bytes of {}", bytes.len(), sent.len());
    assert!(longest > 1 << 20, "the longest frame had {longest} bytes");
    assert!(!session.is_closed());
}

/// A header makes nobody make room for what it only announces.
#[tokio::test]
async fn a_frame_beyond_its_credit_is_named() {
    let (session, mut peer) = crate::support::server_against_peer(Config::builder()).await;
    peer.send_data(1, Flags::SYN, &[7; 1000]).await.unwrap();
    peer.send(Header::data(1, Flags::NONE, 300 << 20), &[]).await.unwrap();
    let reason = in_time(session.closed()).await.to_string();
    assert!(reason.contains("314572800 bytes on stream 1, whose credit is 261144 bytes"), "{reason}");
}

/// A stream that ends in the middle of a long frame takes the rest of it along, and nothing else.
#[tokio::test]
async fn a_stream_that_is_dropped_in_the_middle_of_a_long_frame_leaves_the_session_alone() {
    let (session, mut peer) = crate::support::server_against_peer(Config::builder()).await;
    let body = payload(256 << 10);
    let frame = [&Header::data(1, Flags::SYN, 256 << 10).encode()[..], &body].concat();
    let (first, rest) = frame.split_at(100_000);
    peer.send_raw(first).await.unwrap();
    let mut stream = in_time(session.accept_stream()).await.unwrap();
    let mut bytes = vec![0; 60_000];
    in_time(stream.read_exact(&mut bytes)).await.unwrap();
    assert!(bytes == body[..60_000]);
    drop(stream);
    peer.recv_until(|header| header.flags.contains(Flags::RST)).await.unwrap();
    peer.send_raw(rest).await.unwrap();
    peer.send_data(3, Flags::SYN | Flags::FIN, b"fine").await.unwrap();
    let mut other = in_time(session.accept_stream()).await.unwrap();
    assert_eq!(read_all(&mut other).await.unwrap(), b"fine");
}

/// A peer in a thread of its own, which answers each ping a while after it came.
fn peer_in_a_thread(
    connect: impl FnOnce() -> std::net::TcpStream + Send + 'static,
    after: Duration,
    pinged: Arc<AtomicBool>,
) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        let mut socket = connect();
        socket.set_nodelay(true).unwrap();
        let mut header = [0; 12];
        while socket.read_exact(&mut header).is_ok() {
            let header = Header::decode(header).unwrap();
            if header.kind == Kind::Ping && header.flags.contains(Flags::SYN) {
                pinged.store(true, Ordering::SeqCst);
                pause(after);
                if socket.write_all(&Header::pong(header.length).encode()).is_err() {
                    break;
                }
            }
        }
    })
}

#[expect(clippy::disallowed_methods, reason = "it is to stop the thread of a runtime, or is one without")]
fn pause(duration: Duration) {
    thread::sleep(duration);
}

/// The thread of the runtime stands still while the answer is in the socket, and a command is what wakes the driver
/// first.
#[tokio::test]
async fn a_live_session_survives_a_thread_that_stood_still() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let pinged = Arc::new(AtomicBool::new(false));
    let peer = peer_in_a_thread(move || listener.accept().unwrap().0, Duration::from_millis(50), Arc::clone(&pinged));
    let config = Config::builder()
        .heartbeat_idle(Duration::from_millis(300))
        .heartbeat_timeout(Duration::from_millis(400))
        .build()
        .unwrap();
    let session = Session::client(TcpStream::connect(address).await.unwrap(), &config).await.unwrap();
    for _ in 0..3 {
        pinged.store(false, Ordering::SeqCst);
        while !pinged.load(Ordering::SeqCst) {
            sleep(Duration::from_millis(1)).await;
        }
        let mut command = Box::pin(session.ping());
        assert!(futures_util::poll!(&mut command).is_pending());
        pause(Duration::from_millis(600));
        in_time(command).await.unwrap();
    }
    assert!(!session.is_closed());
    session.abort();
    session.closed().await;
    drop(session);
    peer.join().unwrap();
}

/// The same with a full output, which the peer has read meanwhile.
#[tokio::test]
async fn a_session_with_a_full_output_survives_a_thread_that_stood_still() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let reads = Arc::new(AtomicBool::new(false));
    let peer = thread::spawn({
        let reads = Arc::clone(&reads);
        move || {
            let (mut socket, _) = listener.accept().unwrap();
            let mut proof = [0; 12];
            // The proof, and the ping of the yamux crate.
            for _ in 0..2 {
                socket.read_exact(&mut proof).unwrap();
                socket.write_all(&Header::pong(Header::decode(proof).unwrap().length).encode()).unwrap();
            }
            while !reads.load(Ordering::SeqCst) {
                pause(Duration::from_millis(5));
            }
            let _ = std::io::copy(&mut socket, &mut std::io::sink());
        }
    });
    let config = Config::builder().write_timeout(Duration::from_millis(300)).build().unwrap();
    let session = Session::client(TcpStream::connect(address).await.unwrap(), &config).await.unwrap();
    // Each window is 256 KiB: together more than the socket takes.
    let mut streams = Vec::new();
    for _ in 0..64 {
        let mut stream = session.open_stream().await.unwrap();
        in_time(stream.write_all(&vec![0; 256 << 10])).await.unwrap();
        streams.push(stream);
        tokio::task::yield_now().await;
    }
    sleep(Duration::from_millis(50)).await;
    assert!(!session.is_closed());
    reads.store(true, Ordering::SeqCst);
    let mut command = Box::pin(session.ping());
    assert!(futures_util::poll!(&mut command).is_pending());
    pause(Duration::from_millis(700));
    for _ in 0..50 {
        sleep(Duration::from_millis(2)).await;
        assert!(!session.is_closed(), "{}", session.closed().await);
    }
    session.abort();
    session.closed().await;
    drop((command, streams));
    peer.join().unwrap();
}

/// A session that is asked for a sign of life while everything stands still does not lose its place for that.
#[tokio::test]
async fn a_holder_keeps_its_place_when_the_thread_stood_still_during_the_probe() {
    let config = Config::builder().takeover_probe_timeout(Duration::from_millis(300)).build().unwrap();
    let receiver = MuxManager::receive("127.0.0.1:0").config(config).start().await.unwrap();
    let address = receiver.local_addr().unwrap();
    let pinged = Arc::new(AtomicBool::new(false));
    let connect = move || std::net::TcpStream::connect(address).unwrap();
    let holder = peer_in_a_thread(connect, Duration::from_millis(50), Arc::clone(&pinged));
    let held = in_time(receiver.session()).await.unwrap();
    let mut rival = Peer::new(TcpStream::connect(address).await.unwrap());
    // It proves itself, and so has the holder probed.
    let (ping, _) = in_time(rival.recv()).await.unwrap();
    rival.send(Header::pong(ping.length), &[]).await.unwrap();
    for _ in 0..3 {
        pinged.store(false, Ordering::SeqCst);
        while !pinged.load(Ordering::SeqCst) {
            sleep(Duration::from_millis(1)).await;
        }
        let mut command = Box::pin(held.ping());
        assert!(futures_util::poll!(&mut command).is_pending());
        pause(Duration::from_millis(450));
        in_time(command).await.unwrap();
    }
    assert!(!held.is_closed());
    drop(rival);
    in_time(receiver.shutdown()).await;
    holder.join().unwrap();
}

async fn echo(mut stream: MuxStream) -> std::io::Result<()> {
    let request = read_all(&mut stream).await?;
    send_all(&mut stream, &request).await
}

async fn echo_server(manager: MuxManager) {
    let mut incoming = manager.incoming();
    while let Some(stream) = incoming.next().await {
        tokio::spawn(echo(stream));
    }
}

/// How long whoever serves a burst is busy with something else, before the first stream is taken: as many wait as may.
const BUSY: Duration = Duration::from_millis(200);

/// Sends a number on a stream of its own, and reads it back.
async fn call(stream: Result<MuxStream, OpenError>, number: u32) -> std::io::Result<()> {
    let mut stream = stream?;
    send_all(&mut stream, &number.to_be_bytes()).await?;
    assert_eq!(read_all(&mut stream).await?, number.to_be_bytes());
    Ok(())
}

async fn none_is_lost<E: Display + 'static>(calls: JoinSet<Result<(), E>>) {
    let outcomes = in_time(calls.join_all()).await;
    let lost: Vec<_> = outcomes.iter().filter_map(|outcome| outcome.as_ref().err()).collect();
    assert!(lost.is_empty(), "{} of {} were lost: {}", lost.len(), outcomes.len(), lost[0]);
}

/// Requests that are opened at once: each is served, and the opener waits for its turn.
async fn burst(requests: u32) {
    let server = MuxManager::receive("127.0.0.1:0").start().await.unwrap();
    let address = server.local_addr().unwrap();
    let serving = tokio::spawn({
        let server = server.clone();
        async move {
            sleep(BUSY).await;
            echo_server(server).await;
        }
    });
    let client = MuxManager::establish(address.to_string()).start().await.unwrap();
    let mut calls = JoinSet::new();
    for number in 0..requests {
        let client = client.clone();
        calls.spawn(async move { call(client.open_stream().await, number).await });
    }
    none_is_lost(calls).await;
    in_time(client.shutdown()).await;
    in_time(server.shutdown()).await;
    in_time(serving).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_of_requests_loses_none() {
    for requests in [150, 250, 600, 1000] {
        burst(requests).await;
    }
}

/// From the first byte after the connect, before the session is published.
#[tokio::test]
async fn a_burst_before_the_session_is_published_loses_none() {
    let server = MuxManager::receive("127.0.0.1:0").start().await.unwrap();
    let serving = tokio::spawn(echo_server(server.clone()));
    let mut peer = Peer::new(TcpStream::connect(server.local_addr().unwrap()).await.unwrap());
    peer.answer_pings(true);
    let mut burst = Vec::new();
    for stream in 0..256_u32 {
        burst.extend(Header::data(2 * stream + 1, Flags::SYN | Flags::FIN, 4).encode());
        burst.extend(stream.to_be_bytes());
    }
    peer.send_raw(&burst).await.unwrap();
    let mut answered = 0;
    while answered < 256 {
        let (header, body) = in_time(peer.recv()).await.unwrap();
        assert!(!header.flags.contains(Flags::RST), "{header:?}");
        if header.kind == Kind::Data && !body.is_empty() {
            assert_eq!(body, ((header.stream_id - 1) / 2).to_be_bytes());
            answered += 1;
        }
    }
    drop(peer);
    in_time(server.shutdown()).await;
    in_time(serving).await.unwrap();
}

/// hashicorp's yamux opens, and waits for each stream to be accepted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_of_hashicorps_loses_none() {
    let (near, far) = sockets().await;
    let go = hashicorp::Session::client(far, hashicorp::Config::default());
    let server = Session::server(near, &Config::default()).await.unwrap();
    let serving = tokio::spawn({
        let server = server.clone();
        async move {
            sleep(BUSY).await;
            while let Ok(stream) = server.accept_stream().await {
                tokio::spawn(echo(stream));
            }
        }
    });
    let mut calls = JoinSet::new();
    for number in 0..4000_u32 {
        let go = go.clone();
        calls.spawn(async move {
            let stream = go.open().await?;
            stream.write(&number.to_be_bytes()).await?;
            stream.close().await;
            stream.read_to_end().await.map(|reply| assert_eq!(reply, number.to_be_bytes()))
        });
    }
    none_is_lost(calls).await;
    server.abort();
    in_time(serving).await.unwrap();
}

/// Requests that are finished at once wait at the peer like any other, and its backlog is respected.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_to_hashicorps_never_overruns_its_backlog() {
    let (near, far) = sockets().await;
    let go = hashicorp::Session::server(far, hashicorp::Config::default());
    let client = Session::client(near, &Config::builder().max_concurrent_streams(1000).build().unwrap()).await.unwrap();
    let serving = tokio::spawn({
        let go = go.clone();
        async move {
            while let Ok(stream) = go.accept().await {
                tokio::spawn(async move {
                    let request = stream.read_to_end().await?;
                    stream.write(&request).await?;
                    stream.close().await;
                    Ok::<_, hashicorp::Error>(())
                });
                // It accepts more slowly than we open.
                sleep(Duration::from_micros(100)).await;
            }
        }
    });
    let mut calls = JoinSet::new();
    for number in 0..2000_u32 {
        let client = client.clone();
        calls.spawn(async move { call(client.open_stream().await, number).await });
    }
    none_is_lost(calls).await;
    assert_eq!(go.counters().refused_by_backlog, 0);
    client.abort();
    in_time(serving).await.unwrap();
}

/// What nobody takes is reset before a peer of hashicorp's ends the session for it, and its opener may repeat it.
#[tokio::test(start_paused = true)]
async fn a_stream_that_nobody_takes_is_refused_after_its_time() {
    let (near, far) = crate::support::pair(1 << 16).await;
    let mut stream = near.open_stream().await.unwrap();
    stream.write_all(b"hello").await.unwrap();
    let begun = tokio::time::Instant::now();
    let error = timeout(Duration::from_secs(75), stream.read(&mut [0])).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    assert_eq!(stream_error(&error), Some(&StreamError::Refused));
    assert_eq!(begun.elapsed().as_secs(), 60);
    assert!(timeout(Duration::from_secs(1), far.accept_stream()).await.is_err(), "it has left the queue");
    assert_eq!((near.open_streams(), far.open_streams()), (0, 0));
    assert!(!near.is_closed() && !far.is_closed());
}

/// Nothing else has to happen at that time.
#[tokio::test(start_paused = true)]
async fn a_stream_that_nobody_takes_is_refused_though_nothing_else_happens() {
    let hour = Duration::from_secs(3600);
    let settings = Config::builder().heartbeat_idle(hour).accept_timeout(Duration::from_secs(7));
    let (near, far) = crate::support::pair_with(1 << 16, settings).await;
    let mut stream = near.open_stream().await.unwrap();
    let begun = tokio::time::Instant::now();
    let error = timeout(Duration::from_secs(75), stream.read(&mut [0])).await.unwrap().unwrap_err();
    assert_eq!(stream_error(&error), Some(&StreamError::Refused));
    assert_eq!(begun.elapsed().as_secs(), 7);
    drop(far);
}

/// Whoever takes streams one after the other, and was busy meanwhile, finds what came in time, however late it is.
#[tokio::test(start_paused = true)]
async fn a_taker_that_was_kept_busy_still_finds_the_next_stream() {
    let settings = Config::builder().heartbeat_idle(Duration::from_secs(3600));
    let (session, mut peer) = crate::support::server_against_peer(settings).await;
    for id in [1, 3] {
        peer.send_data(id, Flags::SYN | Flags::FIN, b"hello").await.unwrap();
    }
    drop(in_time(session.accept_stream()).await.unwrap());
    // The thread stands still, and then it is the driver's turn first.
    tokio::time::advance(Duration::from_secs(100)).await;
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    let mut stream = in_time(session.accept_stream()).await.unwrap();
    assert_eq!(read_all(&mut stream).await.unwrap(), b"hello");
}

/// One that was taken is never called refused, though it is reset before the word that it was taken is out.
#[tokio::test]
async fn a_stream_that_was_taken_is_never_called_refused() {
    let (near, far) = crate::support::pair(1 << 16).await;
    for _ in 0..100 {
        let mut stream = near.open_stream().await.unwrap();
        stream.write_all(b"hello").await.unwrap();
        let mut taken = in_time(far.accept_stream()).await.unwrap();
        in_time(taken.read_exact(&mut [0; 5])).await.unwrap();
        drop(taken);
        let error = in_time(stream.read(&mut [0])).await.unwrap_err();
        assert_eq!(stream_error(&error), Some(&StreamError::ResetByPeer));
    }
}

/// The same at the end of a session that cannot send: what it says last of a stream tells whether anybody has had it.
#[tokio::test(start_paused = true)]
async fn a_stream_that_was_taken_is_never_called_refused_though_its_ack_never_went_out() {
    let settings = Config::builder().drain_timeout(Duration::from_secs(10));
    let (session, mut peer) = crate::support::server_against_peer(settings).await;
    // More than the pipe and the output take, and the peer does not read.
    let mut writing = Vec::new();
    for id in (1..40).step_by(2) {
        peer.send(Header::window_update(id, Flags::SYN, 0), &[]).await.unwrap();
        let mut stream = in_time(session.accept_stream()).await.unwrap();
        writing.push(tokio::spawn(async move { stream.write_all(&payload(1 << 20)).await }));
        sleep(Duration::from_millis(1)).await;
    }
    for id in [41, 43] {
        peer.send(Header::window_update(id, Flags::SYN, 0), &[]).await.unwrap();
    }
    let taken = in_time(session.accept_stream()).await.unwrap();
    assert_eq!(taken.id(), 41);
    let closing = tokio::spawn(async move { session.close().await });
    // Now no stream may go on, and what is left of the time is for the last words.
    sleep(Duration::from_millis(9_500)).await;
    let mut flags = Vec::new();
    while flags.len() < 2 {
        let (header, _) = in_time(peer.recv()).await.unwrap();
        if header.stream_id > 40 {
            flags.push((header.stream_id, header.flags));
        }
    }
    assert_eq!(flags, [(41, Flags::RST | Flags::ACK), (43, Flags::RST)]);
    drop(peer);
    in_time(closing).await.unwrap();
    drop(taken);
}

/// Where one may be in use at a time, the next can be taken when it has ended.
#[tokio::test]
async fn a_stream_that_has_ended_makes_room_for_the_next_to_be_taken() {
    let (session, mut peer) = crate::support::server_against_peer(Config::builder().max_concurrent_streams(1)).await;
    for id in [1, 3] {
        peer.send_data(id, Flags::SYN | Flags::FIN, b"request").await.unwrap();
    }
    let mut first = in_time(session.accept_stream()).await.unwrap();
    let mut next = Box::pin(session.accept_stream());
    assert!(timeout(Duration::from_millis(20), &mut next).await.is_err(), "it was taken beside the first");
    send_all(&mut first, b"reply").await.unwrap();
    assert_eq!(in_time(next).await.unwrap().id(), 3);
    assert!(!session.is_closed(), "it was told at the end of the session");
}

/// What the opener has reset before anybody took it makes room for others.
#[tokio::test]
async fn streams_that_are_opened_and_cancelled_crowd_nobody_out() {
    let (near, far) = crate::support::pair(1 << 16).await;
    for _ in 0..1000 {
        drop(near.open_stream().await.unwrap());
    }
    let mut stream = near.open_stream().await.unwrap();
    send_all(&mut stream, b"live").await.unwrap();
    let mut taken = in_time(far.accept_stream()).await.unwrap();
    assert_eq!(read_all(&mut taken).await.unwrap(), b"live");
}

/// An address that sends back what it is sent proves nothing.
#[tokio::test]
async fn an_echo_is_no_peer() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (socket, _) = listener.accept().await.unwrap();
        let (mut read, mut write) = socket.into_split();
        tokio::io::copy(&mut read, &mut write).await
    });
    let socket = TcpStream::connect(address).await.unwrap();
    let reason = in_time(Session::client(socket, &Config::default())).await.unwrap_err();
    assert!(matches!(reason, CloseReason::Protocol(_)), "{reason:?}");
    assert!(reason.to_string().contains("sends our own words back"), "{reason}");
}

/// Two programs with the same role find that out, each of them.
#[tokio::test]
async fn two_clients_are_no_pair() {
    let (near, far) = sockets().await;
    let config = Config::default();
    let (near, far) = tokio::join!(Session::client(near, &config), Session::client(far, &config));
    for reason in [near.unwrap_err(), far.unwrap_err()] {
        let told = matches!(reason, CloseReason::Protocol(_) | CloseReason::PeerError(1) | CloseReason::Lost(_));
        assert!(told, "{reason:?}");
    }
}
