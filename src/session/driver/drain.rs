//! How a session closes cleanly: streams in flight get time to finish, then the connection ends (G17).

use std::{task::Context, time::Duration};

use tokio::time::Instant;
use tracing::debug;

use super::DriverState;
use crate::{deadline, error::CloseReason, session::wire::WireCore};

/// Part of the drain time, reserved for the last frames.
pub(super) const FINISH: Duration = Duration::from_secs(1);

/// A drain in progress.
pub(super) struct Drain {
    reason: CloseReason,
    /// Streams in flight may finish until then.
    pub(super) streams_until: Instant,
    pub(super) until: Instant,
    pub(super) finishing: bool,
    /// How many streams were cut because their time was over.
    cut: usize,
}

impl Drain {
    /// How it ended, if nothing went wrong on the way.
    fn outcome(&self) -> CloseReason {
        match (&self.reason, self.cut) {
            (CloseReason::Closed | CloseReason::PeerClosed, streams @ 1..) => CloseReason::DrainTimedOut { streams },
            (reason, _) => reason.clone(),
        }
    }
}

impl<Io> DriverState<Io> {
    /// Why the session ended, if its drain has to stop before it is done.
    pub(super) fn cut_short(&self, core: &WireCore<Io>) -> Option<CloseReason> {
        let streams = self.drain.as_ref()?.cut.max(core.ledger.len());
        Some(CloseReason::DrainTimedOut { streams })
    }
}

impl<Io> DriverState<Io>
where
    Io: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    /// The peer's goodbye begins a drain. An answer to our own sets no limit.
    pub(super) fn hear_goodbye(&mut self, core: &mut WireCore<Io>) {
        if self.drain.is_none() && core.has_go_away() {
            self.drain(core, CloseReason::PeerClosed, self.drain_timeout);
        }
    }

    /// The connection has ended: returns why, and tells the peer if it still can.
    pub(super) fn end(&mut self, core: &mut WireCore<Io>, cx: &mut Context<'_>) -> CloseReason {
        // The goodbye may have come together with the end.
        self.hear_goodbye(core);
        let reason = self.reason_of_end(core);
        core.say_why(&reason, cx);
        let _ = core.poll_flush(cx);
        reason
    }

    /// Begins to drain. A second reason does not restart it; an earlier deadline counts.
    pub(super) fn drain(&mut self, core: &mut WireCore<Io>, reason: CloseReason, within: Duration) {
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
        core.ledger.refuse_all();
        self.opens.clear();
        self.drain = Some(Drain { reason, streams_until, until, finishing: false, cut: 0 });
    }

    /// Continues the drain. Returns the reason when it is done.
    pub(super) fn poll_drain(
        &mut self,
        core: &mut WireCore<Io>,
        now: Instant,
        cx: &mut Context<'_>,
    ) -> Option<CloseReason> {
        let limit = deadline::after(now, self.drain_timeout);
        let drain = self.drain.as_mut()?;
        // An evermux peer keeps its streams after a GoAway; some others end the session at once.
        if (core.peer_is_evermux() || self.early_go_away) && core.ledger.is_announced() {
            core.send_go_away();
            let _ = core.poll_flush(cx);
        }
        if !drain.finishing && (core.ledger.is_empty() || now >= drain.streams_until) {
            drain.finishing = true;
            drain.cut = core.ledger.len();
            // The wait for the goodbye itself is limited too.
            drain.until = drain.until.min(limit);
            core.seal();
            // A stream not taken by now never will be, so its opener may believe what it is told.
            drop(self.inbound.close());
        }
        let done = drain.finishing && core.is_between_frames() && core.poll_finish(cx).is_ready();
        done.then(|| self.reason_of_end(core))
    }

    /// Whether the crate has written its last frame.
    pub(super) fn is_sealed(&self, core: &WireCore<Io>) -> bool {
        self.drain.as_ref().is_some_and(|drain| drain.finishing) && core.is_between_frames()
    }

    /// Why the connection ended: a failure on the way comes before the reason of the drain, unless nothing was lost by
    /// it.
    fn reason_of_end(&self, core: &WireCore<Io>) -> CloseReason {
        match (&self.drain, core.failure()) {
            (Some(drain), None) => drain.outcome(),
            (Some(drain), Some(_)) if core.is_over() => drain.outcome(),
            (Some(Drain { cut, .. }), Some(CloseReason::DrainTimedOut { .. })) => {
                CloseReason::DrainTimedOut { streams: *cut }
            }
            (_, Some(met)) => met.clone(),
            (None, None) => CloseReason::Protocol("the yamux crate ended the session".into()),
        }
    }
}
