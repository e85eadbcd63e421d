//! What the core needs from a platform: a mutex, a condition variable, two atomics and a clock.

use std::{
    ops::DerefMut,
    sync::{self, PoisonError, atomic},
    time::Instant,
};

pub use std::sync::atomic::Ordering;

#[cfg(not(feature = "__internals"))]
use self::sealed::Sealed;
#[cfg(feature = "__internals")]
#[doc(hidden)]
pub use self::sealed::Sealed;

pub(super) mod sealed {
    /// An implementor must follow the core from version to version.
    pub trait Sealed {}
}

/// The platform under a [`SessionSlot`](super::SessionSlot).
///
/// Production uses [`Std`]. The checkers of evermux bring their own, and so run the very lines that production runs.
/// Sealed: it changes with what the core needs.
pub trait Primitives: Sealed + Sized + 'static {
    /// A mutual exclusion lock.
    type Mutex<T>;
    /// Holds a [`Mutex`](Self::Mutex) until it is dropped.
    type Guard<'a, T: 'a>: DerefMut<Target = T>;
    /// A condition variable.
    type Condvar;
    /// Counts the load of a place.
    type AtomicUsize;
    /// Counts the changes of a slot and the bytes of a stream, and holds states and flags.
    type AtomicU64;
    /// A moment of this platform's clock.
    type Instant: Copy + Ord;

    /// Makes a lock.
    fn mutex<T>(value: T) -> Self::Mutex<T>;
    /// Takes the lock. A poisoned lock is taken like any other (rule 10).
    fn lock<T>(mutex: &Self::Mutex<T>) -> Self::Guard<'_, T>;
    /// Makes a condition variable.
    fn condvar() -> Self::Condvar;
    /// Wakes every thread that waits on `condvar`.
    fn notify_all(condvar: &Self::Condvar);
    /// Gives up the lock, waits, and takes the lock again. May return without a notification.
    fn wait<'a, T>(condvar: &Self::Condvar, guard: Self::Guard<'a, T>) -> Self::Guard<'a, T>;
    /// As [`wait`](Self::wait), but also returns at `deadline`.
    fn wait_until<'a, T>(
        condvar: &Self::Condvar,
        guard: Self::Guard<'a, T>,
        deadline: Self::Instant,
    ) -> Self::Guard<'a, T>;
    /// Makes an atomic.
    fn atomic_usize(value: usize) -> Self::AtomicUsize;
    /// Loads an atomic.
    fn load_usize(atomic: &Self::AtomicUsize, order: Ordering) -> usize;
    /// Makes an atomic.
    fn atomic_u64(value: u64) -> Self::AtomicU64;
    /// Loads an atomic.
    fn load_u64(atomic: &Self::AtomicU64, order: Ordering) -> u64;
    /// Stores into an atomic.
    fn store_u64(atomic: &Self::AtomicU64, value: u64, order: Ordering);
    /// Stores into an atomic, and returns what was there.
    fn swap_u64(atomic: &Self::AtomicU64, value: u64, order: Ordering) -> u64;
    /// Stores `new` into an atomic if it is `current`. Returns what was there, as an error if it was something else.
    /// Never fails spuriously.
    fn compare_exchange_u64(
        atomic: &Self::AtomicU64,
        current: u64,
        new: u64,
        success: Ordering,
        failure: Ordering,
    ) -> Result<u64, u64>;
    /// Sets these bits of an atomic, and returns what was there.
    fn fetch_or_u64(atomic: &Self::AtomicU64, bits: u64, order: Ordering) -> u64;
    /// Reads the clock.
    fn now() -> Self::Instant;
}

/// The standard library: what production runs on.
#[derive(Clone, Copy, Debug)]
pub enum Std {}

impl Sealed for Std {}

impl Primitives for Std {
    type Mutex<T> = sync::Mutex<T>;
    type Guard<'a, T: 'a> = sync::MutexGuard<'a, T>;
    type Condvar = sync::Condvar;
    type AtomicUsize = atomic::AtomicUsize;
    type AtomicU64 = atomic::AtomicU64;
    type Instant = Instant;

    #[inline]
    fn mutex<T>(value: T) -> Self::Mutex<T> {
        sync::Mutex::new(value)
    }

    #[inline]
    fn lock<T>(mutex: &Self::Mutex<T>) -> Self::Guard<'_, T> {
        mutex.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[inline]
    fn condvar() -> Self::Condvar {
        sync::Condvar::new()
    }

    #[inline]
    fn notify_all(condvar: &Self::Condvar) {
        condvar.notify_all();
    }

    #[inline]
    fn wait<'a, T>(condvar: &Self::Condvar, guard: Self::Guard<'a, T>) -> Self::Guard<'a, T> {
        condvar.wait(guard).unwrap_or_else(PoisonError::into_inner)
    }

    #[inline]
    fn wait_until<'a, T>(
        condvar: &Self::Condvar,
        guard: Self::Guard<'a, T>,
        deadline: Self::Instant,
    ) -> Self::Guard<'a, T> {
        let left = deadline.saturating_duration_since(Self::now());
        condvar.wait_timeout(guard, left).unwrap_or_else(PoisonError::into_inner).0
    }

    #[inline]
    fn atomic_usize(value: usize) -> Self::AtomicUsize {
        atomic::AtomicUsize::new(value)
    }

    #[inline]
    fn load_usize(atomic: &Self::AtomicUsize, order: Ordering) -> usize {
        atomic.load(order)
    }

    #[inline]
    fn atomic_u64(value: u64) -> Self::AtomicU64 {
        atomic::AtomicU64::new(value)
    }

    #[inline]
    fn load_u64(atomic: &Self::AtomicU64, order: Ordering) -> u64 {
        atomic.load(order)
    }

    #[inline]
    fn store_u64(atomic: &Self::AtomicU64, value: u64, order: Ordering) {
        atomic.store(value, order);
    }

    #[inline]
    fn swap_u64(atomic: &Self::AtomicU64, value: u64, order: Ordering) -> u64 {
        atomic.swap(value, order)
    }

    #[inline]
    fn compare_exchange_u64(
        atomic: &Self::AtomicU64,
        current: u64,
        new: u64,
        success: Ordering,
        failure: Ordering,
    ) -> Result<u64, u64> {
        atomic.compare_exchange(current, new, success, failure)
    }

    #[inline]
    fn fetch_or_u64(atomic: &Self::AtomicU64, bits: u64, order: Ordering) -> u64 {
        atomic.fetch_or(bits, order)
    }

    #[inline]
    #[expect(clippy::disallowed_methods, reason = "this is the clock of Primitives")]
    fn now() -> Self::Instant {
        Instant::now()
    }
}
