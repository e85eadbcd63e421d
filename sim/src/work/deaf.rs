//! A peer that has said FIN and gone, while we write.

use std::io;
use std::time::Duration;

use rand::{Rng, RngExt};
use tokio::io::AsyncWriteExt;
use tokio::time::{sleep, timeout};

use super::item::{Failed, Work, WorkItem};
use super::protocol::{Bytes, Header, Request};
use crate::verdict::Violation;

pub(super) const WORK: Work = Work {
    name: "deaf",
    about: "Writes to a stream that the other side has left after its FIN: the writer must be told",
    moves: |_| 512 << 10,
    pauses_ms: 10_500,
    foreign: false,
    drawn: true,
    run: |item| Box::pin(deaf(item)),
};

/// How long the other side discards at most (10 s), and as long again for a path that is slow.
const TOLD_WITHIN: Duration = Duration::from_secs(20);
/// What a writer in a hurry writes at once: it comes to the most that the other side discards.
const MUCH: usize = 64 << 10;
/// What one writes who takes his time, and how often: it comes to the time after which nothing is discarded any more.
const LITTLE: usize = 1 << 10;
const PAUSE: Duration = Duration::from_millis(500);

async fn deaf(item: &mut WorkItem) -> Result<(), Failed> {
    let (seed, hurries) = (item.rng.next_u64(), item.rng.random_ratio(1, 4));
    let (_reader, mut writer) = item.open().await?.into_split();
    let header = Header { request: Request::Deaf, amount: 0, seed };
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
        Ok(_) if !item.session.is_closed() => Ok(()),
        Ok(error) => Err(error.into()),
        Err(_) if item.calm => {
            let text = format!("a writer was not told within {TOLD_WITHIN:?} that its reader had gone");
            Err(Violation::new("G17", text).into())
        }
        Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut).into()),
    }
}
