//! A cached view of a slot, for hot paths.

use std::{fmt, sync::Arc};

use super::{Primitives, SessionId, SessionSlot, Std};

/// A view of a slot that remembers what it saw last: see [`SessionSlot::reader`].
///
/// A look costs one acquire load while the slot does not change, and writes nothing shared. A reader keeps its session
/// for as long as that is in the slot, whatever its load becomes.
///
/// A reader holds a clone of its session until the look that finds it gone.
///
/// ```
/// use std::sync::Arc;
/// use evermux::sync::SessionSlot;
///
/// let slot: Arc<SessionSlot<&str, ()>> = Arc::new(SessionSlot::new(1));
/// let mut reader = slot.reader();
/// assert_eq!(reader.session(), None);
/// let mut reservation = slot.reserve();
/// slot.install(&mut reservation, "a session", Arc::default()).unwrap();
/// assert_eq!(reader.session(), Some(&"a session"));
/// ```
pub struct SlotReader<V: Clone, R: Clone, P: Primitives = Std> {
    slot: Arc<SessionSlot<V, R, P>>,
    /// The generation for which `held` is valid. In generation 0 nothing is held (invariant 4).
    seen: u64,
    held: Option<(SessionId, V)>,
}

impl<V: Clone, R: Clone, P: Primitives> SlotReader<V, R, P> {
    pub(super) fn new(slot: Arc<SessionSlot<V, R, P>>) -> Self {
        Self { slot, seen: 0, held: None }
    }

    /// A live session, if there is one now. Waits for nothing but the lock, and takes that only if the slot has
    /// changed.
    #[inline]
    pub fn session(&mut self) -> Option<&V> {
        if self.slot.generation() != self.seen {
            self.refresh();
        }
        self.held.as_ref().map(|(_, session)| session)
    }

    #[cold]
    fn refresh(&mut self) {
        let mut state = P::lock(&self.slot.state);
        // Under the lock, generation and places match (rule 2).
        let generation = self.slot.generation();
        if self.held.as_ref().is_some_and(|(id, _)| state.holds(*id)) {
            self.seen = generation;
            return;
        }
        let next = state.pick().map(|place| (place.id, place.session.clone()));
        drop(state);
        self.seen = generation;
        // The old session is dropped here, after the lock (G7).
        self.held = next;
    }
}

impl<V: Clone, R: Clone, P: Primitives> Clone for SlotReader<V, R, P> {
    fn clone(&self) -> Self {
        Self { slot: Arc::clone(&self.slot), seen: self.seen, held: self.held.clone() }
    }
}

impl<V: Clone, R: Clone, P: Primitives> fmt::Debug for SlotReader<V, R, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SlotReader").field("held", &self.held.as_ref().map(|(id, _)| id)).finish_non_exhaustive()
    }
}
