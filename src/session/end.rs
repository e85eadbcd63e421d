//! How one stream ends on the wire, for whoever waits for nothing else.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::state::Latch;
use crate::error::StreamError;

/// How a stream has ended on the wire: both sides have finished, or one has reset it.
pub(super) type Outcome = Result<(), StreamError>;

/// The end of one stream on the wire. What waits for it keeps nothing else of the stream.
#[derive(Debug)]
pub(super) struct WireEnd(Mutex<State>);

#[derive(Debug)]
enum State {
    /// Nobody needs a place to wait in before somebody asks.
    Open(Option<Arc<Latch<Outcome>>>),
    Ended(Outcome),
}

impl Default for WireEnd {
    fn default() -> Self {
        Self(Mutex::new(State::Open(None)))
    }
}

impl WireEnd {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the end to whoever waits. The first word wins. It wakes others, so not under the lock of the wire (G7).
    pub(super) fn tell(&self, outcome: Outcome) {
        let mut state = self.state();
        let State::Open(waited) = &mut *state else { return };
        let waited = waited.take();
        *state = State::Ended(outcome);
        drop(state);
        if let Some(waited) = waited {
            waited.tell(outcome);
        }
    }

    /// Where the end is told.
    pub(super) fn told(&self) -> Arc<Latch<Outcome>> {
        match &mut *self.state() {
            State::Open(waited) => Arc::clone(waited.get_or_insert_default()),
            State::Ended(outcome) => Arc::new(Latch::of(*outcome)),
        }
    }
}
