//! A peer that has said FIN and gone, while we write.

use std::io;
use std::time::Duration;

use rand::{Rng, RngExt};
use tokio::io::AsyncWriteExt;
use tokio::time::{sleep, timeout};

use super::piece::{Failed, Piece, Work};
use super::protocol::{Bytes, Header, Wish};
use crate::verdict::Broken;

pub(super) const WORK: Work = Work {
    name: "deaf",
    about: "Writes to a stream that the other side has left after its FIN: the writer must be told",
    drawn: true,
    run: |piece| Box::pin(deaf(piece)),
};

/// How long the other side discards at the most (10 s), and as long again for a path that is slow.
const TOLD_WITHIN: Duration = Duration::from_secs(20);
/// What a writer in a hurry writes at once: it comes to the most that the other side discards.
const MUCH: usize = 64 << 10;
/// What one writes who takes his time, and how often: it comes to the time after which nothing is discarded any more.
const LITTLE: usize = 1 << 10;
const PAUSE: Duration = Duration::from_millis(500);

async fn deaf(piece: &mut Piece) -> Result<(), Failed> {
    let (seed, hurries) = (piece.rng.next_u64(), piece.rng.random_ratio(1, 4));
    let (_reader, mut writer) = piece.open().await?.into_split();
    let header = Header { wish: Wish::Deaf, amount: 0, seed };
    writer.write_all(&header.encode()).await?;
    let write = async {
        loop {
            let part = if hurries { MUCH } else { LITTLE };
            if let Err(error) = Bytes::new(seed, part).send(&mut writer).await {
                return error;
            }
            if !hurries {
                sleep(PAUSE).await;
            }
        }
    };
    match timeout(TOLD_WITHIN, write).await {
        // What must happen; the session lives.
        Ok(_) if !piece.session.is_closed() => Ok(()),
        Ok(error) => Err(error.into()),
        Err(_) if piece.calm => {
            let text = format!("a writer was not told within {TOLD_WITHIN:?} that its reader had gone");
            Err(Broken::new("G17", text).into())
        }
        Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut).into()),
    }
}
