//! What a slot does, one step at a time.

use std::collections::{BTreeMap, BTreeSet};

use evermux::sync::Refused;

/// The reference model of a [`SessionSlot`](evermux::sync::SessionSlot).
///
/// It is the slot without its lock, its wakers and its caches. A session has the number of its reservation, which is how
/// many there were before. A reason is a number too.
#[derive(Clone, Debug)]
pub struct Model {
    ids: usize,
    reserved: BTreeSet<usize>,
    places: Vec<Option<usize>>,
    stopped: Option<u32>,
    /// The place that was given out last.
    last: usize,
    loads: BTreeMap<usize, usize>,
    /// The futures that wait, each with the waker of its last poll.
    waiting: BTreeMap<usize, usize>,
    /// Each waker that was woken, as often as it was.
    woken: Vec<usize>,
}

/// The reference model of a [`SlotReader`](evermux::sync::SlotReader): what it saw last.
#[derive(Clone, Copy, Debug, Default)]
pub struct ModelReader(Option<usize>);

impl Model {
    /// Makes an empty slot.
    pub fn new(places: usize) -> Self {
        Self {
            ids: 0,
            reserved: BTreeSet::new(),
            places: vec![None; places],
            stopped: None,
            last: places - 1,
            loads: BTreeMap::new(),
            waiting: BTreeMap::new(),
            woken: Vec::new(),
        }
    }

    /// Reserves an id.
    pub fn reserve(&mut self) -> usize {
        self.ids += 1;
        self.reserved.insert(self.ids - 1);
        self.ids - 1
    }

    /// Drops a reservation, used or not.
    pub fn forget(&mut self, id: usize) {
        self.reserved.remove(&id);
    }

    /// Installs a session in the first free place.
    ///
    /// # Errors
    ///
    /// Why not.
    pub fn install(&mut self, id: usize) -> Result<(), Refused<usize, u32>> {
        self.usable(id)?;
        let Some(index) = self.places.iter().position(Option::is_none) else { return Err(Refused::Full(id)) };
        self.fill(index, id);
        Ok(())
    }

    /// Replaces a session.
    ///
    /// # Errors
    ///
    /// Why not.
    pub fn replace(&mut self, old: usize, id: usize) -> Result<usize, Refused<usize, u32>> {
        self.usable(id)?;
        let Some(index) = self.places.iter().position(|place| *place == Some(old)) else {
            return Err(if self.places.contains(&None) { Refused::Gone(id) } else { Refused::Full(id) });
        };
        self.fill(index, id);
        Ok(old)
    }

    /// Clears a session, installed or not.
    pub fn clear(&mut self, id: usize) -> Option<usize> {
        self.reserved.remove(&id);
        let index = self.places.iter().position(|place| *place == Some(id))?;
        self.places[index].take()
    }

    /// Stops the slot.
    pub fn stop(&mut self, reason: u32) -> Vec<usize> {
        if self.stopped.is_some() {
            return Vec::new();
        }
        self.stopped = Some(reason);
        self.wake_everyone();
        self.places.iter_mut().filter_map(Option::take).collect()
    }

    /// Polls a future with a waker. `None` is pending.
    pub fn poll(&mut self, future: usize, waker: usize) -> Option<Result<usize, u32>> {
        let outcome = self.ask();
        if outcome.is_some() {
            self.waiting.remove(&future);
        } else {
            self.waiting.insert(future, waker);
        }
        outcome
    }

    /// Drops a future.
    pub fn cancel(&mut self, future: usize) {
        self.waiting.remove(&future);
    }

    /// What ends a wait, if it is there.
    pub fn ask(&mut self) -> Option<Result<usize, u32>> {
        self.stopped.map(Err).or_else(|| self.peek().map(Ok))
    }

    /// The least loaded session; among equals the first after the one that was given out last.
    pub fn peek(&mut self) -> Option<usize> {
        let (after, before): (Vec<_>, Vec<_>) = (0..self.places.len()).partition(|index| *index > self.last);
        let mut best = None;
        for index in after.into_iter().chain(before) {
            if let Some(id) = self.places[index]
                && best.is_none_or(|(least, _)| self.load(id) < least)
            {
                best = Some((self.load(id), index));
            }
        }
        let (_, index) = best?;
        self.last = index;
        self.places[index]
    }

    /// Looks through a reader.
    pub fn look(&mut self, reader: &mut ModelReader) -> Option<usize> {
        if reader.0.is_none_or(|id| !self.live().contains(&id)) {
            reader.0 = self.peek();
        }
        reader.0
    }

    /// Sets the load of a session, live or not.
    pub fn set_load(&mut self, id: usize, load: usize) {
        self.loads.insert(id, load);
    }

    /// The sessions in the order of their places.
    pub fn live(&self) -> Vec<usize> {
        self.places.iter().flatten().copied().collect()
    }

    /// The reason of the stop.
    pub fn stopped(&self) -> Option<u32> {
        self.stopped
    }

    /// How many ids are reserved.
    pub fn reserved(&self) -> usize {
        self.reserved.len()
    }

    /// The waker of each future that waits.
    pub fn waiting(&self) -> Vec<usize> {
        self.waiting.values().copied().collect()
    }

    /// Every wake-up so far, by waker.
    pub fn woken(&self) -> &[usize] {
        &self.woken
    }

    fn usable(&self, id: usize) -> Result<(), Refused<usize, u32>> {
        match self.stopped {
            Some(reason) => Err(Refused::Stopped(id, reason)),
            None if !self.reserved.contains(&id) => Err(Refused::Dead(id)),
            None => Ok(()),
        }
    }

    fn fill(&mut self, index: usize, id: usize) {
        self.reserved.remove(&id);
        self.places[index] = Some(id);
        self.wake_everyone();
    }

    fn wake_everyone(&mut self) {
        self.woken.extend(self.waiting.values());
        self.waiting.clear();
    }

    fn load(&self, id: usize) -> usize {
        self.loads.get(&id).copied().unwrap_or(0)
    }
}
