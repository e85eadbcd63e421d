//! A protocol in which the server speaks first.

use rand::Rng;
use tokio::io::AsyncWriteExt;

use super::item::{Failed, LITTLE, Work, WorkItem};
use super::protocol::{Bytes, Header, Request, expect_end, expect_greeting};

pub(super) const WORK: Work = Work {
    name: "greeted",
    about: "Waits for the other side's greeting before it writes anything",
    moves: |_| LITTLE,
    pauses_ms: 0,
    foreign: true,
    drawn: true,
    run: |item| Box::pin(greeted(item)),
};

async fn greeted(item: &mut WorkItem) -> Result<(), Failed> {
    let seed = item.rng.next_u64();
    let (mut reader, mut writer) = item.open().await?.into_split();
    expect_greeting(&mut reader).await?;
    let header = Header { request: Request::Source, amount: 100, seed };
    writer.write_all(&header.encode()).await?;
    writer.shutdown().await?;
    Bytes::new(seed, 100).expect(&mut reader).await?;
    expect_end(&mut reader).await
}
