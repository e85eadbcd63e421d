//! A stream whose reader takes its time, beside one that is in a hurry.

use std::time::Duration;

use rand::{Rng, RngExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use super::item::{Failed, Work, WorkItem};
use super::protocol::{Bytes, Header, Request, expect_greeting};
use super::request::exchange;
use crate::verdict::Violation;

pub(super) const WORK: Work = Work {
    name: "hog",
    about: "Fills a stream that the other side does not read for a while, and sends a request beside it",
    moves: |_| BYTES as u64,
    pauses_ms: 3_000,
    foreign: true,
    drawn: true,
    run: |item| Box::pin(hog(item)),
};

/// Over the first window of a stream: the writer waits for credit.
const BYTES: usize = 300 << 10;

async fn hog(item: &mut WorkItem) -> Result<(), Failed> {
    let (seed, other) = (item.rng.next_u64(), item.rng.next_u64());
    let unread = Duration::from_millis(item.rng.random_range(2_000..3_000));
    // Accepted when the one after it is.
    let beside = item.open().await?;
    let (mut reader, mut writer) = item.open().await?.into_split();
    let amount = u32::try_from(unread.as_millis()).unwrap_or(u32::MAX);
    writer.write_all(&Header { request: Request::Slow, amount, seed }.encode()).await?;
    expect_greeting(&mut reader).await?;
    let fill = async {
        Bytes::new(seed, BYTES).send(&mut writer).await?;
        writer.shutdown().await?;
        let mut read = [0; 8];
        reader.read_exact(&mut read).await?;
        if u64::from_be_bytes(read) != BYTES as u64 {
            return Err(Violation::new("G17", "a slow reader came to the end of a stream too early").into());
        }
        Ok(())
    };
    let beside = async {
        let begun = Instant::now();
        exchange(beside, other, 1_000).await?;
        if item.calm && begun.elapsed() >= unread {
            let text = format!("a request waited {:?} for a stream beside it that nobody reads", begun.elapsed());
            return Err(Violation::new("G16", text).into());
        }
        Ok(())
    };
    let (filled, beside): (Result<(), Failed>, Result<(), Failed>) = tokio::join!(fill, beside);
    beside?;
    filled
}
