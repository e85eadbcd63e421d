//! A stream on which little happens for long.

use std::time::Duration;

use rand::{Rng, RngExt};
use tokio::io::AsyncWriteExt;
use tokio::time::sleep;

use super::item::{Failed, LITTLE, Work, WorkItem};
use super::protocol::{Bytes, Header, Request, expect_end, expect_greeting};

pub(super) const WORK: Work = Work {
    name: "trickle",
    about: "Sends a few bytes at a time, with pauses of up to two seconds, and gets them back",
    moves: |_| LITTLE,
    pauses_ms: 8_000,
    foreign: true,
    drawn: true,
    run: |item| Box::pin(trickle(item)),
};

const PARTS_MAX: usize = 4;

async fn trickle(item: &mut WorkItem) -> Result<(), Failed> {
    let seed = item.rng.next_u64();
    let parts = item.rng.random_range(1..=PARTS_MAX);
    let (mut reader, mut writer) = item.open().await?.into_split();
    let header = Header { request: Request::Echo, amount: u32::try_from(parts).unwrap_or(u32::MAX), seed };
    writer.write_all(&header.encode()).await?;
    expect_greeting(&mut reader).await?;
    let bytes = Bytes::new(seed, parts).part();
    let mut expected = Bytes::new(seed, parts);
    for byte in bytes {
        writer.write_all(&[byte]).await?;
        sleep(Duration::from_millis(item.rng.random_range(0..2_000))).await;
    }
    expected.expect(&mut reader).await?;
    writer.shutdown().await?;
    expect_end(&mut reader).await
}
