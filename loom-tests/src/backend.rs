//! The platforms of the two checkers, and what both add to their primitives: which locks a thread holds, and how many
//! threads took part.

use std::{
    cell::Cell,
    marker::PhantomData,
    ops::{Deref, DerefMut},
};

use evermux::sync::Primitives;

pub use self::{loom::Loom, shuttle::Shuttle};
use crate::spurious::World;

mod loom;
mod shuttle;

/// What an execution has used.
#[derive(Clone, Copy, Default)]
pub(crate) struct Used {
    /// How many threads have used the core.
    pub(crate) threads: usize,
    /// Whether what is spurious was there.
    pub(crate) spurious: bool,
}

thread_local! {
    /// By this execution: a checker runs all of its threads on one of the system.
    static USED: Cell<Used> = const { Cell::new(Used { threads: 0, spurious: false }) };
}

/// What was used since the last call.
pub(crate) fn take_use() -> Used {
    USED.take()
}

/// Something spurious can happen.
pub(crate) fn uses_spurious() {
    USED.set(Used { spurious: true, ..USED.get() });
}

/// What a thread holds when it first uses the core.
fn nothing_held() -> Cell<usize> {
    let used = USED.get();
    USED.set(Used { threads: used.threads + 1, ..used });
    Cell::new(0)
}

/// A checker's platform.
pub trait Platform: Primitives {
    /// Passes how many guards this thread holds. The checker's threads share one thread of the system, so a thread
    /// local of std would be wrong.
    fn held<T>(with: impl FnOnce(&Cell<usize>) -> T) -> T;

    /// Passes what [`Spurious`](crate::Spurious) keeps of this execution.
    fn world<T>(with: impl FnOnce(&Self::Mutex<World<Self>>) -> T) -> T;
}

/// Checks that this thread holds no lock of the core (G7).
///
/// # Panics
///
/// If it does.
pub fn assert_unlocked<C: Platform>() {
    C::held(|held| assert_eq!(held.get(), 0, "foreign code runs under the lock"));
}

/// A checker's guard, counted for [`assert_unlocked`].
#[derive(Debug)]
pub struct Guard<G, C: Platform> {
    guard: Option<G>,
    checker: PhantomData<C>,
}

impl<G, C: Platform> Guard<G, C> {
    fn new(guard: G) -> Self {
        C::held(|held| held.set(held.get() + 1));
        Self { guard: Some(guard), checker: PhantomData }
    }

    fn into_inner(mut self) -> G {
        self.guard.take().expect("a guard is unwrapped once")
    }
}

impl<G, C: Platform> Drop for Guard<G, C> {
    fn drop(&mut self) {
        C::held(|held| held.set(held.get() - 1));
    }
}

impl<G: Deref, C: Platform> Deref for Guard<G, C> {
    type Target = G::Target;

    fn deref(&self) -> &G::Target {
        self.guard.as_ref().expect("a guard holds its lock")
    }
}

impl<G: DerefMut, C: Platform> DerefMut for Guard<G, C> {
    fn deref_mut(&mut self) -> &mut G::Target {
        self.guard.as_mut().expect("a guard holds its lock")
    }
}

/// Implements [`Primitives`] on a crate whose `sync` has the names of std's, for a platform whose clock stands still.
/// `relaxed` loads where the order is relaxed.
macro_rules! on {
    ($platform:ident, $sync:ident, relaxed: $relaxed:expr) => {
        impl evermux::sync::Sealed for $platform {}

        impl evermux::sync::Primitives for $platform {
            type Mutex<T> = $sync::Mutex<T>;
            type Guard<'a, T: 'a> = Guard<$sync::MutexGuard<'a, T>, Self>;
            type Condvar = $sync::Condvar;
            type AtomicUsize = $sync::atomic::AtomicUsize;
            type AtomicU64 = $sync::atomic::AtomicU64;
            type Instant = u64;

            fn mutex<T>(value: T) -> Self::Mutex<T> {
                $sync::Mutex::new(value)
            }

            fn lock<T>(mutex: &Self::Mutex<T>) -> Self::Guard<'_, T> {
                Guard::new(mutex.lock().unwrap_or_else(PoisonError::into_inner))
            }

            fn condvar() -> Self::Condvar {
                $sync::Condvar::new()
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
                $sync::atomic::AtomicUsize::new(value)
            }

            fn load_usize(atomic: &Self::AtomicUsize, order: Ordering) -> usize {
                Self::held(|_| atomic.load(order))
            }

            fn atomic_u64(value: u64) -> Self::AtomicU64 {
                $sync::atomic::AtomicU64::new(value)
            }

            fn load_u64(atomic: &Self::AtomicU64, order: Ordering) -> u64 {
                let relaxed: fn(&Self::AtomicU64) -> u64 = $relaxed;
                Self::held(|_| if order == Ordering::Relaxed { relaxed(atomic) } else { atomic.load(order) })
            }

            fn store_u64(atomic: &Self::AtomicU64, value: u64, order: Ordering) {
                Self::held(|_| atomic.store(value, order));
            }

            fn swap_u64(atomic: &Self::AtomicU64, value: u64, order: Ordering) -> u64 {
                Self::held(|_| atomic.swap(value, order))
            }

            fn compare_exchange_u64(
                atomic: &Self::AtomicU64,
                current: u64,
                new: u64,
                success: Ordering,
                failure: Ordering,
            ) -> Result<u64, u64> {
                Self::held(|_| atomic.compare_exchange(current, new, success, failure))
            }

            fn fetch_or_u64(atomic: &Self::AtomicU64, bits: u64, order: Ordering) -> u64 {
                Self::held(|_| atomic.fetch_or(bits, order))
            }

            fn now() -> Self::Instant {
                0
            }
        }
    };
}
use on;
