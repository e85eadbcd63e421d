//! What the checkers lack: spurious wake-ups, and deadlines that pass.

use std::{
    marker::PhantomData,
    mem,
    ops::{Deref, DerefMut},
    sync::Arc,
};

use evermux::sync::{Ordering, Primitives, Sealed};

use crate::backend::{Platform, uses_spurious};

/// The clock of one execution, and the threads that wait on any condition variable.
pub struct World<C: Platform> {
    now: u64,
    parked: Vec<Arc<Parker<C>>>,
}

/// Where one thread waits once.
struct Parker<C: Platform> {
    woken: C::Mutex<bool>,
    changed: C::Condvar,
}

impl<C: Platform> World<C> {
    pub(crate) fn new() -> Self {
        Self { now: 0, parked: Vec::new() }
    }
}

/// Wakes every thread that waits on a condition variable, though nothing has happened.
pub fn wake_for_no_reason<C: Platform>() {
    wake::<C>(|_| {});
}

/// Moves the clock, and wakes the threads whose deadline has passed.
pub fn advance_to<C: Platform>(now: u64) {
    // Those without a deadline are woken too: one more wake for no reason.
    wake::<C>(|world| world.now = now);
}

fn wake<C: Platform>(change: impl FnOnce(&mut World<C>)) {
    uses_spurious();
    let parked = C::world(|world| {
        let mut world = C::lock(world);
        change(&mut world);
        mem::take(&mut world.parked)
    });
    for parker in parked {
        *C::lock(&parker.woken) = true;
        C::notify_all(&parker.changed);
    }
}

/// A checker's platform with the spurious of a real one. All its condition variables are one.
#[derive(Clone, Copy, Debug)]
pub struct Spurious<C>(PhantomData<C>);

/// A guard that knows its mutex, so that it can be given up and taken again.
pub struct OddGuard<'a, T: 'a, C: Platform> {
    mutex: &'a C::Mutex<T>,
    guard: C::Guard<'a, T>,
}

impl<'a, T, C: Platform> OddGuard<'a, T, C> {
    fn lock(mutex: &'a C::Mutex<T>) -> Self {
        Self { mutex, guard: C::lock(mutex) }
    }

    fn park(self, deadline: Option<u64>) -> Self {
        let Some(parker) = C::world(|world| {
            let mut world = C::lock(world);
            if deadline.is_some_and(|deadline| world.now >= deadline) {
                return None;
            }
            let parker = Arc::new(Parker { woken: C::mutex(false), changed: C::condvar() });
            world.parked.push(Arc::clone(&parker));
            Some(parker)
        }) else {
            return self;
        };
        let Self { mutex, guard } = self;
        drop(guard);
        let mut woken = C::lock(&parker.woken);
        while !*woken {
            woken = C::wait(&parker.changed, woken);
        }
        drop(woken);
        Self::lock(mutex)
    }
}

impl<T, C: Platform> Deref for OddGuard<'_, T, C> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T, C: Platform> DerefMut for OddGuard<'_, T, C> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guard
    }
}

impl<C> Sealed for Spurious<C> {}

impl<C: Platform> Primitives for Spurious<C> {
    type Mutex<T> = C::Mutex<T>;
    type Guard<'a, T: 'a> = OddGuard<'a, T, C>;
    type Condvar = ();
    type AtomicUsize = C::AtomicUsize;
    type AtomicU64 = C::AtomicU64;
    type Instant = u64;

    fn mutex<T>(value: T) -> Self::Mutex<T> {
        C::mutex(value)
    }

    fn lock<T>(mutex: &Self::Mutex<T>) -> Self::Guard<'_, T> {
        OddGuard::lock(mutex)
    }

    fn condvar() -> Self::Condvar {}

    fn notify_all((): &Self::Condvar) {
        wake_for_no_reason::<C>();
    }

    fn wait<'a, T>((): &Self::Condvar, guard: Self::Guard<'a, T>) -> Self::Guard<'a, T> {
        guard.park(None)
    }

    fn wait_until<'a, T>((): &Self::Condvar, guard: Self::Guard<'a, T>, deadline: u64) -> Self::Guard<'a, T> {
        guard.park(Some(deadline))
    }

    fn atomic_usize(value: usize) -> Self::AtomicUsize {
        C::atomic_usize(value)
    }

    fn load_usize(atomic: &Self::AtomicUsize, order: Ordering) -> usize {
        C::load_usize(atomic, order)
    }

    fn atomic_u64(value: u64) -> Self::AtomicU64 {
        C::atomic_u64(value)
    }

    fn load_u64(atomic: &Self::AtomicU64, order: Ordering) -> u64 {
        C::load_u64(atomic, order)
    }

    fn store_u64(atomic: &Self::AtomicU64, value: u64, order: Ordering) {
        C::store_u64(atomic, value, order);
    }

    fn swap_u64(atomic: &Self::AtomicU64, value: u64, order: Ordering) -> u64 {
        C::swap_u64(atomic, value, order)
    }

    fn compare_exchange_u64(
        atomic: &Self::AtomicU64,
        current: u64,
        new: u64,
        success: Ordering,
        failure: Ordering,
    ) -> Result<u64, u64> {
        C::compare_exchange_u64(atomic, current, new, success, failure)
    }

    fn fetch_or_u64(atomic: &Self::AtomicU64, bits: u64, order: Ordering) -> u64 {
        C::fetch_or_u64(atomic, bits, order)
    }

    fn now() -> Self::Instant {
        C::world(|world| C::lock(world).now)
    }
}
