//! A deadline that may come to be earlier, and never later.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use super::{
    Primitives, Std,
    wait_list::{Registration, WaitList},
};

/// The earliest of several deadlines, each of which may be set at any time.
///
/// # Rules
///
/// 1. Check and register are one step under the lock: whoever waits is told of every deadline that is earlier than the
///    one that he knows, or of one that is earlier still.
/// 2. Of deadlines that are set at once the earliest stays, whatever their order.
pub struct Earliest<T: Copy + Ord, P: Primitives = Std>(P::Mutex<State<T>>);

struct State<T> {
    deadline: Option<T>,
    waiters: WaitList,
}

impl<T: Copy + Ord> State<T> {
    /// The deadline, if it is earlier than this one.
    fn before(&self, known: Option<T>) -> Option<T> {
        self.deadline.filter(|deadline| known.is_none_or(|known| *deadline < known))
    }
}

impl<T: Copy + Ord, P: Primitives> Earliest<T, P> {
    /// There is no deadline yet.
    pub fn with_primitives() -> Self {
        Self(P::mutex(State { deadline: None, waiters: WaitList::new() }))
    }

    /// Sets a deadline, unless there is an earlier one.
    pub fn set(&self, deadline: T) {
        let mut state = P::lock(&self.0);
        if state.deadline.is_some_and(|earliest| earliest <= deadline) {
            return;
        }
        state.deadline = Some(deadline);
        let wakers = state.waiters.take();
        drop(state);
        wakers.wake();
    }

    /// The earliest so far.
    pub fn get(&self) -> Option<T> {
        P::lock(&self.0).deadline
    }

    /// Waits for one that is earlier than this, or for any.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future removes its registration (G9).
    pub fn before(self: &Arc<Self>, known: Option<T>) -> Earlier<T, P> {
        Earlier { earliest: Arc::clone(self), known, registration: None }
    }
}

impl<T: Copy + Ord, P: Primitives> Default for Earliest<T, P> {
    fn default() -> Self {
        Self::with_primitives()
    }
}

impl<T: Copy + Ord, P: Primitives> fmt::Debug for Earliest<T, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Earliest").finish_non_exhaustive()
    }
}

/// The future of [`Earliest::before`].
#[must_use = "futures do nothing unless polled"]
pub struct Earlier<T: Copy + Ord, P: Primitives = Std> {
    earliest: Arc<Earliest<T, P>>,
    known: Option<T>,
    /// Where our waker is, from a pending poll to the next.
    registration: Option<Registration>,
}

impl<T: Copy + Ord, P: Primitives> Unpin for Earlier<T, P> {}

impl<T: Copy + Ord, P: Primitives> Future for Earlier<T, P> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let Self { earliest, known, registration } = self.get_mut();
        // Foreign code: cloned before the lock, and what is not stored is dropped after it (rule 8).
        let waker = cx.waker().clone();
        let mut state = P::lock(&earliest.0);
        let (outcome, unused) = match state.before(*known) {
            Some(deadline) => (Poll::Ready(deadline), state.waiters.remove(registration)),
            None => (Poll::Pending, state.waiters.register(registration, waker)),
        };
        drop(state);
        drop(unused);
        outcome
    }
}

impl<T: Copy + Ord, P: Primitives> Drop for Earlier<T, P> {
    fn drop(&mut self) {
        if self.registration.is_some() {
            let waker = P::lock(&self.earliest.0).waiters.remove(&mut self.registration);
            drop(waker);
        }
    }
}
