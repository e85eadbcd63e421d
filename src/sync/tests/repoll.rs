//! [`Repoll`]: wake-ups during a poll.

use super::*;

#[test]
fn a_wake_up_during_a_turn_is_another_turn() {
    let (task, waker) = Count::new();
    let (mut turns, mut count) = (Repoll::new(), 0);
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

/// Polls what wakes itself in every turn, and returns how many turns there were.
fn turns_without_end(turns: &mut Repoll, waker: &Waker, may_go_on: bool) -> usize {
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
    let mut turns = Repoll::new();
    assert_eq!((turns_without_end(&mut turns, &waker, true), task.get()), (32, 1));
    assert_eq!((turns_without_end(&mut turns, &waker, false), task.get()), (1, 2));
}

#[test]
fn a_wake_up_between_polls_reaches_the_task_that_polled_last() {
    let ((first, first_waker), (second, second_waker)) = (Count::new(), Count::new());
    let mut turns = Repoll::new();
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
