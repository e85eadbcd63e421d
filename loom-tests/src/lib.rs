//! The synchronization core of evermux under two checkers: one model for each race.
//!
//! [`explore`] runs a model under loom, in every execution of two or three threads. [`sample`] runs one under shuttle,
//! in random executions of five to eight. Both run the core's own lines, on the platforms [`Loom`] and [`Shuttle`].
//! Over either, [`Spurious`] adds what both lack: threads that wake for no reason, and deadlines that pass.
//!
//! Every model is a test of this package; `cargo run --release -p loom-tests -- report` runs them all.

use std::{
    marker::PhantomData,
    sync::Arc,
    task::{Wake, Waker},
};

use evermux::sync::{Primitives, Refused, SessionId, SessionSlot};

pub use backend::{Guard, Loom, Platform, Shuttle, assert_unlocked};
pub use permits::{Permit, Permits};
pub use run::{Bound, Checker, Preemptions, RECORDS, REPLAY, Record, SCHEDULES, SEED, explore, sample};
pub use spurious::{OddGuard, Spurious, World, advance_to, wake_for_no_reason};

mod backend;
mod permits;
mod run;
mod spurious;

/// A slot on a checker's platform, whose sessions are numbers.
pub type Slot<P = Loom> = SessionSlot<u32, &'static str, P>;

/// A waker that no lock may see, neither when it wakes nor when it is dropped.
pub struct Checked<C: Platform>(Waker, PhantomData<fn() -> C>);

impl<C: Platform> Wake for Checked<C> {
    fn wake(self: Arc<Self>) {
        assert_unlocked::<C>();
        self.0.wake_by_ref();
    }
}

impl<C: Platform> Drop for Checked<C> {
    fn drop(&mut self) {
        assert_unlocked::<C>();
    }
}

impl<C: Platform> Checked<C> {
    /// One that wakes another.
    pub fn new(waker: &Waker) -> Arc<Self> {
        Arc::new(Self(waker.clone(), PhantomData))
    }

    /// The same, as a waker.
    pub fn waker(waker: &Waker) -> Waker {
        Waker::from(Self::new(waker))
    }
}

/// Makes a slot with so many places.
pub fn slot<P: Primitives>(places: usize) -> Arc<Slot<P>> {
    Arc::new(SessionSlot::with_primitives(places))
}

/// A load that nobody changes.
pub fn load<P: Primitives>() -> Arc<P::AtomicUsize> {
    Arc::new(P::atomic_usize(0))
}

/// Installs a session that must not be refused.
///
/// # Panics
///
/// If it is.
pub fn install<P: Primitives>(slot: &Arc<Slot<P>>, session: u32) -> SessionId {
    let mut reservation = slot.reserve();
    slot.install(&mut reservation, session, load::<P>()).expect("a place is free");
    reservation.id()
}

/// Installs a session if nothing stands against it.
///
/// # Errors
///
/// What stood against it.
pub fn try_install<P: Primitives>(slot: &Arc<Slot<P>>, session: u32) -> Result<(), Refused<u32, &'static str>> {
    slot.install(&mut slot.reserve(), session, load::<P>())
}
