//! A reply that is dropped in the middle.

use rand::Rng;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::piece::{Failed, Piece, Work};
use super::protocol::{Header, Wish, expect_greeting};
use crate::verdict::Broken;

pub(super) const WORK: Work = Work {
    name: "cut short",
    about: "Reads a reply that the other side drops in the middle: it must not look complete",
    drawn: true,
    run: |piece| Box::pin(cut_short(piece)),
};

async fn cut_short(piece: &mut Piece) -> Result<(), Failed> {
    let seed = piece.rng.next_u64();
    let (mut reader, mut writer) = piece.open().await?.into_split();
    let header = Header { wish: Wish::CutShort, amount: u32::try_from(piece.bytes).unwrap_or(u32::MAX), seed };
    writer.write_all(&header.encode()).await?;
    writer.shutdown().await?;
    expect_greeting(&mut reader).await?;
    let mut reply = Vec::new();
    match reader.read_to_end(&mut reply).await {
        // What must happen; the session lives.
        Err(_) if !piece.session.is_closed() => Ok(()),
        Err(error) => Err(error.into()),
        Ok(_) => {
            let text = format!("a reply that was dropped ended in good order after {} bytes", reply.len());
            Err(Broken::new("G17", text).into())
        }
    }
}
