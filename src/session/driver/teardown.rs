//! How the end of a session reaches everybody who hangs on it (G3).

use std::sync::Arc;

use tracing::{debug, error, info};

use super::DriverState;
use crate::{
    error::CloseReason,
    session::{entry::Entry, inbound::Inbound, state::SessionState},
    sync::{Ending, Lane},
};

/// What ends with the session, in the order of rule 7: it leaves its slot, its end is published, and then streams and
/// openers learn of it, by the drop of the connection.
pub(super) struct Teardown<Io> {
    pub(super) session: Arc<SessionState>,
    /// None once reported.
    pub(super) machine: Option<DriverState<Io>>,
}

/// Whoever waits for a session when its crate is dropped. Its drop tells them: also where the transport, or the waker
/// of another one, panicked in that drop.
struct Stranded {
    lane: Lane<Inbound>,
    published: bool,
    entries: Vec<Arc<Entry>>,
}

impl Drop for Stranded {
    fn drop(&mut self) {
        // What waits can still be taken: a stream that came whole is whole.
        drop(self.lane.end(self.published));
        // A panic within the crate takes the crate's own list of whom to wake with it.
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
        // One that nobody was given is news to nobody: a port scan makes many.
        if self.machine.as_ref().is_some_and(|machine| machine.published) {
            info!(event = "session_closed", kind = reason.name(), %reason, "session closed");
        } else {
            debug!(event = "session_closed", kind = reason.name(), %reason, "session closed");
        }
        self.session.set_closed(reason.clone());
    }

    fn report(&mut self, _: &CloseReason) {
        let Some(machine) = self.machine.take() else { return };
        let entries = machine.wire.entries();
        let (lane, published) = (machine.inbound.clone(), machine.published);
        let stranded = Stranded { lane, published, entries };
        drop(machine);
        drop(stranded);
    }

    fn abandoned(&mut self) -> CloseReason {
        if std::thread::panicking() {
            error!("the driver of a session panicked: the session is lost");
            return CloseReason::Panicked;
        }
        // A closing that was cut short is still that closing.
        self.machine.as_ref().and_then(DriverState::cut_short).unwrap_or(CloseReason::RuntimeEnded)
    }
}
