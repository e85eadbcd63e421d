//! The two halves of a stream, and the stream.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
};

use futures_util::{
    io::{AsyncRead as _, AsyncWrite as _},
    task::AtomicWaker,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::mpsc,
};
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::{driver::Command, ledger::Entry, state::SessionState};
use crate::{
    blocking,
    error::{CloseReason, StreamError},
    sync::SessionId,
};

/// A stream of the peer's that nobody has taken yet. Its drop resets it.
///
/// It does not keep the session running, as a [`MuxStream`] does: the lane that it waits in may outlive every handle.
pub(crate) struct Inbound {
    id: u32,
    /// None once taken.
    entry: Option<Arc<Entry>>,
    session: Arc<SessionState>,
    commands: mpsc::WeakUnboundedSender<Command>,
}

impl Inbound {
    pub(crate) fn new(
        inner: yamux::Stream,
        entry: Arc<Entry>,
        session: Arc<SessionState>,
        commands: mpsc::WeakUnboundedSender<Command>,
    ) -> Self {
        let id = inner.id().val();
        *entry.inner() = Some(inner);
        Self { id, entry: Some(entry), session, commands }
    }

    /// Hands it to whoever has taken it, and tells the peer so (G16). The crate would wait for the first bytes.
    pub(crate) fn accept(mut self) -> Option<MuxStream> {
        let entry = self.entry.take()?;
        if let Some(inner) = &mut *entry.inner() {
            announce(inner, &mut Context::from_waker(Waker::noop()));
        }
        let session = Arc::clone(&self.session);
        // Without it the session is ending, and needs to be told nothing any more.
        let commands = self.commands.upgrade();
        Some(MuxStream::new(StreamCore { id: self.id, entry, session, commands }))
    }
}

impl Drop for Inbound {
    fn drop(&mut self) {
        if let Some(entry) = self.entry.take() {
            entry.set_gone();
            let inner = entry.inner().take();
            drop(inner);
        }
    }
}

/// Sends the SYN or the ACK of a stream at once: the crate would wait for the first bytes, and a server-first protocol
/// for ever.
pub(crate) fn announce(stream: &mut yamux::Stream, cx: &mut Context<'_>) {
    // The channel of a new stream has room, so this is never pending; an error is a session that is ending.
    let _ = Pin::new(stream).poll_write(cx, &[]);
}

/// What both halves of a stream share.
pub(crate) struct StreamCore {
    id: u32,
    entry: Arc<Entry>,
    session: Arc<SessionState>,
    /// None for a stream that was taken from a session that nobody holds any more.
    commands: Option<mpsc::UnboundedSender<Command>>,
}

impl StreamCore {
    /// A stream that this side has opened.
    pub(crate) fn new(
        inner: yamux::Stream,
        entry: Arc<Entry>,
        session: Arc<SessionState>,
        commands: mpsc::UnboundedSender<Command>,
    ) -> Self {
        let id = inner.id().val();
        *entry.inner() = Some(inner);
        Self { id, entry, session, commands: Some(commands) }
    }

    /// Asks the driver. A session that has ended needs no word.
    fn command(&self, command: Command) {
        if let Some(commands) = &self.commands {
            let _ = commands.send(command);
        }
    }

    /// Why there is nothing more to read or to write, if a frame of this stream said so.
    fn end(&self) -> Option<StreamError> {
        let entry = &self.entry;
        if entry.is_flooded() {
            Some(StreamError::Flooded)
        } else if entry.is_refused() {
            Some(StreamError::Refused)
        } else if entry.is_reset_by_peer() {
            Some(StreamError::ResetByPeer)
        } else {
            None
        }
    }

    /// Why the crate's end of the stream is gone.
    fn reset_here(&self) -> io::Error {
        self.end().filter(|end| *end == StreamError::Flooded).unwrap_or(StreamError::ResetHere).into()
    }

    /// Polls the crate, and registers with the ledger as well: a panic in the driver loses the crate's wakers.
    fn poll_crate<T>(
        &self,
        waker: &AtomicWaker,
        cx: &mut Context<'_>,
        mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        if let Poll::Ready(output) = poll(cx) {
            return Poll::Ready(output);
        }
        waker.register(cx.waker());
        // What ended before the registration shows now; what ends after it wakes.
        if self.session.close_reason().is_some() { poll(cx) } else { Poll::Pending }
    }

    /// Ends both directions at once. After what was written, the peer sees an RST.
    fn reset(&self) {
        let inner = self.entry.inner().take();
        if inner.is_none() {
            return;
        }
        self.entry.set_gone();
        drop(inner);
        if self.entry.is_fin_queued() {
            // The crate says nothing more of a stream whose FIN it has sent.
            self.command(Command::GiveUp(self.id));
        }
    }
}

