//! The order in which events are sent.

use std::collections::{BTreeSet, VecDeque};

use crate::{
    events::Event,
    sync::{Queue, SessionId},
};

/// The events that are about to be sent, in the order of the slot: a session is reported live only after the departure
/// of every session that had left its place before.
#[derive(Debug)]
pub(super) struct Outbox {
    /// Sessions that were or will be reported live, and whose departure has not been reported yet.
    live: BTreeSet<u64>,
    queue: VecDeque<Queued>,
    /// How many may wait there. If there is one more, the first waits no longer: no reader has room for more.
    limit: usize,
}

#[derive(Debug)]
struct Queued {
    event: Event,
    /// The sessions whose departure comes first.
    after: BTreeSet<u64>,
}

impl Outbox {
    /// For a manager whose readers have room for this many events.
    pub(super) fn new(limit: usize) -> Self {
        Self { live: BTreeSet::new(), queue: VecDeque::new(), limit }
    }

    /// Queues an event behind all others.
    pub(super) fn push(&mut self, event: Event, after: BTreeSet<u64>) {
        self.queue.push_back(Queued { event, after });
    }

    /// A session is live. Returns those that have left the slot and whose departure is not reported yet.
    pub(super) fn enters(&mut self, session: SessionId, is_in_slot: impl Fn(u64) -> bool) -> BTreeSet<u64> {
        let left = self.live.iter().copied().filter(|live| !is_in_slot(*live)).collect();
        self.live.insert(session.as_u64());
        left
    }

    /// A session is no longer live: what waits for its departure comes after the event, if there is one. Returns whether
    /// it was live until now.
    pub(super) fn leaves(&mut self, session: SessionId, event: Option<Event>) -> bool {
        let session = session.as_u64();
        let was_live = self.live.remove(&session);
        let waits = |queued: &Queued| queued.after.contains(&session);
        let place = self.queue.iter().position(waits).unwrap_or(self.queue.len());
        for queued in &mut self.queue {
            queued.after.remove(&session);
        }
        if let Some(event) = event {
            self.queue.insert(place, Queued { event, after: BTreeSet::new() });
        }
        was_live
    }
}

impl Queue for Outbox {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        let is_full = self.queue.len() > self.limit;
        self.queue.front().filter(|queued| is_full || queued.after.is_empty())?;
        self.queue.pop_front().map(|queued| queued.event)
    }
}
