//! A caller who leaves the choice of a session to the manager.

use std::io;
use std::time::Duration;

use rand::{Rng, RngExt};
use tokio::time::sleep;

use super::item::Work;
use super::request::exchange;

/// How long it waits for a stream at most, where it does not wait for ever.
const PATIENCE_MS: u64 = 20_000;

pub(super) const WORK: Work = Work {
    name: "moves on",
    about: "Opens its stream through the manager, which moves on to the next session when one is lost",
    moves: |bytes| bytes,
    pauses_ms: 1_500,
    foreign: true,
    drawn: true,
    run: |item| {
        Box::pin(async {
            // Long enough for a session to be lost, and another one to be made.
            sleep(Duration::from_millis(item.rng.random_range(0..1_500))).await;
            let opened = if item.rng.random() {
                item.manager.open_stream().await
            } else {
                item.manager.open_stream_within(Duration::from_millis(item.rng.random_range(0..PATIENCE_MS))).await
            };
            let stream = opened.map_err(io::Error::from)?;
            if stream.session_id() != item.session.id() {
                item.moved.set(true);
                item.counters.add("a stream was opened on the next session", 1);
            }
            exchange(stream, item.rng.next_u64(), item.bytes).await
        })
    },
};
