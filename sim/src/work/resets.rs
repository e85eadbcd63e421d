//! Streams that their opener resets.

use rand::{Rng, RngExt};
use tokio::io::AsyncWriteExt;

use super::item::{Failed, Work, WorkItem};
use super::protocol::{Bytes, Header, Request};
use super::request::exchange;

pub(super) const WORK: Work = Work {
    name: "resets",
    about: "Drops streams after any byte of what it has promised: the other side must not take it for the end",
    moves: |bytes| bytes * (TIMES_MAX as u64 + 1),
    pauses_ms: 0,
    foreign: true,
    drawn: true,
    run: |item| Box::pin(resets(item)),
};

const TIMES_MAX: usize = 4;

async fn resets(item: &mut WorkItem) -> Result<(), Failed> {
    for _ in 0..item.rng.random_range(1..=TIMES_MAX) {
        let seed = item.rng.next_u64();
        let promised = item.bytes + 1;
        let (_reader, mut writer) = item.open().await?.into_split();
        let header = Header { request: Request::Sink, amount: u32::try_from(promised).unwrap_or(u32::MAX), seed };
        let mut bytes = header.encode().to_vec();
        bytes.extend(Bytes::new(seed, promised).all());
        let sent = item.rng.random_range(0..bytes.len());
        writer.write_all(&bytes[..sent]).await?;
        item.counters.add("a stream was dropped by its opener before its end", 1);
    }
    let seed = item.rng.next_u64();
    exchange(item.open().await?, seed, 100).await
}
