//! A transport that holds its caller to the contract, and may be difficult to work with.
//!
//! Sockets forgive much: a write after an error gives the error again. A transport that is built of futures, as many
//! wrappers are, need not: it may panic when it is polled after its end. [`Strict`] is such a transport.
//!
//! Reading is one direction; writing, flushing and shutting down are the other one. Not allowed is
//!
//! - a call of a direction after an error of that direction;
//! - a read after the end of file;
//! - a write or a flush after the first `poll_shutdown`, and any call after the last. Another `poll_shutdown` while it is
//!   pending is right.
//!
//! Allowed, as in tokio, is a write that comes with other bytes than the pending one before it: a pending write has taken
//! nothing.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> std::io::Result<()> {
//! use testkit::strict::Strict;
//! use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
//!
//! let (near, mut far) = duplex(1024);
//! let mut near = Strict::new(near).short_writes(3).needs_flush().spurious_pending(2);
//! let report = near.report();
//! near.write_all(b"hello").await?;
//! near.flush().await?;
//! let mut bytes = [0; 5];
//! far.read_exact(&mut bytes).await?;
//! assert_eq!(&bytes, b"hello");
//! assert_eq!(report.broken(), None);
//! # Ok(())
//! # }
//! ```

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How many bytes a transport that [`needs_flush`](Strict::needs_flush) holds; before it takes more, it sends these.
pub const MAX_HELD_BYTES: usize = 1 << 20;

/// A transport that panics when it is called against the contract of the [module](self).
#[derive(Debug)]
pub struct Strict<Io> {
    io: Io,
    vectored: Option<bool>,
    short_writes: usize,
    short_reads: usize,
    needs_flush: bool,
    pending_every: Option<u32>,
    fail_write: Option<Failure>,
    fail_flush: Option<Failure>,
    fail_read: Option<Failure>,
    /// What was written and not flushed; at most [`MAX_HELD_BYTES`].
    held: Vec<u8>,
    read_bytes: u64,
    written_bytes: u64,
    /// How often each [`Call`] was made.
    calls: [u32; 4],
    /// How reading, and writing, came to an end.
    reading_ended: Option<String>,
    writing_ended: Option<String>,
    shutting_down: bool,
    report: Report,
}

/// What a [`Strict`] has found.
///
/// A panic in a task of its own is easily overseen, so a test asks here as well.
#[derive(Clone, Debug, Default)]
pub struct Report(Arc<OnceLock<String>>);

impl Report {
    /// The first call against the contract: which it was, and what had come before.
    pub fn broken(&self) -> Option<&str> {
        self.0.get().map(String::as_str)
    }
}

#[derive(Debug)]
struct Failure {
    at: u64,
    error: io::Error,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    Read,
    Write,
    Flush,
    Shutdown,
}

impl Call {
    fn name(self) -> &'static str {
        match self {
            Self::Read => "poll_read",
            Self::Write => "poll_write",
            Self::Flush => "poll_flush",
            Self::Shutdown => "poll_shutdown",
        }
    }
}

impl<Io> Strict<Io> {
    /// A transport over `io` that is strict, and no more difficult than `io`.
    pub fn new(io: Io) -> Self {
        Self {
            io,
            vectored: None,
            short_writes: usize::MAX,
            short_reads: usize::MAX,
            needs_flush: false,
            pending_every: None,
            fail_write: None,
            fail_flush: None,
            fail_read: None,
            held: Vec::new(),
            read_bytes: 0,
            written_bytes: 0,
            calls: [0; 4],
            reading_ended: None,
            writing_ended: None,
            shutting_down: false,
            report: Report::default(),
        }
    }

    /// The transport beneath.
    pub fn get_ref(&self) -> &Io {
        &self.io
    }

    /// Whether it says that it can do vectored writes; without this it says what `io` says.
    ///
    /// When it says so, it does, also where `io` cannot. When it says that it cannot, a vectored write takes of the first
    /// slice alone that is not empty.
    #[must_use]
    pub fn vectored(mut self, vectored: bool) -> Self {
        self.vectored = Some(vectored);
        self
    }

