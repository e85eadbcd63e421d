//! What the owner of a connection does with it. The errors are those of Linux.

use std::io;
use std::task::{Context, Poll};

use tokio::io::ReadBuf;

use super::{Connection, Owner, Phase};

impl Connection {
    /// Reads what has arrived, then the end or the error.
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.receiver.has_unread() {
            self.receiver.read(buf);
            self.ack_due |= self.phase == Phase::Open && self.receiver.should_update();
            return Poll::Ready(Ok(()));
        }
        if self.receiver.is_finished() {
            return Poll::Ready(Ok(()));
        }
        if let Some(error) = self.error.take() {
            return Poll::Ready(Err(io::Error::from_raw_os_error(error)));
        }
        if self.phase == Phase::Closed {
            return Poll::Ready(Ok(()));
        }
        self.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Waits for room, and takes what fits.
    pub(crate) fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if let Some(error) = self.error.take() {
            return Poll::Ready(Err(io::Error::from_raw_os_error(error)));
        }
        if self.sender.is_closed() || self.phase == Phase::Closed {
            return Poll::Ready(Err(io::Error::from_raw_os_error(libc::EPIPE)));
        }
        if self.sender.room() == 0 && !bytes.is_empty() {
            self.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(Ok(self.sender.write(bytes)))
    }

    /// Waits for the end of the handshake.
    pub(crate) fn poll_connected(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(error) = self.error.take() {
            return Poll::Ready(Err(io::Error::from_raw_os_error(error)));
        }
        if self.phase == Phase::SynSent {
            self.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    /// Closes the direction to the peer. Doing it twice, or after the end of the connection, is nothing.
    pub(crate) fn shut_down(&mut self) {
        self.sender.close();
    }

    /// The owner is gone. What it did not read, it will never read, and the peer is told by a reset.
    pub(crate) fn abandon(&mut self) {
        let owner = std::mem::replace(&mut self.owner, Owner::Nobody);
        match self.phase {
            Phase::SynSent | Phase::SynReceived => self.phase = Phase::Closed,
            Phase::Open if self.receiver.has_unread() || owner != Owner::Stream => self.reset(),
            Phase::Open => self.sender.close(),
            Phase::TimeWait | Phase::Closed => {}
        }
    }
}
