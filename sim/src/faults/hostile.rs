//! Clients that prove themselves, and then break every rule there is.

use std::io;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::{Rng, RngExt};
use rand_chacha::ChaCha8Rng;
use testkit::frames::{Flags, Header, INITIAL_WINDOW, Kind, Peer};
use tokio::time::{sleep, timeout};

use super::kind::{Blocks, Concerns, FaultState, Harm, Kind as FaultKind, nothing};
use crate::context::{OTHER, RECEIVER, RunContext};
use crate::interpose::elapsed;
use crate::net::{Conditions, Socket};
use crate::plan::HOSTILE;
use crate::random::rng;
use crate::work::protocol;

pub(super) const CLIENTS: FaultKind = FaultKind {
    name: HOSTILE,
    about: "Up to 8 clients that prove themselves, and then flood, never acknowledge, break off, or speak nonsense",
    concerns: Concerns::Others,
    harm: Harm::None,
    blocks: Blocks::Meanwhile,
    begin: |world, fault| {
        let (ends, many) = (fault.end(), fault.between(1, MANY));
        for client in 0..many {
            let context = Rc::clone(&world.context);
            let rng = rng(context.seed, &format!("hostile client {client} since {}", fault.at_ms));
            world.spawn_on(OTHER, async move {
                sleep(Duration::from_millis(client * 11)).await;
                let _ = timeout(ends.saturating_sub(elapsed()), come(&context, ends, rng)).await;
            });
        }
        FaultState::default()
    },
    end: nothing,
};

/// How many come at most.
const MANY: u64 = 8;
/// How many frames a flood has; how many where the answers, which it does not read, fill every buffer; and how many bytes
/// that nobody reads, a frame each: more than a session may keep.
const FLOOD: u32 = 5_000;
const FLOOD_UNREAD: u32 = 30_000;
const FLOOD_OF_BYTES: u32 = 70_000;
/// The stream that it opens.
const STREAM: u32 = 1;

/// Proves itself, and misbehaves.
async fn come(context: &RunContext, ends: Duration, rng: ChaCha8Rng) -> io::Result<()> {
    let connector = context.connector(OTHER, Arc::new(Mutex::new(RECEIVER)), Conditions::default());
    let mut peer = Peer::new(connector.dial().await.map_err(io::Error::other)?);
    let (ping, _) = peer.recv_until(|header| header.kind == Kind::Ping && header.flags == Flags::SYN).await?;
    peer.send(Header::pong(ping.length), &[]).await?;
    let misbehaved = misbehave(peer, ping, ends, rng).await;
    if misbehaved.is_err() {
        context.counters.add("a hostile client was shut out", 1);
    }
    misbehaved
}

/// Fails when the receiver has had enough. `ping` was the receiver's first.
async fn misbehave(mut peer: Peer<Socket>, ping: Header, ends: Duration, mut rng: ChaCha8Rng) -> io::Result<()> {
    // What it sends is written down by nobody, so that streams of others stay those that the checks know.
    let header = protocol::Header { request: protocol::Request::Nonsense, amount: 0, seed: 0 }.encode();
    match rng.random_range(0..10) {
        // It acknowledges nothing, and answers pings.
        0 => return ignore(&mut peer).await,
        // It is deaf and dumb from now on.
        1 => {}
        // It asks, and never hears the answers.
        2 => {
            for value in 0..FLOOD_UNREAD {
                peer.send(Header::ping(value), &[]).await?;
            }
        }
        // More streams than anybody takes, and it reads nothing.
        3 => {
            for stream in 0..FLOOD_UNREAD {
                peer.send(Header::window_update(2 * stream + 1, Flags::SYN, 0), &[]).await?;
            }
        }
        // The smallest frames that there are, which nobody reads: on one stream, or on two, of which one may end first.
        4 => {
            let streams = rng.random_range(1..=2);
            let ignored = protocol::Header { request: protocol::Request::Ignored, amount: 2_000, seed: 0 }.encode();
            for stream in 0..streams {
                peer.send_data(STREAM + 2 * stream, Flags::SYN, &ignored).await?;
            }
            let ends = rng.random_range(0..2 * FLOOD_OF_BYTES);
            for frame in 0..FLOOD_OF_BYTES {
                let flags = if frame == ends { Flags::FIN } else { Flags(0) };
                let stream = if frame > ends { STREAM } else { STREAM + 2 * (frame % streams) };
                peer.send_data(stream, flags, b"x").await?;
            }
            return ignore(&mut peer).await;
        }
        // A frame without its end.
        5 => {
            peer.send_data(STREAM, Flags::SYN, &header).await?;
            peer.send(Header::data(STREAM, Flags(0), 100_000), b"no more than this").await?;
        }
        // Streams that are reset as soon as they are opened.
        6 => {
            for stream in 0..FLOOD {
                peer.send(Header::window_update(2 * stream + 1, Flags::SYN, 0), &[]).await?;
                peer.send(Header::window_update(2 * stream + 1, Flags::RST, 0), &[]).await?;
            }
            return ignore(&mut peer).await;
        }
        7 => {
            let mut noise = [0; 64];
            rng.fill_bytes(&mut noise);
            // No version of yamux that there is, or no kind of frame.
            if rng.random() {
                noise[0] |= 0x80;
            } else {
                noise[..2].copy_from_slice(&[0, 9]);
            }
            peer.send_raw(&noise).await?;
            return ignore(&mut peer).await;
        }
        // A goodbye with a word that nobody knows, or that means something.
        8 => {
            peer.send(Header::go_away(rng.random_range(0..8)), &[]).await?;
            return ignore(&mut peer).await;
        }
        // One frame against the rules.
        _ => {
            peer.send_data(STREAM, Flags::SYN, &header).await?;
            let frames = [
                Header::data(0, Flags::SYN, 0),
                // The other side's streams have even ids.
                Header::window_update(STREAM + 1, Flags::SYN, 0),
                Header::window_update(STREAM, Flags::SYN, 0),
                Header::window_update(STREAM, Flags(0), u32::MAX),
                Header::data(STREAM, Flags(0), 2 * INITIAL_WINDOW),
                // The server's proof, which is ours to say.
                ping,
            ];
            peer.send(frames[rng.random_range(0..frames.len())], &[]).await?;
            return ignore(&mut peer).await;
        }
    }
    sleep(ends.saturating_sub(elapsed())).await;
    Ok(())
}

/// Answers pings, and nothing else, until it is shut out.
async fn ignore(peer: &mut Peer<Socket>) -> io::Result<()> {
    peer.answer_pings(true);
    loop {
        peer.recv().await?;
    }
}
