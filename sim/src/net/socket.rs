//! A socket of the simulated network.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use testkit::strict::Strict;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};
use tracing::trace;
use twox_hash::XxHash3_64;

use super::conditions::{Conditions, Open, Verdict};
use super::kernel::{Connection, Kernel};
use crate::plan::Sockets;

/// A simulated TCP connection. Its trace names the ports of both ends, and has the length and the hash of all that is read and
/// written.
#[derive(Debug)]
pub struct Socket {
    inner: Connection,
    local: SocketAddr,
    peer: SocketAddr,
    /// Until when what was written keeps a slow link busy.
    busy: Option<Pin<Box<Sleep>>>,
    sockets: Sockets,
    /// What was written and not flushed, where it is held until then.
    held: Vec<u8>,
    /// The most that one write takes, as a kernel takes no more than it may hold unsent.
    unsent_limit: AtomicU32,
    open: Open,
}

/// The whole handshake of the transport, where it has one.
pub(super) const HELLO: u8 = b'h';

/// What a slow link takes in one write.
const SLOW_WRITE_MAX: usize = 1_400;
/// What is held until a flush. A write beyond it sends what is held first. On the slowest of links it leaves within the time
/// that a stalled write has.
const HELD_BYTES: usize = 16 << 10;
/// What a write of vectors takes of them.
const VECTORED_BYTES: usize = 64 << 10;

impl Socket {
    pub(super) fn new(inner: Connection, conditions: &Conditions) -> Self {
        let (local, peer) = inner.addresses();
        trace!(%local, %peer, "connected");
        let sockets = conditions.sockets();
        let open = conditions.open((local, peer));
        Self { inner, local, peer, busy: None, sockets, held: Vec::new(), unsent_limit: AtomicU32::new(u32::MAX), open }
    }

    /// Connects from a host with this kernel to another one by its name.
    pub async fn connect(kernel: &Kernel, peer: SocketAddr, conditions: &Conditions) -> io::Result<Self> {
        Ok(Self::new(kernel.connect(peer).await?, conditions))
    }

