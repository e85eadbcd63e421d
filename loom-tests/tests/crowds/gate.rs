//! G1 G9: writers who wait for room, and tasks that are woken by many.

use std::{
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use evermux::sync::{Class, Handed, Repoll};
use loom_tests::{Checked, Shuttle, sample};
use shuttle::{
    future::block_on,
    sync::{
        atomic::{AtomicUsize, Ordering::SeqCst},
        mpsc,
    },
    thread,
};

use super::{each, join};

type Gate = evermux::sync::Gate<Shuttle>;
type Ticket = evermux::sync::Ticket<Shuttle>;

fn poll(ticket: &mut Ticket, waker: &Waker) -> Poll<()> {
    ticket.poll(&mut Context::from_waker(&Checked::<Shuttle>::waker(waker)))
}

/// Goes in and out, so often.
fn by_turns(gate: &Arc<Gate>, times: usize) {
    let mut ticket = Ticket::new(gate);
    for _ in 0..times {
        block_on(poll_fn(|cx| poll(&mut ticket, cx.waker())));
        gate.enter(1);
        gate.leave(1);
        gate.wake();
    }
}

/// Four writers go in by turns, two others change their mind, and the bound changes all the time.
#[test]
fn writers_by_turns_while_the_bound_changes() {
    sample("writers_by_turns_while_the_bound_changes", || {
        let gate = Arc::new(Gate::with_primitives());
        gate.limit(1, 1);
        let writers = each(4, {
            let gate = Arc::clone(&gate);
            move |_| by_turns(&gate, 2)
        });
        let leave = each(2, {
            let gate = Arc::clone(&gate);
            move |number| {
                let mut ticket = Ticket::new(&gate);
                if poll(&mut ticket, Waker::noop()).is_pending() && number == 0 {
                    ticket.leave_queue();
                }
            }
        });
        for most in [2, 1] {
            gate.limit(1, most);
            gate.wake();
        }
        join(writers);
        join(leave);
        // Nothing is inside, and nobody is in the queue.
        by_turns(&gate, 1);
    });
}

/// The session ends, which lifts the bound, while one writer is inside for good.
#[test]
fn the_end_of_a_session_lets_every_writer_in() {
    sample("the_end_of_a_session_lets_every_writer_in", || {
        let gate = Arc::new(Gate::with_primitives());
        gate.limit(1, 1);
        gate.enter(1);
        let writers = each(5, {
            let gate = Arc::clone(&gate);
            move |_| by_turns(&gate, 1)
        });
        gate.limit(usize::MAX, usize::MAX);
        gate.wake();
        join(writers);
    });
}

/// Four streams write to one slow path. The crate takes some of each write, and the wire sends what it took; one stream
/// ends with what it has there.
#[test]
fn streams_share_a_slow_path() {
    sample("streams_share_a_slow_path", || {
        let gate = Arc::new(Gate::with_primitives());
        gate.limit(4, 6);
        let streams: Arc<[Handed<Shuttle>; 4]> = Arc::new([(); 4].map(|()| Handed::with_primitives()));
        let (frames, sent) = mpsc::channel();
        let writers = each(4, {
            let (gate, streams) = (Arc::clone(&gate), Arc::clone(&streams));
            move |number| {
                let (handed, mut ticket) = (&streams[number as usize], Ticket::new(&gate));
                for takes in [4, 1] {
                    block_on(poll_fn(|cx| poll(&mut ticket, cx.waker())));
                    let written = handed.hand_over(&gate, Class::Waits, &[0; 8], |part| {
                        frames.send(number as usize).expect("the wire outlives its streams");
                        Poll::Ready(Ok(takes.min(part.len())))
                    });
                    assert!(matches!(written, Poll::Ready(Ok(bytes)) if bytes == takes));
                    gate.wake();
                }
            }
        });
        let wire = thread::spawn({
            let (gate, streams) = (Arc::clone(&gate), Arc::clone(&streams));
            move || {
                for stream in sent {
                    streams[stream].on_frame_out(&gate);
                    gate.wake();
                }
            }
        });
        streams[0].end(&gate);
        gate.wake();
        join(writers);
        wire.join().unwrap();
        // Nothing is inside.
        gate.limit(1, 1);
        by_turns(&gate, 1);
    });
}

/// Five threads have two news each for one task, and wake it after each.
#[test]
fn a_task_sees_the_news_of_many() {
    sample("a_task_sees_the_news_of_many", || {
        let mut turns = Repoll::<Shuttle>::with_primitives();
        let mut kept = None;
        let polled = turns.poll(
            &mut Context::from_waker(Waker::noop()),
            || true,
            |cx| {
                kept = Some(cx.waker().clone());
                Poll::<()>::Pending
            },
        );
        assert!(polled.is_pending());
        let (waker, news) = (kept.unwrap(), Arc::new(AtomicUsize::new(0)));
        let threads = each(5, {
            let news = Arc::clone(&news);
            move |_| {
                for _ in 0..2 {
                    news.fetch_add(1, SeqCst);
                    waker.wake_by_ref();
                }
            }
        });
        let turn = |_: &mut Context<'_>| if news.load(SeqCst) == 10 { Poll::Ready(()) } else { Poll::Pending };
        block_on(poll_fn(|cx| turns.poll(cx, || true, turn)));
        join(threads);
    });
}
