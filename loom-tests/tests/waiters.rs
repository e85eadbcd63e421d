//! Who waits, and who frees them.

use std::{
    pin::pin,
    sync::Arc,
    task::{Context, Waker},
};

use evermux::sync::Refused;
use loom::{future::block_on, thread};
use loom_tests::{
    Loom,
    Preemptions::{AtMost, Unbounded},
    Slot, explore, install, load, slot, try_install,
};

fn blocking(slot: &Arc<Slot>) -> thread::JoinHandle<Result<u32, &'static str>> {
    let slot = Arc::clone(slot);
    thread::spawn(move || slot.wait_blocking())
}

fn waiting(slot: &Arc<Slot>) -> thread::JoinHandle<Result<u32, &'static str>> {
    let slot = Arc::clone(slot);
    thread::spawn(move || block_on(slot.wait()))
}

/// G1, for a thread: it asks before, during or after the install.
#[test]
fn wait_before_check() {
    explore("wait_before_check", Unbounded, 4, || {
        let slot = slot::<Loom>(1);
        let waiter = blocking(&slot);
        install(&slot, 1);
        assert_eq!(waiter.join().unwrap(), Ok(1));
        assert_eq!(slot.wait_blocking(), Ok(1));
    });
}

/// G1, for a future.
#[test]
fn async_check_then_register() {
    explore("async_check_then_register", Unbounded, 20, || {
        let slot = slot::<Loom>(1);
        let waiter = waiting(&slot);
        install(&slot, 1);
        assert_eq!(waiter.join().unwrap(), Ok(1));
        assert_eq!(slot.waiting(), 0);
    });
}

/// G2, for threads.
#[test]
fn notify_one_on_install() {
    explore("notify_one_on_install", Unbounded, 300, || {
        let slot = slot::<Loom>(1);
        let waiters = [blocking(&slot), blocking(&slot)];
        install(&slot, 1);
        for waiter in waiters {
            assert_eq!(waiter.join().unwrap(), Ok(1));
        }
    });
}

/// G2, for futures.
#[test]
fn an_install_wakes_every_future() {
    explore("an_install_wakes_every_future", AtMost(3), 1_000, || {
        let slot = slot::<Loom>(1);
        let waiters = [waiting(&slot), waiting(&slot)];
        install(&slot, 1);
        for waiter in waiters {
            assert_eq!(waiter.join().unwrap(), Ok(1));
        }
    });
}

/// G2, for both.
#[test]
fn an_install_wakes_a_thread_and_a_future() {
    explore("an_install_wakes_a_thread_and_a_future", AtMost(3), 400, || {
        let slot = slot::<Loom>(1);
        let waiters = [blocking(&slot), waiting(&slot)];
        install(&slot, 1);
        for waiter in waiters {
            assert_eq!(waiter.join().unwrap(), Ok(1));
        }
        assert_eq!(slot.waiting(), 0);
    });
}

/// G4, for a thread.
#[test]
fn no_broadcast_on_shutdown() {
    explore("no_broadcast_on_shutdown", Unbounded, 3, || {
        let slot = slot::<Loom>(1);
        let waiter = blocking(&slot);
        slot.stop("shut down");
        assert_eq!(waiter.join().unwrap(), Err("shut down"));
        assert_eq!(slot.wait_blocking(), Err("shut down"));
    });
}

/// G4: the stop comes between a look that found nothing any more and the sleep after it.
#[test]
fn shutdown_flag_outside_lock() {
    explore("shutdown_flag_outside_lock", Unbounded, 7, || {
        let slot = slot::<Loom>(1);
        let session = install(&slot, 1);
        let waiter = blocking(&slot);
        slot.clear(session);
        slot.stop("shut down");
        assert!(matches!(waiter.join().unwrap(), Ok(1) | Err("shut down")));
        assert_eq!(slot.waiting(), 0);
    });
}

/// G1 G4: whoever stops the slot is a thread of its own, and a future and a thread wait.
#[test]
fn lock_free_broadcast() {
    explore("lock_free_broadcast", AtMost(3), 100, || {
        let slot = slot::<Loom>(1);
        let waiter = waiting(&slot);
        let stopper = thread::spawn({
            let slot = Arc::clone(&slot);
            move || drop(slot.stop("shut down"))
        });
        assert_eq!(slot.wait_blocking(), Err("shut down"));
        assert_eq!(waiter.join().unwrap(), Err("shut down"));
        stopper.join().unwrap();
        assert_eq!(slot.waiting(), 0);
    });
}

/// G4, for a future.
#[test]
fn async_not_woken_on_shutdown() {
    explore("async_not_woken_on_shutdown", Unbounded, 6, || {
        let slot = slot::<Loom>(1);
        let waiter = waiting(&slot);
        slot.stop("shut down");
        assert_eq!(waiter.join().unwrap(), Err("shut down"));
        assert_eq!(block_on(slot.wait()), Err("shut down"));
    });
}

/// G1 G4: an install and a stop race for two waiters. Either may win, nobody hangs.
#[test]
fn waiters_between_install_and_stop() {
    explore("waiters_between_install_and_stop", AtMost(3), 5_000, || {
        let slot = slot::<Loom>(1);
        let waiters = [blocking(&slot), waiting(&slot)];
        let provider = thread::spawn({
            let slot = Arc::clone(&slot);
            move || try_install(&slot, 1).is_ok()
        });
        let stopped = slot.stop("shut down");
        let installed = provider.join().unwrap();
        assert_eq!(stopped, if installed { vec![1] } else { vec![] });
        for waiter in waiters {
            match waiter.join().unwrap() {
                Ok(session) => assert!(installed && session == 1),
                Err(reason) => assert_eq!(reason, "shut down"),
            }
        }
    });
}

