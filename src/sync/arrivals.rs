//! Values that have arrived and wait to be taken, from one lane or from any.
//!
//! Each session has a lane, in which the streams of its peer wait; a taker of a manager takes from all of its lanes. The
//! value `V` is opaque, and under the lock it is only moved.
//!
//! # Rules
//!
//! 1. Check and register are one step under the lock: nothing that comes after the check goes unnoticed.
//! 2. Wakers are taken out under the lock and woken after it. What is handed back is dropped by the caller, after it.
//! 3. A value is taken by one taker, or handed back, never both: if it is refused, nobody has it.
//! 4. A taker that is not polled is in nobody's way: it holds nothing, and every taker is woken.
//! 5. What nobody is left to take does not wait: when the last taker of any lane is dropped, so is what waits, and new
//!    values are handed back until there is another taker. Before the first, values wait for it; in a lane that has had
//!    a taker of its own they wait for that.

mod lane;

use std::{
    collections::{BTreeSet, VecDeque},
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

pub use self::lane::Lane;
use super::{
    Primitives, Std,
    wait_list::{Registration, WaitList, Wakers},
};

/// The lanes of a manager.
///
/// ```
/// use std::sync::Arc;
/// use evermux::sync::{Arrivals, LaneLimits};
///
/// let arrivals: Arc<Arrivals<&str>> = Arc::new(Arrivals::new(256));
/// let lane = arrivals.lane(LaneLimits { waiting: 256, taken: 1 });
/// lane.show();
/// lane.push(1, 0, "first").unwrap();
/// lane.push(3, 0, "second").unwrap();
/// assert_eq!(lane.try_take(), Some("first"));
/// assert_eq!(lane.try_take(), None, "one may be taken at once");
/// let _ = lane.over(1, false);
/// assert_eq!(lane.try_take(), Some("second"));
/// ```
pub struct Arrivals<V, P: Primitives = Std> {
    state: P::Mutex<State<V>>,
}

struct State<V> {
    /// Sorted by id.
    lanes: Vec<LaneState<V>>,
    next_lane: u64,
    /// The lane that a taker of any lane took from last: lanes take turns.
    last: u64,
    /// The takers of any lane that wait.
    takers: WaitList,
    /// How many takers of any lane there are. `None` before the first.
    takers_of_any: Option<usize>,
    /// Every value is handed back.
    refuses: bool,
    stopped: bool,
    /// How many values may wait in lanes that have ended.
    max_left: usize,
}

struct LaneState<V> {
    id: u64,
    phase: Phase,
    /// Whether values can be taken.
    shown: bool,
    waiting: VecDeque<Waiting<V>>,
    /// The keys of those that were taken and are not over.
    taken: BTreeSet<u32>,
    limits: LaneLimits,
    /// The takers of this lane alone that wait.
    takers: WaitList,
    /// There was a taker of this lane alone.
    is_served: bool,
}

/// `Open → Closed → Ended`; the second may be skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Open,
    /// No more values come.
    Closed,
    /// The same, and the limit on taken values no longer applies. The lane is forgotten when it is empty.
    Ended,
}

struct Waiting<V> {
    key: u32,
    stamp: u64,
    /// Its sender is done with it. It may still be taken, and makes room for others.
    over: bool,
    value: V,
}

/// What became of a value that is [over](Lane::over).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "it may hold the value"]
pub enum Over<V> {
    /// It was taken.
    Taken,
    /// It was waiting, and nobody takes it any more.
    Withdrawn(V),
    /// It waits, and may still be taken.
    Kept,
    /// It was not there: never pushed, over before, or handed back.
    Unknown,
}

/// How many values a lane may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneLimits {
    /// Those that wait. One more is handed back.
    pub waiting: usize,
    /// Those that were taken and are not [over](Lane::over). While there are this many, takers wait.
    pub taken: usize,
}

impl<V> LaneState<V> {
    fn is_ready(&self) -> bool {
        let has_room = self.phase == Phase::Ended || self.taken.len() < self.limits.taken;
        self.shown && has_room && !self.waiting.is_empty()
    }

    /// Whether nothing more comes from it. It is then forgotten.
    fn is_done(&self) -> bool {
        self.phase == Phase::Ended && self.waiting.is_empty()
    }

