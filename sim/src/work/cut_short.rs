//! A reply that is dropped in the middle.

use rand::Rng;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::item::{Failed, Work, WorkItem};
use super::protocol::{Header, Request, expect_greeting};
use crate::verdict::Violation;

pub(super) const WORK: Work = Work {
    name: "cut short",
    about: "Reads a reply that the other side drops in the middle: it must not look complete",
    moves: |bytes| bytes,
    pauses_ms: 0,
    foreign: false,
    drawn: true,
    run: |item| Box::pin(cut_short(item)),
};

async fn cut_short(item: &mut WorkItem) -> Result<(), Failed> {
    let seed = item.rng.next_u64();
    let (mut reader, mut writer) = item.open().await?.into_split();
    let header = Header { request: Request::CutShort, amount: u32::try_from(item.bytes).unwrap_or(u32::MAX), seed };
    writer.write_all(&header.encode()).await?;
    writer.shutdown().await?;
    expect_greeting(&mut reader).await?;
    let mut reply = Vec::new();
    match reader.read_to_end(&mut reply).await {
        // What must happen; the session lives.
        Err(_) if !item.session.is_closed() => Ok(()),
        Err(error) => Err(error.into()),
        Ok(_) => {
            let text = format!("a reply that was dropped ended cleanly after {} bytes", reply.len());
            Err(Violation::new("G17", text).into())
        }
    }
}
