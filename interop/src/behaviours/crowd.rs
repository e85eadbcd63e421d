//! Many streams.

use std::time::Duration;

use tokio::time::sleep;

use super::{ECHO_LIMIT, Outcome};
use crate::{
    cast::{Cast, Options},
    side::Echoes,
};

/// What a request is.
const REQUEST_BYTES: usize = 64;

/// How many streams hashicorp's yamux keeps for an acceptor, and expects the other side to keep.
const BACKLOG: usize = 256;

/// How long nobody accepts: long enough for an interpreter on a loaded machine to open all it can.
const UNACCEPTED: Duration = Duration::from_secs(1);

pub(super) async fn streams(cast: &Cast, count: usize, at_once: usize) -> Outcome {
    let pair = cast.pair(Options { serve: true, ..Options::default() }).await?;
    pair.all_echo(count, at_once, 4 << 10, Duration::from_secs(50)).await?;
    Ok(String::new())
}

/// How many sessions have a burst: what is lost in one of them alone is lost all the same.
const BURSTS: usize = 3;

pub(super) async fn burst(cast: &Cast, count: usize) -> Outcome {
    for _ in 0..BURSTS {
        // The order is there before the session is.
        let pair = cast.start(Options { serve: true, ..Options::default() }).await?;
        let (echoed, opener, acceptor) = tokio::join!(
            pair.all_echo(count, count, REQUEST_BYTES, ECHO_LIMIT),
            pair.opener().up(),
            pair.acceptor().up(),
        );
        // A peer that ends the connection at its limit may leave no time for a session.
        echoed?;
        opener?;
        acceptor?;
        // The session has lived through it.
        pair.all_echo(1, 1, REQUEST_BYTES, ECHO_LIMIT).await?;
    }
    Ok(String::new())
}

pub(super) async fn backlog(cast: &Cast, count: usize) -> Outcome {
    let pair = cast.pair(Options::default()).await?;
    let order = format!("echo {count} {count} {REQUEST_BYTES} {}", ECHO_LIMIT.as_secs());
    let echoes = pair.opener().begin(order).await?;
    sleep(UNACCEPTED).await;
    pair.acceptor().order("serve").await?;
    let answer = echoes.answer().await?;
    let Echoes { done, lost, first } =
        Echoes::parse(&answer).ok_or_else(|| pair.opener().failure(format!("echo: it answers `{answer}`")))?;
    if let Some(why) = pair.us.is_down().or(pair.it.is_down()) {
        let what = format!("echo: {lost} of {count} streams lost, and the session with them: {why} ({first})");
        return Err(pair.opener().failure(what));
    }
    if lost > count.saturating_sub(BACKLOG) {
        return Err(pair.opener().failure(format!("echo: {lost} of {count} streams lost ({first})")));
    }
    pair.all_echo(1, 1, REQUEST_BYTES, ECHO_LIMIT).await?;
    Ok(if lost > 0 { format!("{done} served, {lost} refused ({first})") } else { String::new() })
}
