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
/// 2. A waker is cloned before the lock, and woken or dropped after it (G7).
/// 3. One task waits at a time; the one that polled last is woken.
///
/// ```
/// use std::task::{Context, Poll, Waker};
/// use evermux::sync::Bell;
///
/// let bell = Bell::new();
/// let cx = &mut Context::from_waker(Waker::noop());
/// assert!(bell.poll(cx, || false, |_| Poll::<()>::Pending).is_pending());
/// bell.ring();
/// ```
pub struct Bell<P: Primitives = Std>(P::Mutex<Option<Waker>>);

impl Bell {
    /// Makes a bell that nobody waits for.
    pub fn new() -> Self {
        Self::with_primitives()
    }
}

impl<P: Primitives> Bell<P> {
    /// As [`new`](Bell::new), on a platform of the caller's choice.
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