    fn take(&mut self) -> Option<V> {
        if !self.is_ready() {
            return None;
        }
        let Waiting { key, over, value, .. } = self.waiting.pop_front()?;
        if !over && self.phase < Phase::Ended {
            self.taken.insert(key);
        }
        Some(value)
    }
}

impl<V> State<V> {
    /// Whether nobody is left to take what comes to the lane at this index.
    fn is_deserted(&self, index: usize) -> bool {
        self.refuses || (self.takers_of_any == Some(0) && !self.lanes[index].is_served)
    }

    /// Takes out everything that nobody is left to take. Takers that wait for it in vain must be woken after the lock.
    fn clear(&mut self) -> (Vec<V>, Vec<Wakers>) {
        let refuses = self.refuses;
        let deserted = self.lanes.iter_mut().filter(|lane| refuses || !lane.is_served);
        let waiting = deserted.flat_map(|lane| std::mem::take(&mut lane.waiting));
        let values = waiting.map(|waiting| waiting.value).collect();
        let done = self.lanes.extract_if(.., |lane| lane.is_done());
        let mut concerned: Vec<_> = done.map(|mut lane| lane.takers.take()).collect();
        if self.is_over(None) {
            concerned.push(self.takers.take());
        }
        (values, concerned)
    }

    fn index(&self, lane: u64) -> Option<usize> {
        self.lanes.binary_search_by_key(&lane, |lane| lane.id).ok()
    }

    fn lane(&mut self, lane: u64) -> Option<&mut LaneState<V>> {
        self.index(lane).map(|index| &mut self.lanes[index])
    }

    /// Takes from the lane at this index, and forgets the lane if it has ended and nothing is left.
    fn take_at(&mut self, index: usize) -> Option<V> {
        let lane = &mut self.lanes[index];
        let value = lane.take();
        if lane.is_done() {
            // Nobody is registered there: since it was shown and ended, every taker that looked was given something.
            self.lanes.remove(index);
        }
        value
    }

    fn take_from(&mut self, lane: Option<u64>) -> Option<V> {
        let index = match lane {
            Some(lane) => self.index(lane)?,
            None => {
                let after = self.lanes.partition_point(|lane| lane.id <= self.last);
                let count = self.lanes.len();
                let index = (after..count)
                    .chain(0..after)
                    .find(|index| self.lanes.get(*index).is_some_and(LaneState::is_ready))?;
                self.last = self.lanes[index].id;
                index
            }
        };
        self.take_at(index)
    }

    /// Whether nothing more comes for takers of this lane, or of any.
    fn is_over(&self, lane: Option<u64>) -> bool {
        match lane {
            Some(lane) => self.index(lane).is_none(),
            None => {
                // What is not shown yet will be, or its lane ends.
                let waits = |lane: &LaneState<V>| !lane.waiting.is_empty();
                self.stopped && !self.lanes.iter().any(waits)
            }
        }
    }

    fn takers(&mut self, lane: Option<u64>) -> Option<&mut WaitList> {
        match lane {
            Some(lane) => self.lane(lane).map(|lane| &mut lane.takers),
            None => Some(&mut self.takers),
        }
    }

    /// The takers that a change of the lane at this index concerns: there is something to take, or nothing more will
    /// come. A lane that is done is forgotten.
    fn concerned(&mut self, index: usize) -> Concerned {
        let lane = &mut self.lanes[index];
        let is_ready = lane.is_ready();
        let is_done = lane.is_done();
        let of_lane = (is_ready || is_done).then(|| lane.takers.take());
        if is_done {
            self.lanes.remove(index);
        }
        let of_any = (is_ready || self.is_over(None)).then(|| self.takers.take());
        Concerned { of_lane, of_any }
    }
}

/// Takers of a lane and of any, to be woken after the lock.
#[must_use = "they are to be woken after the lock"]
struct Concerned {
    of_lane: Option<Wakers>,
    of_any: Option<Wakers>,
}

impl Concerned {
    fn wake(self) {
        for wakers in [self.of_lane, self.of_any].into_iter().flatten() {
            wakers.wake();
        }
    }
}

impl<V> Arrivals<V> {
    /// Starts without lanes. Lanes that have ended may leave up to `max_left` values behind; the oldest are handed
    /// back.
    pub fn new(max_left: usize) -> Self {
        Self::with_primitives(max_left)
    }
}

