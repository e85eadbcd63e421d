//! A caller who loses patience.

use std::time::Duration;

use rand::{Rng, RngExt};
use tokio::time::timeout;

use super::item::{Failed, Work, WorkItem};
use super::request::exchange;

pub(super) const WORK: Work = Work {
    name: "cancelled",
    about: "Drops requests at any moment, opening and waiting included, and then does one to its end",
    moves: |bytes| bytes * (TIMES_MAX as u64 + 1),
    pauses_ms: 750,
    foreign: true,
    drawn: true,
    run: |item| Box::pin(cancelled(item)),
};

const TIMES_MAX: usize = 5;

async fn cancelled(item: &mut WorkItem) -> Result<(), Failed> {
    for _ in 0..item.rng.random_range(1..=TIMES_MAX) {
        let seed = item.rng.next_u64();
        let patience = Duration::from_millis(item.rng.random_range(0..150));
        let request =
            async { exchange(item.session.open_stream().await.map_err(std::io::Error::from)?, seed, item.bytes).await };
        match timeout(patience, request).await {
            Ok(done) => done?,
            Err(_) => item.counters.add("request dropped by its caller", 1),
        }
    }
    let seed = item.rng.next_u64();
    exchange(item.open().await?, seed, 100).await
}
