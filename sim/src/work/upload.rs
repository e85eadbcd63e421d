//! Bulk in one direction, confirmed at its end.

use rand::Rng;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::item::{Failed, Work, WorkItem};
use super::protocol::{Bytes, Header, Request, expect_end, expect_greeting};
use crate::verdict::Violation;

pub(super) const WORK: Work = Work {
    name: "upload",
    about: "Sends bytes, says FIN, and reads a confirmation afterwards",
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
    let mut confirmed = [0; 8];
    reader.read_exact(&mut confirmed).await?;
    if confirmed != seed.to_be_bytes() {
        return Err(Violation::new("G18", "a confirmation is not what was sent").into());
    }
    expect_end(&mut reader).await
}