/// G1: a session that comes, goes, and comes again. The waiter may miss the first, not the second.
#[test]
fn a_clear_ends_no_wait_and_eats_no_wake_up() {
    explore("a_clear_ends_no_wait_and_eats_no_wake_up", AtMost(3), 2_000, || {
        let slot = slot::<Loom>(1);
        let waiters = [waiting(&slot), blocking(&slot)];
        let first = install(&slot, 1);
        assert_eq!(slot.clear(first), Some(1));
        install(&slot, 2);
        for waiter in waiters {
            assert!(matches!(waiter.join().unwrap(), Ok(1 | 2)));
        }
    });
}

/// Polls a future once, and drops it.
fn leaving(slot: &Arc<Slot>) -> thread::JoinHandle<()> {
    let slot = Arc::clone(slot);
    thread::spawn(move || {
        let _ = pin!(slot.wait()).as_mut().poll(&mut Context::from_waker(Waker::noop()));
    })
}

/// G9: a future that is dropped leaves nothing behind. An install sweeps the list, so the last change is a clear.
#[test]
fn cancelled_waiter_stays() {
    explore("cancelled_waiter_stays", Unbounded, 13, || {
        let slot = slot::<Loom>(1);
        let leaves = leaving(&slot);
        let id = install(&slot, 1);
        assert_eq!(slot.clear(id), Some(1));
        leaves.join().unwrap();
        assert_eq!(slot.waiting(), 0, "a registration outlived its future");
    });
}

/// G1 G9: a future that is dropped while it is being woken takes nothing from another.
#[test]
fn a_cancelled_waiter_eats_no_wake_up() {
    explore("a_cancelled_waiter_eats_no_wake_up", Unbounded, 10_000, || {
        let slot = slot::<Loom>(1);
        let leaves = leaving(&slot);
        let stays = waiting(&slot);
        install(&slot, 1);
        leaves.join().unwrap();
        assert_eq!(stays.join().unwrap(), Ok(1));
    });
}

/// G9, rule 9: a late drop names an entry of an earlier epoch, and another future has its index now.
#[test]
fn a_late_drop_removes_no_other_registration() {
    explore("a_late_drop_removes_no_other_registration", Unbounded, 70, || {
        let slot = slot::<Loom>(1);
        let mut old = Box::pin(slot.wait());
        assert!(old.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        let first = install(&slot, 1);
        slot.clear(first);
        let new = waiting(&slot);
        drop(old);
        install(&slot, 2);
        assert_eq!(new.join().unwrap(), Ok(2));
    });
}

/// G1 G9: a future moves to another task between two polls, and is woken through its second waker.
#[test]
fn stale_waker_after_repoll() {
    explore("stale_waker_after_repoll", Unbounded, 100, || {
        let slot = slot::<Loom>(1);
        let provider = thread::spawn({
            let slot = Arc::clone(&slot);
            move || {
                install(&slot, 1);
            }
        });
        let mut wait = pin!(slot.wait());
        let _ = wait.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert_eq!(block_on(wait), Ok(1));
        provider.join().unwrap();
    });
}

/// G1 G2: a session dies and is replaced at once. A thread and a future ask before, between or after.
#[test]
fn replace_without_broadcast() {
    explore("replace_without_broadcast", AtMost(3), 800, || {
        let slot = slot::<Loom>(1);
        let old = install(&slot, 1);
        let waiters = [blocking(&slot), waiting(&slot)];
        assert_eq!(slot.clear(old), Some(1));
        let mut reservation = slot.reserve();
        assert_eq!(slot.replace(old, &mut reservation, 2, load::<Loom>()), Err(Refused::Gone(2)));
        slot.install(&mut reservation, 2, load::<Loom>()).unwrap();
        for waiter in waiters {
            assert!(matches!(waiter.join().unwrap(), Ok(1 | 2)));
        }
        assert_eq!(slot.waiting(), 0);
    });
}

/// G1 G3: a live session is replaced while a thread asks. There is never nothing.
#[test]
fn a_replace_leaves_no_gap() {
    explore("a_replace_leaves_no_gap", Unbounded, 7, || {
        let slot = slot::<Loom>(1);
        let old = install(&slot, 1);
        let asks = thread::spawn({
            let slot = Arc::clone(&slot);
            move || [slot.peek(), slot.peek()].map(Option::unwrap)
        });
        assert_eq!(slot.replace(old, &mut slot.reserve(), 2, load::<Loom>()), Ok(1));
        let seen = asks.join().unwrap();
        assert!(seen.is_sorted(), "{seen:?}");
        assert_eq!(slot.peek(), Some(2));
    });
}

/// G1: whoever lost a session asks while another place is live, and does not wait for a newer one.
#[test]
fn waits_beside_a_live_place() {
    explore("waits_beside_a_live_place", Unbounded, 5, || {
        let slot = slot::<Loom>(2);
        let first = install(&slot, 1);
        install(&slot, 2);
        let waiter = blocking(&slot);
        slot.clear(first);
        assert_eq!(slot.wait_blocking(), Ok(2));
        assert!(matches!(waiter.join().unwrap(), Ok(1 | 2)));
    });
}