    /// A write takes at most `bytes`, also of several slices: it ends in the middle of one.
    ///
    /// # Panics
    ///
    /// When it is 0.
    #[must_use]
    pub fn short_writes(mut self, bytes: usize) -> Self {
        assert!(bytes > 0, "a write of no bytes is the end of a transport");
        self.short_writes = bytes;
        self
    }

    /// A read gives at most `bytes`.
    ///
    /// # Panics
    ///
    /// When it is 0.
    #[must_use]
    pub fn short_reads(mut self, bytes: usize) -> Self {
        assert!(bytes > 0, "a read of no bytes is the end of file");
        self.short_reads = bytes;
        self
    }

    /// Nothing leaves before a flush or a shutdown, but for what is more than [`MAX_HELD_BYTES`].
    #[must_use]
    pub fn needs_flush(mut self) -> Self {
        self.needs_flush = true;
        self
    }

    /// Of each kind of call, every so-manieth is pending for no reason. It wakes its task before it returns.
    ///
    /// # Panics
    ///
    /// When it is less than 2: all calls would be pending.
    #[must_use]
    pub fn spurious_pending(mut self, every: u32) -> Self {
        assert!(every > 1, "a transport that is always pending is none");
        self.pending_every = Some(every);
        self
    }

    /// So many bytes can be written, then a write fails.
    #[must_use]
    pub fn fail_writes_at(mut self, bytes: u64, error: io::Error) -> Self {
        self.fail_write = Some(Failure { at: bytes, error });
        self
    }

    /// The first flush fails after which so many bytes, or more, have been written.
    #[must_use]
    pub fn fail_flush_at(mut self, bytes: u64, error: io::Error) -> Self {
        self.fail_flush = Some(Failure { at: bytes, error });
        self
    }

    /// So many bytes can be read, then a read fails.
    #[must_use]
    pub fn fail_reads_at(mut self, bytes: u64, error: io::Error) -> Self {
        self.fail_read = Some(Failure { at: bytes, error });
        self
    }

    /// What it will have found, also after it was given away.
    pub fn report(&self) -> Report {
        self.report.clone()
    }

    /// The transport below.
    pub fn io(&self) -> &Io {
        &self.io
    }

    /// Panics when the contract has no such call now. Says whether the call is pending for no reason.
    fn begin(&mut self, call: Call, cx: &Context<'_>) -> bool {
        let before = match call {
            Call::Read => self.reading_ended.as_deref(),
            _ => self.writing_ended.as_deref(),
        };
        let shutting_down = self.shutting_down && matches!(call, Call::Write | Call::Flush);
        if let Some(before) = before.or(shutting_down.then_some("poll_shutdown was called")) {
            let text = format!("{} was called after {before}", call.name());
            let _ = self.report.0.set(text.clone());
            panic!("{text}");
        }
        self.shutting_down |= call == Call::Shutdown;
        let calls = &mut self.calls[call as usize];
        *calls = calls.wrapping_add(1);
        let pending = self.pending_every.is_some_and(|every| calls.is_multiple_of(every));
        if pending {
            cx.waker().wake_by_ref();
        }
        pending
    }

    fn end<T>(&mut self, call: Call, result: io::Result<T>) -> Poll<io::Result<T>> {
        let how = match &result {
            Err(error) => format!("{} had failed: {error}", call.name()),
            Ok(_) if call == Call::Shutdown => "poll_shutdown had succeeded".to_owned(),
            Ok(_) => return Poll::Ready(result),
        };
        match call {
            Call::Read => self.reading_ended = Some(how),
            _ => self.writing_ended = Some(how),
        }
        Poll::Ready(result)
    }
}

/// Takes the error when so many bytes are reached; else says how many are left.
fn left(failure: &mut Option<Failure>, bytes: u64) -> io::Result<usize> {
    match failure.take_if(|failure| bytes >= failure.at) {
        Some(failure) => Err(failure.error),
        None => Ok(failure.as_ref().map_or(usize::MAX, |it| usize::try_from(it.at - bytes).unwrap_or(usize::MAX))),
    }
}

