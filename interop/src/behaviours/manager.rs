//! A manager, and a peer that dies again and again.

use std::time::Duration;

use nix::sys::signal::Signal;
use testkit::FaultProxy;
use tokio::time::{Instant, sleep};

use super::Outcome;
use crate::{
    cast::{By, Cast, Options},
    side::{Echoes, Side},
    verdict::Failure,
};

const LIVES: usize = 20;

/// How soon requests must go again after a new peer has come.
const RESUMED: Duration = Duration::from_secs(10);

/// Who acts sends the requests.
pub(super) async fn twenty_lives(cast: &Cast) -> Outcome {
    if !cast.is_evermux() {
        return without_manager(cast).await;
    }
    let serve: &[&str] = if cast.by == By::It { &["--serve"] } else { &[] };
    let peer_serves: &[&str] = if cast.by == By::Us { &["--serve"] } else { &[] };
    let mut longest = Duration::ZERO;
    if cast.peer_dials {
        let mut arguments = vec!["--listen", "127.0.0.1:0"];
        arguments.extend(serve);
        let us = cast.start_manager(&arguments)?;
        let address = us.listening().await?.to_string();
        for life in 1..=LIVES {
            let it = cast.start_peer("--dial", &address, peer_serves)?;
            longest = longest.max(requests(cast, &us, &it, life).await?);
            die(&it, life)?;
        }
    } else {
        // The peer's port may be another each time; the manager dials one.
        let first = cast.start_peer("--listen", "127.0.0.1:0", peer_serves)?;
        let proxy =
            FaultProxy::start(first.listening().await?).map_err(|error| Failure::new(format!("the proxy: {error}")))?;
        let address = proxy.addr().to_string();
        let mut arguments = vec!["--dial", &address, "--backoff", "50"];
        arguments.extend(serve);
        let us = cast.start_manager(&arguments)?;
        let mut it = first;
        for life in 1..=LIVES {
            longest = longest.max(requests(cast, &us, &it, life).await?);
            die(&it, life)?;
            if life < LIVES {
                let next = cast.start_peer("--listen", "127.0.0.1:0", peer_serves)?;
                proxy.set_target(next.listening().await?);
                it = next;
            }
        }
    }
    Ok(format!("back within {} ms", longest.as_millis()))
}

/// Every second life ends by SIGKILL, the others by SIGTERM, which some programs take for a goodbye.
fn die(it: &Side, life: usize) -> Result<(), Failure> {
    it.signal(if life.is_multiple_of(2) { Signal::SIGKILL } else { Signal::SIGTERM })
}

/// Sends requests until they are answered.
async fn requests(cast: &Cast, us: &Side, it: &Side, life: usize) -> Result<Duration, Failure> {
    it.up().await?;
    let begun = Instant::now();
    let asker = if cast.by == By::Us { us } else { it };
    loop {
        let answer = asker.order("echo 3 1 1024 2").await?;
        let echoes = Echoes::parse(&answer).ok_or_else(|| asker.failure(format!("it answers `{answer}`")))?;
        if echoes.lost == 0 {
            return Ok(begun.elapsed());
        }
        if begun.elapsed() > RESUMED {
            return Err(asker.failure(format!("life {life}: no answers within 10 s ({})", echoes.first)));
        }
        sleep(Duration::from_millis(10)).await;
    }
}

/// What the programs themselves need: to come up and to answer, 20 times.
async fn without_manager(cast: &Cast) -> Outcome {
    for _ in 0..LIVES {
        let pair = cast.pair(Options { serve: true, ..Options::default() }).await?;
        pair.all_echo(3, 1, 1024, Duration::from_secs(2)).await?;
    }
    Ok(String::new())
}
