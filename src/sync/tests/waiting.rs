//! Waiting for a session: who is woken, and when.

use super::*;

#[test]
fn an_installed_session_is_given_to_everyone_who_asks() {
    let slot = slot(1);
    let mut reader = slot.reader();
    let id = install(&slot, "a");
    assert_eq!(slot.peek(), Some("a"));
    assert_eq!(slot.wait_blocking(), Ok("a"));
    assert_eq!(poll_once(&mut slot.wait()), Poll::Ready(Ok("a")));
    assert_eq!(reader.session(), Some(&"a"));
    assert_eq!(slot.live(), [(id, "a")]);
    assert_eq!(slot.stopped(), None);
}

#[test]
fn an_install_wakes_futures_and_threads_alike() {
    let slot = slot(1);
    let (count, waker) = Count::new();
    let mut waits: Vec<_> = (0..3).map(|_| slot.wait()).collect();
    for wait in &mut waits {
        assert_eq!(poll(wait, &waker), Poll::Pending);
    }
    let threads: Vec<_> = (0..3).map(|_| blocked(&slot, Slot::wait_blocking)).collect();
    assert_eq!(slot.waiting(), 6);
    install(&slot, "a");
    assert_eq!(count.get(), 3);
    for wait in &mut waits {
        assert_eq!(poll(wait, &waker), Poll::Ready(Ok("a")));
    }
    for thread in threads {
        assert_eq!(thread.join().unwrap(), Ok("a"));
    }
    assert_eq!(slot.waiting(), 0);
}

#[test]
fn a_stop_frees_present_and_later_waiters_and_the_first_reason_wins() {
    let slot = slot(1);
    let (count, waker) = Count::new();
    let mut wait = slot.wait();
    assert_eq!(poll(&mut wait, &waker), Poll::Pending);
    let thread = blocked(&slot, Slot::wait_blocking);
    assert_eq!(slot.stop("first"), [] as [&str; 0]);
    assert_eq!(slot.stop("second"), [] as [&str; 0]);
    assert_eq!(count.get(), 1);
    assert_eq!(poll(&mut wait, &waker), Poll::Ready(Err("first")));
    assert_eq!(thread.join().unwrap(), Err("first"));
    assert_eq!(slot.wait_blocking(), Err("first"));
    assert_eq!(slot.wait_until(now()), Err(WaitUntilError::Stopped("first")));
    assert_eq!(poll_once(&mut slot.wait()), Poll::Ready(Err("first")));
    assert_eq!(slot.stopped(), Some("first"));
}

#[test]
fn a_stop_returns_every_session_once() {
    let slot = slot(3);
    install(&slot, "a");
    let b = install(&slot, "b");
    install(&slot, "c");
    slot.clear(b);
    assert_eq!(slot.stop("enough"), ["a", "c"]);
    assert_eq!(slot.stop("enough"), [] as [&str; 0]);
    assert_eq!((slot.peek(), slot.live()), (None, Vec::new()));
}

#[test]
fn a_clear_ends_no_wait() {
    let slot = slot(2);
    let (count, waker) = Count::new();
    let candidate = slot.reserve();
    let mut wait = slot.wait();
    assert_eq!(poll(&mut wait, &waker), Poll::Pending);
    assert_eq!(slot.clear(candidate.id()), None);
    assert_eq!((count.get(), slot.waiting()), (0, 1));
}

#[test]
fn a_deadline_ends_a_blocking_wait() {
    let slot = slot(1);
    assert_eq!(slot.wait_until(now()), Err(WaitUntilError::TimedOut));
    let deadline = now() + Duration::from_millis(20);
    assert_eq!(slot.wait_until(deadline), Err(WaitUntilError::TimedOut));
    assert!(now() >= deadline);
    assert_eq!(slot.waiting(), 0);
}

/// The standard library, except that each wait takes a second and ends spuriously.
#[derive(Clone, Copy, Debug)]
enum Restless {}

