//! The slot: its state, and everything that changes it.

use std::{collections::BTreeSet, fmt, mem, sync::Arc};

use super::{
    Ordering, Primitives, Refused, Reservation, SessionId, SlotReader, Std,
    wait_list::{WaitList, Wakers},
};

/// Where callers get a live session `V`, until it is stopped with a reason `R`.
///
/// Every method takes the lock for a moment and never waits for anything else, except for the three waits:
/// [`wait`](Self::wait), [`wait_blocking`](Self::wait_blocking) and [`wait_until`](Self::wait_until).
///
/// With more than one place, callers are given the session with the least load; a tie goes to the place after the one
/// that was given out last.
pub struct SessionSlot<V: Clone, R: Clone, P: Primitives = Std> {
    pub(super) state: P::Mutex<State<V, R, P>>,
    /// Notified when a place or the stop reason is filled, for threads.
    pub(super) changed: P::Condvar,
    /// Invariant 4. Changes under the lock, with release; read without it by readers, with acquire.
    generation: P::AtomicU64,
}

pub(super) struct State<V, R, P: Primitives> {
    stopped: Option<R>,
    next_id: u64,
    reserved: BTreeSet<u64>,
    places: Box<[Option<Place<V, P>>]>,
    /// The place that was given out last.
    last: usize,
    pub(super) waiters: WaitList,
    /// How many threads wait on the condition variable.
    pub(super) blocked: usize,
}

pub(super) struct Place<V, P: Primitives> {
    pub(super) id: SessionId,
    pub(super) session: V,
    /// Owned by this session alone, so that a late decrement cannot land on its successor.
    load: Arc<P::AtomicUsize>,
}

impl<V: Clone, R: Clone> SessionSlot<V, R, Std> {
    /// Makes an empty slot with this many places.
    ///
    /// # Panics
    ///
    /// If `places` is zero.
    pub fn new(places: usize) -> Self {
        Self::with_primitives(places)
    }
}

impl<V: Clone, R: Clone, P: Primitives> SessionSlot<V, R, P> {
    /// As [`new`](SessionSlot::new), on a platform of the caller's choice.
    ///
    /// # Panics
    ///
    /// If `places` is zero.
    pub fn with_primitives(places: usize) -> Self {
        assert!(places > 0, "a slot has at least one place");
        Self {
            state: P::mutex(State {
                stopped: None,
                next_id: SessionId::STANDALONE.0 + 1,
                reserved: BTreeSet::new(),
                places: (0..places).map(|_| None).collect(),
                last: places - 1,
                waiters: WaitList::new(),
                blocked: 0,
            }),
            changed: P::condvar(),
            generation: P::atomic_u64(0),
        }
    }

    /// Reserves an id for a future session. Works after a stop too; the install is then refused.
    pub fn reserve(self: &Arc<Self>) -> Reservation<V, R, P> {
        let mut state = P::lock(&self.state);
        let id = state.next_id;
        state.next_id += 1;
        state.reserved.insert(id);
        drop(state);
        Reservation::new(Arc::clone(self), SessionId(id))
    }

    /// Puts a session into the first free place, under the reserved id, and wakes every waiter (G2).
    ///
    /// `load` is read whenever a session is given out; the owner of the session keeps it up to date.
    ///
    /// # Errors
    ///
    /// [`Refused`] hands the session back, and nothing was changed: [`Full`](Refused::Full), [`Dead`](Refused::Dead)
    /// or [`Stopped`](Refused::Stopped). After `Full` the reservation can be used again.
    ///
    /// # Panics
    ///
    /// If the reservation belongs to another slot. If a waker panics: the session is installed, and the other waiters
    /// woken.
    pub fn install(
        &self,
        reservation: &mut Reservation<V, R, P>,
        session: V,
        load: Arc<P::AtomicUsize>,
    ) -> Result<(), Refused<V, R>> {
        let id = self.own_id(reservation);
        let mut state = P::lock(&self.state);
        if let Some(reason) = &state.stopped {
            return Err(Refused::Stopped(session, reason.clone()));
        }
        if !state.reserved.contains(&id.0) {
            return Err(Refused::Dead(session));
        }
        let Some(place) = state.places.iter_mut().find(|place| place.is_none()) else {
            return Err(Refused::Full(session));
        };
        *place = Some(Place { id, session, load });
        state.reserved.remove(&id.0);
        reservation.installed = true;
        let wakers = self.announce(&mut state);
        drop(state);
        wakers.wake();
        Ok(())
    }

    /// Puts a session into the place that holds `old`, and wakes every waiter. Returns the session that was there, for
    /// the caller to close (G6).
    ///
    /// The new id is never the old one, so a session cannot be replaced by itself.
    ///
    /// # Errors
    ///
    /// [`Refused`] hands the new session back, and nothing was changed: [`Gone`](Refused::Gone) if `old` is in no place
    /// and another place is free, [`Full`](Refused::Full) if `old` is in no place and none is free,
    /// [`Dead`](Refused::Dead) or [`Stopped`](Refused::Stopped). After `Gone` and `Full` the reservation can be used
    /// again.
    ///
    /// # Panics
    ///
    /// As [`install`](Self::install). If a waker panics, the old session is dropped.
    pub fn replace(
        &self,
        old: SessionId,
        reservation: &mut Reservation<V, R, P>,
        session: V,
        load: Arc<P::AtomicUsize>,
    ) -> Result<V, Refused<V, R>> {
        let id = self.own_id(reservation);
        let mut state = P::lock(&self.state);
        if let Some(reason) = &state.stopped {
            return Err(Refused::Stopped(session, reason.clone()));
        }
        if !state.reserved.contains(&id.0) {
            return Err(Refused::Dead(session));
        }
        let Some(place) = state.places.iter_mut().flatten().find(|place| place.id == old) else {
            let free = state.places.iter().any(Option::is_none);
            return Err(if free { Refused::Gone(session) } else { Refused::Full(session) });
        };
        let old = mem::replace(place, Place { id, session, load });
        state.reserved.remove(&id.0);
        reservation.installed = true;
        let wakers = self.announce(&mut state);
        drop(state);
        wakers.wake();
        Ok(old.session)
    }

