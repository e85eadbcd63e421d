//! Bulk in the other direction, after a half-close.

use rand::Rng;
use tokio::io::AsyncWriteExt;

use super::item::{Failed, Work, WorkItem};
use super::protocol::{Bytes, Header, Request, expect_end, expect_greeting};

pub(super) const WORK: Work = Work {
    name: "download",
    about: "Says FIN after a header, and reads bytes afterwards",
    moves: |bytes| bytes,
    pauses_ms: 0,
    foreign: true,
    drawn: true,
    run: |item| Box::pin(download(item)),
};

async fn download(item: &mut WorkItem) -> Result<(), Failed> {
    let seed = item.rng.next_u64();
    let (mut reader, mut writer) = item.open().await?.into_split();
    let header = Header { request: Request::Source, amount: u32::try_from(item.bytes).unwrap_or(u32::MAX), seed };
    writer.write_all(&header.encode()).await?;
    writer.shutdown().await?;
    expect_greeting(&mut reader).await?;
    Bytes::new(seed, item.bytes).expect(&mut reader).await?;
    expect_end(&mut reader).await
}
