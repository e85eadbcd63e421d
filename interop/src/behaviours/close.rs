//! FIN and RST, in every order.

use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::{ECHO_LIMIT, Outcome};
use crate::{
    cast::{By, Cast, Options, Pair},
    side::{End, Held},
    verdict::Failure,
};

/// Who says FIN first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum First {
    Opener,
    Acceptor,
    Both,
}

/// Who resets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    Opener,
    Acceptor,
}

/// What came before the reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    Nothing,
    OwnFin,
    OtherFin,
}

/// What is sent before a FIN comes.
const BEFORE_BYTES: usize = 1000;
/// What is sent in the direction that is still open, where a window has room for it.
pub(super) const LATE_BYTES: usize = 100 << 10;
/// The same, where whoever has said FIN must go on giving credit, and the other must go on taking it.
pub(super) const MANY_LATE_BYTES: usize = 1 << 20;

/// A stream as its opener has it, and as its acceptor has it.
async fn stream(pair: &Pair, by: By) -> Result<(Held<'_>, Held<'_>), Failure> {
    let (ours, its) = pair.stream().await?;
    Ok(if by == By::Us { (ours, its) } else { (its, ours) })
}

pub(super) async fn half_close(cast: &Cast, first: First, late_bytes: usize) -> Outcome {
    let pair = cast.pair(Options::default()).await?;
    let (opener, acceptor) = stream(&pair, cast.by).await?;
    let (early, late) = match first {
        First::Opener => (opener, acceptor),
        First::Acceptor => (acceptor, opener),
        First::Both => {
            let closes = async |own: &Held<'_>| {
                let sends = async {
                    own.write(late_bytes).await?;
                    own.fin().await
                };
                let hears = async {
                    own.read(late_bytes).await?;
                    own.must_end().await
                };
                tokio::try_join!(sends, hears).map(drop)
            };
            tokio::try_join!(closes(&opener), closes(&acceptor))?;
            return still_lives(&pair).await;
        }
    };
    early.write(BEFORE_BYTES).await?;
    early.fin().await?;
    late.read(BEFORE_BYTES).await?;
    late.must_end().await?;
    // It waits already when the bytes come.
    let reading = early.side.begin(format!("read {} {late_bytes}", early.handle())).await?;
    sleep(Duration::from_millis(20)).await;
    let arrives = async {
        late.write(late_bytes).await?;
        late.fin().await?;
        reading.answer().await
    };
    let hangs = || late.side.failure(format!("write: no end within {} s", ECHO_LIMIT.as_secs()));
    timeout(ECHO_LIMIT, arrives).await.unwrap_or_else(|_| Err(hangs()))?;
    early.must_end().await?;
    still_lives(&pair).await
}

/// A stream that was closed takes nothing else with it.
async fn still_lives(pair: &Pair) -> Outcome {
    let (ours, its) = pair.stream().await?;
    ours.write(10).await?;
    its.read(10).await?;
    Ok(String::new())
}

pub(super) async fn reset(cast: &Cast, who: Who, after: After) -> Outcome {
    let pair = cast.pair(Options::default()).await?;
    let (opener, acceptor) = stream(&pair, cast.by).await?;
    let (resetter, other) = if who == Who::Opener { (opener, acceptor) } else { (acceptor, opener) };
    resetter.write(BEFORE_BYTES).await?;
    match after {
        After::Nothing => {
            other.read(BEFORE_BYTES).await?;
        }
        After::OwnFin => {
            resetter.fin().await?;
            other.read(BEFORE_BYTES).await?;
            other.must_end().await?;
        }
        After::OtherFin => {
            other.read(BEFORE_BYTES).await?;
            other.fin().await?;
            resetter.must_end().await?;
        }
    }
    // Whoever has said FIN waits already when the reset comes: of some libraries it depends on that what they read.
    let waits = if after == After::OtherFin {
        let waits = other.begin_end().await?;
        sleep(Duration::from_millis(20)).await;
        Some(waits)
    } else {
        None
    };
    resetter.reset().await?;
    let end = match waits {
        Some(waits) => Some(other.ended(waits).await?),
        None if after == After::OwnFin => None,
        None => Some(other.end().await?),
    };
    if let Some(end) = end.filter(|end| !matches!(end, End::Error(0, _))) {
        return Err(other.side.failure(format!("a reset reads as {end}")));
    }
    if after != After::OtherFin {
        other.flood().await?;
    }
    still_lives(&pair).await
}