impl Drop for StreamCore {
    fn drop(&mut self) {
        let inner = self.entry.inner().take();
        let Some(inner) = inner else { return };
        let unfinished = self.entry.finished_at().is_none() && !self.entry.is_reset_by_peer();
        self.entry.set_gone();
        if self.entry.is_fin_queued() && unfinished {
            // The peer may still be sending: the driver reads and discards, so that what we sent is not destroyed (G17).
            self.command(Command::Linger(inner, Arc::clone(&self.entry)));
        }
    }
}

/// The end of the session, once a half has to wait for it.
#[derive(Default)]
struct SessionEnd(Option<Pin<Box<WaitForCancellationFutureOwned>>>);

impl SessionEnd {
    fn poll(&mut self, session: &SessionState, cx: &mut Context<'_>) -> Poll<CloseReason> {
        loop {
            if let Some(reason) = session.close_reason() {
                return Poll::Ready(reason);
            }
            ready!(self.0.get_or_insert_with(|| Box::pin(session.closed_signal())).as_mut().poll(cx));
        }
    }
}

/// The reading half of a [`MuxStream`].
///
/// Dropping it alone changes nothing for the peer, which stops when its window of 256 KiB is full.
pub struct ReadHalf {
    core: Arc<StreamCore>,
    session_end: SessionEnd,
}

/// The writing half of a [`MuxStream`].
///
/// Dropping it without `shutdown()` resets the stream, both directions.
pub struct WriteHalf {
    core: Arc<StreamCore>,
    session_end: SessionEnd,
}

impl AsyncRead for ReadHalf {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let read = match &mut *this.core.entry.inner() {
            None => return Poll::Ready(Err(this.core.reset_here())),
            Some(inner) => {
                let mut read = |cx: &mut Context<'_>| Pin::new(&mut *inner).poll_read(cx, buf.initialize_unfilled());
                match ready!(this.core.poll_crate(&this.core.entry.reader, cx, &mut read)) {
                    // The session ended between two looks of the crate, which did not come to what it has buffered.
                    Err(_) => ready!(read(cx)),
                    read => read,
                }
            }
        };
        if let Ok(n @ 1..) = read {
            buf.advance(n);
            this.core.entry.add_read(n);
            return Poll::Ready(Ok(()));
        }
        // The crate says the same of a FIN, an RST and a lost session: the ledger knows which (G17).
        // Of FIN and RST the first decides: after an RST the ledger takes no FIN.
        if this.core.entry.finished_at() == Some(this.core.entry.read()) {
            return Poll::Ready(Ok(()));
        }
        if let Some(end) = this.core.end() {
            return Poll::Ready(Err(end.into()));
        }
        let reason = ready!(this.session_end.poll(&this.core.session, cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionReset, reason)))
    }
}

impl WriteHalf {
    /// Why nothing more can be written to a stream that the crate has closed.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        if let Some(end) = self.core.end() {
            return Poll::Ready(end.into());
        }
        let reason = ready!(self.session_end.poll(&self.core.session, cx));
        Poll::Ready(io::Error::new(io::ErrorKind::ConnectionReset, reason))
    }
}

