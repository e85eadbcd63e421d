//! A reader to whom nobody speaks, and whose session may end meanwhile.

use std::io;
use std::pin::pin;
use std::time::Duration;

use evermux::{CloseReason, ReadHalf, Session};
use futures_util::FutureExt;
use rand::{Rng, RngExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::piece::{Failed, Piece, Work};
use super::protocol::{Header, Wish, expect_greeting};
use crate::verdict::Broken;

pub(super) const WORK: Work = Work {
    name: "parked",
    about: "Reads from a stream on which nothing comes: whichever side ends the session, the reader must be told",
    drawn: true,
    run: |piece| Box::pin(parked(piece)),
};

/// Two steps: the streams of a session learn of its end in the same one as whoever waits for it.
const TOLD_WITHIN: Duration = Duration::from_millis(10);
/// One in so many waits longer than a session drains.
const PATIENT: u32 = 6;
const PATIENCE: Duration = Duration::from_secs(12);
const PATIENCE_OF_OTHERS_MS: u64 = 2_000;

async fn parked(piece: &mut Piece) -> Result<(), Failed> {
    let seed = piece.rng.next_u64();
    let patience = if piece.rng.random_ratio(1, PATIENT) {
        PATIENCE
    } else {
        Duration::from_millis(piece.rng.random_range(0..PATIENCE_OF_OTHERS_MS))
    };
    let (mut reader, mut writer) = piece.open().await?.into_split();
    writer.write_all(&Header { wish: Wish::Silent, amount: 0, seed }.encode()).await?;
    expect_greeting(&mut reader).await?;
    let mut told = pin!(told(&piece.session, reader));
    match timeout(patience, &mut told).await {
        Ok(read) => match read? {
            Ok(read) => {
                let text = format!("a read gave {read} bytes of a stream on which nothing was said");
                Err(Broken::new("G17", text).into())
            }
            Err(error) => {
                if let Some(CloseReason::Closed) = piece.session.closed().now_or_never() {
                    piece.counters.add("a reader waited when its own side closed the session", 1);
                }
                Err(error.into())
            }
        },
        Err(_) => {
            writer.shutdown().await?;
            match told.await?? {
                0 => Ok(()),
                _ => Err(Broken::new("G18", "a stream carried more bytes than were sent").into()),
            }
        }
    }
}

/// What a read comes to, which must be when its session ends at the latest.
async fn told(session: &Session, mut reader: ReadHalf) -> Result<io::Result<usize>, Broken> {
    // A task of its own: what wakes this one must not wake the reader too.
    let mut reading = JoinSet::new();
    reading.spawn_local(async move { reader.read(&mut [0]).await });
    let ended = async {
        let reason = session.closed().await;
        sleep(TOLD_WITHIN).await;
        reason
    };
    tokio::select! {
        biased;
        Some(read) = reading.join_next() => Ok(read.unwrap_or_else(|error| Err(error.into()))),
        reason = ended => {
            Err(Broken::new("G17", format!("a reader was not told that its session has ended: {reason}")))
        }
    }
}
