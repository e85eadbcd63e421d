//! A platform for one thread, on which waiting is a mistake.

use std::{
    cell::Cell,
    ops::{Deref, DerefMut},
    sync::{Mutex, MutexGuard, PoisonError, TryLockError, atomic},
};

use evermux::sync::{Ordering, Primitives, Sealed};

thread_local! {
    static HELD: Cell<usize> = const { Cell::new(0) };
}

/// Checks that this thread holds no lock of a slot (G7).
///
/// # Panics
///
/// If it does.
pub fn assert_unlocked() {
    assert_eq!(HELD.get(), 0, "foreign code runs under the lock");
}

/// A platform on which every wait panics: there is one thread, so it would never end. Its clock stands still at 0.
#[derive(Clone, Copy, Debug)]
pub enum SingleThreaded {}

/// A guard that [`assert_unlocked`] knows of.
#[derive(Debug)]
pub struct Guard<'a, T>(MutexGuard<'a, T>);

impl<T> Drop for Guard<'_, T> {
    fn drop(&mut self) {
        HELD.set(HELD.get() - 1);
    }
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl Sealed for SingleThreaded {}

impl Primitives for SingleThreaded {
    type Mutex<T> = Mutex<T>;
    type Guard<'a, T: 'a> = Guard<'a, T>;
    type Condvar = ();
    type AtomicUsize = atomic::AtomicUsize;
    type AtomicU64 = atomic::AtomicU64;
    type Instant = u64;

    fn mutex<T>(value: T) -> Self::Mutex<T> {
        Mutex::new(value)
    }

    fn lock<T>(mutex: &Self::Mutex<T>) -> Self::Guard<'_, T> {
        let guard = mutex.try_lock().or_else(|error| match error {
            TryLockError::Poisoned(poisoned) => Ok(PoisonError::into_inner(poisoned)),
            TryLockError::WouldBlock => Err("the lock is taken twice"),
        });
        HELD.set(HELD.get() + 1);
        Guard(guard.unwrap())
    }

    fn condvar() -> Self::Condvar {}

    fn notify_all((): &Self::Condvar) {}

    fn wait<'a, T>((): &Self::Condvar, _: Self::Guard<'a, T>) -> Self::Guard<'a, T> {
        panic!("the thread would sleep")
    }

    fn wait_until<'a, T>((): &Self::Condvar, _: Self::Guard<'a, T>, _: u64) -> Self::Guard<'a, T> {
        panic!("the thread would sleep")
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
        atomic.load(order)
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