    /// Takes the session with this id out of its place, or the id out of the reserved ones; from now on it is dead.
    /// Does nothing if the id is in neither: news of an old death never removes a newer session (G8).
    ///
    /// Wakes nobody. A reader that holds the session lets go of it at its next look.
    pub fn clear(&self, id: SessionId) -> Option<V> {
        let mut state = P::lock(&self.state);
        let cleared = state.places.iter_mut().find_map(|place| place.take_if(|place| place.id == id));
        if cleared.is_some() {
            self.bump();
        } else {
            state.reserved.remove(&id.0);
        }
        drop(state);
        cleared.map(|place| place.session)
    }

    /// Stops the slot forever, and wakes every waiter with the reason (G4). Returns the sessions that were in it, for
    /// the caller to close.
    ///
    /// The first reason wins: a later call changes nothing and returns nothing.
    ///
    /// # Panics
    ///
    /// If a waker panics: the slot is stopped, the other waiters are woken, and the sessions are dropped.
    pub fn stop(&self, reason: R) -> Vec<V> {
        let (sessions, wakers) = self.stop_silently(reason);
        wakers.wake();
        sessions
    }

    /// Stops the slot, and leaves it to the caller to wake the futures.
    pub(super) fn stop_silently(&self, reason: R) -> (Vec<V>, Wakers) {
        let mut state = P::lock(&self.state);
        if state.stopped.is_some() {
            drop(state);
            return (Vec::new(), WaitList::new().take());
        }
        state.stopped = Some(reason);
        let places: Vec<_> = state.places.iter_mut().filter_map(Option::take).collect();
        let wakers = self.announce(&mut state);
        drop(state);
        (places.into_iter().map(|place| place.session).collect(), wakers)
    }

    /// A live session, if there is one now.
    pub fn peek(&self) -> Option<V> {
        P::lock(&self.state).pick().map(|place| place.session.clone())
    }

    /// Why the slot has stopped, if it has.
    pub fn stopped(&self) -> Option<R> {
        P::lock(&self.state).stopped.clone()
    }

    /// A cached view of the slot for one thread: see [`SlotReader`].
    pub fn reader(self: &Arc<Self>) -> SlotReader<V, R, P> {
        SlotReader::new(Arc::clone(self))
    }

    /// How many places there are.
    pub fn places(&self) -> usize {
        P::lock(&self.state).places.len()
    }

    /// Every live session, in the order of their places.
    pub fn live(&self) -> Vec<(SessionId, V)> {
        let state = P::lock(&self.state);
        state.places.iter().flatten().map(|place| (place.id, place.session.clone())).collect()
    }

    /// How many futures and threads wait now.
    pub fn waiting(&self) -> usize {
        let state = P::lock(&self.state);
        state.waiters.len() + state.blocked
    }

    /// How many ids are reserved and not installed yet.
    pub fn reserved(&self) -> usize {
        P::lock(&self.state).reserved.len()
    }

    pub(super) fn forget(&self, id: SessionId) {
        P::lock(&self.state).reserved.remove(&id.0);
    }

    #[inline]
    pub(super) fn generation(&self) -> u64 {
        P::load_u64(&self.generation, Ordering::Acquire)
    }

    fn own_id(&self, reservation: &Reservation<V, R, P>) -> SessionId {
        assert!(
            std::ptr::eq(Arc::as_ptr(reservation.slot()), self),
            "a reservation is installed in the slot that made it"
        );
        reservation.id()
    }

    /// Keeps invariants 3 and 4 when a place or the stop reason was filled: everybody is woken (G2, G4). Called under
    /// the lock, as is `bump`.
    fn announce(&self, state: &mut State<V, R, P>) -> Wakers {
        self.bump();
        P::notify_all(&self.changed);
        state.waiters.take()
    }

    fn bump(&self) {
        let generation = P::load_u64(&self.generation, Ordering::Relaxed);
        P::store_u64(&self.generation, generation + 1, Ordering::Release);
    }
}

impl<V: Clone, R: Clone, P: Primitives> State<V, R, P> {
    /// The outcome of a wait, if there is one.
    pub(super) fn outcome(&mut self) -> Option<Result<V, R>> {
        match &self.stopped {
            Some(reason) => Some(Err(reason.clone())),
            None => self.pick().map(|place| Ok(place.session.clone())),
        }
    }

    /// The least loaded live place; among equals the first after the last one given out.
    pub(super) fn pick(&mut self) -> Option<&Place<V, P>> {
        let places = self.places.len();
        let (index, _) = (1..=places)
            .map(|step| (self.last + step) % places)
            .filter_map(|index| Some((index, self.places[index].as_ref()?)))
            .min_by_key(|(_, place)| P::load_usize(&place.load, Ordering::Relaxed))?;
        self.last = index;
        self.places[index].as_ref()
    }

    pub(super) fn holds(&self, id: SessionId) -> bool {
        self.places.iter().flatten().any(|place| place.id == id)
    }
}

impl<V: Clone, R: Clone, P: Primitives> fmt::Debug for SessionSlot<V, R, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionSlot").finish_non_exhaustive()
    }
}
