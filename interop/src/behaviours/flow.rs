//! Windows.

use std::time::Duration;

use super::Outcome;
use crate::cast::{By, Cast, Options};

/// How long a reader pauses.
const PAUSE: Duration = Duration::from_millis(400);

const PAUSED_BYTES: usize = 2 << 20;
const BULK_BYTES: usize = 16 << 20;

pub(super) async fn paused_reader(cast: &Cast) -> Outcome {
    let pair = cast.pair(Options::default()).await?;
    let (ours, its) = pair.stream().await?;
    let (writer, reader) = if cast.by == By::Us { (ours, its) } else { (its, ours) };
    let (other_ours, other_its) = pair.stream().await?;
    let mut writing = writer.begin_write(PAUSED_BYTES).await?;
    let is_written = writing.is_answered_within(PAUSE).await;
    if cast.by == By::Us {
        cast.we_promise(!is_written, || "we: a write ends that the reader has not made room for".into())?;
    }
    // A stream whose reader pauses holds up no other.
    other_ours.write(1000).await?;
    other_its.read(1000).await?;
    other_its.write(1000).await?;
    other_ours.read(1000).await?;
    let reading = reader.read(PAUSED_BYTES);
    let (written, read) = tokio::join!(writing.answer(), reading);
    read?;
    written?;
    writer.fin().await?;
    reader.must_end().await?;
    Ok(String::new())
}

pub(super) async fn bulk(cast: &Cast, round_trip: Duration) -> Outcome {
    let pair = cast.pair(Options { round_trip: Some(round_trip), ..Options::default() }).await?;
    let (ours, its) = pair.stream().await?;
    let (writer, reader) = if cast.by == By::Us { (ours, its) } else { (its, ours) };
    let writing = writer.begin_write(BULK_BYTES).await?;
    reader.read(BULK_BYTES).await?;
    writing.answer().await?;
    writer.fin().await?;
    reader.must_end().await?;
    Ok(String::new())
}
