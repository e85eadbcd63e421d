//! The synchronization core of evermux under loom: one model for each race.
//!
//! Two platforms run the core's own lines: [`Loom`], which is loom's, and [`Spurious`], which adds what loom lacks: threads
//! that wake without a reason, and deadlines that pass. [`explore`] runs a model to its end.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Wake, Waker},
};

use evermux::sync::{Refused, SessionId, SessionSlot};
use loom::model::Builder;

pub use backend::{Guard, Loom, assert_unlocked};
pub use spurious::{Spurious, advance_to, wake_for_no_reason};

mod backend;
mod spurious;

/// A slot on loom's platform, whose sessions are numbers.
pub type Slot = SessionSlot<u32, &'static str, Loom>;
/// A slot on the platform whose waits may end for no reason.
pub type SpuriousSlot = SessionSlot<u32, &'static str, Spurious>;

/// How many times a model may switch away from a thread that could go on.
#[derive(Clone, Copy, Debug)]
pub enum Preemptions {
    /// Every interleaving is explored.
    Unbounded,
    /// Those with at most so many preemptions. Three is the least worth having.
    AtMost(usize),
}

/// A waker that no lock may see, neither when it wakes nor when it is dropped.
pub struct Checked(Waker);

impl Wake for Checked {
    fn wake(self: Arc<Self>) {
        assert_unlocked();
        self.0.wake_by_ref();
    }
}

impl Drop for Checked {
    fn drop(&mut self) {
        assert_unlocked();
    }
}

impl Checked {
    /// One that wakes another.
    pub fn new(waker: &Waker) -> Arc<Self> {
        Arc::new(Self(waker.clone()))
    }
}

/// Runs a model over all of its executions.
///
/// # Panics
///
/// If the model panics in one of them, if not every execution was finished, or if there were fewer than `least`: then
/// the model no longer contains the race that it is about.
pub fn explore(name: &str, preemptions: Preemptions, least: usize, model: impl Fn() + Send + Sync + 'static) {
    let begun = Arc::new(AtomicUsize::new(0));
    let finished = Arc::new(AtomicUsize::new(0));
    let mut builder = Builder::new();
    // Limits that would end the exploration without a word, whatever the environment says.
    builder.max_permutations = None;
    builder.max_duration = None;
    builder.checkpoint_file = None;
    builder.preemption_bound = match preemptions {
        Preemptions::Unbounded => None,
        Preemptions::AtMost(bound) => {
            assert!(bound >= 3, "{name}: a bound below 3 proves little");
            Some(bound)
        }
    };
    builder.check({
        let (begun, finished) = (Arc::clone(&begun), Arc::clone(&finished));
        move || {
            begun.fetch_add(1, Ordering::Relaxed);
            model();
            finished.fetch_add(1, Ordering::Relaxed);
        }
    });
    let executions = finished.load(Ordering::Relaxed);
    println!("{name}: {executions} executions, {preemptions:?}");
    assert_eq!(begun.load(Ordering::Relaxed), executions, "{name}: an execution was left unfinished");
    assert!(executions >= least, "{name}: only {executions} executions of at least {least}");
}

/// Makes a slot with so many places on loom's platform.
pub fn slot(places: usize) -> Arc<Slot> {
    Arc::new(SessionSlot::with_primitives(places))
}

/// Makes a slot with one place on the platform whose waits may end for no reason.
pub fn spurious_slot() -> Arc<SpuriousSlot> {
    Arc::new(SessionSlot::with_primitives(1))
}

/// A load that nobody changes.
pub fn load() -> Arc<loom::sync::atomic::AtomicUsize> {
    Arc::new(loom::sync::atomic::AtomicUsize::new(0))
}

/// Installs a session that must not be refused.
///
/// # Panics
///
/// If it is.
pub fn install(slot: &Arc<Slot>, session: u32) -> SessionId {
    let mut reservation = slot.reserve();
    slot.install(&mut reservation, session, load()).expect("a place is free");
    reservation.id()
}

/// Installs a session if nothing stands against it.
///
/// # Errors
///
/// What stood against it.
pub fn try_install(slot: &Arc<Slot>, session: u32) -> Result<(), Refused<u32, &'static str>> {
    slot.install(&mut slot.reserve(), session, load())
}
