//! Bulk in one direction, confirmed at its end.

use rand::Rng;
use tokio::io::AsyncWriteExt;

use super::item::{Failed, Work, WorkItem};
use super::protocol::{Bytes, Header, Request, expect_confirmation, expect_end, expect_greeting};

pub(super) const WORK: Work = Work {
    name: "upload",
    about: "Sends bytes, says FIN, and reads a confirmation afterwards",
    moves: |bytes| bytes,
    pauses_ms: 0,
    foreign: true,
    drawn: true,
    run: |item| Box::pin(upload(item)),
};

async fn upload(item: &mut WorkItem) -> Result<(), Failed> {
    let seed = item.rng.next_u64();
    let (mut reader, mut writer) = item.open().await?.into_split();
    let header = Header { request: Request::Sink, amount: u32::try_from(item.bytes).unwrap_or(u32::MAX), seed };
    writer.write_all(&header.encode()).await?;
    Bytes::new(seed, item.bytes).send(&mut writer).await?;
    writer.shutdown().await?;
    expect_greeting(&mut reader).await?;
    expect_confirmation(&mut reader, seed).await?;
    expect_end(&mut reader).await
}
