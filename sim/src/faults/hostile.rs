//! Clients that prove themselves, and then break every rule there is.

use std::io;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::{Rng, RngExt};
use rand_chacha::ChaCha8Rng;
use testkit::frames::{Flags, Header, Kind, Peer};
use tokio::time::{sleep, timeout};

use super::kind::{Blocks, Concerns, FaultState, Harm, Kind as FaultKind, nothing};
use crate::context::{OTHER, RECEIVER, RunContext};
use crate::interpose::elapsed;
use crate::net::{Conditions, Socket};
use crate::random::rng;
use crate::work::protocol;

pub(super) const HOSTILE: FaultKind = FaultKind {
    name: "hostile clients",
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
/// How many frames a flood has.
const FLOOD: u32 = 5_000;
/// The stream that it opens.
const STREAM: u32 = 1;

/// Proves itself, and misbehaves.
async fn come(context: &RunContext, ends: Duration, rng: ChaCha8Rng) -> io::Result<()> {
    let connector = context.connector(OTHER, Arc::new(Mutex::new(RECEIVER)), Conditions::default());
    let mut peer = Peer::new(connector.dial().await.map_err(io::Error::other)?);
    let (ping, _) = peer.recv_until(|header| header.kind == Kind::Ping && header.flags == Flags::SYN).await?;
    peer.send(Header::pong(ping.length), &[]).await?;
    let misbehaved = misbehave(peer, ends, rng).await;
    if misbehaved.is_err() {
        context.counters.add("a hostile client was shut out", 1);
    }
    misbehaved
}

/// Fails when the receiver has had enough.
async fn misbehave(mut peer: Peer<Socket>, ends: Duration, mut rng: ChaCha8Rng) -> io::Result<()> {
    // What it sends is written down by nobody, so that streams of others stay those that the checks know.
    let header = protocol::Header { request: protocol::Request::Nonsense, amount: 0, seed: 0 }.encode();
    match rng.random_range(0..8) {
        // It acknowledges nothing, and answers pings.
        0 => return ignore(&mut peer).await,
        // It is deaf and dumb from now on.
        1 => {}
        2 => {
            for value in 0..FLOOD {
                peer.send(Header::ping(value), &[]).await?;
            }
        }
        // More streams than anybody takes, and it reads nothing.
        3 => {
            for stream in 0..FLOOD {
                peer.send(Header::window_update(2 * stream + 1, Flags::SYN, 0), &[]).await?;
            }
        }
        4 => {
            peer.send_data(STREAM, Flags::SYN, &header).await?;
            for _ in 0..FLOOD {
                peer.send_data(STREAM, Flags(0), b"x").await?;
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
        _ => {
            let mut noise = [0; 64];
            rng.fill_bytes(&mut noise);
            // No version of yamux that there is.
            noise[0] |= 0x80;
            peer.send_raw(&noise).await?;
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