impl<Io: AsyncRead + Unpin> Strict<Io> {
    fn read_some(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<usize>> {
        let limit = left(&mut self.fail_read, self.read_bytes)?.min(self.short_reads).min(buffer.remaining());
        let mut part = ReadBuf::new(buffer.initialize_unfilled_to(limit));
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut part))?;
        let count = part.filled().len();
        buffer.advance(count);
        self.read_bytes += count as u64;
        Poll::Ready(Ok(count))
    }
}

impl<Io: AsyncWrite + Unpin> Strict<Io> {
    fn write_some(&mut self, cx: &mut Context<'_>, parts: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let limit = left(&mut self.fail_write, self.written_bytes)?.min(self.short_writes);
        let count = if self.needs_flush {
            if self.held.len() == MAX_HELD_BYTES {
                ready!(self.send_held(cx))?;
            }
            let bytes = gather(parts, limit.min(MAX_HELD_BYTES - self.held.len()));
            self.held.extend_from_slice(&bytes);
            bytes.len()
        } else if let [part] = parts {
            ready!(Pin::new(&mut self.io).poll_write(cx, &part[..part.len().min(limit)]))?
        } else if self.io.is_write_vectored() {
            ready!(Pin::new(&mut self.io).poll_write_vectored(cx, &cut(parts, limit)))?
        } else {
            ready!(Pin::new(&mut self.io).poll_write(cx, &gather(parts, limit.min(MAX_HELD_BYTES))))?
        };
        self.written_bytes += count as u64;
        Poll::Ready(Ok(count))
    }

    fn send_held(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.held.is_empty() {
            let count = ready!(Pin::new(&mut self.io).poll_write(cx, &self.held))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.held.drain(..count);
        }
        Poll::Ready(Ok(()))
    }

    fn flush_all(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        left(&mut self.fail_flush, self.written_bytes)?;
        ready!(self.send_held(cx))?;
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn shut_down(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.send_held(cx))?;
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// The first bytes of the slices, as slices.
fn cut<'a>(parts: &'a [IoSlice<'a>], mut limit: usize) -> Vec<IoSlice<'a>> {
    let mut taken = Vec::new();
    for part in parts {
        let count = part.len().min(limit);
        taken.push(IoSlice::new(&part[..count]));
        limit -= count;
    }
    taken
}

/// The first bytes of the slices, in one piece.
fn gather(parts: &[IoSlice<'_>], limit: usize) -> Vec<u8> {
    cut(parts, limit).iter().flat_map(|part| part.iter().copied()).collect()
}

impl<Io: AsyncRead + Unpin> AsyncRead for Strict<Io> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.begin(Call::Read, cx) {
            return Poll::Pending;
        }
        let room = buffer.remaining();
        let result = ready!(self.read_some(cx, buffer));
        if room > 0 && matches!(result, Ok(0)) {
            self.reading_ended = Some("poll_read had said end of file".to_owned());
        }
        self.end(Call::Read, result.map(drop))
    }
}

impl<Io: AsyncWrite + Unpin> AsyncWrite for Strict<Io> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.begin(Call::Write, cx) {
            return Poll::Pending;
        }
        let first = parts.iter().position(|part| !part.is_empty()).unwrap_or(0);
        let parts = if self.is_write_vectored() { parts } else { parts.get(first..=first).unwrap_or_default() };
        let result = ready!(self.write_some(cx, parts));
        self.end(Call::Write, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.vectored.unwrap_or_else(|| self.io.is_write_vectored())
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.begin(Call::Flush, cx) {
            return Poll::Pending;
        }
        let result = ready!(self.flush_all(cx));
        self.end(Call::Flush, result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.begin(Call::Shutdown, cx) {
            return Poll::Pending;
        }
        let result = ready!(self.shut_down(cx));
        self.end(Call::Shutdown, result)
    }
}

#[cfg(test)]
mod tests;
