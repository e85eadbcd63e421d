//! The streams of a session: those that the peer opens, those opened here, and those that nobody holds any more.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::io::AsyncRead as _;
use tokio::time::Instant;
use tracing::warn;

use super::DriverState;
use crate::{
    deadline,
    error::CloseReason,
    session::{
        entry::Entry,
        inbound::Inbound,
        unclaimed::Unclaimed,
        wire::{Wire, WireCore},
    },
};

/// How many streams a peer may leave unacknowledged: hashicorp's resets one more, and others wait for room as well.
const MAX_UNACKNOWLEDGED: usize = 256;
/// How much is read and discarded of a stream that was dropped after its FIN.
const LINGER_BYTES: usize = 1 << 20;
const LINGER: Duration = Duration::from_secs(10);

/// A stream that is read and discarded until the peer has finished (G17).
pub(super) struct Linger {
    stream: yamux::Stream,
    entry: Arc<Entry>,
    left: usize,
    pub(super) until: Instant,
}

impl Linger {
    pub(super) fn new(stream: yamux::Stream, entry: Arc<Entry>) -> Self {
        Self { stream, entry, left: LINGER_BYTES, until: Instant::now() + LINGER }
    }
}

impl<Io> DriverState<Io>
where
    Io: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    /// Queues a stream that the peer opened, un-ACKed, until somebody takes it. Past the limit it is dropped, and so
    /// reset (G16).
    pub(super) fn take_inbound(&mut self, core: &WireCore<Io>, stream: yamux::Stream) {
        let id = stream.id().val();
        let Some(entry) = core.ledger.entry(id) else { return };
        let inbound = Inbound::new(Unclaimed::new(stream, entry), Arc::clone(&self.session), self.handles.clone());
        self.inbound_waits = true;
        let refused = self.inbound.push(id, self.stamp(Instant::now()), inbound).is_err();
        if refused && self.drain.is_none() && !std::mem::replace(&mut self.refusal_logged, true) {
            warn!("streams of the peer are refused: nobody takes streams here");
        }
    }

    /// A moment as a stamp in the lane of inbound streams.
    fn stamp(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.begun).as_millis()).unwrap_or(u64::MAX)
    }

    /// When the inbound stream that has waited longest is to be reset.
    pub(super) fn accept_deadline(&mut self) -> Option<Instant> {
        if !self.inbound_waits {
            return None;
        }
        let oldest = self.inbound.oldest();
        self.inbound_waits = oldest.is_some();
        Some(deadline::after(self.begun + Duration::from_millis(oldest?), self.accept_timeout))
    }

    /// Resets the inbound streams that nobody took in time: a hashicorp peer would end the session over them.
    pub(super) fn expire_inbound(&mut self, now: Instant) {
        let Some(until) = now.checked_sub(self.accept_timeout) else { return };
        let expired = self.inbound.expire(self.stamp(until));
        if !expired.is_empty() {
            warn!(streams = expired.len(), after = ?self.accept_timeout, "streams of the peer were reset: nobody took them");
        }
    }

    /// Opens streams for waiting callers. Returns whether another turn has something to do: any was opened, or the
    /// connection is ending.
    pub(super) fn open_streams(&mut self, wire: &Wire<Io>, cx: &mut Context<'_>) -> bool {
        let mut opened = false;
        // Callers that are gone by now open nothing.
        self.opens.retain_mut(|(_, reply)| reply.poll_closed(cx).is_pending());
        while !self.opens.is_empty()
            // The crate counts fewer: a finished stream still waits at the peer. It also looks at every stream to find
            // that out, so it is not asked in vain. A turn reads the peer's acknowledgements before it comes here.
            && wire.core().ledger.unacknowledged() < MAX_UNACKNOWLEDGED
            && let Poll::Ready(outcome) = self.connection.poll_new_outbound(cx)
        {
            // Out of ids, or ending: the next turn finds the connection ended.
            let Ok(stream) = outcome else { return true };
            let Some((permit, reply)) = self.opens.pop_front() else { break };
            let entry = wire.core().ledger.open(stream.id().val(), permit);
            let stream = Unclaimed::new(stream, entry);
            stream.announce(cx);
            opened = true;
            self.streams_left -= 1;
            // If the caller is gone by now, dropping the stream resets it (G9).
            let _ = reply.send(stream);
            if self.streams_left == 0 {
                self.drain(&mut wire.core(), CloseReason::Closed, self.drain_timeout);
            }
        }
        opened
    }

    /// Reads and discards what arrives for streams that were dropped after their FIN.
    pub(super) fn poll_lingers(&mut self, core: &mut WireCore<Io>, now: Instant, cx: &mut Context<'_>) {
        if self.lingers.is_empty() {
            return;
        }
        let mut scratch = [0; 4096];
        self.lingers.retain_mut(|linger| {
            while linger.left > 0 {
                match Pin::new(&mut linger.stream).poll_read(cx, &mut scratch) {
                    Poll::Ready(Ok(n @ 1..)) => {
                        linger.left = linger.left.saturating_sub(n);
                        linger.entry.add_read(n);
                    }
                    Poll::Ready(_) => return false,
                    Poll::Pending if now < linger.until => return true,
                    Poll::Pending => break,
                }
            }
            linger.entry.set_gone();
            core.give_up(linger.stream.id().val());
            false
        });
    }
}
