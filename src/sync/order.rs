//! The order in which things end.
//!
//! Both orders are drop guards, so they hold on every way out: a return, a panic, an aborted task, the end of the
//! runtime.

use std::{fmt, mem, sync::Arc};

use super::{Primitives, SessionSlot, Std, steps::Steps};

/// The steps of a session's end. [`SessionEnd`] keeps their order.
pub trait Ending {
    /// Why the session ended.
    type Reason;

    /// Takes the session out of its slot.
    fn clear(&mut self);

    /// Publishes the reason to everyone who waits for the session's end.
    fn publish(&mut self, reason: &Self::Reason);

    /// Fails everything that depends on the session: its streams, and the callers that wait to open one.
    fn report(&mut self, reason: &Self::Reason);

    /// The reason, if the guard is dropped without one. [`std::thread::panicking`] tells a panic from an aborted task.
    fn abandoned(&mut self) -> Self::Reason;
}

/// Ends a session in the order clear, publish, report (rule 7), on [`end`](Self::end) or when dropped.
///
/// So anyone who learns of a death, by any means, finds the session gone from its slot (G3). If a step panics the later
/// ones still run, and then the panic goes on.
///
/// ```
/// use evermux::sync::{Ending, SessionEnd};
///
/// struct Steps<'a>(&'a mut Vec<&'static str>);
///
/// impl Ending for Steps<'_> {
///     type Reason = &'static str;
///     fn clear(&mut self) {
///         self.0.push("cleared");
///     }
///     fn publish(&mut self, reason: &Self::Reason) {
///         self.0.push(reason);
///     }
///     fn report(&mut self, _: &Self::Reason) {
///         self.0.push("reported");
///     }
///     fn abandoned(&mut self) -> Self::Reason {
///         "abandoned"
///     }
/// }
///
/// let mut steps = Vec::new();
/// drop(SessionEnd::new(Steps(&mut steps)));
/// assert_eq!(steps, ["cleared", "abandoned", "reported"]);
/// ```
#[must_use = "dropping the guard ends the session"]
pub struct SessionEnd<E: Ending> {
    ending: E,
    ended: bool,
}

impl<E: Ending> SessionEnd<E> {
    /// Guards a live session.
    pub fn new(ending: E) -> Self {
        Self { ending, ended: false }
    }

    /// Ends the session for this reason.
    pub fn end(mut self, reason: &E::Reason) {
        self.run(reason);
    }

    /// Returns what was passed to [`new`](Self::new).
    pub fn get_mut(&mut self) -> &mut E {
        &mut self.ending
    }

    fn run(&mut self, reason: &E::Reason) {
        if mem::replace(&mut self.ended, true) {
            return;
        }
        let mut steps = Steps::new();
        steps.run(|| self.ending.clear());
        steps.run(|| self.ending.publish(reason));
        steps.run(|| self.ending.report(reason));
    }
}

impl<E: Ending> Drop for SessionEnd<E> {
    fn drop(&mut self) {
        if !self.ended {
            let reason = self.ending.abandoned();
            self.run(&reason);
        }
    }
}

impl<E: Ending> fmt::Debug for SessionEnd<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionEnd").finish_non_exhaustive()
    }
}

/// Stops a slot when its provider ends, by any means (G12).
///
/// On drop it [stops](SessionSlot::stop) the slot, wakes every waiter, and then passes each session that was live to
/// the closure, outside the lock (G6). A panic of a waker or of the closure does not keep the other sessions from the
/// closure.
///
/// ```
/// use std::sync::Arc;
/// use evermux::sync::{SessionSlot, StopGuard};
///
/// let slot: Arc<SessionSlot<&str, &str>> = Arc::new(SessionSlot::new(1));
/// let mut guard = StopGuard::new(Arc::clone(&slot), "aborted", |session| println!("ending {session}"));
/// guard.set_reason("gave up");
/// drop(guard);
/// assert_eq!(slot.wait_blocking(), Err("gave up"));
/// ```
#[must_use = "dropping the guard stops the slot"]
pub struct StopGuard<V: Clone, R: Clone, F: FnMut(V), P: Primitives = Std> {
    slot: Arc<SessionSlot<V, R, P>>,
    reason: R,
    end: F,
}

impl<V: Clone, R: Clone, F: FnMut(V), P: Primitives> StopGuard<V, R, F, P> {
    /// Guards a running provider. `reason` is what the slot is stopped with if the guard is dropped now.
    pub fn new(slot: Arc<SessionSlot<V, R, P>>, reason: R, end: F) -> Self {
        Self { slot, reason, end }
    }

    /// Changes the reason.
    pub fn set_reason(&mut self, reason: R) {
        self.reason = reason;
    }
}

impl<V: Clone, R: Clone, F: FnMut(V), P: Primitives> Drop for StopGuard<V, R, F, P> {
    fn drop(&mut self) {
        let (sessions, wakers) = self.slot.stop_silently(self.reason.clone());
        let mut steps = Steps::new();
        steps.run(|| wakers.wake());
        for session in sessions {
            steps.run(|| (self.end)(session));
        }
    }
}

impl<V: Clone, R: Clone, F: FnMut(V), P: Primitives> fmt::Debug for StopGuard<V, R, F, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StopGuard").finish_non_exhaustive()
    }
}