impl AsyncWrite for WriteHalf {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.core.entry.is_fin_queued() {
            return Poll::Ready(Err(StreamError::ShutDown.into()));
        }
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let written = match &mut *this.core.entry.inner() {
            None => return Poll::Ready(Err(this.core.reset_here())),
            Some(inner) => {
                let write = |cx: &mut Context<'_>| Pin::new(&mut *inner).poll_write(cx, buf);
                ready!(this.core.poll_crate(&this.core.entry.writer, cx, write))
            }
        };
        match written {
            Ok(n) => Poll::Ready(Ok(n)),
            Err(_) => this.poll_end(cx).map(Err),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = match &mut *this.core.entry.inner() {
            None => return Poll::Ready(Err(this.core.reset_here())),
            Some(inner) => ready!(Pin::new(inner).poll_flush(cx)),
        };
        match flushed {
            Ok(()) => Poll::Ready(Ok(())),
            Err(_) => this.poll_end(cx).map(Err),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let entry = &this.core.entry;
        if entry.is_fin_queued() {
            // A second FIN would make some peers end the session.
            return Poll::Ready(Ok(()));
        }
        let closed = match &mut *this.core.entry.inner() {
            None => return Poll::Ready(Err(this.core.reset_here())),
            // Before our FIN, the crate calls only what is reset or lost closed.
            Some(inner) if inner.is_closed() => Err(io::ErrorKind::WriteZero.into()),
            Some(inner) => ready!(Pin::new(inner).poll_close(cx)).inspect(|()| entry.set_fin_queued()),
        };
        match closed {
            Ok(()) => Poll::Ready(Ok(())),
            Err(_) => this.poll_end(cx).map(Err),
        }
    }
}

impl Drop for WriteHalf {
    fn drop(&mut self) {
        if !self.core.entry.is_fin_queued() {
            self.core.reset();
        }
    }
}

/// One stream of a session: tokio's [`AsyncRead`] and [`AsyncWrite`].
///
/// - `shutdown()` on it says that no more bytes come; the other direction goes on. `Ok` means queued, not delivered.
/// - Reading ends with end of file only when the peer has said that it is finished *and* every byte before that was
///   read. A reset, a lost session, a stream that the peer dropped: all of these are an error of the kind
///   [`ConnectionReset`](io::ErrorKind::ConnectionReset), after the bytes that came before it. Its source, a
///   [`StreamError`] or a [`CloseReason`], says which.
/// - A stream that an evermux peer refused, and so gave to nobody, has an error of the kind
///   [`ConnectionRefused`](io::ErrorKind::ConnectionRefused): what was done on it may be repeated on another.
/// - One that has sent more small frames than may wait to be read ([`StreamError::Flooded`]) is reset at once, and what was
///   buffered of it is gone.
/// - Dropping it before `shutdown()` resets it: the peer sees an error, after the bytes that were written. Dropping it
///   after `shutdown()` leaves the peer up to 10 s and 1 MiB to finish; then it is reset.
///
/// A stream keeps its session running, but not in its manager: after the session has ended, the stream fails.
///
/// # Cancel safety
///
/// As tokio's `TcpStream`: a read or write that was dropped before it was ready has taken nothing.
pub struct MuxStream {
    read: ReadHalf,
    write: WriteHalf,
}

impl MuxStream {
    pub(crate) fn new(core: StreamCore) -> Self {
        let core = Arc::new(core);
        Self {
            read: ReadHalf { core: Arc::clone(&core), session_end: SessionEnd::default() },
            write: WriteHalf { core, session_end: SessionEnd::default() },
        }
    }

    /// The session that it belongs to.
    pub fn session_id(&self) -> SessionId {
        self.write.core.session.id
    }

    /// Its id in the session, as it stands in the frames.
    pub fn id(&self) -> u32 {
        self.write.core.id
    }

    /// Ends both directions at once. The peer sees an error, after the bytes that were written.
    pub fn reset(self) {
        self.write.core.reset();
    }

    /// Parts the two directions, so that two tasks can each hold one.
    pub fn into_split(self) -> (ReadHalf, WriteHalf) {
        (self.read, self.write)
    }

    /// Makes it a [`std::io::Read`] and [`std::io::Write`], for threads without async.
    pub fn into_blocking(self) -> BlockingStream {
        BlockingStream(self)
    }
}

impl std::fmt::Debug for MuxStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MuxStream").field("session", &self.session_id()).field("id", &self.id()).finish()
    }
}

impl std::fmt::Debug for ReadHalf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReadHalf").field("id", &self.core.id).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for WriteHalf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WriteHalf").field("id", &self.core.id).finish_non_exhaustive()
    }
}

impl AsyncRead for MuxStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.read).poll_read(cx, buf)
    }
}

impl AsyncWrite for MuxStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.write).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.write).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.write).poll_shutdown(cx)
    }
}

/// A [`MuxStream`] for threads: [`std::io::Read`] and [`std::io::Write`].
///
/// It needs no runtime of its own. When the runtime of its session ends, its calls end with an error.
///
/// # Panics
///
/// Where it would have to wait inside an async context, as tokio's blocking calls do. `spawn_blocking` and
/// `block_in_place` are fine.
#[derive(Debug)]
pub struct BlockingStream(MuxStream);

impl BlockingStream {
    /// Says that no more bytes come. Reading goes on.
    ///
    /// # Errors
    ///
    /// The stream was reset, or its session is lost.
    pub fn shutdown(&mut self) -> io::Result<()> {
        blocking::block_on(std::future::poll_fn(|cx| Pin::new(&mut self.0).poll_shutdown(cx)))
    }

    /// Gives the async stream back.
    pub fn into_inner(self) -> MuxStream {
        self.0
    }
}

impl io::Read for BlockingStream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut buf = ReadBuf::new(buf);
        blocking::block_on(std::future::poll_fn(|cx| Pin::new(&mut self.0).poll_read(cx, &mut buf)))?;
        Ok(buf.filled().len())
    }
}

impl io::Write for BlockingStream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        blocking::block_on(std::future::poll_fn(|cx| Pin::new(&mut self.0).poll_write(cx, buf)))
    }

    fn flush(&mut self) -> io::Result<()> {
        blocking::block_on(std::future::poll_fn(|cx| Pin::new(&mut self.0).poll_flush(cx)))
    }
}
