//! A value that is set once, and waited for.

use std::{
    fmt,
    future::poll_fn,
    mem,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
};

use super::{
    Ordering, Primitives, Std,
    wait_list::{Registration, WaitList},
};

/// A value that is set once, and that tasks can wait for. The first one set stays.
///
/// Anyone who [waits](Self::wait) is woken by the first [`set`](Self::set), and whoever looks afterwards finds the
/// value. The value is opaque and cheap to clone.
pub struct Latch<T: Clone, P: Primitives = Std> {
    state: P::Mutex<State<T>>,
    /// 1 once it is set: whoever only looks takes no lock until then. Stored under the lock.
    is_set: P::AtomicU64,
}

/// `Open → Set`. Check and register are one step under the lock, as in the slot.
enum State<T> {
    Open(WaitList),
    Set(T),
}

impl<T: Clone, P: Primitives> Latch<T, P> {
    /// Makes a latch that is not set.
    pub fn with_primitives() -> Self {
        Self { state: P::mutex(State::Open(WaitList::new())), is_set: P::atomic_u64(0) }
    }

    /// Makes a latch that is set.
    pub fn of(value: T) -> Self {
        Self { state: P::mutex(State::Set(value)), is_set: P::atomic_u64(1) }
    }

    /// Sets the value, unless there is one, and wakes whoever waits for it. Not under a lock of the caller.
    pub fn set(&self, value: T) {
        let mut state = P::lock(&self.state);
        let State::Open(waiters) = &mut *state else {
            drop(state);
            return;
        };
        let wakers = waiters.take();
        *state = State::Set(value);
        P::store_u64(&self.is_set, 1, Ordering::Release);
        drop(state);
        wakers.wake();
    }

    /// The value, if it is set.
    pub fn get(&self) -> Option<T> {
        if P::load_u64(&self.is_set, Ordering::Acquire) == 0 {
            return None;
        }
        match &*P::lock(&self.state) {
            State::Open(_) => None,
            State::Set(value) => Some(value.clone()),
        }
    }

    /// Polls a future until it is ready, or the latch is set: then it is dropped, and the value is the error. The latch
    /// counts first.
    pub async fn unless_set<F: Future>(self: &Arc<Self>, future: F) -> Result<F::Output, T> {
        let (mut set, mut future) = (self.wait(), pin!(future));
        poll_fn(|cx| match Pin::new(&mut set).poll(cx) {
            Poll::Ready(value) => Poll::Ready(Err(value)),
            Poll::Pending => future.as_mut().poll(cx).map(Ok),
        })
        .await
    }

    /// Waits until it is set.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future removes its registration (G9).
    pub fn wait(self: &Arc<Self>) -> Latched<T, P> {
        Latched { latch: Arc::clone(self), registration: None }
    }
}

impl<T: Clone, P: Primitives> Default for Latch<T, P> {
    fn default() -> Self {
        Self::with_primitives()
    }
}

impl<T: Clone, P: Primitives> fmt::Debug for Latch<T, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Latch").finish_non_exhaustive()
    }
}

/// The future of [`Latch::wait`]. Ready as often as it is polled once the latch is set.
#[must_use = "futures do nothing unless polled"]
pub struct Latched<T: Clone, P: Primitives = Std> {
    latch: Arc<Latch<T, P>>,
    /// Where our waker is, from a pending poll to the next.
    registration: Option<Registration>,
}

impl<T: Clone, P: Primitives> Future for Latched<T, P> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let Self { latch, registration } = self.get_mut();
        if registration.is_some()
            && let State::Open(waiters) = &*P::lock(&latch.state)
            && waiters.holds(registration.as_ref(), cx.waker())
        {
            return Poll::Pending;
        }
        // Foreign code: cloned before the lock, and what is not stored is dropped after it (rule 8).
        let waker = cx.waker().clone();
        let mut state = P::lock(&latch.state);
        let (outcome, unused) = match &mut *state {
            State::Open(waiters) => (Poll::Pending, waiters.register(registration, waker)),
            State::Set(value) => (Poll::Ready(value.clone()), Some(waker)),
        };
        drop(state);
        drop(unused);
        outcome
    }
}

impl<T: Clone, P: Primitives> Drop for Latched<T, P> {
    fn drop(&mut self) {
        if self.registration.is_none() {
            return;
        }
        let waker = match &mut *P::lock(&self.latch.state) {
            State::Open(waiters) => waiters.remove(&mut self.registration),
            // Its waker was taken out.
            State::Set(_) => None,
        };
        drop(waker);
    }
}

impl<T: Clone, P: Primitives> fmt::Debug for Latched<T, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Latched").field("registered", &self.registration.is_some()).finish_non_exhaustive()
    }
}

/// A [`Latch`] that is made for the first who waits, and outlives what it is a part of.
pub struct LazyLatch<T: Clone, P: Primitives = Std>(P::Mutex<Lazy<T, P>>);

/// `Open → Set`.
enum Lazy<T: Clone, P: Primitives> {
    /// Made for the first who waits.
    Open(Option<Arc<Latch<T, P>>>),
    Set(T),
}

impl<T: Clone, P: Primitives> LazyLatch<T, P> {
    /// Makes one that is not set.
    pub fn with_primitives() -> Self {
        Self(P::mutex(Lazy::Open(None)))
    }

    /// Sets the value, unless there is one, and wakes whoever waits for it. Not under a lock of the caller.
    pub fn set(&self, value: T) {
        let mut state = P::lock(&self.0);
        if !matches!(*state, Lazy::Open(_)) {
            return;
        }
        let Lazy::Open(waited) = mem::replace(&mut *state, Lazy::Set(value.clone())) else { return };
        drop(state);
        if let Some(waited) = waited {
            waited.set(value);
        }
    }

    /// The latch to wait on.
    pub fn latch(&self) -> Arc<Latch<T, P>> {
        match &mut *P::lock(&self.0) {
            Lazy::Open(waited) => Arc::clone(waited.get_or_insert_default()),
            Lazy::Set(value) => Arc::new(Latch::of(value.clone())),
        }
    }
}

impl<T: Clone, P: Primitives> Default for LazyLatch<T, P> {
    fn default() -> Self {
        Self::with_primitives()
    }
}

impl<T: Clone, P: Primitives> fmt::Debug for LazyLatch<T, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LazyLatch").finish_non_exhaustive()
    }
}
