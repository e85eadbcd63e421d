//! How a connection ends: goodbyes, the clean end, and what an end means.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::time::Instant;

use super::WireCore;
use crate::{
    error::CloseReason,
    session::{frame::Header, goodbye::Goodbye, input::InputEnd},
};

/// The progress of [`WireCore::poll_finish`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Finish {
    Resetting,
    Flushing,
    ShuttingDown,
    Discarding,
}

impl<Io> WireCore<Io>
where
    Io: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    /// Sets what our GoAway says.
    pub(crate) fn set_goodbye(&mut self, goodbye: Goodbye) {
        self.goodbye = goodbye;
    }

    /// Announces, once, that we open no more streams.
    pub(crate) fn send_go_away(&mut self) {
        if !std::mem::replace(&mut self.go_away_out, true) {
            self.push_control(Header::go_away(self.goodbye.code(self.peer_is_evermux())));
        }
    }

    /// The session ends at once: tells an evermux peer why, if that takes no waiting.
    pub(crate) fn say_why(&mut self, reason: &CloseReason, cx: &mut Context<'_>) {
        if let Some(goodbye) = Goodbye::at_the_end(reason).filter(|_| self.peer_is_evermux()) {
            self.goodbye = goodbye;
            self.send_go_away();
            let _ = self.poll_flush(cx);
        }
    }

    /// From now on the crate may begin no frame; the one that it has begun must still be finished.
    pub(crate) fn seal(&mut self) {
        self.output.seal();
    }

    /// Whether the output is between two frames of the crate.
    pub(crate) fn is_between_frames(&self) -> bool {
        self.output.is_between_frames()
    }

    /// Ends the connection cleanly: resets what is still open, announces that no more follows, and reads to the end. If
    /// the peer may not have taken all of it, that is a [`failure`](Self::failure).
    ///
    /// Closing a TCP socket with unread input resets it, and destroys what was already sent. And two sides that close
    /// at the same time with full sockets wait for each other to read, so this reads from the start. Call it only if
    /// [`is_between_frames`](Self::is_between_frames).
    pub(crate) fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.finish == Finish::Resetting {
            // Bounded by the limits on streams.
            self.output.push_bounded(self.ledger.close_all());
            self.send_go_away();
            self.finish = Finish::Flushing;
        }
        let read_to_end = self.poll_discard(cx);
        if self.failure.is_some() {
            return Poll::Ready(());
        }
        if self.finish == Finish::Flushing {
            ready!(self.poll_flush(cx));
            self.output.shut();
            self.finish = Finish::ShuttingDown;
        }
        if self.finish == Finish::ShuttingDown {
            if self.output.error().is_none() {
                match ready!(Pin::new(&mut self.io).poll_shutdown(cx)) {
                    Ok(()) => self.pings.heartbeat.on_shut_down(Instant::now()),
                    Err(error) => self.output.fail(error, &mut self.pings.heartbeat),
                }
            }
            self.finish = Finish::Discarding;
        }
        ready!(read_to_end);
        if let Some(error) = self.output.error() {
            self.fail(CloseReason::Lost(Arc::clone(error)));
        }
        Poll::Ready(())
    }

    /// Reads to the end, and discards everything.
    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.input.end().is_none() {
            self.input.discard();
            match ready!(self.input.poll_fill(&mut self.io, cx, None)) {
                Ok(0) => {}
                Ok(_) => {
                    self.pings.heartbeat.on_read(Instant::now());
                    self.pings.heartbeat.on_pong();
                }
                Err(error) => self.fail(CloseReason::Lost(Arc::new(error))),
            }
        }
        Poll::Ready(())
    }

    /// Whether the end of the connection loses nothing: no stream is open, the transport has taken everything of those
    /// that we finished, and the peer has ended the connection cleanly, or said goodbye first.
    pub(crate) fn is_over(&self) -> bool {
        self.is_in_order() && self.ledger.is_empty()
    }

    fn is_in_order(&self) -> bool {
        let is_in_order = self.input.end() == Some(InputEnd::Eof) || self.is_guest;
        is_in_order && self.output.has_taken(self.ledger.said())
    }

    pub(super) fn on_input_end(&mut self, error: io::Error) {
        // A peer that closes resets what it leaves behind, if it knows of it.
        let is_left = if self.output.error().is_some() { !self.ledger.is_empty() } else { self.ledger.is_used() };
        let reason = match self.output.error() {
            _ if self.go_away_in && self.is_in_order() && !is_left => CloseReason::PeerClosed,
            Some(earlier) => CloseReason::Lost(Arc::clone(earlier)),
            None => CloseReason::Lost(Arc::new(error)),
        };
        self.fail(reason);
    }
}
