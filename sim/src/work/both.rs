//! Two sides that both write first.

use std::time::Duration;

use futures_util::future::try_join_all;
use rand::Rng;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use super::item::{Failed, Work, WorkItem};
use super::protocol::{Bytes, Header, Request, expect_end, expect_greeting};
use crate::verdict::Violation;

pub(super) const WORK: Work = Work {
    name: "both",
    about: "Both sides write more than sockets hold, within the windows of two streams, before either reads",
    moves: |_| (STREAMS * BYTES) as u64,
    pauses_ms: 0,
    foreign: true,
    drawn: true,
    run: |item| Box::pin(both(item)),
};

const STREAMS: usize = 2;
/// Below the first window of a stream, so that nobody waits for credit. The sockets hold half of what the streams
/// have together.
const BYTES: usize = 128 << 10;
const WITHIN: Duration = Duration::from_secs(10);

async fn both(item: &mut WorkItem) -> Result<(), Failed> {
    let seeds = [(); STREAMS].map(|()| item.rng.next_u64());
    let all = try_join_all(seeds.map(|seed| write_first(item, seed)));
    if !item.calm {
        all.await?;
        return Ok(());
    }
    let within = WITHIN + item.bulk;
    match timeout(within, all).await {
        Ok(done) => done.map(|_| ()),
        Err(_) => {
            let text = format!("both sides write, and each has waited {within:?} for the other to read");
            Err(Violation::new("G16", text).into())
        }
    }
}

async fn write_first(item: &WorkItem, seed: u64) -> Result<(), Failed> {
    let (mut reader, mut writer) = item.open().await?.into_split();
    let header = Header { request: Request::Both, amount: u32::try_from(BYTES).unwrap_or(u32::MAX), seed };
    writer.write_all(&header.encode()).await?;
    Bytes::new(seed, BYTES).send(&mut writer).await?;
    writer.shutdown().await?;
    expect_greeting(&mut reader).await?;
    Bytes::new(seed, BYTES).expect(&mut reader).await?;
    expect_end(&mut reader).await
}