thread_local! {
    static SLEPT: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

impl crate::sync::primitives::sealed::Sealed for Restless {}

impl Primitives for Restless {
    type Mutex<T> = Mutex<T>;
    type Guard<'a, T: 'a> = MutexGuard<'a, T>;
    type Condvar = ();
    type AtomicUsize = AtomicUsize;
    type AtomicU64 = AtomicU64;
    type Instant = Instant;

    fn mutex<T>(value: T) -> Self::Mutex<T> {
        Std::mutex(value)
    }

    fn lock<T>(mutex: &Self::Mutex<T>) -> Self::Guard<'_, T> {
        Std::lock(mutex)
    }

    fn condvar() -> Self::Condvar {}

    fn notify_all((): &Self::Condvar) {}

    fn wait<'a, T>((): &Self::Condvar, guard: Self::Guard<'a, T>) -> Self::Guard<'a, T> {
        SLEPT.set(SLEPT.get() + Duration::from_secs(1));
        assert!(SLEPT.get() < Duration::from_secs(1000), "it waits without end");
        guard
    }

    fn wait_until<'a, T>(condvar: &Self::Condvar, guard: Self::Guard<'a, T>, _: Self::Instant) -> Self::Guard<'a, T> {
        Self::wait(condvar, guard)
    }

    fn atomic_usize(value: usize) -> Self::AtomicUsize {
        Std::atomic_usize(value)
    }

    fn load_usize(atomic: &Self::AtomicUsize, order: Ordering) -> usize {
        Std::load_usize(atomic, order)
    }

    fn atomic_u64(value: u64) -> Self::AtomicU64 {
        Std::atomic_u64(value)
    }

    fn load_u64(atomic: &Self::AtomicU64, order: Ordering) -> u64 {
        Std::load_u64(atomic, order)
    }

    fn store_u64(atomic: &Self::AtomicU64, value: u64, order: Ordering) {
        Std::store_u64(atomic, value, order);
    }

    fn swap_u64(atomic: &Self::AtomicU64, value: u64, order: Ordering) -> u64 {
        Std::swap_u64(atomic, value, order)
    }

    fn compare_exchange_u64(
        atomic: &Self::AtomicU64,
        current: u64,
        new: u64,
        success: Ordering,
        failure: Ordering,
    ) -> Result<u64, u64> {
        Std::compare_exchange_u64(atomic, current, new, success, failure)
    }

    fn fetch_or_u64(atomic: &Self::AtomicU64, bits: u64, order: Ordering) -> u64 {
        Std::fetch_or_u64(atomic, bits, order)
    }

    fn now() -> Self::Instant {
        static BEGUN: LazyLock<Instant> = LazyLock::new(now);
        *BEGUN + SLEPT.get()
    }
}

#[test]
fn wake_ups_in_vain_do_not_put_a_deadline_off() {
    let slot = Arc::new(SessionSlot::<&str, &str, Restless>::with_primitives(1));
    let begun = Restless::now();
    assert_eq!(slot.wait_until(begun + Duration::from_secs(5)), Err(WaitUntilError::TimedOut));
    assert_eq!(Restless::now() - begun, Duration::from_secs(5));
}

#[test]
fn a_deadline_that_is_over_still_gives_a_session_that_is_there() {
    let slot = slot(1);
    install(&slot, "a");
    assert_eq!(slot.wait_until(now().checked_sub(Duration::from_secs(1)).unwrap()), Ok("a"));
}

#[test]
fn a_wait_with_a_far_deadline_ends_with_an_install() {
    let slot = slot(1);
    let thread = blocked(&slot, |slot| slot.wait_until(now() + Duration::from_secs(3600)));
    install(&slot, "a");
    assert_eq!(thread.join().unwrap(), Ok("a"));
}

#[test]
fn a_late_drop_removes_no_other_registration() {
    let slot = slot(1);
    let (count, waker) = Count::new();
    let mut old = slot.wait();
    assert_eq!(poll_once(&mut old), Poll::Pending);
    let a = install(&slot, "a");
    slot.clear(a);
    let mut new = slot.wait();
    assert_eq!(poll(&mut new, &waker), Poll::Pending);
    drop(old);
    assert_eq!(slot.waiting(), 1);
    install(&slot, "b");
    assert_eq!(count.get(), 1);
}

#[test]
fn a_waiter_woken_for_a_session_that_is_gone_waits_on() {
    let slot = slot(1);
    let (count, waker) = Count::new();
    let mut wait = slot.wait();
    assert_eq!(poll(&mut wait, &waker), Poll::Pending);
    let a = install(&slot, "a");
    slot.clear(a);
    assert_eq!(poll(&mut wait, &waker), Poll::Pending);
    install(&slot, "b");
    assert_eq!(count.get(), 2);
    assert_eq!(poll(&mut wait, &waker), Poll::Ready(Ok("b")));
}

/// Looks at the slot whenever its code runs: a deadlock if that is under the lock.
struct Nosy(Arc<Slot>);

impl Wake for Nosy {
    fn wake(self: Arc<Self>) {
        self.0.waiting();
    }
}

impl Drop for Nosy {
    fn drop(&mut self) {
        self.0.waiting();
    }
}

