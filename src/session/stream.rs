//! The two halves of a stream, and the stream.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures_util::io::{AsyncRead as _, AsyncWrite as _};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::stream_core::{ClosedFuture, StreamCore};
use crate::{
    error::{CloseReason, StreamError},
    sync::{Class, SessionId, Ticket},
};

/// The reading half of a [`MuxStream`].
///
/// Dropping it alone changes nothing for the peer, which stops when its window is full: 256 KiB, or more once
/// it has grown.
#[must_use = "nobody reads what the peer sends once it is dropped"]
pub struct ReadHalf {
    core: Arc<StreamCore>,
    session_end: ClosedFuture,
}

/// The writing half of a [`MuxStream`].
///
/// Dropping it without `shutdown()` resets the stream in both directions.
#[must_use = "dropping it before `shutdown` resets the stream"]
pub struct WriteHalf {
    core: Arc<StreamCore>,
    ticket: Ticket,
    session_end: ClosedFuture,
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
                    // The session ended between two checks of the crate, which did not get to what it has buffered.
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
        // The crate reports a FIN, an RST and a lost session alike: the ledger knows which it was (G17).
        // Of FIN and RST the first decides: after an RST the ledger takes no FIN.
        if this.core.entry.finished_at() == Some(this.core.entry.read()) {
            return Poll::Ready(Ok(()));
        }
        if let Some(end) = this.core.entry.error() {
            return Poll::Ready(Err(end.into()));
        }
        let reason = ready!(this.session_end.poll(&this.core.session, cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionReset, reason)))
    }
}

impl ReadHalf {
    /// The id of the session that it belongs to.
    pub fn session_id(&self) -> SessionId {
        self.core.session.id
    }

    /// The id of its stream within the session, as used in the frames.
    pub fn id(&self) -> u32 {
        self.core.id
    }

    /// Waits for the end of the stream, regardless of what was read: see [`MuxStream::closed`].
    pub fn closed(&self) -> impl Future<Output = io::Result<()>> + Send + use<> {
        self.core.closed()
    }

    /// Waits until the session of the stream drains: see [`MuxStream::draining`].
    pub fn draining(&self) -> impl Future<Output = CloseReason> + Send + use<> {
        self.core.draining()
    }
}

impl WriteHalf {
    /// The id of the session that it belongs to.
    pub fn session_id(&self) -> SessionId {
        self.core.session.id
    }

    /// The id of its stream within the session, as used in the frames.
    pub fn id(&self) -> u32 {
        self.core.id
    }

    /// Waits for the end of the stream, regardless of what was written: see [`MuxStream::closed`].
    pub fn closed(&self) -> impl Future<Output = io::Result<()>> + Send + use<> {
        self.core.closed()
    }

    /// Waits until the session of the stream drains: see [`MuxStream::draining`].
    pub fn draining(&self) -> impl Future<Output = CloseReason> + Send + use<> {
        self.core.draining()
    }

