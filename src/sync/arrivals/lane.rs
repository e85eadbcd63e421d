//! The waiting values of one session.

use std::{fmt, sync::Arc};

use super::{Arrivals, LaneState, Over, Phase, Taker, Waiting};
use crate::sync::{Primitives, Std};

/// One lane of [`Arrivals`]. Clones refer to the same lane.
pub struct Lane<V, P: Primitives = Std> {
    pub(super) arrivals: Arc<Arrivals<V, P>>,
    pub(super) id: u64,
}

impl<V, P: Primitives> Clone for Lane<V, P> {
    fn clone(&self) -> Self {
        Self { arrivals: Arc::clone(&self.arrivals), id: self.id }
    }
}

impl<V, P: Primitives> Lane<V, P> {
    /// Adds a value under a key that no other has now. `stamp` is for [`oldest`](Self::oldest).
    ///
    /// If the lane is full, a value that is [over](Self::over) makes room, and is handed back.
    ///
    /// # Errors
    ///
    /// Hands the value back if the lane is full or takes no more, or if nobody is left to take it.
    pub fn push(&self, key: u32, stamp: u64, value: V) -> Result<Option<V>, V> {
        let mut state = P::lock(&self.arrivals.state);
        let Some(index) = state.index(self.id) else { return Err(value) };
        let is_deserted = state.is_deserted(index);
        let lane = &mut state.lanes[index];
        if lane.phase > Phase::Open || is_deserted {
            return Err(value);
        }
        let mut evicted = None;
        if lane.waiting.len() >= lane.limits.waiting {
            let Some(over) = lane.waiting.iter().position(|waiting| waiting.over) else { return Err(value) };
            evicted = lane.waiting.remove(over).map(|waiting| waiting.value);
        }
        lane.waiting.push_back(Waiting { key, stamp, over: false, value });
        let concerned = state.concerned(index);
        drop(state);
        concerned.wake();
        Ok(evicted)
    }

    /// From now on values can be taken.
    pub fn show(&self) {
        let mut state = P::lock(&self.arrivals.state);
        let Some(index) = state.index(self.id) else { return };
        state.lanes[index].shown = true;
        let concerned = state.concerned(index);
        drop(state);
        concerned.wake();
    }

    /// The sender of the value of this key is done with it. If it was taken, another may be. If it waits, it is handed
    /// back, or, with `keep`, may still be taken.
    ///
    /// Wakes nobody, so that it can be called under a lock: call [`wake`](Self::wake) afterwards.
    pub fn over(&self, key: u32, keep: bool) -> Over<V> {
        let mut state = P::lock(&self.arrivals.state);
        let Some(index) = state.index(self.id) else { return Over::Unknown };
        let lane = &mut state.lanes[index];
        if lane.taken.remove(&key) {
            return Over::Taken;
        }
        let Some(position) = lane.waiting.iter().position(|waiting| waiting.key == key && !waiting.over) else {
            return Over::Unknown;
        };
        if keep {
            lane.waiting[position].over = true;
            return Over::Kept;
        }
        lane.waiting.remove(position).map_or(Over::Unknown, |waiting| Over::Withdrawn(waiting.value))
    }

    /// Wakes takers that wait for what can be taken now, or in vain.
    pub fn wake(&self) {
        let mut state = P::lock(&self.arrivals.state);
        let Some(index) = state.index(self.id) else { return };
        let concerned = state.concerned(index);
        drop(state);
        concerned.wake();
    }

    /// The stamp of the value that has waited longest.
    pub fn oldest(&self) -> Option<u64> {
        let mut state = P::lock(&self.arrivals.state);
        state.lane(self.id)?.waiting.front().map(|waiting| waiting.stamp)
    }

    /// Hands back every value whose stamp is at most this.
    pub fn expire(&self, stamp: u64) -> Vec<V> {
        let mut state = P::lock(&self.arrivals.state);
        let Some(index) = state.index(self.id) else { return Vec::new() };
        let lane = &mut state.lanes[index];
        let mut expired = Vec::new();
        while lane.waiting.front().is_some_and(|waiting| waiting.stamp <= stamp) {
            expired.extend(lane.waiting.pop_front().map(|waiting| waiting.value));
        }
        let concerned = state.concerned(index);
        drop(state);
        concerned.wake();
        expired
    }

    /// Takes no more values, and hands back those that nobody has taken.
    pub fn close(&self) -> Vec<V> {
        let mut state = P::lock(&self.arrivals.state);
        let Some(index) = state.index(self.id) else { return Vec::new() };
        let lane = &mut state.lanes[index];
        lane.phase = lane.phase.max(Phase::Closed);
        let refused: Vec<_> = std::mem::take(&mut lane.waiting).into_iter().map(|waiting| waiting.value).collect();
        let concerned = state.concerned(index);
        drop(state);
        concerned.wake();
        refused
    }

    /// Ends the lane: no more values come. With `keep`, what waits can still be taken, once it is shown; after that
    /// takes end with `None`. What is not kept is handed back.
    pub fn end(&self, keep: bool) -> Vec<V> {
        let mut state = P::lock(&self.arrivals.state);
        let Some(index) = state.index(self.id) else { return Vec::new() };
        let mut back = Vec::new();
        let lane = &mut state.lanes[index];
        if !keep {
            back.extend(lane.waiting.drain(..).map(|waiting| waiting.value));
        }
        lane.phase = Phase::Ended;
        lane.taken.clear();
        let of_lane = lane.takers.take();
        let ended = |lane: &&mut LaneState<V>| lane.phase == Phase::Ended;
        let mut left: usize = state.lanes.iter_mut().filter(ended).map(|lane| lane.waiting.len()).sum();
        let max_left = state.max_left;
        for lane in state.lanes.iter_mut().filter(ended) {
            while left > max_left
                && let Some(waiting) = lane.waiting.pop_front()
            {
                back.push(waiting.value);
                left -= 1;
            }
        }
        // Including one that ended before and was never shown, if it has lost what was left.
        let done = state.lanes.extract_if(.., |lane| lane.is_done());
        let of_lanes: Vec<_> = done.map(|mut lane| lane.takers.take()).collect();
        let of_any = state.takers.take();
        drop(state);
        for wakers in of_lanes {
            wakers.wake();
        }
        of_lane.wake();
        of_any.wake();
        back
    }

    /// Takes a value, if one can be taken now.
    pub fn try_take(&self) -> Option<V> {
        P::lock(&self.arrivals.state).take_from(Some(self.id))
    }

    /// A taker of this lane alone. Its takes end with `None` once the lane has [ended](Self::end) and nothing waits.
    pub fn taker(&self) -> Taker<V, P> {
        let mut state = P::lock(&self.arrivals.state);
        if let Some(lane) = state.lane(self.id) {
            lane.is_served = true;
        }
        drop(state);
        Taker { arrivals: Arc::clone(&self.arrivals), lane: Some(self.id), registration: None }
    }
}

impl<V, P: Primitives> fmt::Debug for Lane<V, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lane").field("id", &self.id).finish_non_exhaustive()
    }
}
