//! G4 G5 G17: a shutdown, and the drain of a session, beside many who begin something.

use std::{
    future::{pending, poll_fn, ready},
    sync::Arc,
    task::{Context, Waker},
};

use evermux::sync::{Earliest, Gate, Life, Ticket, Tracker};
use loom_tests::{Shuttle, sample};
use shuttle::{
    future::block_on,
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
    thread,
};

use super::{each, join};

/// What is held, until it is dropped.
struct Held(Arc<AtomicUsize>);

impl Held {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, SeqCst);
        Self(Arc::clone(count))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

/// Tasks that end by themselves, that end when they are asked, that never do, and that begin another one; two callers
/// shut down, and a supervisor kills what is left at the earlier of their deadlines.
#[test]
fn a_shutdown_beside_tasks_of_each_kind() {
    sample("a_shutdown_beside_tasks_of_each_kind", || {
        let tracker: Arc<Tracker<Shuttle>> = Arc::default();
        let deadline: Arc<Earliest<u32, Shuttle>> = Arc::default();
        let held = Arc::default();
        let tasks = each(4, {
            let (tracker, held) = (Arc::clone(&tracker), Arc::clone(&held));
            move |number| {
                let run = tracker.run({
                    let (tracker, held) = (Arc::clone(&tracker), Arc::clone(&held));
                    async move {
                        let _held = Held::new(&held);
                        match number {
                            0 => {}
                            1 => tracker.stopped().await,
                            2 => pending().await,
                            _ => {
                                let of_it = tracker.run(async move { drop(Held::new(&held)) });
                                drop(thread::spawn(move || block_on(of_it)));
                            }
                        }
                    }
                });
                block_on(run);
            }
        });
        let supervisor = thread::spawn({
            let (tracker, deadline) = (Arc::clone(&tracker), Arc::clone(&deadline));
            move || {
                let mut until = block_on(deadline.before(None));
                tracker.stop();
                while until > 1 {
                    until = block_on(deadline.before(Some(until)));
                }
                tracker.kill();
                block_on(tracker.join());
            }
        });
        let callers = each(2, {
            let (tracker, held) = (Arc::clone(&tracker), Arc::clone(&held));
            move |number| {
                deadline.set(number + 1);
                block_on(tracker.join());
                assert_eq!(held.load(SeqCst), 0, "something is held when the shutdown returns");
                assert_eq!(block_on(tracker.run(ready(()))), None, "nothing begins any more");
            }
        });
        join(callers);
        join(tasks);
        supervisor.join().unwrap();
    });
}

/// Open, retire, drain: five callers at a limit of two, while the session retires and waits for the last stream.
#[test]
fn openers_at_their_limit_beside_a_drain() {
    sample("openers_at_their_limit_beside_a_drain", || {
        let life: Arc<Life<&str, &str, Shuttle>> = Arc::default();
        let streams: Arc<Tracker<Shuttle>> = Arc::default();
        let (room, open) = (Arc::new(Gate::<Shuttle>::with_primitives()), Arc::default());
        room.limit(1, 2);
        let openers = each(5, {
            let (life, streams, room, open) =
                (Arc::clone(&life), Arc::clone(&streams), Arc::clone(&room), Arc::clone(&open));
            move |_| {
                let mut ticket = Ticket::new(&room);
                let has_room = block_on(life.unless_retired(poll_fn(|cx| ticket.poll(cx)))).is_some();
                if !has_room {
                    assert!(life.retirement().is_some());
                    return;
                }
                room.enter(1);
                let mut stream = Box::pin(streams.run(pending::<()>()));
                if stream.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
                    drop(Held::new(&open));
                }
                drop(stream);
                room.leave(1);
                room.wake();
            }
        });
        life.retire("draining", || {}, || streams.stop());
        block_on(streams.join());
        assert_eq!(open.load(SeqCst), 0, "a stream was open when the drain ended");
        life.close("drained", "drained", || {});
        join(openers);
    });
}
