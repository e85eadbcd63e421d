//! How a session closes cleanly: streams in flight have their time, then the connection ends (G17).

use std::{task::Context, time::Duration};

use tokio::time::Instant;
use tracing::debug;

use super::DriverState;
use crate::{deadline, error::CloseReason};

/// What a session that closes keeps of its time for the last frames.
pub(super) const FINISH: Duration = Duration::from_secs(1);

/// A session that closes.
pub(super) struct Drain {
    reason: CloseReason,
    /// Until then streams in flight may finish.
    pub(super) streams_until: Instant,
    pub(super) until: Instant,
    pub(super) finishing: bool,
    /// So many streams were cut, because their time was over.
    cut: usize,
}

impl Drain {
    /// How it has ended, if nothing else was met.
    fn outcome(&self) -> CloseReason {
        match (&self.reason, self.cut) {
            (CloseReason::Closed | CloseReason::PeerClosed, streams @ 1..) => CloseReason::DrainTimedOut { streams },
            (reason, _) => reason.clone(),
        }
    }
}

impl<Io> DriverState<Io> {
    /// Why the session has ended, where its closing has to end before it is over.
    pub(super) fn cut_short(&self) -> Option<CloseReason> {
        let streams = self.drain.as_ref()?.cut.max(self.wire.core().ledger.len());
        Some(CloseReason::DrainTimedOut { streams })
    }
}

impl<Io> DriverState<Io>
where
    Io: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    /// The peer's goodbye begins a closing. What answers our own sets no limit.
    pub(super) fn hear_goodbye(&mut self) {
        if self.drain.is_none() && self.wire.core().has_go_away() {
            self.drain(CloseReason::PeerClosed, self.drain_timeout);
        }
    }

    /// The connection has ended: says why, to the peer as well, if it can still be told.
    pub(super) fn end(&mut self, cx: &mut Context<'_>) -> CloseReason {
        // It may have come together with the end.
        self.hear_goodbye();
        let reason = self.reason_of_end();
        let mut wire = self.wire.core();
        wire.say_why(&reason, cx);
        let _ = wire.poll_flush(cx);
        reason
    }

    /// Begins to close. A second reason does not begin anew; an earlier deadline counts.
    pub(super) fn drain(&mut self, reason: CloseReason, within: Duration) {
        let now = Instant::now();
        let until = deadline::after(now, within);
        let streams_until = deadline::after(now, within.saturating_sub(FINISH.min(within / 10)));
        if let Some(drain) = &mut self.drain {
            drain.until = drain.until.min(until);
            drain.streams_until = drain.streams_until.min(streams_until);
            return;
        }
        self.session.retire(reason.clone(), Some(within));
        debug!(event = "session_draining", kind = reason.name(), %reason, "session draining");
        self.wire.core().ledger.refuse_all();
        self.opens.clear();
        self.drain = Some(Drain { reason, streams_until, until, finishing: false, cut: 0 });
    }

    /// Goes on with the closing. Returns the reason when it is done.
    pub(super) fn poll_drain(&mut self, now: Instant, cx: &mut Context<'_>) -> Option<CloseReason> {
        let limit = deadline::after(now, self.drain_timeout);
        let drain = self.drain.as_mut()?;
        let mut wire = self.wire.core();
        // An evermux peer keeps its streams after a GoAway; some others end the session at once.
        if (wire.peer_is_evermux() || self.early_go_away) && wire.ledger.is_announced() {
            wire.send_go_away();
            let _ = wire.poll_flush(cx);
        }
        if !drain.finishing && (wire.ledger.is_empty() || now >= drain.streams_until) {
            drain.finishing = true;
            drain.cut = wire.ledger.len();
            // The goodbye itself is not waited for without a limit.
            drain.until = drain.until.min(limit);
            wire.seal();
            drop(wire);
            // Whoever has not taken his stream by now never will, so that its opener may believe what it is told.
            drop(self.inbound.close());
            wire = self.wire.core();
        }
        let done = drain.finishing && wire.is_between_frames() && wire.poll_finish(cx).is_ready();
        drop(wire);
        done.then(|| self.reason_of_end())
    }

    /// Whether the crate has written its last frame.
    pub(super) fn is_sealed(&self) -> bool {
        self.drain.as_ref().is_some_and(|drain| drain.finishing) && self.wire.core().is_between_frames()
    }

    /// Why the connection has ended: what was met on the way comes before what was wanted, unless nothing is lost by
    /// it.
    fn reason_of_end(&self) -> CloseReason {
        let wire = self.wire.core();
        match (&self.drain, wire.failure()) {
            (Some(drain), None) => drain.outcome(),
            (Some(drain), Some(_)) if wire.is_over() => drain.outcome(),
            (Some(Drain { cut, .. }), Some(CloseReason::DrainTimedOut { .. })) => {
                CloseReason::DrainTimedOut { streams: *cut }
            }
            (_, Some(met)) => met.clone(),
            (None, None) => CloseReason::Protocol("the yamux crate ended the session".into()),
        }
    }
}
