//! The permit for a place, and the order in which it changes hands.

use std::{fmt, sync::Arc};

use super::{ClearHook, Hold, Primitives, Refused, Reservation, SessionId, SessionSlot, Std};

/// A session's claim to a place: its id, and its hold on the permit.
///
/// A permit `T` stands for a free place: there are as many permits as places, and an install takes one. The session
/// holds it from its install until it has left the slot. So the owner of a permit finds a place free, and whatever gives
/// out permits in order gives out places in order: a semaphore, for example. The [`Departure`] lives as long as its
/// session, and so does the hold.
///
/// # Rules
///
/// 1. The place first, then its permit: a session that [leaves](Departure::leave) is out of the slot before its permit
///    is dropped.
/// 2. To [replace](Self::replace) a session is to take its permit first, and then the place. So a session that leaves
///    in the meantime frees nothing twice.
/// 3. A session that keeps its place gets its permit back. One that has left keeps none, even if it is given one later.
///
/// ```
/// use std::sync::Arc;
/// use evermux::sync::{Claim, SessionSlot};
///
/// let slot: Arc<SessionSlot<&str, ()>> = Arc::new(SessionSlot::new(1));
/// let (mut old, mut new) = (Claim::new(&slot), Claim::new(&slot));
/// old.install("the only permit", "a ghost", Arc::default()).unwrap();
/// assert_eq!(new.replace((old.id(), old.hold()), "its heir", Arc::default()), Ok(Some("a ghost")));
/// assert_eq!((old.hold().take(), new.hold().take()), (None, Some("the only permit")));
/// ```
#[must_use = "dropping a claim forgets its id"]
pub struct Claim<V: Clone, R: Clone, T, P: Primitives = Std> {
    reservation: Reservation<V, R, P>,
    hold: Arc<Hold<T, P>>,
}

impl<V: Clone, R: Clone, T, P: Primitives> Claim<V, R, T, P> {
    /// Reserves an id. Works after a stop too; the install is then refused.
    pub fn new(slot: &Arc<SessionSlot<V, R, P>>) -> Self {
        Self { reservation: slot.reserve(), hold: Arc::new(Hold::with_primitives()) }
    }

    /// The reserved id.
    pub fn id(&self) -> SessionId {
        self.reservation.id()
    }

    /// The session's hold on its permit.
    pub fn hold(&self) -> &Arc<Hold<T, P>> {
        &self.hold
    }

    /// The [`Departure`] that the session takes first when it dies.
    pub fn departure(&self) -> Departure<V, R, T, P> {
        Departure { hook: self.reservation.clear_hook(), hold: Arc::clone(&self.hold) }
    }

    /// Puts the session into the free place that the permit stands for: see [`SessionSlot::install`].
    ///
    /// If the session has left since, the permit is dropped.
    ///
    /// # Errors
    ///
    /// [`Dead`](Refused::Dead) and [`Stopped`](Refused::Stopped) hand the session back, and drop the permit.
    ///
    /// # Panics
    ///
    /// As [`SessionSlot::install`], and if no place is free: then there are more permits than places.
    pub fn install(&mut self, permit: T, session: V, load: Arc<P::AtomicUsize>) -> Result<(), Refused<V, R>> {
        let slot = Arc::clone(self.reservation.slot());
        match slot.install(&mut self.reservation, session, load) {
            Ok(()) => {
                self.hold.put(permit);
                Ok(())
            }
            Err(Refused::Full(_) | Refused::Gone(_)) => unreachable!("a permit stands for a free place"),
            Err(refused) => Err(refused),
        }
    }

    /// Puts the session into the place of another one, given by its id and its hold: see [`SessionSlot::replace`].
    /// Returns the other session, for the caller to close (G6), or `None` if that has left since its permit was taken:
    /// then the session is in a free place.
    ///
    /// If the session has left since, the permit is dropped.
    ///
    /// # Errors
    ///
    /// [`Full`](Refused::Full) hands the session back if the other one holds no permit: it is in no place, or is being
    /// replaced by somebody else. [`Dead`](Refused::Dead) and [`Stopped`](Refused::Stopped) hand it back, and the other
    /// one gets its permit back, unless it has left.
    ///
    /// # Panics
    ///
    /// As [`install`](Self::install).
    pub fn replace(
        &mut self,
        (old, ghost): (SessionId, &Hold<T, P>),
        session: V,
        load: Arc<P::AtomicUsize>,
    ) -> Result<Option<V>, Refused<V, R>> {
        let Some(permit) = ghost.take() else { return Err(Refused::Full(session)) };
        let slot = Arc::clone(self.reservation.slot());
        match slot.replace(old, &mut self.reservation, session, Arc::clone(&load)) {
            Ok(old) => {
                self.hold.put(permit);
                Ok(Some(old))
            }
            // It has left by itself since its permit was taken: this is the permit of a free place.
            Err(Refused::Gone(session) | Refused::Full(session)) => self.install(permit, session, load).map(|()| None),
            Err(refused) => {
                // It keeps its place.
                ghost.put(permit);
                Err(refused)
            }
        }
    }
}

impl<V: Clone, R: Clone, T, P: Primitives> fmt::Debug for Claim<V, R, T, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claim").field("id", &self.id()).finish_non_exhaustive()
    }
}

/// Takes one session out of its slot, and then drops its permit: see [`Claim::departure`].
pub struct Departure<V: Clone, R: Clone, T, P: Primitives = Std> {
    hook: ClearHook<V, R, P>,
    hold: Arc<Hold<T, P>>,
}

impl<V: Clone, R: Clone, T, P: Primitives> Departure<V, R, T, P> {
    /// Clears the session: after this the slot gives it to nobody, and its permit is dropped. Only the first call does
    /// anything.
    pub fn leave(&self) {
        self.hook.clear();
        self.hold.leave();
    }
}

impl<V: Clone, R: Clone, T, P: Primitives> fmt::Debug for Departure<V, R, T, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Departure").finish_non_exhaustive()
    }
}
