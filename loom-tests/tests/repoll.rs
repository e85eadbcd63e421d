//! Wake-ups that come while a task is polled (G1).

use std::{
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use evermux::sync::Repoll;
use loom::{
    future::block_on,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
};
use loom_tests::{
    Loom,
    Preemptions::{self, AtMost, Unbounded},
    explore,
};

/// Threads that each have so many news for a task, and wake it after each. Nothing but the wake-up orders what is written.
///
/// The task is done when it has seen all of it. A wake-up that is lost leaves it asleep, which loom calls a deadlock.
fn no_wake_up_is_lost(name: &str, preemptions: Preemptions, least: usize, news: &'static [usize], may_go_on: bool) {
    explore(name, preemptions, least, move || {
        let mut turns = Repoll::<Loom>::with_primitives();
        // Another task has polled before: its waker wakes nobody who is left.
        let mut kept = None;
        let polled = turns.poll(
            &mut Context::from_waker(Waker::noop()),
            || may_go_on,
            |cx| {
                kept = Some(cx.waker().clone());
                Poll::<()>::Pending
            },
        );
        assert!(polled.is_pending());
        let waker = kept.unwrap();
        let news: Vec<Arc<Vec<_>>> =
            news.iter().map(|news| Arc::new((0..*news).map(|_| AtomicBool::new(false)).collect())).collect();
        let threads: Vec<_> = news
            .iter()
            .map(|news| {
                let (news, waker) = (Arc::clone(news), waker.clone());
                thread::spawn(move || {
                    for news in &*news {
                        news.store(true, Relaxed);
                        waker.wake_by_ref();
                    }
                })
            })
            .collect();
        block_on(poll_fn(|cx| {
            let turn = |_: &mut Context<'_>| {
                if news.iter().all(|news| news.iter().all(|news| news.load(Relaxed))) {
                    Poll::Ready(())
                } else {
                    Poll::Pending
                }
            };
            turns.poll(cx, || may_go_on, turn)
        }));
        for thread in threads {
            thread.join().unwrap();
        }
    });
}

/// A wake-up before, during and after a turn.
#[test]
fn no_wake_up_is_lost_beside_a_turn() {
    no_wake_up_is_lost("no_wake_up_is_lost_beside_a_turn", Unbounded, 250, &[1], true);
}

/// Two wake-ups before a turn, of which the first alone wakes the task: the turn that overwrites them is ordered after both.
#[test]
fn a_turn_sees_what_every_wake_up_was_about() {
    no_wake_up_is_lost("a_turn_sees_what_every_wake_up_was_about", AtMost(4), 1_400, &[2], true);
}

/// The scheduler is let in after each turn that was woken.
#[test]
fn no_wake_up_is_lost_when_the_scheduler_is_let_in() {
    no_wake_up_is_lost("no_wake_up_is_lost_when_the_scheduler_is_let_in", Unbounded, 250, &[1], false);
}

/// One thread is late to wake the task, which has been polled and has slept again meanwhile, and takes the waker that
/// another one looks for.
#[test]
fn a_late_wake_up_hides_no_other() {
    no_wake_up_is_lost("a_late_wake_up_hides_no_other", AtMost(3), 5_000, &[1, 1], true);
}
