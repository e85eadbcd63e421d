//! How a thread waits for a future: beside its wake-up, its deadline, and wake-ups for no reason (G1).

use std::{
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll},
};

use evermux::sync::{Latch, Primitives, block_on};
use loom::thread::{self, JoinHandle};
use loom_tests::{
    Loom,
    Preemptions::{AtMost, Unbounded},
    Spurious, advance_to, explore, wake_for_no_reason,
};

/// Threads have their own platform; what they wait for is the same on both.
type Park = Spurious<Loom>;

fn latch() -> Arc<Latch<u32, Loom>> {
    Arc::new(Latch::with_primitives())
}

fn sets(latch: &Arc<Latch<u32, Loom>>, then: impl FnOnce() + 'static) -> JoinHandle<()> {
    let latch = Arc::clone(latch);
    thread::spawn(move || {
        latch.set(1);
        then();
    })
}

/// The wake-up comes before the thread sleeps, or after.
#[test]
fn a_thread_that_parks_beside_its_wake_up() {
    explore("a_thread_that_parks_beside_its_wake_up", Unbounded, 9, || {
        let latch = latch();
        let setter = sets(&latch, || {});
        assert_eq!(block_on::<_, Loom>(latch.wait(), None, || {}), Some(1));
        setter.join().unwrap();
    });
}

/// Two wake-ups, of which the first may be in vain: the second still comes through.
#[test]
fn a_thread_that_is_woken_in_vain_parks_again() {
    explore("a_thread_that_is_woken_in_vain_parks_again", AtMost(4), 2_000, || {
        let latches = [latch(), latch()];
        let setters = [sets(&latches[0], || {}), sets(&latches[1], || {})];
        let mut waits = latches.each_ref().map(Latch::wait);
        let both = poll_fn(|cx: &mut Context<'_>| {
            let ready = waits.each_mut().map(|wait| std::pin::Pin::new(wait).poll(cx).is_ready());
            if ready == [true; 2] { Poll::Ready(()) } else { Poll::Pending }
        });
        assert_eq!(block_on::<_, Loom>(both, None, || {}), Some(()));
        for setter in setters {
            setter.join().unwrap();
        }
    });
}

/// What came before the deadline is returned, however late the thread wakes.
#[test]
fn a_deadline_eats_no_result() {
    explore("a_deadline_eats_no_result", Unbounded, 70, || {
        let latch = latch();
        let setter = sets(&latch, || advance_to::<Loom>(1));
        assert_eq!(block_on::<_, Park>(latch.wait(), Some(1), || {}), Some(1));
        setter.join().unwrap();
    });
}

/// A wait that is disturbed ends with its deadline, and not before.
#[test]
fn a_deadline_ends_a_park_that_was_disturbed() {
    explore("a_deadline_ends_a_park_that_was_disturbed", AtMost(4), 1_000, || {
        let latch = latch();
        let clock = thread::spawn(|| advance_to::<Loom>(1));
        let disturber = thread::spawn(wake_for_no_reason::<Loom>);
        assert_eq!(block_on::<_, Park>(latch.wait(), Some(1), || {}), None);
        assert_eq!(Park::now(), 1, "it was disturbed before");
        clock.join().unwrap();
        disturber.join().unwrap();
    });
}

/// G9: one thread waits until its deadline, and another for as long as it takes: whoever times out takes nothing from
/// the other.
#[test]
fn a_park_that_times_out_takes_no_wake_up() {
    explore("a_park_that_times_out_takes_no_wake_up", AtMost(3), 20_000, || {
        let latch = latch();
        let patient = thread::spawn({
            let latch = Arc::clone(&latch);
            move || block_on::<_, Loom>(latch.wait(), None, || {})
        });
        let setter = sets(&latch, || {});
        let clock = thread::spawn(|| advance_to::<Loom>(1));
        let seen = block_on::<_, Park>(latch.wait(), Some(1), || {});
        assert!(seen == Some(1) || Park::now() == 1, "{seen:?} before the deadline");
        assert_eq!(patient.join().unwrap(), Some(1));
        setter.join().unwrap();
        clock.join().unwrap();
    });
}
