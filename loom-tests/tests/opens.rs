//! Open, retire, drain: a caller that opens a stream, beside a session that retires and waits for its streams (G1 G3
//! G17).
//!
//! What production has of tokio's semaphore is here a permit, and a latch that is set when it is free; what the driver
//! counts is a tracker.

use std::{
    future::{pending, poll_fn},
    pin::pin,
    sync::Arc,
    task::{Context, Waker},
};

use evermux::sync::{Latch, Life, SessionId, Tracker};
use loom::{
    future::block_on,
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
    thread,
};
use loom_tests::{
    Checked, Loom, Permits,
    Preemptions::{AtMost, Unbounded},
    Slot, explore, install, slot,
};

type Reason = &'static str;

/// Waits with a waker that no lock may see.
fn wait<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    block_on(poll_fn(|cx| future.as_mut().poll(&mut Context::from_waker(&Checked::<Loom>::waker(cx.waker())))))
}

/// Whoever waits for a permit is given it, or told that the session retires, whichever is first, and waits for nothing
/// else. Of a session that is lost he learns why.
#[test]
fn an_opener_that_waits_for_a_permit_of_a_session_that_ends() {
    type Ends = fn(&Life<Reason, Reason, Loom>);
    let retires: Ends = |life| life.retire("draining", || {}, || {});
    let is_lost: Ends = |life| life.close("lost", "lost", || {});
    for (how, ends, reason) in [("retires", retires, None), ("is lost", is_lost, Some("lost"))] {
        let name = format!("an_opener_that_waits_for_a_permit_of_a_session_that_ends, {how}");
        explore(&name, AtMost(4), 100, move || {
            let (permits, life) = (Permits::<Loom>::new(1), Arc::new(Life::<Reason, Reason, Loom>::with_primitives()));
            let (stream, freed) = (permits.take().unwrap(), Arc::new(Latch::<(), Loom>::default()));
            let opener = thread::spawn({
                let (permits, life, freed) = (Arc::clone(&permits), Arc::clone(&life), Arc::clone(&freed));
                move || match wait(life.unless_retired(freed.wait())) {
                    Some(()) => assert!(permits.take().is_some(), "its permit is free"),
                    None => {
                        assert!(life.retirement().is_some());
                        assert_eq!(life.reason(), reason);
                    }
                }
            });
            let other = thread::spawn(move || {
                drop(stream);
                freed.set(());
            });
            ends(&life);
            opener.join().unwrap();
            other.join().unwrap();
            assert_eq!(permits.free(), 1);
        });
    }
}

/// Nobody frees a permit any more: the end of the session is the only thing to be told.
#[test]
fn an_opener_whose_permit_never_comes() {
    explore("an_opener_whose_permit_never_comes", Unbounded, 6, || {
        let life = Arc::new(Life::<Reason, Reason, Loom>::with_primitives());
        let opener = thread::spawn({
            let life = Arc::clone(&life);
            move || wait(life.unless_retired(pending::<()>()))
        });
        life.retire("draining", || {}, || {});
        assert_eq!(opener.join().unwrap(), None);
    });
}

/// A session in a slot, its streams, and how many of them somebody has.
struct Session {
    slot: Arc<Slot<Loom>>,
    id: SessionId,
    life: Life<Reason, Reason, Loom>,
    streams: Arc<Tracker<Loom>>,
    open: AtomicUsize,
}

impl Session {
    fn new() -> Arc<Self> {
        let slot = slot::<Loom>(1);
        let id = install(&slot, 1);
        let (life, streams) = (Life::with_primitives(), Arc::default());
        Arc::new(Self { slot, id, life, streams, open: AtomicUsize::new(0) })
    }

    /// Opens a stream and is done with it, unless the session opens none any more.
    fn open(&self) -> bool {
        if self.slot.peek().is_none() {
            return false;
        }
        let mut stream = Box::pin(self.streams.run(pending::<()>()));
        if stream.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready() {
            return false;
        }
        self.open.fetch_add(1, SeqCst);
        self.open.fetch_sub(1, SeqCst);
        drop(stream);
        true
    }

    /// Retires, and ends with the last stream.
    fn drain(&self) {
        let clear = || assert_eq!(self.slot.clear(self.id), Some(1));
        self.life.retire("draining", clear, || self.streams.stop());
        wait(self.streams.join());
        assert_eq!(self.open.load(SeqCst), 0, "a stream was open when the drain ended");
        self.life.close("drained", "drained", || {});
    }
}

/// One caller, in every execution.
#[test]
fn an_open_beside_a_drain() {
    explore("an_open_beside_a_drain", Unbounded, 100, || {
        let session = Session::new();
        let opener = thread::spawn({
            let session = Arc::clone(&session);
            move || {
                session.open();
                // Whoever is told that it has closed opens nothing on it.
                assert_eq!(wait(session.life.closed()), "drained");
                assert!(!session.open());
            }
        });
        session.drain();
        opener.join().unwrap();
        assert_eq!(session.life.retirement(), Some("draining"));
    });
}

/// Two callers, one of whom has a stream already, which he drops: the drain ends with the last.
#[test]
fn a_drain_ends_with_its_last_stream() {
    explore("a_drain_ends_with_its_last_stream", AtMost(3), 500, || {
        let session = Session::new();
        let stream = session.streams.run(pending::<()>());
        session.open.fetch_add(1, SeqCst);
        let holder = thread::spawn({
            let session = Arc::clone(&session);
            move || {
                session.open.fetch_sub(1, SeqCst);
                drop(stream);
            }
        });
        let opener = thread::spawn({
            let session = Arc::clone(&session);
            move || session.open()
        });
        session.drain();
        holder.join().unwrap();
        opener.join().unwrap();
    });
}
