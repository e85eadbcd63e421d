//! Permits for places, as the provider has them.

use std::sync::Arc;

use evermux::sync::SessionSlot;

use crate::{Platform, assert_unlocked};

/// As many permits as a slot has places.
pub struct Permits<C: Platform> {
    free: C::Mutex<usize>,
    places: usize,
}

impl<C: Platform> Permits<C> {
    /// All of them are free.
    pub fn new(places: usize) -> Arc<Self> {
        Arc::new(Self { free: C::mutex(places), places })
    }

    /// How many are free.
    pub fn free(&self) -> usize {
        *C::lock(&self.free)
    }

    /// Takes a permit, if one is free.
    pub fn take(self: &Arc<Self>) -> Option<Permit<C>> {
        let mut free = C::lock(&self.free);
        *free = free.checked_sub(1)?;
        Some(Permit(Arc::clone(self)))
    }

    /// Checks that every place is free or taken, and so is its permit.
    ///
    /// # Panics
    ///
    /// If a session has left its permit behind, or a permit its session.
    pub fn assert_balanced<V: Clone, R: Clone>(&self, slot: &SessionSlot<V, R, C>) {
        let (live, free) = (slot.live().len(), self.free());
        assert_eq!(live + free, self.places, "{live} live, {free} permits free");
    }
}

/// Is free again when it is dropped, which no lock may see.
pub struct Permit<C: Platform>(Arc<Permits<C>>);

impl<C: Platform> Drop for Permit<C> {
    fn drop(&mut self) {
        assert_unlocked::<C>();
        let mut free = C::lock(&self.0.free);
        *free += 1;
        assert!(*free <= self.0.places, "there are more permits than places");
    }
}
