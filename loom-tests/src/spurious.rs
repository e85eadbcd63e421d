//! What loom lacks: spurious wake-ups, and deadlines that pass.

use std::{
    mem,
    sync::{Arc, PoisonError},
};

use evermux::sync::{Ordering, Primitives, Sealed};
use loom::sync::{Condvar, Mutex, atomic};

use crate::{Guard, Loom};

loom::lazy_static! {
    /// The clock, and the threads that wait on any condition variable.
    static ref WORLD: Mutex<World> = Mutex::new(World { now: 0, parked: Vec::new() });
}

struct World {
    now: u64,
    parked: Vec<Arc<Parker>>,
}

/// Where one thread waits once.
struct Parker {
    woken: Mutex<bool>,
    changed: Condvar,
}

/// Wakes every thread that waits on a condition variable, though nothing has happened.
pub fn wake_for_no_reason() {
    wake(WORLD.lock().unwrap_or_else(PoisonError::into_inner));
}

/// Moves the clock, and wakes the threads whose deadline has passed.
pub fn advance_to(now: u64) {
    let mut world = WORLD.lock().unwrap_or_else(PoisonError::into_inner);
    world.now = now;
    // Those without a deadline are woken too: one more wake for no reason.
    wake(world);
}

fn wake(mut world: loom::sync::MutexGuard<'_, World>) {
    let parked = mem::take(&mut world.parked);
    drop(world);
    for parker in parked {
        *parker.woken.lock().unwrap_or_else(PoisonError::into_inner) = true;
        parker.changed.notify_one();
    }
}

/// loom's platform with the spurious of a real one. All its condition variables are one.
#[derive(Clone, Copy, Debug)]
pub enum Spurious {}

impl Spurious {
    fn park<'a, T>(mutex: &'a Mutex<T>, guard: Guard<'a, T>, deadline: Option<u64>) -> Guard<'a, T> {
        let mut world = WORLD.lock().unwrap_or_else(PoisonError::into_inner);
        if deadline.is_some_and(|deadline| world.now >= deadline) {
            return guard;
        }
        let parker = Arc::new(Parker { woken: Mutex::new(false), changed: Condvar::new() });
        world.parked.push(Arc::clone(&parker));
        drop(world);
        drop(guard);
        let mut woken = parker.woken.lock().unwrap_or_else(PoisonError::into_inner);
        while !*woken {
            woken = parker.changed.wait(woken).unwrap_or_else(PoisonError::into_inner);
        }
        drop(woken);
        Guard::lock(mutex)
    }
}

/// A guard that knows its mutex, so that it can be given up and taken again.
#[derive(Debug)]
pub struct OddGuard<'a, T> {
    mutex: &'a Mutex<T>,
    guard: Guard<'a, T>,
}

impl<T> std::ops::Deref for OddGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T> std::ops::DerefMut for OddGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guard
    }
}

impl Sealed for Spurious {}

impl Primitives for Spurious {
    type Mutex<T> = Mutex<T>;
    type Guard<'a, T: 'a> = OddGuard<'a, T>;
    type Condvar = ();
    type AtomicUsize = atomic::AtomicUsize;
    type AtomicU64 = atomic::AtomicU64;
    type Instant = u64;

    fn mutex<T>(value: T) -> Self::Mutex<T> {
        Mutex::new(value)
    }

    fn lock<T>(mutex: &Self::Mutex<T>) -> Self::Guard<'_, T> {
        OddGuard { mutex, guard: Guard::lock(mutex) }
    }

    fn condvar() -> Self::Condvar {}

    fn notify_all((): &Self::Condvar) {
        wake_for_no_reason();
    }

    fn wait<'a, T>((): &Self::Condvar, OddGuard { mutex, guard }: Self::Guard<'a, T>) -> Self::Guard<'a, T> {
        OddGuard { mutex, guard: Self::park(mutex, guard, None) }
    }

    fn wait_until<'a, T>(
        (): &Self::Condvar,
        OddGuard { mutex, guard }: Self::Guard<'a, T>,
        deadline: u64,
    ) -> Self::Guard<'a, T> {
        OddGuard { mutex, guard: Self::park(mutex, guard, Some(deadline)) }
    }

    fn atomic_usize(value: usize) -> Self::AtomicUsize {
        Loom::atomic_usize(value)
    }

    fn load_usize(atomic: &Self::AtomicUsize, order: Ordering) -> usize {
        Loom::load_usize(atomic, order)
    }

    fn atomic_u64(value: u64) -> Self::AtomicU64 {
        Loom::atomic_u64(value)
    }

    fn load_u64(atomic: &Self::AtomicU64, order: Ordering) -> u64 {
        Loom::load_u64(atomic, order)
    }

    fn store_u64(atomic: &Self::AtomicU64, value: u64, order: Ordering) {
        Loom::store_u64(atomic, value, order);
    }

    fn swap_u64(atomic: &Self::AtomicU64, value: u64, order: Ordering) -> u64 {
        Loom::swap_u64(atomic, value, order)
    }

    fn compare_exchange_u64(
        atomic: &Self::AtomicU64,
        current: u64,
        new: u64,
        success: Ordering,
        failure: Ordering,
    ) -> Result<u64, u64> {
        Loom::compare_exchange_u64(atomic, current, new, success, failure)
    }

    fn fetch_or_u64(atomic: &Self::AtomicU64, bits: u64, order: Ordering) -> u64 {
        Loom::fetch_or_u64(atomic, bits, order)
    }

    fn now() -> Self::Instant {
        WORLD.lock().unwrap_or_else(PoisonError::into_inner).now
    }
}
