//! A waker that turns a wake-up during a poll into another turn of the poll.
//!
//! The yamux crate wakes its own task in every poll that takes a command. Going through the scheduler for each of these
//! costs twice the context switches.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use futures_util::task::AtomicWaker;
use tokio::task::coop;

/// No poll is under way: a wake-up goes to the task.
const IDLE: u8 = 0;
/// A poll is under way.
const POLLING: u8 = 1;
/// Woken since the last poll began: that poll goes on, or the task has been woken.
const WOKEN: u8 = 2;

/// Turns before the scheduler is let in.
const MAX_TURNS: usize = 32;

struct Shared {
    /// Changed by read-modify-write alone: a wake-up that a turn overwrites is thus ordered before the turn, which sees
    /// what the wake-up was about.
    state: AtomicU8,
    task: AtomicWaker,
}

impl Wake for Shared {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // One step decides who acts on the wake-up: the poll that is under way, or the task.
        if self.state.swap(WOKEN, Ordering::AcqRel) == IDLE {
            self.task.wake();
        }
    }
}

/// Polls by turns.
pub(crate) struct Turns {
    shared: Arc<Shared>,
    waker: Waker,
}

impl Turns {
    pub(crate) fn new() -> Self {
        let shared = Arc::new(Shared { state: AtomicU8::new(IDLE), task: AtomicWaker::new() });
        Self { waker: Waker::from(Arc::clone(&shared)), shared }
    }

    /// Calls `turn` until it is ready, or pending and not woken meanwhile.
    pub(crate) fn poll<T>(
        &mut self,
        cx: &mut Context<'_>,
        mut turn: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        self.shared.task.register(cx.waker());
        for _ in 0..MAX_TURNS {
            self.shared.state.swap(POLLING, Ordering::AcqRel);
            if let Poll::Ready(output) = turn(&mut Context::from_waker(&self.waker)) {
                return Poll::Ready(output);
            }
            let slept = self.shared.state.compare_exchange(POLLING, IDLE, Ordering::AcqRel, Ordering::Acquire);
            if slept.is_ok() {
                return Poll::Pending;
            }
            if !coop::has_budget_remaining() {
                break;
            }
        }
        // Still woken: no other wake-up needs to reach the task before it is polled.
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    #[test]
    fn a_wake_up_during_a_turn_is_another_turn() {
        let mut turns = Turns::new();
        let mut count = 0;
        let poll = turns.poll(&mut Context::from_waker(Waker::noop()), |cx| {
            count += 1;
            if count < 5 {
                cx.waker().wake_by_ref();
            }
            Poll::<()>::Pending
        });
        assert!(poll.is_pending());
        assert_eq!(count, 5);
    }

    #[test]
    fn turns_without_end_let_the_scheduler_in() {
        struct Count(std::sync::atomic::AtomicUsize);
        impl Wake for Count {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let task = Arc::new(Count(0.into()));
        let mut turns = Turns::new();
        let mut count = 0;
        let poll = turns.poll(&mut Context::from_waker(&Waker::from(Arc::clone(&task))), |cx| {
            count += 1;
            cx.waker().wake_by_ref();
            Poll::<()>::Pending
        });
        assert!(poll.is_pending());
        assert_eq!(count, MAX_TURNS);
        assert_eq!(task.0.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_wake_up_between_polls_reaches_the_task() {
        struct Flag(std::sync::atomic::AtomicBool);
        impl Wake for Flag {
            fn wake(self: Arc<Self>) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let task = Arc::new(Flag(false.into()));
        let mut turns = Turns::new();
        let mut kept = None;
        let _ = turns.poll(&mut Context::from_waker(&Waker::from(Arc::clone(&task))), |cx| {
            kept = Some(cx.waker().clone());
            Poll::<()>::Pending
        });
        assert!(!task.0.load(Ordering::Relaxed));
        kept.unwrap().wake();
        assert!(task.0.load(Ordering::Relaxed));
    }
}