#[test]
fn wakers_run_and_are_dropped_outside_the_lock() {
    let slot = slot(1);
    let nosy = || Waker::from(Arc::new(Nosy(Arc::clone(&slot))));
    let mut wait = slot.wait();
    assert_eq!(poll(&mut wait, &nosy()), Poll::Pending);
    assert_eq!(poll(&mut wait, &nosy()), Poll::Pending);
    drop(wait);
    let mut wait = slot.wait();
    assert_eq!(poll(&mut wait, &nosy()), Poll::Pending);
    install(&slot, "a");
    assert_eq!(poll(&mut wait, &nosy()), Poll::Ready(Ok("a")));
}

#[test]
fn close_under_lock() {
    #[derive(Clone)]
    struct Session(#[expect(dead_code, reason = "it is there to be dropped")] Arc<Looks>);
    struct Looks(std::sync::Weak<SessionSlot<Session, ()>>);
    impl Drop for Looks {
        fn drop(&mut self) {
            if let Some(slot) = self.0.upgrade() {
                slot.waiting();
            }
        }
    }
    let slot: Arc<SessionSlot<Session, ()>> = Arc::new(SessionSlot::new(1));
    let session = || Session(Arc::new(Looks(Arc::downgrade(&slot))));
    let mut first = slot.reserve();
    slot.install(&mut first, session(), Arc::default()).ok().unwrap();
    let _ = slot.install(&mut slot.reserve(), session(), Arc::default());
    let mut reader = slot.reader();
    reader.session();
    let mut second = slot.reserve();
    drop(slot.replace(first.id(), &mut second, session(), Arc::default()));
    reader.session();
    drop(slot.clear(second.id()));
    reader.session();
    slot.install(&mut slot.reserve(), session(), Arc::default()).ok().unwrap();
    drop(slot.stop(()));
    let _ = slot.install(&mut slot.reserve(), session(), Arc::default());
}

#[test]
fn wait_before_check() {
    let slot = slot(1);
    install(&slot, "a");
    assert_eq!(slot.wait_blocking(), Ok("a"));
    assert_eq!(poll_once(&mut slot.wait()), Poll::Ready(Ok("a")));
    assert_eq!(slot.waiting(), 0);
}

#[test]
fn cancelled_waiter_stays() {
    let slot = slot(1);
    let (count, waker) = Count::new();
    for _ in 0..1_000 {
        assert_eq!(poll(&mut slot.wait(), &waker), Poll::Pending);
    }
    let mut waits: Vec<_> = (0..1_000).map(|_| slot.wait()).collect();
    for wait in &mut waits {
        assert_eq!(poll(wait, &waker), Poll::Pending);
    }
    drop(waits);
    assert_eq!(slot.waiting(), 0);
    assert_eq!(Arc::strong_count(&count), 2, "the waker is the only clone left");
    install(&slot, "a");
    assert_eq!(count.get(), 0);
}

#[test]
fn stale_waker_after_repoll() {
    let slot = slot(1);
    let ((first, first_waker), (second, second_waker)) = (Count::new(), Count::new());
    let mut wait = slot.wait();
    assert_eq!(poll(&mut wait, &first_waker), Poll::Pending);
    assert_eq!(poll(&mut wait, &second_waker), Poll::Pending);
    assert_eq!(slot.waiting(), 1);
    install(&slot, "a");
    assert_eq!((first.get(), second.get()), (0, 1));
}

#[test]
fn waits_beside_a_live_place() {
    let slot = slot(2);
    let a = install(&slot, "a");
    install(&slot, "b");
    slot.clear(a);
    assert_eq!(slot.wait_blocking(), Ok("b"));
    assert_eq!(poll_once(&mut slot.wait()), Poll::Ready(Ok("b")));
    assert_eq!(slot.reader().session(), Some(&"b"));
}

#[test]
fn wake_panics() {
    let slot = slot(1);
    let (count, waker) = Count::new();
    let panics = Waker::from(Arc::new(Panics));
    let mut waits: Vec<_> = (0..5).map(|_| slot.wait()).collect();
    for (index, wait) in waits.iter_mut().enumerate() {
        assert_eq!(poll(wait, if index == 2 { &panics } else { &waker }), Poll::Pending);
    }
    let thread = blocked(&slot, Slot::wait_blocking);
    assert!(panic::catch_unwind(AssertUnwindSafe(|| install(&slot, "a"))).is_err());
    assert_eq!(count.get(), 4);
    assert_eq!(thread.join().unwrap(), Ok("a"));
    assert_eq!(slot.peek(), Some("a"));
}
