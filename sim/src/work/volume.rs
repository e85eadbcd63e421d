//! Much in one write.

use rand::{Rng, RngExt};
use tokio::io::AsyncWriteExt;

use super::item::{Failed, Work, WorkItem};
use super::protocol::{Bytes, Header, Request, expect_confirmation, expect_end, expect_greeting};

pub(super) const WORK: Work = Work {
    name: "volume",
    about: "Sends up to 6 MiB in one write and reads a confirmation, or has as much sent to it",
    moves: |_| MUCH as u64,
    pauses_ms: 1_000,
    foreign: true,
    drawn: true,
    run: |item| Box::pin(volume(item)),
};

/// How often it is much, one in so many, and how much.
const SELDOM: u32 = 4;
const MUCH: usize = 6 << 20;
/// How often it is sent from here, one in so many.
const UPLOADS: u32 = 3;

async fn volume(item: &mut WorkItem) -> Result<(), Failed> {
    let seed = item.rng.next_u64();
    let bytes = if item.lossless && item.rng.random_ratio(1, SELDOM) {
        item.rng.random_range(MUCH / 2..=MUCH)
    } else {
        item.bytes
    };
    let is_upload = item.rng.random_ratio(1, UPLOADS);
    let (mut reader, mut writer) = item.open().await?.into_split();
    let request = if is_upload { Request::Sink } else { Request::Source };
    let header = Header { request, amount: u32::try_from(bytes).unwrap_or(u32::MAX), seed };
    writer.write_all(&header.encode()).await?;
    if is_upload {
        writer.write_all(&Bytes::new(seed, bytes).all()).await?;
    }
    writer.shutdown().await?;
    expect_greeting(&mut reader).await?;
    if is_upload {
        expect_confirmation(&mut reader, seed).await?;
    } else {
        Bytes::new(seed, bytes).expect(&mut reader).await?;
    }
    expect_end(&mut reader).await?;
    if is_upload && bytes > 1 << 20 {
        item.counters.add("more than 1 MiB was sent in one write", 1);
    }
    Ok(())
}
