//! The slowest link that survives the defaults, both ways (G10), and what is fast on a slow one.
//!
//! A link of some rate behind the 128 KiB that the kernel may hold unsent. The writer keeps them full, and the peer's
//! application reads nothing: no credit comes back, only answers to pings.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use evermux::{CloseReason, Config, Session};
use futures_util::future::join_all;
use testkit::frames::{Header, Peer};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, duplex, join},
    time::{Instant, interval, sleep, timeout},
};

/// What `TCP_NOTSENT_LOWAT` leaves in front of a ping.
const UNSENT_BYTES: usize = 128 << 10;
/// What one stream may send before credit comes back.
const WINDOW_BYTES: usize = 256 << 10;
const STREAMS: usize = 8;

/// Carries bytes at a rate, in slices of 10 ms.
async fn carry(mut from: DuplexStream, mut to: DuplexStream, bytes_per_second: usize) {
    let mut slice = vec![0; bytes_per_second / 100];
    let mut tick = interval(Duration::from_millis(10));
    loop {
        tick.tick().await;
        match from.read(&mut slice).await {
            Ok(n @ 1..) if to.write_all(&slice[..n]).await.is_ok() => {}
            _ => return,
        }
    }
}

/// A link that is slow from the first end to the second.
fn slow_link(
    bytes_per_second: usize,
) -> (impl AsyncRead + AsyncWrite + Send + Unpin, impl AsyncRead + AsyncWrite + Send + Unpin) {
    let (near, kernel) = duplex(UNSENT_BYTES);
    let (link, far) = duplex(UNSENT_BYTES);
    let (back_in, back_out) = duplex(UNSENT_BYTES);
    tokio::spawn(carry(kernel, link, bytes_per_second));
    (join(back_out, near), join(far, back_in))
}

/// Sends all that the windows allow. Gives what ended the session within two minutes, if anything did, and how many
/// bytes have arrived.
async fn upload(bytes_per_second: usize) -> (Option<CloseReason>, usize) {
    let (near, far) = slow_link(bytes_per_second);
    let config = Config::default();
    let (client, server) = tokio::try_join!(Session::client(near, &config), Session::server(far, &config)).unwrap();
    // They are taken, and not read.
    let taking = tokio::spawn(async move {
        let mut taken = Vec::new();
        while taken.len() < STREAMS
            && let Ok(stream) = server.accept_stream().await
        {
            taken.push(stream);
        }
        (server, taken)
    });
    let mut streams = Vec::new();
    for _ in 0..STREAMS {
        streams.push(client.open_stream().await.unwrap());
    }
    let uploads = streams.iter_mut().map(async |stream| {
        // Where the session is lost it ends by that.
        let _ = stream.write_all(&vec![7; WINDOW_BYTES]).await;
    });
    let (ended, _) = tokio::join!(timeout(Duration::from_secs(120), client.closed()), join_all(uploads));
    let ended = ended.ok();
    let mut arrived = 0;
    let (_server, taken) = taking.await.unwrap();
    for mut inbound in taken {
        let mut bytes = vec![0; WINDOW_BYTES];
        while arrived < STREAMS * WINDOW_BYTES
            && let Ok(Ok(n @ 1..)) = timeout(Duration::from_secs(1), inbound.read(&mut bytes)).await
        {
            arrived += n;
        }
    }
    (ended, arrived)
}

#[tokio::test(start_paused = true)]
async fn slow_upload_killed() {
    // 2 MiB take 70 s: the heartbeat was at work several times.
    let (ended, arrived) = upload(30_000).await;
    assert!(ended.is_none(), "{ended:?}");
    assert_eq!(arrived, STREAMS * WINDOW_BYTES);
}

#[tokio::test(start_paused = true)]
async fn a_link_too_slow_for_the_defaults_is_given_up_as_dead() {
    // 128 KiB take longer than the 5 s that a peer may stay silent.
    let (ended, _) = upload(20_000).await;
    assert!(matches!(ended, Some(CloseReason::HeartbeatTimeout)), "{ended:?}");
}

