//! The wakers of waiting futures, each removable by its own future (G9).

use std::{mem, task::Waker, vec};

use super::steps::Steps;

/// How many entries an idle list keeps allocated.
const KEPT_CAPACITY: usize = 64;

/// The registered wakers. It lives under the slot's lock, and neither clones, drops nor wakes a waker (G7).
pub(super) struct WaitList {
    /// How often the list was taken. An entry of an earlier epoch is gone.
    epoch: u64,
    entries: Vec<Entry>,
    /// The first of the free entries, which are chained.
    free: Option<usize>,
    /// How many entries hold a waker.
    len: usize,
}

/// `Free → Waiting` by `register`, `Waiting → Free` by `remove`; taking the list ends all of its entries.
enum Entry {
    Free(Option<usize>),
    Waiting(Waker),
}

/// Names an entry. Its future alone holds it, so an index is never freed twice in an epoch.
pub(super) struct Registration {
    epoch: u64,
    index: usize,
}

impl WaitList {
    pub(super) fn new() -> Self {
        Self { epoch: 0, entries: Vec::new(), free: None, len: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Stores `waker` in the future's entry, and makes one if it has none. Returns the waker that was there, to be
    /// dropped after the lock.
    #[must_use]
    pub(super) fn register(&mut self, registration: &mut Option<Registration>, waker: Waker) -> Option<Waker> {
        if let Some(Registration { epoch, index }) = *registration
            && epoch == self.epoch
        {
            return match mem::replace(&mut self.entries[index], Entry::Waiting(waker)) {
                Entry::Waiting(old) => Some(old),
                Entry::Free(_) => unreachable!("a registration of this epoch names a waiting entry"),
            };
        }
        let index = self.free.unwrap_or(self.entries.len());
        if let Some(entry) = self.entries.get_mut(index) {
            let Entry::Free(next) = mem::replace(entry, Entry::Waiting(waker)) else {
                unreachable!("a chained entry is free")
            };
            self.free = next;
        } else {
            self.entries.push(Entry::Waiting(waker));
        }
        self.len += 1;
        *registration = Some(Registration { epoch: self.epoch, index });
        None
    }

    /// Whether the future's entry is still there, and wakes the same task.
    pub(super) fn holds(&self, registration: Option<&Registration>, waker: &Waker) -> bool {
        let entry = registration.filter(|held| held.epoch == self.epoch).map(|held| &self.entries[held.index]);
        matches!(entry, Some(Entry::Waiting(held)) if held.will_wake(waker))
    }

    /// Forgets the future's entry, if it is still there. Returns its waker, to be dropped after the lock.
    #[must_use]
    pub(super) fn remove(&mut self, registration: &mut Option<Registration>) -> Option<Waker> {
        let Registration { epoch, index } = registration.take()?;
        if epoch != self.epoch {
            return None;
        }
        let entry = mem::replace(&mut self.entries[index], Entry::Free(self.free));
        self.free = Some(index);
        self.len -= 1;
        if self.len == 0 {
            // No registration of this epoch is left, so indices may start anew.
            self.entries.clear();
            self.entries.shrink_to(KEPT_CAPACITY);
            self.free = None;
        }
        match entry {
            Entry::Waiting(waker) => Some(waker),
            Entry::Free(_) => unreachable!("a registration of this epoch names a waiting entry"),
        }
    }

    /// Takes every waker out and begins a new epoch.
    pub(super) fn take(&mut self) -> Wakers {
        if self.len == 0 {
            return Wakers(Vec::new().into_iter());
        }
        self.epoch += 1;
        self.free = None;
        self.len = 0;
        Wakers(mem::take(&mut self.entries).into_iter())
    }
}

/// Wakers that were taken out, to be woken after the lock. Its drop wakes them all, each once, whatever one of them
/// does: whoever holds several of these need not care.
#[must_use = "the wakers are to be woken after the lock"]
pub(super) struct Wakers(vec::IntoIter<Entry>);

impl Wakers {
    /// Wakes them all. A panic goes on once the rest were woken.
    pub(super) fn wake(self) {
        drop(self);
    }
}

impl FromIterator<Waker> for Wakers {
    fn from_iter<I: IntoIterator<Item = Waker>>(wakers: I) -> Self {
        Self(wakers.into_iter().map(Entry::Waiting).collect::<Vec<_>>().into_iter())
    }
}

impl Drop for Wakers {
    fn drop(&mut self) {
        let mut steps = Steps::new();
        for entry in &mut self.0 {
            if let Entry::Waiting(waker) = entry {
                steps.run(|| waker.wake());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_leaves_makes_room_for_the_next() {
        let mut list = WaitList::new();
        // It is never empty, so it never begins anew.
        let mut stays = None;
        drop(list.register(&mut stays, Waker::noop().clone()));
        for _ in 0..1000 {
            let mut leave = [None, None, None];
            for registration in &mut leave {
                drop(list.register(registration, Waker::noop().clone()));
            }
            for registration in &mut leave {
                assert!(list.remove(registration).is_some());
            }
        }
        assert_eq!(list.len(), 1);
        assert_eq!(list.entries.len(), 4, "as many as there were at once");
    }
}
