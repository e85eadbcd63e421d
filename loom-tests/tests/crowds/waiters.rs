//! G1 G2 G4 G9: who waits for a session, beside all that comes and goes.

use std::{
    pin::pin,
    sync::Arc,
    task::{Context, Waker},
};

use evermux::sync::WaitUntilError;
use loom_tests::{
    Checked, Shuttle, Spurious, advance_to, install, load, sample, slot, try_install, wake_for_no_reason,
};
use shuttle::{
    future::block_on,
    thread::{self, JoinHandle},
};

use super::{Slot, each, join};

type Outcome = Result<u32, &'static str>;

/// As many threads and tasks that wait.
fn waiters(slot: &Arc<Slot>, threads: u32, tasks: u32) -> Vec<JoinHandle<Outcome>> {
    let (blocking, waiting) = (Arc::clone(slot), Arc::clone(slot));
    let mut all = each(threads, move |_| blocking.wait_blocking());
    all.extend(each(tasks, move |_| block_on(waiting.wait())));
    all
}

/// G1 G2: a session comes, is replaced, dies, and another comes. Whoever misses one is given the next.
#[test]
fn every_waiter_is_freed_while_sessions_come_and_go() {
    sample("every_waiter_is_freed_while_sessions_come_and_go", || {
        let slot = slot::<Shuttle>(1);
        let waiters = waiters(&slot, 3, 3);
        let first = install(&slot, 1);
        let mut second = slot.reserve();
        assert_eq!(slot.replace(first, &mut second, 2, load::<Shuttle>()), Ok(1));
        assert_eq!(slot.clear(second.id()), Some(2));
        install(&slot, 3);
        for outcome in join(waiters) {
            assert!(matches!(outcome, Ok(1..=3)), "{outcome:?}");
        }
        assert_eq!(slot.waiting(), 0);
    });
}

/// G1 G4: the same beside a stop, by a thread of its own: everybody is given a session or the reason.
#[test]
fn waiters_between_sessions_and_a_stop() {
    sample("waiters_between_sessions_and_a_stop", || {
        let slot = slot::<Shuttle>(2);
        let waiters = waiters(&slot, 2, 2);
        let providers = each(2, {
            let slot = Arc::clone(&slot);
            move |number| {
                let mut reservation = slot.reserve();
                if slot.install(&mut reservation, number, load::<Shuttle>()).is_ok() {
                    let cleared = slot.clear(reservation.id());
                    assert!(matches!(cleared, None | Some(0 | 1)));
                }
                try_install(&slot, 2 + number).is_ok()
            }
        });
        let stops = thread::spawn({
            let slot = Arc::clone(&slot);
            move || slot.stop("shut down").len()
        });
        let live = join(providers).into_iter().filter(|installed| *installed).count();
        let returned = stops.join().unwrap();
        assert!(returned >= live, "{returned} sessions were returned, and {live} were never cleared");
        for outcome in join(waiters) {
            assert!(matches!(outcome, Ok(0..=3) | Err("shut down")), "{outcome:?}");
        }
        assert_eq!((slot.wait_blocking(), slot.waiting()), (Err("shut down"), 0));
    });
}

/// G9: futures that are dropped while they wait, or while they are woken, take nothing along, and leave nothing.
#[test]
fn those_who_leave_take_nothing_from_those_who_stay() {
    sample("those_who_leave_take_nothing_from_those_who_stay", || {
        let slot = slot::<Shuttle>(1);
        let leave = each(3, {
            let slot = Arc::clone(&slot);
            move |_| {
                let waker = Checked::<Shuttle>::waker(Waker::noop());
                let _ = pin!(slot.wait()).as_mut().poll(&mut Context::from_waker(&waker));
            }
        });
        let stay = waiters(&slot, 1, 2);
        let first = install(&slot, 1);
        assert_eq!(slot.clear(first), Some(1));
        join(leave);
        // Who stays may be registered still, and nobody else is.
        assert!(slot.waiting() <= 3, "{}", slot.waiting());
        let second = install(&slot, 2);
        assert!(join(stay).into_iter().all(|outcome| matches!(outcome, Ok(1 | 2))));
        assert_eq!(slot.clear(second), Some(2));
        assert_eq!(slot.waiting(), 0);
    });
}

/// G1 G9: threads with and without a deadline, a clock, and wake-ups for no reason.
#[test]
fn disturbed_waits_end_as_they_should() {
    sample("disturbed_waits_end_as_they_should", || {
        let slot = slot::<Spurious<Shuttle>>(1);
        let patient = each(2, {
            let slot = Arc::clone(&slot);
            move |_| slot.wait_blocking()
        });
        let hasty = each(2, {
            let slot = Arc::clone(&slot);
            move |number| slot.wait_until(u64::from(number) + 1)
        });
        let clock = thread::spawn(|| {
            advance_to::<Shuttle>(1);
            advance_to::<Shuttle>(2);
        });
        let disturber = thread::spawn(|| {
            wake_for_no_reason::<Shuttle>();
            wake_for_no_reason::<Shuttle>();
        });
        let first = install(&slot, 1);
        assert_eq!(slot.clear(first), Some(1));
        install(&slot, 2);
        assert!(join(patient).into_iter().all(|outcome| matches!(outcome, Ok(1 | 2))));
        for outcome in join(hasty) {
            assert!(matches!(outcome, Ok(1 | 2) | Err(WaitUntilError::TimedOut)), "{outcome:?}");
        }
        clock.join().unwrap();
        disturber.join().unwrap();
        assert_eq!((slot.wait_until(1), slot.waiting()), (Ok(2), 0));
    });
}