impl<V, P: Primitives> Arrivals<V, P> {
    /// As [`new`](Arrivals::new), on a platform of the caller's choice.
    pub fn with_primitives(max_left: usize) -> Self {
        let state = State {
            lanes: Vec::new(),
            next_lane: 1,
            last: 0,
            takers: WaitList::new(),
            takers_of_any: None,
            refuses: false,
            stopped: false,
            max_left,
        };
        Self { state: P::mutex(state) }
    }

    /// From now on every value is handed back, and so is what waits.
    pub fn refuse(&self) -> Vec<V> {
        let mut state = P::lock(&self.state);
        state.refuses = true;
        let (refused, concerned) = state.clear();
        drop(state);
        for wakers in concerned {
            wakers.wake();
        }
        refused
    }

    /// Makes a lane. Nobody takes from it before it is [shown](Lane::show).
    pub fn lane(self: &Arc<Self>, limits: LaneLimits) -> Lane<V, P> {
        let mut state = P::lock(&self.state);
        let id = state.next_lane;
        state.next_lane += 1;
        state.lanes.push(LaneState {
            id,
            phase: Phase::Open,
            shown: false,
            waiting: VecDeque::new(),
            taken: BTreeSet::new(),
            limits,
            takers: WaitList::new(),
            is_served: false,
        });
        drop(state);
        Lane { arrivals: Arc::clone(self), id }
    }

    /// A taker of any lane, by turns. Its takes end with `None` once this is [stopped](Self::stop) and nothing waits.
    pub fn taker(self: &Arc<Self>) -> Taker<V, P> {
        let mut state = P::lock(&self.state);
        state.takers_of_any = Some(state.takers_of_any.unwrap_or_default() + 1);
        drop(state);
        Taker { arrivals: Arc::clone(self), lane: None, registration: None }
    }

    /// No new lanes will be made. Takers of any lane are given what waits, and then `None`.
    pub fn stop(&self) {
        let mut state = P::lock(&self.state);
        state.stopped = true;
        let wakers = state.takers.take();
        drop(state);
        wakers.wake();
    }
}

impl<V, P: Primitives> fmt::Debug for Arrivals<V, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Arrivals").finish_non_exhaustive()
    }
}

/// Takes values, one after another. Dropping it takes nothing, and leaves nothing behind (G9): rule 5.
pub struct Taker<V, P: Primitives = Std> {
    arrivals: Arc<Arrivals<V, P>>,
    /// The lane to take from; `None` is any.
    lane: Option<u64>,
    /// Where our waker is, from a pending poll to the next.
    registration: Option<Registration>,
}

impl<V, P: Primitives> Taker<V, P> {
    /// Takes the next value, or waits for one. `None` when there will be none.
    pub fn poll_take(&mut self, cx: &mut Context<'_>) -> Poll<Option<V>> {
        let Self { arrivals, lane, registration } = self;
        // Foreign code: cloned before the lock, and what is not stored is dropped after it.
        let waker = cx.waker().clone();
        let mut state = P::lock(&arrivals.state);
        let taken = state.take_from(*lane);
        let outcome = match taken {
            Some(value) => Poll::Ready(Some(value)),
            None if state.is_over(*lane) => Poll::Ready(None),
            None => Poll::Pending,
        };
        let unused = state.takers(*lane).and_then(|takers| match outcome {
            Poll::Ready(_) => takers.remove(registration),
            Poll::Pending => takers.register(registration, waker),
        });
        drop(state);
        drop(unused);
        outcome
    }
}

impl<V, P: Primitives> Drop for Taker<V, P> {
    fn drop(&mut self) {
        if self.lane.is_some() && self.registration.is_none() {
            return;
        }
        let mut state = P::lock(&self.arrivals.state);
        let waker = state.takers(self.lane).and_then(|takers| takers.remove(&mut self.registration));
        let mut left = None;
        if self.lane.is_none() {
            let takers = state.takers_of_any.map(|takers| takers - 1);
            state.takers_of_any = takers;
            if takers == Some(0) {
                left = Some(state.clear());
            }
        }
        drop(state);
        drop(waker);
        if let Some((left, concerned)) = left {
            for wakers in concerned {
                wakers.wake();
            }
            drop(left);
        }
    }
}

impl<V, P: Primitives> fmt::Debug for Taker<V, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Taker").field("lane", &self.lane).finish_non_exhaustive()
    }
}
