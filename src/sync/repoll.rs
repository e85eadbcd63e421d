//! A waker that turns a wake-up during a poll into another turn of the poll.

use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
};

use super::{Bell, Ordering, Primitives, Std};

/// No poll is under way: a wake-up goes to the task.
const IDLE: u64 = 0;
/// A poll is under way.
const POLLING: u64 = 1;
/// Woken since the last turn began: that poll goes on, or the task has been woken.
const WOKEN: u64 = 2;

/// Turns before the scheduler is let in.
const MAX_TURNS: usize = 32;

/// Polls by turns: a wake-up during a poll causes another turn of that poll, and no trip through the scheduler.
///
/// No wake-up is lost: after it a turn begins that sees what was written before the wake-up, or the task is woken, and
/// the turn is one of its next poll. After a poll that was ready, or whose turn panicked, wake-ups reach nobody until
/// the next poll.
///
/// ```
/// use std::task::{Context, Poll, Waker};
/// use evermux::sync::Repoll;
///
/// let (mut turns, mut count) = (Repoll::new(), 0);
/// let polled = turns.poll(&mut Context::from_waker(Waker::noop()), || true, |cx| {
///     count += 1;
///     if count < 3 {
///         cx.waker().wake_by_ref();
///     }
///     Poll::<()>::Pending
/// });
/// assert!(polled.is_pending());
/// assert_eq!(count, 3);
/// ```
pub struct Repoll<P: Primitives = Std> {
    shared: Arc<Shared<P>>,
    /// Wakes `shared`.
    waker: Waker,
}

struct Shared<P: Primitives> {
    /// Changed by read-modify-write alone: a wake-up that a turn overwrites is thus ordered before the turn, which sees
    /// what the wake-up was about.
    state: P::AtomicU64,
    /// Woken by a wake-up that finds no poll under way.
    task: Bell<P>,
}

impl<P: Primitives> Wake for Shared<P> {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // One step decides who acts on the wake-up: the poll that is under way, or the task.
        if P::swap_u64(&self.state, WOKEN, Ordering::AcqRel) == IDLE {
            self.task.ring();
        }
    }
}

impl Repoll<Std> {
    /// Makes a repoll for one task.
    pub fn new() -> Self {
        Self::with_primitives()
    }
}

impl Default for Repoll<Std> {
    fn default() -> Self {
        Self::new()
    }
}

impl<P: Primitives> Repoll<P> {
    /// As [`new`](Repoll::new), on a platform of the caller's choice.
    pub fn with_primitives() -> Self
    where
        P::AtomicU64: Send + Sync,
        P::Mutex<Option<Waker>>: Send + Sync,
    {
        let shared = Arc::new(Shared::<P> { state: P::atomic_u64(IDLE), task: Bell::with_primitives() });
        Self { waker: Waker::from(Arc::clone(&shared)), shared }
    }

    /// Calls `turn` until it is ready, or pending without a wake-up in the meantime.
    ///
    /// Also pending, with the task woken, if `may_go_on` returns false after a turn, and after 32 turns.
    pub fn poll<T>(
        &mut self,
        cx: &mut Context<'_>,
        mut may_go_on: impl FnMut() -> bool,
        mut turn: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        let state = &self.shared.state;
        // Before the first turn, and so before a wake-up can find that no poll is under way.
        self.shared.task.register(cx.waker());
        for _ in 0..MAX_TURNS {
            P::swap_u64(state, POLLING, Ordering::AcqRel);
            if let Poll::Ready(output) = turn(&mut Context::from_waker(&self.waker)) {
                return Poll::Ready(output);
            }
            let slept = P::compare_exchange_u64(state, POLLING, IDLE, Ordering::AcqRel, Ordering::Acquire);
            if slept.is_ok() {
                return Poll::Pending;
            }
            if !may_go_on() {
                break;
            }
        }
        // Still woken: no other wake-up needs to reach the task before it is polled.
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<P: Primitives> fmt::Debug for Repoll<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Repoll").finish_non_exhaustive()
    }
}
