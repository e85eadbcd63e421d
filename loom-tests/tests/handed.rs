//! What a writer has handed over, beside the wire that sends it, the end of its stream, and others that wait (G1 G16).

use std::{
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use evermux::sync::{Class, Latch};
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
type Handed = evermux::sync::Handed<Loom>;
type Ticket = evermux::sync::Ticket<Loom>;

fn poll(ticket: &mut Ticket, waker: &Waker) -> Poll<()> {
    ticket.poll(&mut Context::from_waker(&Checked::<Loom>::waker(waker)))
}

/// A gate at which a whole frame of four bytes goes in, while less than that is inside.
fn gate() -> Arc<Gate> {
    let gate = Arc::new(Gate::with_primitives());
    gate.limit(4, 4);
    gate
}

/// Checks that nothing is inside.
fn assert_empty(gate: &Arc<Gate>) {
    gate.limit(1, 1);
    assert!(poll(&mut Ticket::new(gate), Waker::noop()).is_ready(), "{gate:?}");
}

/// One stream, and the crate that has frames of it: a latch for each frame that can be sent.
struct Stream {
    gate: Arc<Gate>,
    handed: Handed,
    frames: [Arc<Latch<(), Loom>>; 2],
}

impl Stream {
    fn new(gate: &Arc<Gate>) -> Arc<Self> {
        let frames = [(); 2].map(|()| Arc::new(Latch::with_primitives()));
        Arc::new(Self { gate: Arc::clone(gate), handed: Handed::with_primitives(), frames })
    }

    /// Writes one frame, of which the crate takes so much at once.
    fn write(&self, frame: usize, class: Class, takes: usize) {
        let _ = self.handed.hand_over(&self.gate, class, &[0; 4], |part| {
            if takes == 0 {
                return Poll::Pending;
            }
            self.frames[frame].set(());
            Poll::Ready(Ok(takes.min(part.len())))
        });
        self.gate.wake();
    }

    /// Sends as many frames, each as soon as it is there.
    fn sends(self: &Arc<Self>, count: usize) -> JoinHandle<()> {
        let this = Arc::clone(self);
        thread::spawn(move || {
            for frame in &this.frames[..count] {
                block_on(frame.wait());
                this.handed.on_frame_out(&this.gate);
                this.gate.wake();
            }
        })
    }

    /// The stream ends on the wire.
    fn ends(self: &Arc<Self>) -> JoinHandle<()> {
        let this = Arc::clone(self);
        thread::spawn(move || {
            this.handed.end(&this.gate);
            this.gate.wake();
        })
    }
}

/// A frame is sent before its write has returned: what went in leaves, and leaves once.
#[test]
fn a_write_beside_its_frame() {
    for (how, takes) in [("whole", 4), ("in part", 1)] {
        explore(&format!("a_write_beside_its_frame, {how}"), AtMost(4), 500, move || {
            let gate = gate();
            let stream = Stream::new(&gate);
            let wire = stream.sends(2);
            stream.write(0, Class::Waits, takes);
            stream.write(1, Class::Waits, takes);
            wire.join().unwrap();
            assert_empty(&gate);
        });
    }
}

/// The stream ends during a write: nothing of it stays inside, whether the crate took it or not.
#[test]
fn a_write_beside_the_end_of_its_stream() {
    for (how, takes) in [("whole", 4), ("in part", 1), ("nothing", 0)] {
        explore(&format!("a_write_beside_the_end_of_its_stream, {how}"), Unbounded, 34, move || {
            let gate = gate();
            let stream = Stream::new(&gate);
            let wire = stream.ends();
            stream.write(0, Class::Waits, takes);
            wire.join().unwrap();
            assert_empty(&gate);
        });
    }
}

/// What is short, on a stream that also wrote much, leaves as what it was when it went in.
#[test]
fn short_and_long_frames_of_one_stream() {
    explore("short_and_long_frames_of_one_stream", AtMost(4), 1_000, || {
        let gate = gate();
        let stream = Stream::new(&gate);
        let wire = stream.sends(2);
        stream.write(0, Class::Short, 4);
        stream.write(1, Class::Waits, 1);
        wire.join().unwrap();
        gate.limit(1, 1);
        assert_eq!(stream.handed.class(&gate, 1 << 10), Class::Short, "nothing short is on its way");
        assert_empty(&gate);
    });
}

/// G1: one waits at the gate for what another stream has handed over, which is sent, or ends, or was not taken.
#[test]
fn a_writer_waits_for_what_another_has_handed_over() {
    let sends = |stream: &Arc<Stream>| stream.sends(1);
    let ends = |stream: &Arc<Stream>| stream.ends();
    for (how, takes, free) in [
        ("it is sent", 4, sends as fn(&Arc<Stream>) -> JoinHandle<()>),
        ("it ends", 4, ends),
        ("it was not taken", 0, ends),
    ] {
        explore(&format!("a_writer_waits_for_what_another_has_handed_over, {how}"), AtMost(3), 500, move || {
            let gate = gate();
            let stream = Stream::new(&gate);
            let wire = free(&stream);
            let mut ticket = Ticket::new(&gate);
            let waiter = thread::spawn(move || block_on(poll_fn(|cx| poll(&mut ticket, cx.waker()))));
            stream.write(0, Class::Waits, takes);
            wire.join().unwrap();
            waiter.join().unwrap();
            assert_empty(&gate);
        });
    }
}
