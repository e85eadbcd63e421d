//! The slowest link that survives the defaults, both ways (G10).
//!
//! A link of some rate behind the 128 KiB that the kernel may hold unsent. The writer keeps them full, and the peer's
//! application reads nothing: no credit comes back, only answers to pings.
#![allow(missing_docs, reason = "test names say it")]

use std::time::Duration;

use evermux::{CloseReason, Config, Session};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, duplex, join},
    time::{interval, timeout},
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

/// Sends all that the windows allow. Gives what ended the session within two minutes, if anything did, and how many bytes
/// have arrived.
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
        let mut stream = client.open_stream().await.unwrap();
        stream.write_all(&vec![7; WINDOW_BYTES]).await.unwrap();
        streams.push(stream);
    }
    let ended = timeout(Duration::from_secs(120), client.closed()).await.ok();
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
