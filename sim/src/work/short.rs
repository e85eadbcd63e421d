//! Many short streams at once.

use futures_util::future::try_join_all;
use rand::{Rng, RngExt};

use super::item::{Failed, LITTLE, Work, WorkItem};
use super::request::exchange;

pub(super) const WORK: Work = Work {
    name: "short",
    about: "Up to 40 short requests at once, each on a stream of its own",
    moves: |_| LITTLE,
    pauses_ms: 0,
    foreign: true,
    drawn: true,
    run: |item| Box::pin(short(item)),
};

const STREAMS_MAX: usize = 40;
const BYTES_MAX: usize = 64;

async fn short(item: &mut WorkItem) -> Result<(), Failed> {
    let streams = item.rng.random_range(1..=STREAMS_MAX);
    let requests = (0..streams).map(|_| (item.rng.next_u64(), item.rng.random_range(0..=BYTES_MAX)));
    let requests = requests.collect::<Vec<_>>();
    let (session, has_room) = (&item.session, item.has_room);
    try_join_all(requests.into_iter().map(|(seed, bytes)| async move {
        loop {
            let done = match session.open_stream().await {
                Ok(stream) => exchange(stream, seed, bytes).await,
                Err(error) => Err(Failed::Interrupted(error.into())),
            };
            match done {
                // One that found no place in the other side's queue: the session lives, and the stream may be opened again.
                Err(Failed::Interrupted(_)) if !has_room && !session.is_closed() => {
                    tokio::task::yield_now().await;
                    if session.is_closed() {
                        return done;
                    }
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                }
                done => return done,
            }
        }
    }))
    .await?;
    Ok(())
}
