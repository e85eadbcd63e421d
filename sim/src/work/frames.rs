//! A stream of more frames than any counter of them holds, to a reader who is never done.

use rand::{Rng, RngExt};
use tokio::io::AsyncWriteExt;

use super::item::{Failed, Work, WorkItem};
use super::protocol::{Bytes, Header, Request, expect_confirmation, expect_end, expect_greeting};

pub(super) const WORK: Work = Work {
    name: "frames",
    about: "Sends up to 70,000 short frames on one stream, to a reader that is always behind",
    moves: |_| (MANY * (FRAME + 12)) as u64,
    pauses_ms: 5_500,
    foreign: true,
    drawn: true,
    run: |item| Box::pin(frames(item)),
};

/// How often there are many, one in so many.
const SELDOM: u32 = 60;
const MANY: usize = 70_000;
const FEW: usize = 2_000;
/// Bytes of a frame.
const FRAME: usize = 16;

async fn frames(item: &mut WorkItem) -> Result<(), Failed> {
    let seed = item.rng.next_u64();
    let frames = if item.lossless && item.rng.random_ratio(1, SELDOM) { MANY } else { item.rng.random_range(1..=FEW) };
    let bytes = frames * FRAME;
    let (mut reader, mut writer) = item.open().await?.into_split();
    let header = Header { request: Request::Lagging, amount: u32::try_from(bytes).unwrap_or(u32::MAX), seed };
    writer.write_all(&header.encode()).await?;
    let mut bytes = Bytes::new(seed, bytes);
    while bytes.left() > 0 {
        for frame in bytes.part().chunks(FRAME) {
            writer.write_all(frame).await?;
        }
    }
    writer.shutdown().await?;
    expect_greeting(&mut reader).await?;
    expect_confirmation(&mut reader, seed).await?;
    expect_end(&mut reader).await?;
    if frames == MANY {
        item.counters.add("a stream of 70,000 frames arrived whole", 1);
    }
    Ok(())
}
