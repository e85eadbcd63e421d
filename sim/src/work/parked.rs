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

use super::item::{Failed, LITTLE, Work, WorkItem};
use super::protocol::{Header, Request, expect_greeting};
use crate::verdict::Violation;

pub(super) const WORK: Work = Work {
    name: "parked",
    about: "Reads from a stream on which nothing comes: whichever side ends the session, the reader must be told",
    moves: |_| LITTLE,
    pauses_ms: 12_000,
    foreign: true,
    drawn: true,
    run: |item| Box::pin(parked(item)),
};

/// Two steps: the streams of a session learn of its end in the same one as whoever waits for it.
const TOLD_WITHIN: Duration = Duration::from_millis(10);
/// One in so many waits longer than a session drains.
const PATIENT: u32 = 6;
const PATIENCE: Duration = Duration::from_secs(12);
const PATIENCE_OF_OTHERS_MS: u64 = 2_000;

async fn parked(item: &mut WorkItem) -> Result<(), Failed> {
    let seed = item.rng.next_u64();
    let patience = if item.rng.random_ratio(1, PATIENT) {
        PATIENCE
    } else {
        Duration::from_millis(item.rng.random_range(0..PATIENCE_OF_OTHERS_MS))
    };
    let (mut reader, mut writer) = item.open().await?.into_split();
    writer.write_all(&Header { request: Request::Silent, amount: 0, seed }.encode()).await?;
    expect_greeting(&mut reader).await?;
    let mut told = pin!(told(&item.session, reader));
    match timeout(patience, &mut told).await {
        Ok(read) => match read? {
            Ok(read) => {
                let text = format!("a read gave {read} bytes of a stream on which nothing was said");
                Err(Violation::new("G17", text).into())
            }
            Err(error) => {
                // Whichever side closed it, and the other one had its time.
                let reason = item.session.closed().now_or_never();
                if matches!(reason, Some(CloseReason::Closed | CloseReason::DrainTimedOut { .. })) {
                    item.counters.add("a reader waited when its session was closed", 1);
                }
                Err(error.into())
            }
        },
        Err(_) => {
            writer.shutdown().await?;
            match told.await?? {
                0 => Ok(()),
                _ => Err(Violation::new("G18", "a stream carried more bytes than were sent").into()),
            }
        }
    }
}

/// What a read comes to, which must be when its session ends at the latest.
async fn told(session: &Session, mut reader: ReadHalf) -> Result<io::Result<usize>, Violation> {
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
            Err(Violation::new("G17", format!("a reader was not told that its session has ended: {reason}")))
        }
    }
}
