//! More streams at once than wait anywhere.

use futures_util::future::try_join_all;
use rand::{Rng, RngExt};

use super::item::{Failed, LITTLE, Work, WorkItem};
use super::request::exchange;

pub(super) const WORK: Work = Work {
    name: "burst",
    about: "Opens up to 600 streams at once, for a short request on each: where there is room, none is reset",
    moves: |_| 2 * LITTLE,
    pauses_ms: 0,
    foreign: true,
    drawn: true,
    run: |item| Box::pin(burst(item)),
};

/// How often there are many, one in so many.
const MANY: u32 = 6;
const STREAMS: std::ops::RangeInclusive<usize> = 130..=600;
const FEW: std::ops::RangeInclusive<usize> = 1..=20;

async fn burst(item: &mut WorkItem) -> Result<(), Failed> {
    // A session that opens few streams must have room for those of all callers.
    let streams = if item.rng.random_ratio(1, MANY) && !item.is_limited { STREAMS } else { FEW };
    let streams = item.rng.random_range(streams);
    let seeds = (0..streams).map(|_| item.rng.next_u64()).collect::<Vec<_>>();
    let session = &item.session;
    let all = seeds.into_iter().map(|seed| async move {
        let stream = session.open_stream().await.map_err(std::io::Error::from)?;
        exchange(stream, seed, 10).await
    });
    try_join_all(all).await?;
    if streams >= *STREAMS.start() {
        item.counters.add("a burst of streams was served", 1);
    }
    Ok(())
}
