//! A socket of the simulated network.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};
use tracing::trace;
use twox_hash::XxHash3_64;

use super::carrier::{Carrier, Stream};
use super::conditions::{Conditions, Open, Verdict};

/// A simulated TCP connection. Its trace has the length and the hash of all that is read and written.
#[derive(Debug)]
pub struct Socket {
    inner: Stream,
    local: SocketAddr,
    peer: SocketAddr,
    write_closed: bool,
    /// Until when what was written keeps a slow link busy.
    busy: Option<Pin<Box<Sleep>>>,
    open: Open,
}

/// The whole handshake of the transport, where it has one.
pub(super) const HELLO: u8 = b'h';

/// What a slow link takes in one write.
const SLOW_WRITE_MAX: usize = 1_400;

impl Socket {
    pub(super) fn new(inner: Stream, conditions: &Conditions) -> io::Result<Self> {
        let (local, peer) = inner.addresses()?;
        trace!(%local, %peer, "connected");
        Ok(Self { inner, local, peer, write_closed: false, busy: None, open: conditions.open((local, peer)) })
    }

    /// Connects from a host with this TCP to another one by its name.
    pub async fn connect(carrier: &Carrier, host: &str, port: u16, conditions: &Conditions) -> io::Result<Self> {
        Self::new(carrier.connect(host, port).await?, conditions)
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
        Poll::Ready(bytes.min(limit).min(self.chunk()))
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
                trace!(local = %self.local, peer = %self.peer, bytes, "lost");
                return Poll::Ready(Ok(bytes));
            }
            Verdict::Ends(how) => return Poll::Ready(how.map(|()| 0)),
        }
        let limit = ready!(self.poll_pace(buf.len(), cx));
        let result = ready!(Pin::new(&mut self.inner).poll_write(cx, &buf[..limit]));
        let (local, peer) = (self.local, self.peer);
        match &result {
            Ok(bytes) => {
                trace!(%local, %peer, bytes, hash = %hash(&buf[..*bytes]), "written");
                self.pace(*bytes);
            }
            Err(error) => trace!(%local, %peer, %error, "written"),
        }
        Poll::Ready(result)
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
        match self.open.read(cx) {
            Verdict::Goes => {}
            Verdict::Waits | Verdict::Swallows(_) => return Poll::Pending,
            Verdict::Ends(how) => {
                trace!(local = %self.local, peer = %self.peer, ok = how.is_ok(), "cut");
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
        let (local, peer) = (self.local, self.peer);
        match &result {
            Ok(()) => {
                trace!(%local, %peer, bytes = read.len(), hash = %hash(read), "read");
                if !read.is_empty() {
                    self.open.has_read();
                }
            }
            Err(error) => trace!(%local, %peer, %error, "read"),
        }
        Poll::Ready(result)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let result = self.poll_send(cx, buf);
        self.open.has_written(matches!(result, Poll::Ready(Ok(_))));
        result
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.open.is_lost() {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    /// The kernel's TCP takes a second shutdown as done; turmoil's says that the socket is not connected.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.write_closed || self.open.is_lost() {
            return Poll::Ready(Ok(()));
        }
        let result = ready!(Pin::new(&mut self.inner).poll_shutdown(cx));
        self.write_closed = result.is_ok();
        trace!(local = %self.local, peer = %self.peer, ok = self.write_closed, "shut down");
        Poll::Ready(result)
    }
}

fn hash(bytes: &[u8]) -> String {
    format!("{:016x}", XxHash3_64::oneshot(bytes))
}
