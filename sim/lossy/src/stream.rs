//! What an application has of a connection.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::connection::Connection;
use super::stack::Shared;

/// A connection of a [`Stack`](super::Stack).
///
/// Dropping it closes it as the kernel closes a socket: what was written is delivered, and then FIN; but what has arrived
/// and was not read makes it a reset. The errors are the kernel's: the first call after a reset or an abort is told, and
/// reads give the end and writes `BrokenPipe` from then on.
pub struct Stream {
    shared: Arc<Shared>,
    id: u64,
    local: SocketAddr,
    peer: SocketAddr,
}

impl Stream {
    pub(super) fn new(shared: Arc<Shared>, id: u64, local: SocketAddr, peer: SocketAddr) -> Self {
        Self { shared, id, local, peer }
    }

    pub(super) fn set_local(&mut self, local: SocketAddr) {
        self.local = local;
    }

    /// The address of this end.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// The address of the other end.
    pub fn peer_addr(&self) -> SocketAddr {
        self.peer
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        self.shared.poll_on(self.id, |connection| connection.poll_read(cx, buf))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.shared.poll_on(self.id, |connection| connection.poll_write(cx, buf))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.shared.on(self.id, Connection::shut_down);
        Poll::Ready(Ok(()))
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("local", &self.local).field("peer", &self.peer).finish_non_exhaustive()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.shared.on(self.id, Connection::abandon);
    }
}
