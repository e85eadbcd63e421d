//! loom's own primitives.

use std::{
    cell::Cell,
    ops::{Deref, DerefMut},
    sync::PoisonError,
};

use evermux::sync::{Ordering, Primitives, Sealed};
use loom::sync::{self, atomic};

loom::thread_local! {
    /// How many guards this thread holds. loom's threads share one thread of the system, so std's would be wrong.
    static HELD: Cell<usize> = Cell::new(0);
}

/// Checks that this thread holds no lock of a slot (G7).
///
/// # Panics
///
/// If it does.
pub fn assert_unlocked() {
    HELD.with(|held| assert_eq!(held.get(), 0, "foreign code runs under the lock"));
}

/// loom's platform. Its clock stands still, so its deadlines never pass.
#[derive(Clone, Copy, Debug)]
pub enum Loom {}

/// loom's guard, counted for [`assert_unlocked`].
#[derive(Debug)]
pub struct Guard<'a, T> {
    guard: Option<sync::MutexGuard<'a, T>>,
}

impl<'a, T> Guard<'a, T> {
    pub(crate) fn lock(mutex: &'a sync::Mutex<T>) -> Self {
        Self::new(mutex.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn new(guard: sync::MutexGuard<'a, T>) -> Self {
        HELD.with(|held| held.set(held.get() + 1));
        Self { guard: Some(guard) }
    }

    fn into_inner(mut self) -> sync::MutexGuard<'a, T> {
        self.guard.take().expect("a guard is unwrapped once")
    }
}

impl<T> Drop for Guard<'_, T> {
    fn drop(&mut self) {
        HELD.with(|held| held.set(held.get() - 1));
    }
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.guard.as_ref().expect("a guard holds its lock")
    }
}

impl<T> DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.guard.as_mut().expect("a guard holds its lock")
    }
}

impl Sealed for Loom {}

impl Primitives for Loom {
    type Mutex<T> = sync::Mutex<T>;
    type Guard<'a, T: 'a> = Guard<'a, T>;
    type Condvar = sync::Condvar;
    type AtomicUsize = atomic::AtomicUsize;
    type AtomicU64 = atomic::AtomicU64;
    type Instant = u64;

    fn mutex<T>(value: T) -> Self::Mutex<T> {
        sync::Mutex::new(value)
    }

    fn lock<T>(mutex: &Self::Mutex<T>) -> Self::Guard<'_, T> {
        Guard::lock(mutex)
    }

    fn condvar() -> Self::Condvar {
        sync::Condvar::new()
    }

    fn notify_all(condvar: &Self::Condvar) {
        condvar.notify_all();
    }

    fn wait<'a, T>(condvar: &Self::Condvar, guard: Self::Guard<'a, T>) -> Self::Guard<'a, T> {
        Guard::new(condvar.wait(guard.into_inner()).unwrap_or_else(PoisonError::into_inner))
    }

    fn wait_until<'a, T>(condvar: &Self::Condvar, guard: Self::Guard<'a, T>, _: u64) -> Self::Guard<'a, T> {
        Self::wait(condvar, guard)
    }

    fn atomic_usize(value: usize) -> Self::AtomicUsize {
        atomic::AtomicUsize::new(value)
    }

    fn load_usize(atomic: &Self::AtomicUsize, order: Ordering) -> usize {
        atomic.load(order)
    }

    fn atomic_u64(value: u64) -> Self::AtomicU64 {
        atomic::AtomicU64::new(value)
    }

    fn load_u64(atomic: &Self::AtomicU64, order: Ordering) -> u64 {
        match order {
            // The slot reads so under its lock, before it stores. loom remembers one access to an atomic, so this load
            // would hide a reader's, and nothing would be explored in which the store comes before that. An addition
            // hides nothing.
            Ordering::Relaxed => atomic.fetch_add(0, order),
            _ => atomic.load(order),
        }
    }

    fn store_u64(atomic: &Self::AtomicU64, value: u64, order: Ordering) {
        atomic.store(value, order);
    }

    fn swap_u64(atomic: &Self::AtomicU64, value: u64, order: Ordering) -> u64 {
        atomic.swap(value, order)
    }

    fn compare_exchange_u64(
        atomic: &Self::AtomicU64,
        current: u64,
        new: u64,
        success: Ordering,
        failure: Ordering,
    ) -> Result<u64, u64> {
        atomic.compare_exchange(current, new, success, failure)
    }

    fn fetch_or_u64(atomic: &Self::AtomicU64, bits: u64, order: Ordering) -> u64 {
        atomic.fetch_or(bits, order)
    }

    fn now() -> Self::Instant {
        0
    }
}
