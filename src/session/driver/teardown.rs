//! How the end of a session reaches everybody who depends on it (G3).

use std::sync::Arc;

use tracing::{debug, error, info};

use super::Running;
use crate::{
    error::CloseReason,
    session::{entry::Entry, inbound::Inbound, state::SessionState},
    sync::{Ending, Lane},
};

/// What ends with the session, in the order of rule 7: it leaves its slot, its end is published, and then dropping the
/// connection fails streams and openers.
pub(super) struct Teardown<Io> {
    pub(super) session: Arc<SessionState>,
    /// `None` once reported.
    pub(super) running: Option<Running<Io>>,
}

/// The waiters of a session whose crate is dropped. Its drop wakes them, even if the transport, or the waker of another
/// one, panicked in that drop.
struct Stranded {
    lane: Lane<Inbound>,
    published: bool,
    entries: Vec<Arc<Entry>>,
}

impl Drop for Stranded {
    fn drop(&mut self) {
        // What waits can still be taken: a stream that came whole is whole.
        drop(self.lane.end(self.published));
        // A panic inside the crate loses the crate's own list of wakers.
        for entry in &self.entries {
            entry.wake();
        }
    }
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
        let Some(running) = self.running.take() else { return };
        let Running { state, wire } = &running;
        let stranded = Stranded { lane: state.inbound.clone(), published: state.published, entries: wire.entries() };
        drop(running);
        drop(stranded);
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