    /// Why nothing more can be written to a stream that the crate has closed.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        if let Some(end) = self.core.entry.error() {
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
        let (entry, gate) = (&this.core.entry, &this.core.session.gate);
        let class = entry.handed.class(gate, buf.len());
        if class == Class::Waits {
            // The end of the stream wakes it as well.
            entry.writer.register(cx.waker());
        }
        if class == Class::Waits && entry.error().is_none() {
            ready!(this.ticket.poll(cx));
        } else {
            this.ticket.leave_queue();
        }
        let written = match &mut *entry.inner() {
            None => return Poll::Ready(Err(this.core.reset_here())),
            Some(inner) => entry.handed.hand_over(gate, class, buf, |part| {
                let write = |cx: &mut Context<'_>| Pin::new(&mut *inner).poll_write(cx, part);
                this.core.poll_crate(&entry.writer, cx, write)
            }),
        };
        if class == Class::Waits {
            gate.wake();
        }
        match ready!(written) {
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
            // Before our FIN, the crate reports only reset or lost streams as closed.
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
/// - `shutdown()` finishes writing: no more bytes follow. The other direction goes on. `Ok` means queued, not
///   delivered.
/// - Reading returns end of file only once the peer has finished *and* every byte before that was read. A reset, a lost
///   session, a stream that the peer dropped: each is an error of the kind
///   [`ConnectionReset`](io::ErrorKind::ConnectionReset), after the bytes that came before it. Its source, a
///   [`StreamError`] or a [`CloseReason`], says which.
/// - A stream that an evermux peer refused, and so handed to nobody, fails with an error of the kind
///   [`ConnectionRefused`](io::ErrorKind::ConnectionRefused): what was done on it may be repeated on another.
/// - A stream whose peer sent more small frames than may wait to be read ([`StreamError::Flooded`]) is reset at once,
///   and what was buffered of it is gone.
/// - Dropping it before `shutdown()` resets it: the peer sees an error, after the bytes that were written. Dropping it
///   after `shutdown()` leaves the peer up to 10 s and 1 MiB to finish; then it is reset.
///
/// A stream keeps its session running, but not in its manager: after the session has ended, the stream fails.
///
/// ```
/// use evermux::StreamError;
/// # use evermux::{Config, Session};
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let (near, far) = tokio::io::duplex(4096);
/// # let config = Config::default();
/// # let (client, server) = tokio::try_join!(Session::client(near, &config), Session::server(far, &config))?;
/// let mut outbound = client.open_stream().await?;
/// outbound.write_all(b"all of it").await?;
/// outbound.shutdown().await?; // without this the peer would read an error
/// let mut inbound = server.accept_stream().await?;
/// let mut text = String::new();
/// inbound.read_to_string(&mut text).await?;
/// assert_eq!(text, "all of it");
///
/// inbound.write_all(b"half of").await?;
/// drop(inbound); // a reset: what was cut never looks complete
/// let error = outbound.read_to_string(&mut text).await.unwrap_err();
/// let source = error.get_ref().and_then(|source| source.downcast_ref());
/// assert_eq!(source, Some(&StreamError::ResetByPeer));
/// # Ok(())
/// # }
/// ```
///
/// # Cancel safety
///
/// As with tokio's `TcpStream`: a read or write that is dropped before it is ready has taken nothing.
#[must_use = "dropping a stream before `shutdown` resets it"]
pub struct MuxStream {
    read: ReadHalf,
    write: WriteHalf,
}

impl MuxStream {
    pub(crate) fn new(core: StreamCore) -> Self {
        let core = Arc::new(core);
        Self {
            read: ReadHalf { core: Arc::clone(&core), session_end: ClosedFuture::default() },
            write: WriteHalf { ticket: Ticket::new(&core.session.gate), core, session_end: ClosedFuture::default() },
        }
    }

    /// The id of the session that it belongs to.
    pub fn session_id(&self) -> SessionId {
        self.write.session_id()
    }

    /// Its id within the session, as used in the frames.
    pub fn id(&self) -> u32 {
        self.write.id()
    }

    /// Waits for the end of the stream, regardless of what was read or written: until both sides have finished, one of
    /// them has reset it, or the session has ended.
    ///
    /// After end of file, only this reports a reset: reads return nothing more, and writes fail only when there is
    /// something to write. The future holds neither the stream nor its session, and any number may wait at once.
    ///
    /// It does not wait for readers: bytes that came before may still be there to read, even after an error. As with
    /// `shutdown()`, `Ok` means that our own end was queued, not that the peer has it.
    ///
    /// ```
    /// # use evermux::{Config, Session};
    /// use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional};
    ///
    /// /// Carries bytes both ways, until both have finished or one side gives up.
    /// async fn carry(
    ///     mut stream: evermux::MuxStream,
    ///     mut other: impl AsyncRead + AsyncWrite + Unpin,
    /// ) -> std::io::Result<()> {
    ///     let closed = stream.closed();
    ///     tokio::select! {
    ///         copied = copy_bidirectional(&mut stream, &mut other) => copied.map(drop),
    ///         // As TCP's reset does, it overtakes what was not handed over yet. After `Ok` the copy goes on.
    ///         Err(error) = closed => Err(error),
    ///     }
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (near, far) = tokio::io::duplex(4096);
    /// # let config = Config::default();
    /// # let (client, server) = tokio::try_join!(Session::client(near, &config), Session::server(far, &config))?;
    /// let mut stream = client.open_stream().await?;
    /// stream.write_all(b"a request").await?;
    /// stream.shutdown().await?;
    /// let (mut service, other) = tokio::io::duplex(4096);
    /// let carrying = tokio::spawn(carry(server.accept_stream().await?, other));
    /// let mut request = String::new();
    /// service.read_to_string(&mut request).await?;
    /// // The service takes its time, and the client gives up.
    /// stream.reset();
    /// assert_eq!(carrying.await?.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As for reads and writes: the source says who reset the stream, or why the session ended.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    pub fn closed(&self) -> impl Future<Output = io::Result<()>> + Send + use<> {
        self.write.closed()
    }

    /// Waits until its session drains: see [`Session::draining`](crate::Session::draining). The future holds neither
    /// the stream nor its session.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    pub fn draining(&self) -> impl Future<Output = CloseReason> + Send + use<> {
        self.write.draining()
    }

    /// Ends both directions at once. The peer sees an error, after the bytes that were written.
    pub fn reset(self) {
        self.write.core.reset();
    }

    /// Splits the stream into its halves, so that two tasks can each hold one.
    ///
    /// ```
    /// # use evermux::{Config, Session};
    /// use tokio::io::{AsyncReadExt, AsyncWriteExt};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (near, far) = tokio::io::duplex(4096);
    /// # let config = Config::default();
    /// # let (client, server) = tokio::try_join!(Session::client(near, &config), Session::server(far, &config))?;
    /// let (mut read, mut write) = client.open_stream().await?.into_split();
    /// let writing = tokio::spawn(async move {
    ///     write.write_all(b"a question").await?;
    ///     write.shutdown().await
    /// });
    /// let mut inbound = server.accept_stream().await?;
    /// inbound.write_all(b"an answer, before the question was read").await?;
    /// inbound.shutdown().await?;
    /// let mut answer = String::new();
    /// read.read_to_string(&mut answer).await?;
    /// writing.await??;
    /// # assert_eq!(answer, "an answer, before the question was read");
    /// # Ok(())
    /// # }
    /// ```
    pub fn into_split(self) -> (ReadHalf, WriteHalf) {
        (self.read, self.write)
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
