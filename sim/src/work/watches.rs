//! A caller who waits for the end of its stream, and for that of its session, beside what it reads and writes.

use std::io;

use evermux::{ReadHalf, WriteHalf};
use futures_util::FutureExt;
use rand::{Rng, RngExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tracing::info;

use super::item::{Failed, Work, WorkItem};
use super::protocol::{Header, Request, expect_end, expect_greeting};
use super::request::exchange_over;
use crate::verdict::Violation;

pub(super) const WORK: Work = Work {
    name: "watches",
    about: "Waits for the end of its stream beside the reads and writes, resets another one, and measures the path",
    moves: |bytes| bytes,
    pauses_ms: 0,
    foreign: true,
    drawn: true,
    run: |item| Box::pin(watches(item)),
};

async fn watches(item: &mut WorkItem) -> Result<(), Failed> {
    let stream = item.open().await?;
    info!(session = ?item.session, ?stream, "watched");
    let (closed, draining) = (stream.closed(), stream.draining());
    // After a standstill it may have ended by now.
    let is_counted = item.session.open_streams() > 0 || stream.closed().now_or_never().is_some();
    if stream.session_id() != item.session.id() || !is_counted {
        return Err(Violation::new("scenario", format!("{stream:?} is not one of {:?}", item.session)).into());
    }
    // As one stream, and not by its halves.
    let (reader, writer) = tokio::io::split(stream);
    exchange_over(reader, writer, item.rng.next_u64(), item.bytes).await?;
    // Should it never be told, the whole piece of work is late.
    closed.await?;
    if item.session.is_draining() && draining.now_or_never().is_none() {
        return Err(Violation::new("G17", "a stream was not told that its session drains").into());
    }
    finish(item).await?;
    reset(item).await?;
    measure(item).await
}

/// What is asked of a stream whose two directions have ended: nothing more is read or written, and that is said.
async fn finish(item: &mut WorkItem) -> Result<(), Failed> {
    let mut stream = item.open().await?;
    let header = Header { request: Request::Echo, amount: 0, seed: item.rng.next_u64() };
    if stream.write(&[]).await? != 0 {
        return Err(Violation::new("G18", "something was written of nothing").into());
    }
    stream.write_all(&header.encode()).await?;
    // Twice is as good as once.
    stream.shutdown().await?;
    stream.shutdown().await?;
    if stream.write(b"late").await.is_ok() {
        return Err(Violation::new("G17", "a stream took bytes after its FIN").into());
    }
    expect_greeting(&mut stream).await?;
    expect_end(&mut stream).await?;
    expect_end(&mut stream).await
}

/// Resets a stream, in one piece or by dropping its halves, or the writing one alone, and is told of it.
async fn reset(item: &mut WorkItem) -> Result<(), Failed> {
    let seed = item.rng.next_u64();
    let mut stream = item.open().await?;
    let id = stream.id();
    stream.write_all(&Header { request: Request::Sink, amount: 100, seed }.encode()).await?;
    let closed = if item.rng.random() {
        let closed = stream.closed();
        stream.reset();
        closed.boxed()
    } else {
        let (reader, writer) = stream.into_split();
        info!(?reader, ?writer, "dropped");
        if reader.id() != id || writer.id() != id || reader.session_id() != writer.session_id() {
            return Err(Violation::new("scenario", "the halves of a stream are not of one stream").into());
        }
        drop((reader.draining(), writer.draining()));
        if item.rng.random() {
            return drop_writer(reader, writer).await;
        }
        // Either half knows.
        if item.rng.random() { reader.closed().boxed() } else { writer.closed().boxed() }
    };
    match closed.await {
        Err(_) => Ok(()),
        Ok(()) => Err(Violation::new("G17", "a stream that was reset ended as if it were whole").into()),
    }
}

/// The end of the writing half is that of the stream, though somebody reads on.
async fn drop_writer(mut reader: ReadHalf, writer: WriteHalf) -> Result<(), Failed> {
    drop(writer);
    if reader.closed().await.is_ok() {
        return Err(Violation::new("G17", "a stream whose writer was dropped ended as if it were whole").into());
    }
    let mut rest = Vec::new();
    match reader.read_to_end(&mut rest).await {
        Err(_) => Ok(()),
        Ok(_) => Err(Violation::new("G17", "a stream whose writer was dropped was read to a clean end").into()),
    }
}

/// A round trip is no shorter than the path.
async fn measure(item: &WorkItem) -> Result<(), Failed> {
    let took = item.session.ping().await.map_err(io::Error::from)?;
    if took + item.grain < item.path {
        let text = format!("a ping took {took:?}, and there and back are {:?}", item.path);
        return Err(Violation::new("G10", text).into());
    }
    if item.session.round_trip().is_none_or(|last| last + item.grain < item.path) {
        let text = format!("the last round trip was {:?} after one of {took:?}", item.session.round_trip());
        return Err(Violation::new("G10", text).into());
    }
    Ok(())
}
