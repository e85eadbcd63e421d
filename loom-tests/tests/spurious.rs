//! Threads that wake without a reason, and deadlines that pass (G1).

use std::sync::Arc;

use evermux::sync::WaitUntilError;
use loom::thread;
use loom_tests::{
    Loom, Preemptions::AtMost, Preemptions::Unbounded, Slot, Spurious, advance_to, explore, load, slot,
    wake_for_no_reason,
};

type Platform = Spurious<Loom>;

fn install(slot: &Arc<Slot<Platform>>, session: u32) {
    slot.install(&mut slot.reserve(), session, load::<Platform>()).unwrap();
}

fn installs(slot: &Arc<Slot<Platform>>) -> thread::JoinHandle<()> {
    let slot = Arc::clone(slot);
    thread::spawn(move || install(&slot, 1))
}

/// G3: a thread that wakes for no reason looks again.
#[test]
fn if_instead_of_while() {
    explore("if_instead_of_while", Unbounded, 9_000, || {
        let slot = slot::<Platform>(1);
        let provider = installs(&slot);
        let disturber = thread::spawn(wake_for_no_reason::<Loom>);
        assert_eq!(slot.wait_blocking(), Ok(1));
        provider.join().unwrap();
        disturber.join().unwrap();
        assert_eq!(slot.waiting(), 0);
    });
}

/// The same with two threads, and a stop in place of the install.
#[test]
fn if_instead_of_while_with_two_threads() {
    explore("if_instead_of_while_with_two_threads", AtMost(3), 30_000, || {
        let slot = slot::<Platform>(1);
        let other = thread::spawn({
            let slot = Arc::clone(&slot);
            move || slot.wait_blocking()
        });
        let stopper = thread::spawn({
            let slot = Arc::clone(&slot);
            move || drop(slot.stop("shut down"))
        });
        let disturber = thread::spawn(wake_for_no_reason::<Loom>);
        assert_eq!(slot.wait_blocking(), Err("shut down"));
        assert_eq!(other.join().unwrap(), Err("shut down"));
        stopper.join().unwrap();
        disturber.join().unwrap();
    });
}

/// G1: the session came before the deadline, so it is returned, however late the thread wakes.
#[test]
fn timeout_eats_wakeup() {
    explore("timeout_eats_wakeup", Unbounded, 10, || {
        let slot = slot::<Platform>(1);
        let provider = thread::spawn({
            let slot = Arc::clone(&slot);
            move || {
                install(&slot, 1);
                advance_to::<Loom>(1);
            }
        });
        assert_eq!(slot.wait_until(1), Ok(1));
        provider.join().unwrap();
    });
}

/// A deadline ends the wait, and leaves nobody counted as waiting.
#[test]
fn a_deadline_ends_a_wait_that_was_disturbed() {
    explore("a_deadline_ends_a_wait_that_was_disturbed", Unbounded, 2_000, || {
        let slot = slot::<Platform>(1);
        let clock = thread::spawn(|| advance_to::<Loom>(1));
        let disturber = thread::spawn(wake_for_no_reason::<Loom>);
        assert_eq!(slot.wait_until(1), Err(WaitUntilError::TimedOut));
        clock.join().unwrap();
        disturber.join().unwrap();
        assert_eq!(slot.waiting(), 0);
    });
}

/// G1 G9: an install and a deadline race for two threads. Whoever times out takes nothing from the other, and the next
/// wait finds the session.
#[test]
fn a_timeout_takes_the_session_from_nobody() {
    explore("a_timeout_takes_the_session_from_nobody", AtMost(3), 20_000, || {
        let slot = slot::<Platform>(1);
        let provider = installs(&slot);
        let clock = thread::spawn(|| advance_to::<Loom>(1));
        let patient = thread::spawn({
            let slot = Arc::clone(&slot);
            move || slot.wait_blocking()
        });
        assert!(matches!(slot.wait_until(1), Ok(1) | Err(WaitUntilError::TimedOut)));
        assert_eq!(patient.join().unwrap(), Ok(1));
        provider.join().unwrap();
        clock.join().unwrap();
        assert_eq!(slot.wait_until(1), Ok(1));
    });
}
