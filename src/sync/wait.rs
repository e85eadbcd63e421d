//! Waiting for a session, as a future and as a thread.

use std::{
    error::Error,
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use super::{Primitives, SessionSlot, Std, wait_list::Registration};

impl<V: Clone, R: Clone, P: Primitives> SessionSlot<V, R, P> {
    /// Waits for a session, as a future. Ready at once if a session is live.
    ///
    /// Ends with an install, a replace or a stop. A clear does not end it. It has no deadline of its own.
    ///
    /// # Errors
    ///
    /// The reason, if the slot has stopped.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future removes its registration and takes nothing from anyone (G9).
    pub fn wait(&self) -> Wait<'_, V, R, P> {
        Wait { slot: self, registration: None }
    }

    /// Waits for a session, blocking the thread. Returns at once if a session is live.
    ///
    /// Ends with an install, a replace or a stop. A clear does not end it, and it has no deadline.
    ///
    /// # Errors
    ///
    /// The reason, if the slot has stopped.
    pub fn wait_blocking(&self) -> Result<V, R> {
        // One lock from the check to the sleep: nothing comes in between (G1).
        let mut state = P::lock(&self.state);
        loop {
            if let Some(outcome) = state.outcome() {
                return outcome;
            }
            state.blocked += 1;
            state = P::wait(&self.changed, state);
            state.blocked -= 1;
        }
    }

    /// As [`wait_blocking`](Self::wait_blocking), until `deadline`.
    ///
    /// Ends with an install, a replace, a stop or the deadline. A clear does not end it. Even after the deadline, it
    /// returns a session that is there.
    ///
    /// # Errors
    ///
    /// [`WaitUntilError`] tells a deadline from a stop.
    pub fn wait_until(&self, deadline: P::Instant) -> Result<V, WaitUntilError<R>> {
        let mut state = P::lock(&self.state);
        loop {
            // The clock is read after the condition and under the same lock, so a session that came before the
            // deadline is never missed (rule 1).
            if let Some(outcome) = state.outcome() {
                return outcome.map_err(WaitUntilError::Stopped);
            }
            if P::now() >= deadline {
                return Err(WaitUntilError::TimedOut);
            }
            state.blocked += 1;
            state = P::wait_until(&self.changed, state, deadline);
            state.blocked -= 1;
        }
    }
}

/// The future of [`SessionSlot::wait`]. Polled again after it was ready, it waits anew.
#[must_use = "futures do nothing unless polled"]
pub struct Wait<'a, V: Clone, R: Clone, P: Primitives = Std> {
    slot: &'a SessionSlot<V, R, P>,
    /// Where our waker is. Kept from the first pending poll to the ready one, or to the drop.
    registration: Option<Registration>,
}

impl<V: Clone, R: Clone, P: Primitives> Future for Wait<'_, V, R, P> {
    type Output = Result<V, R>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { slot, registration } = self.get_mut();
        // Foreign code: cloned before the lock, and what is not stored is dropped after it (rule 8).
        let waker = cx.waker().clone();
        // Check and register are one step (G1).
        let mut state = P::lock(&slot.state);
        let outcome = state.outcome();
        let unused = match outcome {
            Some(_) => state.waiters.remove(registration),
            None => state.waiters.register(registration, waker),
        };
        drop(state);
        drop(unused);
        outcome.map_or(Poll::Pending, Poll::Ready)
    }
}

impl<V: Clone, R: Clone, P: Primitives> Drop for Wait<'_, V, R, P> {
    fn drop(&mut self) {
        if self.registration.is_some() {
            let waker = P::lock(&self.slot.state).waiters.remove(&mut self.registration);
            drop(waker);
        }
    }
}

impl<V: Clone, R: Clone, P: Primitives> fmt::Debug for Wait<'_, V, R, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wait").field("registered", &self.registration.is_some()).finish_non_exhaustive()
    }
}

/// Why [`SessionSlot::wait_until`] returned no session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitUntilError<R> {
    /// The deadline came first.
    TimedOut,
    /// The slot has stopped, for this reason.
    Stopped(R),
}

impl<R: fmt::Display> fmt::Display for WaitUntilError<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimedOut => f.write_str("there was no session before the deadline"),
            Self::Stopped(reason) => reason.fmt(f),
        }
    }
}

impl<R: fmt::Debug + fmt::Display> Error for WaitUntilError<R> {}
