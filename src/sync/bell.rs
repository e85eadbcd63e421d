//! A second way to wake the task that polls something foreign.

use std::{
    fmt,
    task::{Context, Poll, Waker},
};

use super::{Primitives, Std};

/// Wakes the task that waits for something foreign, when that ends without waking it.
///
/// # Rules
///
/// 1. It is rung after the end is published and what is polled has ended. So a task that registers before the ring is
///    woken by it, and one that registers later sees the end, and polls once more.
/// 2. A waker is cloned before the lock, and woken or dropped after it (G7). One of a task that is registered already
///    is not cloned.
/// 3. One task waits at a time; the one that polled last is woken.
pub struct Bell<P: Primitives = Std>(P::Mutex<Option<Waker>>);

impl<P: Primitives> Bell<P> {
    /// Makes a bell that nobody waits for.
    pub fn with_primitives() -> Self {
        Self(P::mutex(None))
    }

    /// Polls, and has the task woken by the next [`ring`](Self::ring) if it has to wait. `is_over` says whether the end
    /// is published.
    pub fn poll<T>(
        &self,
        cx: &mut Context<'_>,
        is_over: impl FnOnce() -> bool,
        mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        if let Poll::Ready(output) = poll(cx) {
            return Poll::Ready(output);
        }
        self.register(cx.waker());
        // An end before the registration shows now; one after it wakes.
        if is_over() { poll(cx) } else { Poll::Pending }
    }

    /// Has this waker woken by the next [`ring`](Self::ring).
    pub fn register(&self, waker: &Waker) {
        // It compares two pointers, and runs nothing of the waker's.
        if P::lock(&self.0).as_ref().is_some_and(|registered| registered.will_wake(waker)) {
            return;
        }
        let waker = waker.clone();
        let old = P::lock(&self.0).replace(waker);
        drop(old);
    }

    /// Wakes the task that waits, if there is one.
    pub fn ring(&self) {
        let waker = P::lock(&self.0).take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<P: Primitives> Default for Bell<P> {
    fn default() -> Self {
        Self::with_primitives()
    }
}

impl<P: Primitives> fmt::Debug for Bell<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bell").finish_non_exhaustive()
    }
}
