//! A protocol in which the server speaks first.

use rand::Rng;
use tokio::io::AsyncWriteExt;

use super::piece::{Failed, Piece, Work};
use super::protocol::{Bytes, Header, Wish, expect_end, expect_greeting};

pub(super) const WORK: Work = Work {
    name: "greeted",
    about: "Waits for the other side's greeting before it writes anything",
    drawn: true,
    run: |piece| Box::pin(greeted(piece)),
};

async fn greeted(piece: &mut Piece) -> Result<(), Failed> {
    let seed = piece.rng.next_u64();
    let (mut reader, mut writer) = piece.open().await?.into_split();
    expect_greeting(&mut reader).await?;
    let header = Header { wish: Wish::Source, amount: 100, seed };
    writer.write_all(&header.encode()).await?;
    writer.shutdown().await?;
    Bytes::new(seed, 100).expect(&mut reader).await?;
    expect_end(&mut reader).await
}
