use std::{
    cell::Cell,
    panic::{self, AssertUnwindSafe},
    pin::pin,
    sync::{
        Arc, LazyLock, Mutex, MutexGuard,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    thread,
    time::{Duration, Instant},
};

use super::{
    Claim, ClearHook, Ending, Ends, Hold, Primitives, Refused, SessionEnd, SessionId, SessionSlot, SlotReader, Std,
    StopGuard, Turns, WaitUntilError,
};

mod arrivals;

type Slot = SessionSlot<&'static str, &'static str>;

fn slot(places: usize) -> Arc<Slot> {
    Arc::new(SessionSlot::new(places))
}

fn install(slot: &Arc<Slot>, session: &'static str) -> SessionId {
    install_with(slot, session, &Arc::default())
}

fn install_with(slot: &Arc<Slot>, session: &'static str, load: &Arc<AtomicUsize>) -> SessionId {
    let mut reservation = slot.reserve();
    slot.install(&mut reservation, session, Arc::clone(load)).unwrap();
    reservation.id()
}

#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Count {
    fn new() -> (Arc<Self>, Waker) {
        let count = Arc::new(Self::default());
        (Arc::clone(&count), Waker::from(count))
    }

    fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

struct Panics;

impl Wake for Panics {
    fn wake(self: Arc<Self>) {
        panic!("this waker panics");
    }
}

fn poll<F: Future + Unpin>(future: &mut F, waker: &Waker) -> Poll<F::Output> {
    pin!(future).poll(&mut Context::from_waker(waker))
}

fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    poll(future, Waker::noop())
}

#[expect(clippy::disallowed_methods, reason = "these threads wait by the real clock")]
fn now() -> Instant {
    Instant::now()
}

/// Blocks a thread in the slot, and returns once it waits.
fn blocked<T: Send + 'static>(
    slot: &Arc<Slot>,
    wait: impl FnOnce(&Slot) -> T + Send + 'static,
) -> thread::JoinHandle<T> {
    let before = slot.waiting();
    let thread = thread::spawn({
        let slot = Arc::clone(slot);
        move || wait(&slot)
    });
    while slot.waiting() == before {
        thread::yield_now();
    }
    thread
}

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

/// The standard library, but that each wait takes a second, and ends for no reason.
#[derive(Clone, Copy, Debug)]
enum Restless {}

