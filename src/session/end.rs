//! How one stream ends on the wire, for waiters that need nothing else of it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::latch::Latch;
use crate::error::StreamError;

/// How a stream has ended on the wire: both sides have finished, or one has reset it.
pub(super) type Outcome = Result<(), StreamError>;

/// The end of one stream on the wire. A waiter keeps nothing else of the stream.
#[derive(Debug)]
pub(super) struct WireEnd(Mutex<State>);

#[derive(Debug)]
enum State {
    /// The latch is made for the first waiter.
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

    /// Publishes the end to waiters. The first outcome wins. It wakes others.
    pub(super) fn set(&self, outcome: Outcome) {
        let mut state = self.state();
        let State::Open(waited) = &mut *state else { return };
        let waited = waited.take();
        *state = State::Ended(outcome);
        drop(state);
        if let Some(waited) = waited {
            waited.set(outcome);
        }
    }

    /// The latch on which to wait for the end.
    pub(super) fn latch(&self) -> Arc<Latch<Outcome>> {
        match &mut *self.state() {
            State::Open(waited) => Arc::clone(waited.get_or_insert_default()),
            State::Ended(outcome) => Arc::new(Latch::of(*outcome)),
        }
    }
}