/// Whoever writes at a slow path has his turn as often as another, on one thread too, however short what he writes is.
#[tokio::test(start_paused = true)]
async fn writers_share_a_slow_path() {
    let (near, far) = slow_link(125_000);
    let config = Config::default();
    let (client, server) = tokio::try_join!(Session::client(near, &config), Session::server(far, &config)).unwrap();
    let mut counts = Vec::new();
    for bytes in [64 << 10, 64 << 10, 2 << 10, 1 << 10, 1 << 10] {
        let mut stream = client.open_stream().await.unwrap();
        stream.write_all(b"x").await.unwrap();
        tokio::spawn(async move {
            let bytes = vec![7; bytes];
            while stream.write_all(&bytes).await.is_ok() {}
        });
        let mut taken = server.accept_stream().await.unwrap();
        let count = Arc::new(AtomicUsize::new(0));
        counts.push(Arc::clone(&count));
        tokio::spawn(async move {
            let mut buffer = vec![0; 64 << 10];
            while let Ok(n @ 1..) = taken.read(&mut buffer).await {
                count.fetch_add(n, Ordering::Relaxed);
            }
        });
    }
    sleep(Duration::from_secs(10)).await;
    let before: Vec<_> = counts.iter().map(|count| count.load(Ordering::Relaxed)).collect();
    sleep(Duration::from_secs(60)).await;
    let shares: Vec<_> =
        counts.iter().zip(before).map(|(count, before)| count.load(Ordering::Relaxed) - before).collect();
    let (least, most) = (shares.iter().min().unwrap(), shares.iter().max().unwrap());
    assert!(most < &(4 * least), "{shares:?}");
    assert!(shares.iter().sum::<usize>() > 6_000_000, "the path is full: {shares:?}");
}

/// At 1 Mbit/s, in the steady state: 64 KiB of each would take 10 s.
#[tokio::test(start_paused = true)]
async fn a_short_answer_overtakes_long_ones() {
    let (near, far) = slow_link(125_000);
    let config = Config::default();
    let (server, client) = tokio::try_join!(Session::server(near, &config), Session::client(far, &config)).unwrap();
    tokio::spawn(async move {
        while let Ok(mut stream) = server.accept_stream().await {
            tokio::spawn(async move {
                let length = stream.read_u32().await?;
                stream.write_all(&vec![7; length as usize]).await?;
                stream.shutdown().await
            });
        }
    });
    let answer = async |length: u32| {
        let mut stream = client.open_stream().await.unwrap();
        stream.write_u32(length).await.unwrap();
        let mut bytes = Vec::new();
        let read = stream.read_to_end(&mut bytes).await;
        assert!(read.is_ok() && bytes.len() == length as usize, "{read:?}");
    };
    let downloads = join_all((0..20).map(|_| answer(256 << 10)));
    let requests = async {
        sleep(Duration::from_secs(10)).await;
        let begun = Instant::now();
        for _ in 0..10 {
            answer(64).await;
        }
        begun.elapsed() / 10
    };
    let mut downloads = pin!(downloads);
    let each = tokio::select! {
        _ = &mut downloads => panic!("they take 42 s"),
        each = requests => each,
    };
    // 128 KiB wait in what stands for the kernel here, which nobody has told to hold less.
    assert!(each < Duration::from_millis(1_600), "{each:?}");
    timeout(Duration::from_secs(60), downloads).await.expect("the path is full all the time");
}

/// tokio-yamux holds eight frames of a stream that nobody reads, and stands still at the ninth.
#[tokio::test]
async fn frames_are_cut_short_for_evermux_peers_alone() {
    for is_evermux in [true, false] {
        let (near, far) = duplex(1 << 20);
        let config = Config::default();
        let proving = async {
            let mut peer = Peer::new(far);
            if is_evermux {
                peer.send(Header::ping(0xe576_6d73), &[]).await.unwrap();
            }
            let (ping, _) = peer.recv().await.unwrap();
            peer.send(Header::pong(ping.length), &[]).await.unwrap();
            peer.answer_pings(true);
            Ok(peer)
        };
        let (session, mut peer) = tokio::try_join!(Session::client(near, &config), proving).unwrap();
        let mut stream = session.open_stream().await.unwrap();
        tokio::spawn(async move { stream.write_all(&vec![7; 64 << 10]).await });
        let (first, _) = peer.recv_until(|header| header.length > 0 && header.stream_id == 1).await.unwrap();
        assert_eq!(first.length, if is_evermux { 2 << 10 } else { 32 << 10 });
    }
}
