//! Who may go in where room is scarce: nobody waits beside room, whoever else has gone or changed his mind (G1 G9).

use std::{
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use loom::{
    future::block_on,
    thread::{self, JoinHandle},
};
use loom_tests::{
    Checked, Loom,
    Preemptions::{AtMost, Unbounded},
    explore,
};

type Gate = evermux::sync::Gate<Loom>;
type Ticket = evermux::sync::Ticket<Loom>;

fn poll(ticket: &mut Ticket, waker: &Waker) -> Poll<()> {
    let checked = Checked::<Loom>::waker(waker);
    ticket.poll(&mut Context::from_waker(&checked))
}

fn wait(ticket: &mut Ticket) {
    block_on(poll_fn(|cx| poll(ticket, cx.waker())));
}

/// A gate with so much inside, and room for so much.
fn gate(inside: usize, most: usize) -> Arc<Gate> {
    let gate = Arc::new(Gate::with_primitives());
    gate.limit(1, most);
    gate.enter(inside);
    gate
}

/// Waits for its turn.
fn waits(gate: &Arc<Gate>) -> JoinHandle<()> {
    let mut ticket = Ticket::new(gate);
    thread::spawn(move || wait(&mut ticket))
}

fn leave(gate: &Gate) {
    gate.leave(1);
    gate.wake();
}

/// Somebody who waits, and does nothing when he is woken.
fn ghost(gate: &Arc<Gate>) -> Ticket {
    let mut ticket = Ticket::new(gate);
    assert!(poll(&mut ticket, Waker::noop()).is_pending());
    ticket
}

#[test]
fn a_wait_beside_one_that_leaves() {
    explore("a_wait_beside_one_that_leaves", Unbounded, 4, || {
        let gate = gate(1, 1);
        let waiter = waits(&gate);
        leave(&gate);
        waiter.join().unwrap();
    });
}

#[test]
fn a_wait_beside_a_bound_that_is_lifted() {
    explore("a_wait_beside_a_bound_that_is_lifted", Unbounded, 4, || {
        let gate = gate(1, 1);
        let waiter = waits(&gate);
        gate.limit(usize::MAX, usize::MAX);
        gate.wake();
        waiter.join().unwrap();
    });
}

/// Rule 2: who does not act on his turn keeps nobody out, as long as somebody leaves, or all have.
#[test]
fn a_wait_behind_one_that_does_not_act() {
    explore("a_wait_behind_one_that_does_not_act", Unbounded, 4, || {
        let gate = gate(2, 2);
        let _ghost = ghost(&gate);
        let waiter = waits(&gate);
        leave(&gate);
        leave(&gate);
        waiter.join().unwrap();
    });
}

/// Rule 2: and where nobody is inside any more, nobody can leave.
#[test]
fn a_wait_behind_one_that_does_not_act_when_all_have_left() {
    explore("a_wait_behind_one_that_does_not_act_when_all_have_left", Unbounded, 4, || {
        let gate = gate(1, 1);
        let _ghost = ghost(&gate);
        let waiter = waits(&gate);
        leave(&gate);
        waiter.join().unwrap();
    });
}

/// One that is dropped with its turn passes it on, at whatever moment.
#[test]
fn a_wait_behind_one_that_is_dropped() {
    explore("a_wait_behind_one_that_is_dropped", Unbounded, 4, || {
        let gate = gate(2, 2);
        let ghost = ghost(&gate);
        let waiter = waits(&gate);
        leave(&gate);
        drop(ghost);
        waiter.join().unwrap();
    });
}

/// Two go in and out, again and again.
#[test]
fn two_by_turns() {
    explore("two_by_turns", AtMost(3), 50, || {
        let gate = gate(0, 1);
        let by_turns = |gate: Arc<Gate>| {
            let mut ticket = Ticket::new(&gate);
            for _ in 0..2 {
                wait(&mut ticket);
                gate.enter(1);
                leave(&gate);
            }
        };
        let other = thread::spawn({
            let gate = Arc::clone(&gate);
            move || by_turns(gate)
        });
        by_turns(gate);
        other.join().unwrap();
    });
}
