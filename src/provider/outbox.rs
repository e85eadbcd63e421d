//! In which order events are told.

use std::collections::{BTreeSet, VecDeque};

use crate::{events::Event, sync::SessionId};

/// The events that are about to be told, in the order of the slot: that a session is live comes after the news of every
/// session that had left its place before.
#[derive(Debug)]
pub(super) struct Outbox {
    /// Of these it was told, or will be, that they are live; and not yet that they are no more.
    live: BTreeSet<u64>,
    queue: VecDeque<Queued>,
    /// How many may wait there. One more, and the first waits for nothing: no reader has room for more.
    limit: usize,
    /// Somebody is telling. One alone, since nobody is told under the lock.
    pub(super) telling: bool,
}

#[derive(Debug)]
struct Queued {
    event: Event,
    /// The sessions whose news come first.
    after: BTreeSet<u64>,
}

impl Outbox {
    /// Of a manager whose readers have room for this many events.
    pub(super) fn new(limit: usize) -> Self {
        Self { live: BTreeSet::new(), queue: VecDeque::new(), limit, telling: false }
    }

    /// Puts an event behind all others.
    pub(super) fn push(&mut self, event: Event, after: BTreeSet<u64>) {
        self.queue.push_back(Queued { event, after });
    }

    /// A session is live. Returns those that have left the slot and whose end is not published yet.
    pub(super) fn enters(&mut self, session: SessionId, is_in_slot: impl Fn(u64) -> bool) -> BTreeSet<u64> {
        let left = self.live.iter().copied().filter(|live| !is_in_slot(*live)).collect();
        self.live.insert(session.as_u64());
        left
    }

    /// A session is live no more: what waits for this news comes after the event, if there is one.
    pub(super) fn leaves(&mut self, session: SessionId, event: Option<Event>) {
        let session = session.as_u64();
        self.live.remove(&session);
        let waits = |queued: &Queued| queued.after.contains(&session);
        let place = self.queue.iter().position(waits).unwrap_or(self.queue.len());
        for queued in &mut self.queue {
            queued.after.remove(&session);
        }
        if let Some(event) = event {
            self.queue.insert(place, Queued { event, after: BTreeSet::new() });
        }
    }

    /// The next event to be told. Whoever tells has come to the end when there is none.
    pub(super) fn next(&mut self) -> Option<Event> {
        let is_full = self.queue.len() > self.limit;
        self.telling = self.queue.front().is_some_and(|queued| is_full || queued.after.is_empty());
        if self.telling { self.queue.pop_front().map(|queued| queued.event) } else { None }
    }
}
