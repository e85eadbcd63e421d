//! Streams that nobody accepts, beside one that goes on.

use std::time::Duration;

use evermux::OpenError;
use futures_util::future::join_all;
use rand::{Rng, RngExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep};

use super::item::{Failed, LITTLE, Work, WorkItem};
use super::protocol::{Header, Request, expect_end, expect_greeting};
use super::request::exchange;
use crate::verdict::Violation;

pub(super) const WORK: Work = Work {
    name: "unaccepted",
    about: "Opens more streams than may wait, while the other side accepts none; a stream that it has goes on",
    moves: |_| LITTLE,
    pauses_ms: 6_000,
    foreign: false,
    drawn: true,
    run: |item| Box::pin(unaccepted(item)),
};

/// By how many they are too many, where few may wait.
const TOO_MANY: usize = 3;
const STREAMS_MAX: usize = 16;
/// By then the streams have arrived.
const ARRIVED: Duration = Duration::from_millis(200);

async fn unaccepted(item: &mut WorkItem) -> Result<(), Failed> {
    let seed = item.rng.next_u64();
    let unaccepting = Duration::from_millis(item.rng.random_range(1_500..2_000));
    // Accepted before the one after it.
    let beside = item.open().await?;
    let (mut reader, mut writer) = item.open().await?.into_split();
    let amount = u32::try_from(unaccepting.as_millis()).unwrap_or(u32::MAX);
    writer.write_all(&Header { request: Request::Unaccepting, amount, seed }.encode()).await?;
    expect_greeting(&mut reader).await?;
    reader.read_exact(&mut [0; 8]).await?;
    let begun = Instant::now();
    let item = &*item;
    let crowd = (0..STREAMS_MAX.min(item.backlog + TOO_MANY)).map(|_| async {
        match item.session.open_stream().await {
            Ok(stream) => exchange(stream, seed, 10).await,
            Err(error) => Err(Failed::Interrupted(error.into())),
        }
    });
    let beside = async {
        sleep(ARRIVED).await;
        let (exchanged, pong) = tokio::join!(exchange(beside, seed, 1_000), item.session.ping());
        exchanged?;
        pong.map_err(|reason| std::io::Error::from(OpenError::Lost(reason)))?;
        if item.calm && begun.elapsed() >= unaccepting {
            let text = format!("a stream waited {:?} for others beside it that nobody accepts", begun.elapsed());
            return Err(Violation::new("G16", text).into());
        }
        Ok(())
    };
    let (crowd, beside): (Vec<Result<(), Failed>>, Result<(), Failed>) = tokio::join!(join_all(crowd), beside);
    beside?;
    for done in crowd {
        match done {
            Err(Failed::Interrupted(_)) if !item.session.is_closed() => {
                item.counters.add("a stream found no place in the queue of its acceptor", 1);
            }
            done => done?,
        }
    }
    writer.shutdown().await?;
    expect_end(&mut reader).await?;
    // Others have their turn for longer than they were kept from it.
    sleep(2 * unaccepting).await;
    Ok(())
}
