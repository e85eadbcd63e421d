//! What a peer can make this side hold (G19). It has a program of its own, since it counts what the whole process
//! allocates.
#![allow(missing_docs, reason = "test names say it")]

mod support;

use std::time::Duration;

use evermux::{Config, Connect, MuxManager, MuxStream, Session, StreamError};
use peak_alloc::PeakAlloc;
use support::{in_time, network, read_all, server_against_peer};
use testkit::frames::{Flags, Header, Peer};
use tokio::{
    io::{AsyncReadExt, DuplexStream},
    time::timeout,
};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

const MIB: usize = 1 << 20;
/// How many frames a stream gets: 38 streams come to as many as a session may hold unread, which are 1,048,576.
const FRAMES: usize = 28_000;
/// That many take up to 39 MiB. Those of 60 streams would take 62.
const HELD: usize = 45 * MIB;

/// Sends so many one-byte frames on a stream, and takes what comes meanwhile: the streams that were reset.
async fn flood(peer: &mut Peer<DuplexStream>, id: u32, frames: usize) -> Vec<u32> {
    let frame = [&Header::data(id, Flags::NONE, 1).encode()[..], b"x"].concat();
    let mut reset = Vec::new();
    for chunk in 0..frames.div_ceil(4096) {
        peer.send_raw(&frame.repeat(4096.min(frames - chunk * 4096))).await.unwrap();
        while let Ok(Ok((header, _))) = timeout(Duration::ZERO, peer.recv()).await {
            if header.flags.contains(Flags::RST) {
                reset.push(header.stream_id);
            }
        }
    }
    reset
}

/// Opens and takes so many streams.
async fn take(session: &Session, peer: &mut Peer<DuplexStream>, ids: impl Iterator<Item = u32>) -> Vec<MuxStream> {
    let mut streams = Vec::new();
    for id in ids {
        peer.send(Header::window_update(id, Flags::SYN, 0), &[]).await.unwrap();
        streams.push(in_time(session.accept_stream()).await.unwrap());
    }
    streams
}

/// A byte in each frame takes some sixty times as much memory. What the streams of a session hold so is bounded
/// together, the largest is given up, and what it holds is freed though its handle is still there.
async fn tiny_frames_in_many_streams(before: usize) {
    let (session, mut peer) = server_against_peer(Config::builder()).await;
    let streams = take(&session, &mut peer, (0..64).map(|n| 2 * n + 1)).await;
    let mut reset = Vec::new();
    let mut largest = 0;
    for stream in &streams {
        reset.extend(flood(&mut peer, stream.id(), FRAMES).await);
        largest = largest.max(MEMORY.current_usage().saturating_sub(before));
    }
    // And a little more may be held before it is noticed.
    assert!(reset.len() >= 64 - 39, "{} were reset", reset.len());
    assert!(largest < HELD, "{} MiB are held", largest / MIB);
    let mut flooded = 0;
    for mut stream in streams {
        if let Err(error) = in_time(stream.read(&mut [0])).await {
            let source = error.get_ref().and_then(|source| source.downcast_ref());
            assert_eq!(source, Some(&StreamError::Flooded));
            flooded += 1;
        }
    }
    assert_eq!(flooded, reset.len());
    assert!(!session.is_closed());
}

/// What a handle holds counts as long as it is there, though its stream has ended on the wire.
async fn tiny_frames_in_streams_that_have_ended(before: usize) {
    let (session, mut peer) = server_against_peer(Config::builder()).await;
    let mut streams = Vec::new();
    for number in 0..60 {
        streams.extend(take(&session, &mut peer, std::iter::once(2 * number + 1)).await);
        flood(&mut peer, 2 * number + 1, FRAMES).await;
        peer.send(Header::window_update(2 * number + 1, Flags::RST, 0), &[]).await.unwrap();
        let held = MEMORY.current_usage().saturating_sub(before);
        assert!(held < HELD, "{} MiB are held after {number}", held / MIB);
    }
    in_time(async {
        while session.open_streams() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    drop(streams);
    // And what was dropped counts no more.
    peer.send_data(201, Flags::SYN | Flags::FIN, b"fine").await.unwrap();
    let mut stream = in_time(session.accept_stream()).await.unwrap();
    assert_eq!(read_all(&mut stream).await.unwrap(), b"fine");
}

/// A receiver that may have many handshakes at once keeps nothing of those that are over.
async fn handshakes_that_are_over(before: usize) {
    let (connector, acceptor) = network();
    let config = Config::builder().max_handshakes_in_flight(1 << 16).build().unwrap();
    let receiver = MuxManager::receive_with(acceptor).config(config).start().await.unwrap();
    for _ in 0..4_000 {
        drop(connector.connect().await.unwrap());
        tokio::task::yield_now().await;
    }
    in_time(async {
        while MEMORY.current_usage() > before + MIB {
            tokio::task::yield_now().await;
        }
    })
    .await;
    in_time(receiver.shutdown()).await;
}

/// One after the other: they count the memory of the whole process.
#[tokio::test]
async fn what_a_peer_can_make_this_side_hold() {
    let before = MEMORY.current_usage();
    tiny_frames_in_many_streams(before).await;
    // A session that is gone holds nothing.
    in_time(async {
        while MEMORY.current_usage() > before + MIB {
            tokio::task::yield_now().await;
        }
    })
    .await;
    tiny_frames_in_streams_that_have_ended(before).await;
    handshakes_that_are_over(before).await;
}
