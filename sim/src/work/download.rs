//! Bulk in the other direction, after a half-close.

use rand::Rng;
use tokio::io::AsyncWriteExt;

use super::piece::{Failed, Piece, Work};
use super::protocol::{Bytes, Header, Wish, expect_end, expect_greeting};

pub(super) const WORK: Work = Work {
    name: "download",
    about: "Says FIN after a header, and reads bytes afterwards",
    drawn: true,
    run: |piece| Box::pin(download(piece)),
};

async fn download(piece: &mut Piece) -> Result<(), Failed> {
    let seed = piece.rng.next_u64();
    let (mut reader, mut writer) = piece.open().await?.into_split();
    let header = Header { wish: Wish::Source, amount: u32::try_from(piece.bytes).unwrap_or(u32::MAX), seed };
    writer.write_all(&header.encode()).await?;
    writer.shutdown().await?;
    expect_greeting(&mut reader).await?;
    Bytes::new(seed, piece.bytes).expect(&mut reader).await?;
    expect_end(&mut reader).await
}
