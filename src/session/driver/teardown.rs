//! How the end of a session reaches everybody who depends on it (G3).

use std::sync::Arc;

use tracing::{debug, error, info};

use super::Running;
use crate::{
    error::CloseReason,
    session::state::SessionState,
    sync::{Ending, Steps},
};

/// What ends with the session, in the order of rule 7: it leaves its slot, its end is published, and then dropping the
/// connection fails streams and openers.
pub(super) struct Teardown<Io> {
    pub(super) session: Arc<SessionState>,
    /// `None` once reported.
    pub(super) running: Option<Running<Io>>,
}

impl<Io> Ending for Teardown<Io> {
    type Reason = CloseReason;

    fn clear(&mut self) {
        self.session.leave_slot();
    }

    fn publish(&mut self, reason: &CloseReason) {
        // The end of a session that nobody was given is no news: a port scan makes many.
        if self.running.as_ref().is_some_and(|running| running.state.published) {
            info!(event = "session_closed", kind = reason.name(), %reason, "session closed");
        } else {
            debug!(event = "session_closed", kind = reason.name(), %reason, "session closed");
        }
        self.session.set_closed(reason.clone());
    }

    fn report(&mut self, _: &CloseReason) {
        let Some(Running { mut state, wire }) = self.running.take() else { return };
        let (lane, published, entries) = (state.inbound.clone(), state.published, wire.entries());
        // Each may wake somebody, whose waker is foreign code, and the transport is foreign code as a whole.
        let mut steps = Steps::new();
        state.commands.close();
        while let Ok(command) = state.commands.try_recv() {
            steps.run(|| drop(command));
        }
        for open in state.opens.drain(..) {
            steps.run(|| drop(open));
        }
        for ping in state.pings.drain(..) {
            steps.run(|| drop(ping));
        }
        steps.run(|| drop(Running { state, wire }));
        // What waits can still be taken: a stream that came whole is whole.
        steps.run(|| drop(lane.end(published)));
        // A panic inside the crate loses the crate's own list of wakers.
        for entry in entries {
            steps.run(|| entry.wake());
        }
    }

    fn abandoned(&mut self) -> CloseReason {
        if std::thread::panicking() {
            error!("the driver of a session panicked: the session is lost");
            return CloseReason::Panicked;
        }
        // A drain that was cut short is still that drain.
        let cut_short = |Running { state, wire }: &Running<Io>| state.cut_short(&wire.core());
        self.running.as_ref().and_then(cut_short).unwrap_or(CloseReason::RuntimeEnded)
    }
}
