//! Bulk in one direction, confirmed at its end.

use rand::Rng;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::piece::{Failed, Piece, Work};
use super::protocol::{Bytes, Header, Wish, expect_end, expect_greeting};
use crate::verdict::Broken;

pub(super) const WORK: Work = Work {
    name: "upload",
    about: "Sends bytes, says FIN, and reads a confirmation afterwards",
    drawn: true,
    run: |piece| Box::pin(upload(piece)),
};

async fn upload(piece: &mut Piece) -> Result<(), Failed> {
    let seed = piece.rng.next_u64();
    let (mut reader, mut writer) = piece.open().await?.into_split();
    let header = Header { wish: Wish::Sink, amount: u32::try_from(piece.bytes).unwrap_or(u32::MAX), seed };
    writer.write_all(&header.encode()).await?;
    Bytes::new(seed, piece.bytes).send(&mut writer).await?;
    writer.shutdown().await?;
    expect_greeting(&mut reader).await?;
    let mut confirmed = [0; 8];
    reader.read_exact(&mut confirmed).await?;
    if confirmed != seed.to_be_bytes() {
        return Err(Broken::new("G18", "a confirmation is not what was sent").into());
    }
    expect_end(&mut reader).await
}