thread_local! {
    static SLEPT: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

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
fn a_full_slot_hands_the_newcomer_back_and_the_reservation_stays_good() {
    let slot = slot(1);
    let a = install(&slot, "a");
    let mut reservation = slot.reserve();
    assert_eq!(slot.install(&mut reservation, "b", Arc::default()), Err(Refused::Full("b")));
    slot.clear(a);
    assert_eq!(slot.install(&mut reservation, "b", Arc::default()), Ok(()));
    assert_eq!(slot.peek(), Some("b"));
    drop(reservation);
    assert_eq!(slot.peek(), Some("b"), "a used reservation does nothing when dropped");
}

#[test]
fn a_reservation_is_good_for_one_session() {
    let slot = slot(2);
    let mut reservation = slot.reserve();
    slot.install(&mut reservation, "a", Arc::default()).unwrap();
    assert_eq!(slot.install(&mut reservation, "b", Arc::default()), Err(Refused::Dead("b")));
}

#[test]
fn a_dropped_reservation_is_forgotten_also_after_a_stop() {
    let slot = slot(1);
    let first = slot.reserve();
    slot.stop("enough");
    let second = slot.reserve();
    assert_ne!(first.id(), second.id());
    assert_eq!(slot.reserved(), 2);
    drop((first, second));
    assert_eq!(slot.reserved(), 0);
}

#[test]
#[should_panic(expected = "in the slot that made it")]
fn a_reservation_of_another_slot_is_refused_by_a_panic() {
    let (slot, other) = (slot(1), self::slot(1));
    let _ = slot.install(&mut other.reserve(), "a", Arc::default());
}

#[test]
#[should_panic(expected = "at least one place")]
fn a_slot_without_places_is_refused_by_a_panic() {
    let _ = slot(0);
}

#[test]
fn no_id_is_given_out_twice() {
    let slot = slot(1);
    let mut seen = vec![SessionId::STANDALONE];
    for _ in 0..100 {
        let id = slot.reserve().id();
        assert!(!seen.contains(&id));
        seen.push(id);
    }
}

#[test]
fn a_replace_puts_the_new_session_in_the_place_of_the_old_one() {
    let slot = slot(1);
    let a = install(&slot, "a");
    let mut reservation = slot.reserve();
    assert_eq!(slot.replace(a, &mut reservation, "b", Arc::default()), Ok("a"));
    assert_eq!(slot.live(), [(reservation.id(), "b")]);
}

#[test]
fn a_replace_of_a_session_that_is_gone_says_whether_a_place_is_free() {
    let slot = slot(2);
    let a = install(&slot, "a");
    install(&slot, "b");
    slot.clear(a);
    let mut reservation = slot.reserve();
    assert_eq!(slot.replace(a, &mut reservation, "c", Arc::default()), Err(Refused::Gone("c")));
    install(&slot, "d");
    assert_eq!(slot.replace(a, &mut reservation, "c", Arc::default()), Err(Refused::Full("c")));
    slot.stop("enough");
    assert_eq!(slot.replace(a, &mut reservation, "c", Arc::default()), Err(Refused::Stopped("c", "enough")));
}

#[test]
fn the_least_loaded_session_is_given_out_and_ties_go_around() {
    let slot = slot(3);
    let loads: Vec<Arc<AtomicUsize>> = (0..3).map(|_| Arc::default()).collect();
    for (session, load) in ["a", "b", "c"].into_iter().zip(&loads) {
        install_with(&slot, session, load);
    }
    let next = || slot.peek().unwrap();
    assert_eq!([next(), next(), next(), next()], ["a", "b", "c", "a"]);
    loads[1].store(5, Ordering::Relaxed);
    assert_eq!([next(), next(), next()], ["c", "a", "c"]);
    loads[0].store(7, Ordering::Relaxed);
    loads[2].store(6, Ordering::Relaxed);
    assert_eq!([next(), next()], ["b", "b"]);
}

#[test]
fn a_reader_keeps_its_session_while_it_is_in_the_slot() {
    let slot = slot(2);
    let load = Arc::default();
    let a = install_with(&slot, "a", &load);
    let mut reader = slot.reader();
    assert_eq!(reader.session(), Some(&"a"));
    load.store(9, Ordering::Relaxed);
    let b = install(&slot, "b");
    assert_eq!(reader.session(), Some(&"a"));
    slot.clear(a);
    assert_eq!(reader.session(), Some(&"b"));
    slot.clear(b);
    assert_eq!(reader.session(), None);
}

#[test]
fn a_reader_of_an_unchanged_slot_takes_no_lock() {
    let slot = slot(1);
    install(&slot, "a");
    let mut reader = slot.reader();
    reader.session();
    let _held = slot.state.lock().unwrap();
    assert_eq!(reader.session(), Some(&"a"));
}

#[test]
fn a_reader_of_a_stopped_slot_holds_nothing() {
    let slot: Arc<SessionSlot<Arc<()>, ()>> = Arc::new(SessionSlot::new(1));
    let session = Arc::new(());
    slot.install(&mut slot.reserve(), Arc::clone(&session), Arc::default()).unwrap();
    let mut reader = slot.reader();
    assert!(reader.session().is_some());
    drop(slot.stop(()));
    assert!(reader.session().is_none());
    assert_eq!(Arc::strong_count(&session), 1);
}

#[test]
fn a_poisoned_lock_is_entered() {
    struct Bomb(Arc<AtomicUsize>);
    impl Clone for Bomb {
        fn clone(&self) -> Self {
            assert_ne!(self.0.load(Ordering::Relaxed), 1, "this clone panics");
            Self(Arc::clone(&self.0))
        }
    }
    let slot: Arc<SessionSlot<Bomb, ()>> = Arc::new(SessionSlot::new(1));
    let fuse = Arc::new(AtomicUsize::new(1));
    slot.install(&mut slot.reserve(), Bomb(Arc::clone(&fuse)), Arc::default()).ok().unwrap();
    assert!(panic::catch_unwind(AssertUnwindSafe(|| slot.peek())).is_err());
    fuse.store(0, Ordering::Relaxed);
    assert!(slot.peek().is_some());
    assert_eq!(slot.stop(()).len(), 1);
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

#[test]
fn install_after_shutdown() {
    let slot = slot(1);
    let mut early = slot.reserve();
    slot.stop("shut down");
    let mut late = slot.reserve();
    assert_eq!(slot.install(&mut early, "a", Arc::default()), Err(Refused::Stopped("a", "shut down")));
    assert_eq!(slot.install(&mut late, "b", Arc::default()), Err(Refused::Stopped("b", "shut down")));
    assert_eq!(slot.live(), []);
}

#[test]
fn dies_before_install() {
    let slot = slot(1);
    let mut reservation = slot.reserve();
    assert_eq!(slot.clear(reservation.id()), None);
    assert_eq!(slot.install(&mut reservation, "a", Arc::default()), Err(Refused::Dead("a")));
    assert_eq!(slot.peek(), None);
}

#[test]
fn replace_into_empty_slot() {
    let slot = slot(1);
    let mut reservation = slot.reserve();
    for nothing in [SessionId::STANDALONE, slot.reserve().id(), reservation.id()] {
        assert_eq!(slot.replace(nothing, &mut reservation, "a", Arc::default()), Err(Refused::Gone("a")));
    }
    assert_eq!(slot.install(&mut reservation, "a", Arc::default()), Ok(()));
}

#[test]
fn late_clear_erases_newer() {
    let slot = slot(1);
    let a = install(&slot, "a");
    assert_eq!(slot.clear(a), Some("a"));
    install(&slot, "b");
    assert_eq!(slot.clear(a), None);
    assert_eq!(slot.peek(), Some("b"));
}

#[test]
fn replace_same_session() {
    let slot = slot(1);
    let mut reservation = slot.reserve();
    slot.install(&mut reservation, "a", Arc::default()).unwrap();
    // The session's own reservation is used up, and a fresh one never has its id: there is no way to name both.
    assert_eq!(slot.replace(reservation.id(), &mut reservation, "a", Arc::default()), Err(Refused::Dead("a")));
    assert_ne!(slot.reserve().id(), reservation.id());
    assert_eq!(slot.live(), [(reservation.id(), "a")]);
}

#[test]
fn closed_session_stays_peekable() {
    let slot = slot(1);
    let mut reservation = slot.reserve();
    let hook: ClearHook<_, _> = reservation.clear_hook();
    slot.install(&mut reservation, "a", Arc::default()).unwrap();
    let mut reader: SlotReader<_, _> = slot.reader();
    assert_eq!(reader.session(), Some(&"a"));
    hook.clear();
    hook.clear();
    assert_eq!((slot.peek(), reader.session()), (None, None));
}

#[test]
fn double_close() {
    let slot = slot(1);
    let a = install(&slot, "a");
    let (mut first, mut second) = (slot.reserve(), slot.reserve());
    assert_eq!(slot.replace(a, &mut first, "b", Arc::default()), Ok("a"));
    assert_eq!(slot.replace(a, &mut second, "c", Arc::default()), Err(Refused::Full("c")));
    assert_eq!(slot.clear(a), None);
}

#[test]
fn load_outlives_its_session() {
    let slot = slot(2);
    let (dead, heir, other) = (Arc::new(AtomicUsize::new(1)), Arc::new(AtomicUsize::new(1)), Arc::default());
    let a = install_with(&slot, "a", &dead);
    install_with(&slot, "b", &other);
    slot.clear(a);
    install_with(&slot, "c", &heir);
    dead.fetch_sub(1, Ordering::Relaxed);
    assert_eq!(heir.load(Ordering::Relaxed), 1);
    assert_eq!([slot.peek(), slot.peek()], [Some("b"), Some("b")]);
}

#[test]
fn a_hook_does_not_keep_the_slot() {
    let slot = slot(1);
    let hook = slot.reserve().clear_hook();
    drop(slot);
    hook.clear();
}

/// Notes each step, and panics in one of them.
struct Steps {
    done: Arc<Mutex<Vec<String>>>,
    panics_in: Option<&'static str>,
}

impl Steps {
    fn note(&self, step: &str, reason: Option<&str>) {
        self.done.lock().unwrap().push([Some(step), reason].into_iter().flatten().collect::<Vec<_>>().join(" "));
        assert_ne!(self.panics_in, Some(step), "this step panics");
    }
}

impl Ending for Steps {
    type Reason = &'static str;

    fn clear(&mut self) {
        self.note("clear", None);
    }

    fn publish(&mut self, reason: &Self::Reason) {
        self.note("publish", Some(reason));
    }

    fn report(&mut self, reason: &Self::Reason) {
        self.note("report", Some(reason));
    }

    fn abandoned(&mut self) -> Self::Reason {
        if thread::panicking() { "panicked" } else { "aborted" }
    }
}

fn steps(panics_in: Option<&'static str>) -> (Arc<Mutex<Vec<String>>>, SessionEnd<Steps>) {
    let done = Arc::default();
    (Arc::clone(&done), SessionEnd::new(Steps { done, panics_in }))
}

#[test]
fn a_session_ends_in_the_order_clear_publish_report() {
    let (done, guard) = steps(None);
    guard.end(&"lost");
    assert_eq!(*done.lock().unwrap(), ["clear", "publish lost", "report lost"]);
}

#[test]
fn a_session_whose_driver_is_dropped_or_panics_ends_in_the_same_order() {
    let (done, guard) = steps(None);
    drop(guard);
    assert_eq!(*done.lock().unwrap(), ["clear", "publish aborted", "report aborted"]);
    let (done, guard) = steps(None);
    let driver = thread::spawn(move || {
        let _guard = guard;
        panic!("the driver panics");
    });
    assert!(driver.join().is_err());
    assert_eq!(*done.lock().unwrap(), ["clear", "publish panicked", "report panicked"]);
}

#[test]
fn a_panic_in_one_step_of_the_end_skips_none_of_the_others() {
    for step in ["clear", "publish", "report"] {
        let (done, guard) = steps(Some(step));
        assert!(panic::catch_unwind(AssertUnwindSafe(|| guard.end(&"lost"))).is_err());
        assert_eq!(*done.lock().unwrap(), ["clear", "publish lost", "report lost"], "{step} panicked");
    }
}

#[test]
fn a_stop_guard_stops_the_slot_and_ends_each_session_outside_the_lock() {
    let slot = slot(2);
    install(&slot, "a");
    install(&slot, "b");
    let ended = Mutex::new(Vec::new());
    let mut guard = StopGuard::new(Arc::clone(&slot), "aborted", |session| {
        assert_eq!(slot.peek(), None);
        ended.lock().unwrap().push(session);
    });
    guard.set_reason("exhausted");
    drop(guard);
    assert_eq!(*ended.lock().unwrap(), ["a", "b"]);
    assert_eq!(slot.stopped(), Some("exhausted"));
}

#[test]
fn a_disarmed_stop_guard_does_nothing() {
    let slot = slot(1);
    install(&slot, "a");
    StopGuard::new(Arc::clone(&slot), "aborted", |_| unreachable!()).disarm();
    assert_eq!((slot.stopped(), slot.peek()), (None, Some("a")));
}

#[test]
fn provider_death_hangs_callers() {
    let slot = slot(1);
    let thread = blocked(&slot, Slot::wait_blocking);
    let guard = StopGuard::new(Arc::clone(&slot), "aborted", |_| {}).on_panic("panicked");
    let provider = thread::spawn(move || {
        let _guard = guard;
        panic!("the provider panics");
    });
    assert!(provider.join().is_err());
    assert_eq!(thread.join().unwrap(), Err("panicked"));
}

#[test]
fn a_panic_while_a_provider_ends_leaves_no_session_running() {
    let slot = slot(3);
    for session in ["a", "b", "c"] {
        install(&slot, session);
    }
    let ended = Mutex::new(Vec::new());
    let guard = StopGuard::new(Arc::clone(&slot), "aborted", |session| {
        ended.lock().unwrap().push(session);
        assert_ne!(session, "a", "ending this one panics");
    });
    assert!(panic::catch_unwind(AssertUnwindSafe(|| drop(guard))).is_err());
    assert_eq!(*ended.lock().unwrap_or_else(std::sync::PoisonError::into_inner), ["a", "b", "c"]);
}

#[test]
fn a_wake_up_during_a_turn_is_another_turn() {
    let (task, waker) = Count::new();
    let (mut turns, mut count) = (Turns::new(), 0);
    let polled = turns.poll(
        &mut Context::from_waker(&waker),
        || true,
        |cx| {
            count += 1;
            if count < 5 {
                cx.waker().wake_by_ref();
            }
            Poll::<()>::Pending
        },
    );
    assert!(polled.is_pending());
    assert_eq!((count, task.get()), (5, 0));
}

/// Polls what wakes itself in every turn, and says how many turns there were.
fn turns_without_end(turns: &mut Turns, waker: &Waker, may_go_on: bool) -> usize {
    let mut count = 0;
    let polled = turns.poll(
        &mut Context::from_waker(waker),
        || may_go_on,
        |cx| {
            count += 1;
            cx.waker().wake_by_ref();
            Poll::<()>::Pending
        },
    );
    assert!(polled.is_pending());
    count
}

#[test]
fn turns_without_end_let_the_scheduler_in() {
    let (task, waker) = Count::new();
    let mut turns = Turns::new();
    assert_eq!((turns_without_end(&mut turns, &waker, true), task.get()), (32, 1));
    assert_eq!((turns_without_end(&mut turns, &waker, false), task.get()), (1, 2));
}

#[test]
fn a_wake_up_between_polls_reaches_the_task_that_polled_last() {
    let ((first, first_waker), (second, second_waker)) = (Count::new(), Count::new());
    let mut turns = Turns::new();
    let mut kept = Waker::noop().clone();
    for waker in [&first_waker, &second_waker] {
        let polled = turns.poll(
            &mut Context::from_waker(waker),
            || true,
            |cx| {
                kept = cx.waker().clone();
                Poll::<()>::Pending
            },
        );
        assert!(polled.is_pending());
    }
    kept.wake_by_ref();
    kept.wake();
    assert_eq!((first.get(), second.get()), (0, 1));
}

/// Notes its drop, and looks into the hold that it is dropped by: that must not be locked.
struct Note(Arc<Hold<Self>>, Arc<AtomicUsize>);

impl Drop for Note {
    fn drop(&mut self) {
        assert!(self.0.take().is_none());
        self.1.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn what_is_no_longer_held_is_dropped_at_once_and_outside_the_lock() {
    let (hold, dropped) = (Arc::new(Hold::new()), Arc::new(AtomicUsize::new(0)));
    let note = || Note(Arc::clone(&hold), Arc::clone(&dropped));
    let count = || dropped.load(Ordering::Relaxed);
    hold.put(note());
    let permit = hold.take();
    assert!(permit.is_some() && hold.take().is_none());
    assert_eq!(count(), 0);
    drop(permit);
    hold.put(note());
    hold.leave();
    assert_eq!(count(), 2, "the end");
    hold.put(note());
    assert_eq!(count(), 3, "put after the end");
    hold.put(note());
    assert_eq!(count(), 4, "a take does not undo the end");
}

#[test]
fn what_is_put_takes_the_place_of_what_was_held() {
    let (hold, first, second) = (Hold::new(), Arc::new(1), Arc::new(2));
    hold.put(Arc::clone(&first));
    hold.put(Arc::clone(&second));
    assert_eq!(Arc::strong_count(&first), 1);
    assert_eq!(hold.take(), Some(second));
}

type Candidate = Claim<&'static str, &'static str, Arc<()>>;

/// A candidate, and what counts the permits that are held, this one not.
fn candidate(slot: &Arc<Slot>) -> (Candidate, Arc<()>) {
    (Claim::new(slot), Arc::new(()))
}

#[test]
fn a_session_holds_its_permit_until_it_has_left() {
    let slot = slot(1);
    let (mut claim, permit) = candidate(&slot);
    claim.install(Arc::clone(&permit), "a", Arc::default()).unwrap();
    assert_eq!(Arc::strong_count(&permit), 2);
    let departure = claim.departure();
    drop(claim);
    assert_eq!((slot.peek(), Arc::strong_count(&permit)), (Some("a"), 2));
    departure.leave();
    assert_eq!((slot.peek(), Arc::strong_count(&permit)), (None, 1));
}

#[test]
fn a_session_that_is_refused_keeps_no_permit() {
    let slot = slot(1);
    let (mut dead, permit) = candidate(&slot);
    dead.departure().leave();
    assert_eq!(dead.install(Arc::clone(&permit), "a", Arc::default()), Err(Refused::Dead("a")));
    let (mut late, _) = candidate(&slot);
    slot.stop("shut down");
    assert_eq!(late.install(Arc::clone(&permit), "b", Arc::default()), Err(Refused::Stopped("b", "shut down")));
    assert_eq!(Arc::strong_count(&permit), 1);
}

#[test]
fn a_session_that_is_replaced_gives_its_permit_to_its_heir() {
    let slot = slot(1);
    let ((mut ghost, permit), (mut heir, _), (mut late, _)) = (candidate(&slot), candidate(&slot), candidate(&slot));
    ghost.install(Arc::clone(&permit), "a ghost", Arc::default()).unwrap();
    assert_eq!(heir.replace((ghost.id(), ghost.hold()), "its heir", Arc::default()), Ok(Some("a ghost")));
    ghost.departure().leave();
    assert_eq!((slot.peek(), Arc::strong_count(&permit)), (Some("its heir"), 2));
    assert_eq!(late.replace((ghost.id(), ghost.hold()), "late", Arc::default()), Err(Refused::Full("late")));
    heir.departure().leave();
    assert_eq!((slot.peek(), Arc::strong_count(&permit)), (None, 1));
}

#[test]
fn a_session_whose_heir_is_refused_keeps_its_permit() {
    let slot = slot(1);
    let ((mut ghost, permit), (mut dead, _), (mut late, _)) = (candidate(&slot), candidate(&slot), candidate(&slot));
    ghost.install(Arc::clone(&permit), "a ghost", Arc::default()).unwrap();
    dead.departure().leave();
    assert_eq!(dead.replace((ghost.id(), ghost.hold()), "dead", Arc::default()), Err(Refused::Dead("dead")));
    assert_eq!((slot.peek(), Arc::strong_count(&permit)), (Some("a ghost"), 2));
    slot.stop("shut down");
    let refused = late.replace((ghost.id(), ghost.hold()), "late", Arc::default());
    assert_eq!(refused, Err(Refused::Stopped("late", "shut down")));
    assert!(ghost.hold().take().is_some());
}

#[test]
fn a_session_that_left_while_its_permit_was_taken_has_left_a_free_place() {
    let slot = slot(1);
    let ((mut ghost, permit), (mut heir, _)) = (candidate(&slot), candidate(&slot));
    ghost.install(Arc::clone(&permit), "a ghost", Arc::default()).unwrap();
    // Its permit is out of its hold until the replace is over, so that its end in between comes to this.
    slot.clear(ghost.id());
    assert_eq!(heir.replace((ghost.id(), ghost.hold()), "its heir", Arc::default()), Ok(None));
    ghost.departure().leave();
    assert_eq!((slot.peek(), Arc::strong_count(&permit)), (Some("its heir"), 2));
}

#[test]
#[should_panic(expected = "a permit stands for a free place")]
fn more_permits_than_places_are_a_mistake() {
    let slot = slot(1);
    install(&slot, "a");
    let (mut claim, permit) = candidate(&slot);
    let _ = claim.install(permit, "b", Arc::default());
}

#[test]
fn the_end_of_a_stream_comes_with_all_of_its_bytes() {
    let ends = Ends::new();
    ends.carry(3);
    assert_eq!((ends.finished_at(), ends.carried(), ends.read()), (None, 3, 0));
    ends.set_read(3);
    ends.finish(2);
    assert_eq!((ends.finished_at(), ends.carried(), ends.read()), (Some(5), 5, 3));
    ends.set_read(5);
    assert_eq!(ends.read(), 5);
    assert!(!ends.is_refused());
    ends.set_refused();
    assert!(ends.is_refused() && !ends.is_reset());
}