    /// Limits how many bytes may wait unsent.
    ///
    /// # Errors
    ///
    /// None: it has the form that evermux asks for.
    pub fn set_unsent_limit(socket: &Strict<Self>, bytes: u32) -> io::Result<()> {
        let socket = socket.get_ref();
        trace!(local = socket.local.port(), peer = socket.peer.port(), bytes, "unsent limit");
        socket.unsent_limit.store(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// The address of this end.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// The address of the other end.
    pub fn peer_addr(&self) -> SocketAddr {
        self.peer
    }

    /// Waits while a slow link is busy, and gives the most that may be written then.
    fn poll_pace(&mut self, bytes: usize, cx: &mut Context<'_>) -> Poll<usize> {
        if let Some(busy) = &mut self.busy {
            ready!(busy.as_mut().poll(cx));
            self.busy = None;
        }
        let limit = match self.open.conditions().rate() {
            Some(_) => SLOW_WRITE_MAX,
            None => usize::MAX,
        };
        let unsent = usize::try_from(self.unsent_limit.load(Ordering::Relaxed)).unwrap_or(usize::MAX);
        Poll::Ready(bytes.min(limit).min(unsent).min(self.chunk()))
    }

    fn chunk(&self) -> usize {
        match self.open.conditions().chunk() {
            0 => usize::MAX,
            chunk => chunk,
        }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.open.write(buf.len(), cx) {
            Verdict::Goes => {}
            Verdict::Waits => return Poll::Pending,
            Verdict::Swallows(bytes) => {
                trace!(local = self.local.port(), peer = self.peer.port(), bytes, "lost");
                return Poll::Ready(Ok(bytes));
            }
            Verdict::Ends(how) => return Poll::Ready(how.map(|()| 0)),
        }
        let limit = ready!(self.poll_pace(buf.len(), cx));
        let result = ready!(Pin::new(&mut self.inner).poll_write(cx, &buf[..limit]));
        let (local, peer) = (self.local.port(), self.peer.port());
        match &result {
            Ok(bytes) => {
                trace!(local, peer, bytes, hash = XxHash3_64::oneshot(&buf[..*bytes]), "written");
                self.pace(*bytes);
            }
            Err(error) => trace!(local, peer, %error, "written"),
        }
        Poll::Ready(result)
    }

    /// Sends what is held.
    fn poll_held(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.held.is_empty() {
            let held = std::mem::take(&mut self.held);
            let sent = self.poll_send(cx, &held);
            self.open.has_written(matches!(sent, Poll::Ready(Ok(_))));
            self.held = held;
            match ready!(sent)? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                sent => drop(self.held.drain(..sent)),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Whether a call says Pending for no reason, and wakes.
    fn is_spurious(&self, cx: &Context<'_>) -> bool {
        let spurious = self.open.conditions().is_spurious();
        if spurious {
            cx.waker().wake_by_ref();
        }
        spurious
    }

    /// Keeps a slow link busy for what was written.
    fn pace(&mut self, bytes: usize) {
        if let Some(rate) = self.open.conditions().rate() {
            let nanos = (bytes as u64).saturating_mul(1_000_000_000) / rate;
            self.busy = Some(Box::pin(sleep_until(Instant::now() + Duration::from_nanos(nanos))));
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.is_spurious(cx) {
            return Poll::Pending;
        }
        match self.open.read(cx) {
            Verdict::Goes => {}
            Verdict::Waits | Verdict::Swallows(_) => return Poll::Pending,
            Verdict::Ends(how) => {
                trace!(local = self.local.port(), peer = self.peer.port(), ok = how.is_ok(), "cut");
                return Poll::Ready(how);
            }
        }
        let chunk = self.chunk();
        let before = buf.filled().len();
        let result = if chunk < buf.remaining() {
            let mut part = ReadBuf::new(buf.initialize_unfilled_to(chunk));
            let result = ready!(Pin::new(&mut self.inner).poll_read(cx, &mut part));
            let read = part.filled().len();
            buf.advance(read);
            result
        } else {
            ready!(Pin::new(&mut self.inner).poll_read(cx, buf))
        };
        let read = &buf.filled()[before..];
        let (local, peer) = (self.local.port(), self.peer.port());
        match &result {
            Ok(()) => {
                trace!(local, peer, bytes = read.len(), hash = XxHash3_64::oneshot(read), "read");
                if !read.is_empty() {
                    self.open.has_read();
                }
            }
            Err(error) => trace!(local, peer, %error, "read"),
        }
        Poll::Ready(result)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.is_spurious(cx) {
            return Poll::Pending;
        }
        if self.sockets.buffered {
            if self.held.len() >= HELD_BYTES {
                ready!(self.poll_held(cx))?;
            }
            let taken = buf.len().min(HELD_BYTES - self.held.len()).min(self.chunk());
            self.held.extend_from_slice(&buf[..taken]);
            return Poll::Ready(Ok(taken));
        }
        let result = self.poll_send(cx, buf);
        self.open.has_written(matches!(result, Poll::Ready(Ok(_))));
        result
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut bytes = Vec::new();
        for buf in bufs {
            bytes.extend_from_slice(&buf[..buf.len().min(VECTORED_BYTES - bytes.len())]);
            if !self.sockets.vectored && !bytes.is_empty() {
                break;
            }
        }
        self.poll_write(cx, &bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.sockets.vectored
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_spurious(cx) {
            return Poll::Pending;
        }
        ready!(self.poll_held(cx))?;
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.open.is_lost() {
            return Poll::Ready(Ok(()));
        }
        ready!(self.poll_held(cx))?;
        let result = ready!(Pin::new(&mut self.inner).poll_shutdown(cx));
        trace!(local = self.local.port(), peer = self.peer.port(), ok = result.is_ok(), "shut down");
        Poll::Ready(result)
    }
}
