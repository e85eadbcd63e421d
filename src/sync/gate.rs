//! Who goes next when room is scarce.

use std::{
    collections::VecDeque,
    fmt,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use super::{Ordering, Primitives, Std, wait_list::Wakers};

/// A bound on what is inside, and a queue of those who wait outside.
///
/// # Rules
///
/// 1. Nobody goes in while others wait, except those woken for it: one that has just been inside queues behind them.
/// 2. For each unit of room, one waiter is woken, in order of arrival; when nothing is inside, or there is no bound any
///    more, all are. So one that does not act on it, because it is gone or has changed its mind, keeps nobody out:
///    somebody is inside, whose leaving wakes the next, or nobody is, and all were woken.
/// 3. A waker is cloned before the lock, and woken or dropped after it (G7).
///
/// ```
/// use std::{future::poll_fn, sync::Arc, task::{Context, Poll, Waker}};
/// use evermux::sync::{Gate, Ticket};
///
/// let gate = Arc::new(Gate::new());
/// gate.limit(2_000, 4_000);
/// let mut ticket = Ticket::new(&gate);
/// let cx = &mut Context::from_waker(Waker::noop());
/// assert!(ticket.poll(cx).is_ready());
/// gate.enter(4_000);
/// assert!(ticket.poll(cx).is_pending());
/// gate.leave(2_000);
/// gate.wake();
/// assert!(ticket.poll(cx).is_ready());
/// ```
pub struct Gate<P: Primitives = Std> {
    state: P::Mutex<State>,
    /// How much goes in at once. Without a bound: `u64::MAX`. A task that reads a stale value goes in as it did before.
    unit: P::AtomicU64,
}

struct State {
    inside: usize,
    /// Somebody may go in while less than this is inside.
    most: usize,
    waiting: VecDeque<(u64, Waker)>,
    next_ticket: u64,
    /// Somebody has left, or the bound has changed, since the last wake.
    is_stale: bool,
}

impl State {
    fn has_room(&self) -> bool {
        self.inside < self.most
    }
}

impl Gate {
    /// Makes a gate without a bound.
    pub fn new() -> Self {
        Self::with_primitives()
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}

impl<P: Primitives> Gate<P> {
    /// As [`new`](Gate::new), on a platform of the caller's choice.
    pub fn with_primitives() -> Self {
        let state = State { inside: 0, most: usize::MAX, waiting: VecDeque::new(), next_ticket: 0, is_stale: false };
        Self { state: P::mutex(state), unit: P::atomic_u64(u64::MAX) }
    }

    /// Sets the bounds: of what goes in at once, and of all that is inside before more goes in. Those who may go in now
    /// are woken by the next [`wake`](Self::wake).
    pub fn limit(&self, unit: usize, most: usize) {
        let mut state = P::lock(&self.state);
        (state.most, state.is_stale) = (most, true);
        P::store_u64(&self.unit, u64::try_from(unit).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// How much may go in at once: `usize::MAX` without a bound.
    pub fn unit(&self) -> usize {
        usize::try_from(P::load_u64(&self.unit, Ordering::Relaxed)).unwrap_or(usize::MAX)
    }

    /// This much goes in.
    pub fn enter(&self, amount: usize) {
        P::lock(&self.state).inside += amount;
    }

    /// This much has left. Those who wait for that are woken by the next [`wake`](Self::wake).
    pub fn leave(&self, amount: usize) {
        let mut state = P::lock(&self.state);
        state.inside -= amount;
        state.is_stale = true;
    }

    /// Wakes those who may go in. Not under a lock of the caller.
    pub fn wake(&self) {
        let mut state = P::lock(&self.state);
        if !std::mem::take(&mut state.is_stale) || state.waiting.is_empty() {
            return;
        }
        let unit = if state.most == usize::MAX { 1 } else { self.unit().max(1) };
        let room = state.most.saturating_sub(state.inside).div_ceil(unit);
        let count = if state.inside == 0 { usize::MAX } else { room }.min(state.waiting.len());
        let woken: Wakers = state.waiting.drain(..count).map(|(_, waker)| waker).collect();
        drop(state);
        woken.wake();
    }
}

impl<P: Primitives> fmt::Debug for Gate<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = P::lock(&self.state);
        f.debug_struct("Gate").field("inside", &state.inside).field("most", &state.most).finish_non_exhaustive()
    }
}

/// The ticket of one that goes in now and then. Its drop leaves the queue.
pub struct Ticket<P: Primitives = Std> {
    gate: Arc<Gate<P>>,
    /// Its number in the queue.
    number: Option<u64>,
}

impl<P: Primitives> Ticket<P> {
    /// A ticket that is not in the queue.
    pub fn new(gate: &Arc<Gate<P>>) -> Self {
        Self { gate: Arc::clone(gate), number: None }
    }

    /// Ready when its owner may go in, which it then does, or not.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let waker = cx.waker().clone();
        let mut state = P::lock(&self.gate.state);
        let at = self.number.and_then(|number| state.waiting.iter().position(|(waiting, _)| *waiting == number));
        // Woken for it, or nobody is ahead in the queue.
        let is_next = at.is_none() && (self.number.is_some() || state.waiting.is_empty());
        if state.most == usize::MAX || (is_next && state.has_room()) {
            let left = at.and_then(|at| state.waiting.remove(at));
            self.number = None;
            drop(state);
            drop((left, waker));
            return Poll::Ready(());
        }
        let old = match (at, self.number) {
            (Some(at), _) => Some(std::mem::replace(&mut state.waiting[at].1, waker)),
            // Somebody was faster: this one is still next.
            (None, Some(number)) => {
                state.waiting.push_front((number, waker));
                None
            }
            (None, None) => {
                let number = state.next_ticket;
                state.next_ticket += 1;
                state.waiting.push_back((number, waker));
                self.number = Some(number);
                None
            }
        };
        drop(state);
        drop(old);
        Poll::Pending
    }

    /// Leaves the queue without going in.
    pub fn leave_queue(&mut self) {
        let Some(number) = self.number.take() else { return };
        let mut state = P::lock(&self.gate.state);
        let at = state.waiting.iter().position(|(waiting, _)| *waiting == number);
        let left = at.and_then(|at| state.waiting.remove(at));
        // It was woken, but takes nothing: the next may.
        state.is_stale |= left.is_none();
        drop(state);
        if left.is_none() {
            self.gate.wake();
        }
    }
}

impl<P: Primitives> Drop for Ticket<P> {
    fn drop(&mut self) {
        self.leave_queue();
    }
}

impl<P: Primitives> fmt::Debug for Ticket<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket").field("number", &self.number).finish_non_exhaustive()
    }
}
