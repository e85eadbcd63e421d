//! Who goes next when room is scarce.

use super::*;
use crate::sync::{Gate, Ticket};

/// One that waits at a gate, and how often it was woken.
struct Waiter {
    ticket: Ticket,
    count: Arc<Count>,
    waker: Waker,
}

impl Waiter {
    fn new(gate: &Arc<Gate>) -> Self {
        let (count, waker) = Count::new();
        Self { ticket: Ticket::new(gate), count, waker }
    }

    fn may_go_in(&mut self) -> bool {
        self.ticket.poll(&mut Context::from_waker(&self.waker)).is_ready()
    }
}

/// A gate that is full, one unit at a time, and those who wait there.
fn full(most: usize, waiting: usize) -> (Arc<Gate>, Vec<Waiter>) {
    let gate = Arc::new(Gate::new());
    gate.limit(1, most);
    gate.enter(most);
    let mut waiters: Vec<_> = (0..waiting).map(|_| Waiter::new(&gate)).collect();
    assert!(!waiters.iter_mut().any(Waiter::may_go_in));
    (gate, waiters)
}

/// How often each was woken.
fn woken(waiters: &[Waiter]) -> Vec<usize> {
    waiters.iter().map(|waiter| waiter.count.get()).collect()
}

#[test]
fn each_unit_of_room_is_for_the_next_in_order_of_arrival() {
    let (gate, mut waiters) = full(3, 4);
    gate.wake();
    assert_eq!(woken(&waiters), [0, 0, 0, 0], "nobody has left");
    gate.leave(2);
    gate.wake();
    gate.wake();
    assert_eq!(woken(&waiters), [1, 1, 0, 0]);
    assert!(waiters[1].may_go_in() && waiters[0].may_go_in());
    gate.enter(2);
    assert!(!waiters[2].may_go_in());
    gate.leave(1);
    gate.wake();
    assert_eq!(woken(&waiters), [1, 1, 1, 0]);
}

#[test]
fn when_nothing_is_inside_everybody_is_woken() {
    let (gate, waiters) = full(1, 3);
    gate.leave(1);
    gate.wake();
    assert_eq!(woken(&waiters), [1, 1, 1]);
}

#[test]
fn who_comes_while_others_wait_goes_behind_them() {
    let (gate, mut waiters) = full(2, 1);
    gate.leave(1);
    let mut newcomer = Waiter::new(&gate);
    assert!(!newcomer.may_go_in(), "there is room, and somebody waits for it");
    gate.wake();
    assert!(waiters[0].may_go_in());
    gate.enter(1);
    gate.leave(1);
    gate.wake();
    assert_eq!(newcomer.count.get(), 1);
    assert!(newcomer.may_go_in());
}

#[test]
fn who_was_woken_and_finds_no_room_is_still_the_next() {
    let (gate, mut waiters) = full(2, 2);
    gate.leave(1);
    gate.wake();
    // Something short goes in that needs no ticket.
    gate.enter(1);
    assert!(!waiters[0].may_go_in());
    gate.leave(1);
    gate.wake();
    assert_eq!(woken(&waiters), [2, 0]);
    assert!(waiters[0].may_go_in());
}

#[test]
fn who_leaves_the_queue_passes_its_turn_on() {
    let (gate, mut waiters) = full(2, 3);
    // One that was not woken takes nothing with it.
    drop(waiters.remove(1));
    assert_eq!(woken(&waiters), [0, 0]);
    gate.leave(1);
    gate.wake();
    assert_eq!(woken(&waiters), [1, 0]);
    drop(waiters.remove(0));
    assert_eq!(woken(&waiters), [1]);
    assert!(waiters[0].may_go_in());
}

#[test]
fn without_a_bound_everybody_goes_in() {
    let (gate, mut waiters) = full(1, 2);
    gate.limit(usize::MAX, usize::MAX);
    assert_eq!(gate.unit(), usize::MAX);
    gate.wake();
    assert_eq!(woken(&waiters), [1, 1]);
    assert!(waiters.iter_mut().all(Waiter::may_go_in));
    assert!(Waiter::new(&gate).may_go_in());
}
