//! The life of a session and its end.

use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::time::{Instant, timeout};

use super::Outcome;
use crate::{
    cast::{By, Cast, Options, Pair},
    side::{End, Held, Pending},
    verdict::Failure,
};

/// How soon the death of a peer must be noticed whose kernel tells of it.
const NOTICED: Duration = Duration::from_secs(3);

/// The heartbeat for a peer that is stopped: idle time and patience.
const HEARTBEAT_MS: u64 = 500;

pub(super) async fn ping(cast: &Cast) -> Outcome {
    let pair = cast.pair(Options::default()).await?;
    for _ in 0..10 {
        pair.opener().order("ping").await?;
    }
    Ok(String::new())
}

pub(super) async fn go_away(cast: &Cast, is_early: bool) -> Outcome {
    let early: &[&str] = if is_early { &["--early-go-away"] } else { &[] };
    let pair = cast.pair(Options { ours: early, ..Options::default() }).await?;
    // One in flight that each side has something left to say on.
    let (ours, its) = pair.stream().await?;
    let we_close = cast.by == By::Us;
    pair.opener().order("go-away").await?;
    // What each side still does on the stream. Whatever the peer does, nothing may look complete that is not.
    let ((we_sent, we_heard), (it_sent, it_heard)) = tokio::join!(finish(&ours), finish(&its));
    cast.we_promise(we_heard.is_some(), || "we: a stream has no end after a GoAway".into())?;
    let (we_heard, it_heard) = (we_heard.transpose()?, it_heard.transpose()?);
    if let Some(End::Eof(count)) = we_heard {
        // One that its own library did not let finish has said FIN before its time, and that is what we read.
        cast.we_promise(count == LATE_BYTES || it_sent.is_err(), || {
            format!("we: end of file after {count} of {LATE_BYTES} bytes")
        })?;
    }
    let is_finished = we_heard == Some(End::Eof(LATE_BYTES)) && it_heard == Some(End::Eof(LATE_BYTES));
    if we_close && !is_early && !is_finished {
        let told = |end: Option<End>| end.map_or("nothing".into(), |end| end.to_string());
        return Err(Failure::new(format!(
            "a stream in flight was cut: we read {}, it read {}; we wrote {}, it wrote {}",
            told(we_heard),
            told(it_heard),
            we_sent.err().map_or("all".into(), |failure| failure.text),
            it_sent.err().map_or("all".into(), |failure| failure.text),
        )));
    }
    // After that nothing new is opened.
    let opened = timeout(Duration::from_secs(3), pair.us.order("open")).await;
    if let Ok(Ok(_)) = opened {
        cast.we_promise(false, || "we: a stream is opened after a GoAway".into())?;
    }
    let fate = if is_finished { "the stream in flight finished" } else { "the stream in flight was cut" };
    let end = match (pair.us.is_down(), pair.it.is_down()) {
        (Some(_), Some(_)) => "both sessions ended",
        (Some(_), None) => "our session ended",
        (None, Some(_)) => "its session ended",
        (None, None) => "both sessions live on",
    };
    Ok(format!("{fate}, {end}"))
}

const LATE_BYTES: u64 = 1000;

/// How long the end of a stream in flight may take: evermux gives it 10 s.
const FINISH: Duration = Duration::from_secs(12);

/// Says what is left to say, and hears what the other has left; the FIN comes last, since some libraries hear nothing more
/// after their own. Gives what became of the one and of the other, which is none when the stream has no end.
async fn finish(held: &Held<'_>) -> (Result<(), Failure>, Option<Result<End, Failure>>) {
    let within = async |order| timeout(FINISH, held.side.order(order)).await;
    let handle = held.handle();
    let endless = |_| Err(held.side.failure("a write has no end"));
    let written = within(format!("write {handle} {LATE_BYTES}")).await.unwrap_or_else(endless);
    // It fails when there are fewer, and then the end is heard all the same.
    let Ok(read) = within(format!("read {handle} {LATE_BYTES}")).await else { return (written.map(drop), None) };
    let said = within(format!("fin {handle}")).await.unwrap_or_else(endless);
    let end = timeout(FINISH, held.end()).await.ok();
    let heard = if read.is_ok() { LATE_BYTES } else { 0 };
    (written.and(said).map(drop), end.map(|end| end.map(|end| end.after(heard))))
}

/// Two streams in flight: one that waits to be read, one whose window is full.
struct Flight<'a> {
    reading: Pending<'a>,
    writing: Pending<'a>,
}

async fn flight(pair: &Pair) -> Result<Flight<'_>, Failure> {
    let (idle, _) = pair.stream().await?;
    let (full, _) = pair.stream().await?;
    Ok(Flight { reading: idle.begin_end().await?, writing: full.begin_write(4 << 20).await? })
}

impl Flight<'_> {
    /// Both must end in an error.
    async fn must_fail(self, cast: &Cast) -> Result<(), Failure> {
        let Ok(end) = timeout(NOTICED, self.reading.answer()).await else {
            return Err(Failure::new("we: a stream has no end, and its peer is dead"));
        };
        let end = end?;
        cast.we_promise(end.starts_with("error"), || format!("we: a dead peer reads as `{end}`"))?;
        match timeout(NOTICED, self.writing.answer()).await {
            Ok(Err(_)) => Ok(()),
            Ok(Ok(_)) => Err(Failure::new("we: a write to a dead peer has ended well")),
            Err(_) => Err(Failure::new("we: a write to a dead peer has no end")),
        }
    }
}

pub(super) async fn killed(cast: &Cast) -> Outcome {
    let pair = cast.pair(Options::default()).await?;
    let flight = flight(&pair).await?;
    pair.it.signal(Signal::SIGKILL)?;
    let why = pair.us.down(NOTICED).await?;
    flight.must_fail(cast).await?;
    Ok(why)
}

pub(super) async fn stopped(cast: &Cast) -> Outcome {
    let heartbeat = HEARTBEAT_MS.to_string();
    let pair = cast.pair(Options { ours: &["--heartbeat", &heartbeat], ..Options::default() }).await?;
    let (idle, _) = pair.stream().await?;
    let reading = idle.begin_end().await?;
    let begun = Instant::now();
    pair.it.signal(Signal::SIGSTOP)?;
    let why = pair.us.down(Duration::from_millis(2 * HEARTBEAT_MS) + NOTICED).await?;
    let took = begun.elapsed();
    let end = reading.answer().await?;
    cast.we_promise(end.starts_with("error"), || format!("we: a peer that is stopped reads as `{end}`"))?;
    Ok(format!("{why}, after {:.1} s", took.as_secs_f32()))
}
