//! How a session or a stream ends, beside those who wait for that, or for something that will not come (G3 G9 G17).

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, Waker},
};

use evermux::sync::{Bell, Latch, LazyLatch, Life};
use loom::{
    future::block_on,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread::{self, JoinHandle},
};
use loom_tests::{
    Checked, Loom,
    Preemptions::{AtMost, Unbounded},
    explore, install, slot,
};

type Reason = &'static str;

fn latch() -> Arc<Latch<Reason, Loom>> {
    Arc::new(Latch::with_primitives())
}

/// Waits with a waker that no lock may see.
fn wait<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    block_on(poll_fn(|cx| future.as_mut().poll(&mut Context::from_waker(&Checked::<Loom>::waker(cx.waker())))))
}

fn waits(latch: &Arc<Latch<Reason, Loom>>) -> JoinHandle<Reason> {
    let latched = latch.wait();
    thread::spawn(move || wait(latched))
}

/// It is set before, during or after the look.
#[test]
fn a_wait_beside_a_set() {
    explore("a_wait_beside_a_set", Unbounded, 6, || {
        let latch = latch();
        let waiter = waits(&latch);
        latch.set("set");
        assert_eq!(waiter.join().unwrap(), "set");
    });
}

/// Two set it, and everybody sees the same.
#[test]
fn a_latch_keeps_its_first_value() {
    explore("a_latch_keeps_its_first_value", Unbounded, 3_400, || {
        let latch = latch();
        let waiter = waits(&latch);
        let other = thread::spawn({
            let latch = Arc::clone(&latch);
            move || latch.set("second")
        });
        latch.set("first");
        let seen = latch.get();
        assert_eq!(Some(waiter.join().unwrap()), seen);
        other.join().unwrap();
        assert_eq!(latch.get(), seen);
    });
}

/// G9: one that is dropped while another one comes leaves nothing behind, and takes no wake-up from it.
#[test]
fn a_latched_future_that_is_dropped_takes_nothing_along() {
    explore("a_latched_future_that_is_dropped_takes_nothing_along", Unbounded, 20, || {
        let latch = latch();
        let mut old = latch.wait();
        let checked = Checked::<Loom>::new(Waker::noop());
        let waker = Waker::from(Arc::clone(&checked));
        assert!(Pin::new(&mut old).poll(&mut Context::from_waker(&waker)).is_pending());
        drop(waker);
        let waiter = waits(&latch);
        drop(old);
        assert_eq!(Arc::strong_count(&checked), 1);
        latch.set("set");
        assert_eq!(waiter.join().unwrap(), "set");
    });
}

/// G9: the same while it is woken.
#[test]
fn a_latched_future_that_is_dropped_leaves_nothing() {
    explore("a_latched_future_that_is_dropped_leaves_nothing", Unbounded, 600, || {
        let latch = latch();
        let mut old = latch.wait();
        let checked = Checked::<Loom>::new(Waker::noop());
        let waker = Waker::from(Arc::clone(&checked));
        assert!(Pin::new(&mut old).poll(&mut Context::from_waker(&waker)).is_pending());
        drop(waker);
        let waiter = waits(&latch);
        let other = thread::spawn({
            let latch = Arc::clone(&latch);
            move || latch.set("set")
        });
        drop(old);
        other.join().unwrap();
        assert_eq!(Arc::strong_count(&checked), 1);
        assert_eq!(waiter.join().unwrap(), "set");
    });
}

/// G17: the first who waits for the end of a stream asks while it ends, and keeps nothing else of it.
#[test]
fn a_wait_for_the_end_of_a_stream_that_ends() {
    explore("a_wait_for_the_end_of_a_stream_that_ends", Unbounded, 50, || {
        let end = Arc::new(LazyLatch::<Reason, Loom>::with_primitives());
        let wire = thread::spawn({
            let end = Arc::clone(&end);
            move || end.set("finished")
        });
        let latch = end.latch();
        drop(end);
        assert_eq!(wait(latch.wait()), "finished");
        wire.join().unwrap();
    });
}

/// G17: the wire and the teardown tell an end, and two who wait, before and afterwards, are told the same.
#[test]
fn both_halves_are_told_the_same_end() {
    explore("both_halves_are_told_the_same_end", Unbounded, 400, || {
        let end = Arc::new(LazyLatch::<Reason, Loom>::with_primitives());
        let teardown = thread::spawn({
            let end = Arc::clone(&end);
            move || end.set("reset")
        });
        let half = thread::spawn({
            let end = Arc::clone(&end);
            move || wait(end.latch().wait())
        });
        end.set("finished");
        let told = wait(end.latch().wait());
        assert_eq!(half.join().unwrap(), told);
        teardown.join().unwrap();
    });
}

/// A session in a slot, and whoever waits to open a stream on it.
struct Session {
    life: Life<Reason, Reason, Loom>,
    /// Set when no more streams are opened.
    refused: Arc<Latch<(), Loom>>,
}

fn session() -> Arc<Session> {
    Arc::new(Session { life: Life::with_primitives(), refused: Arc::new(Latch::with_primitives()) })
}

/// G3: whoever is not given a stream, since the session retires, or is told that it does, asks the slot, and is not
/// given the session again.
#[test]
fn an_opener_that_is_refused_is_given_another_session() {
    let is_refused = |session: &Session| wait(session.refused.wait());
    let is_told = |session: &Session| {
        assert_eq!(wait(session.life.retired()), "draining");
        assert_eq!(session.refused.get(), Some(()), "whoever knows that it drains opens nothing on it");
    };
    for (how, learns) in [("is refused", is_refused as fn(&Session)), ("is told", is_told)] {
        let name = format!("an_opener_that_is_refused_is_given_another_session, {how}");
        explore(&name, Unbounded, 6, move || {
            let (slot, session) = (slot::<Loom>(1), session());
            let id = install(&slot, 1);
            let opener = thread::spawn({
                let (slot, session) = (Arc::clone(&slot), Arc::clone(&session));
                move || {
                    learns(&session);
                    slot.peek()
                }
            });
            session.life.retire("draining", || assert_eq!(slot.clear(id), Some(1)), || session.refused.set(()));
            assert_eq!(opener.join().unwrap(), None);
        });
    }
}

/// Whoever could not open a stream on a session that is lost is told why it is, and not that it drains.
#[test]
fn an_opener_on_a_lost_session_is_told_why() {
    explore("an_opener_on_a_lost_session_is_told_why", Unbounded, 1_800, || {
        let session = session();
        let opener = thread::spawn({
            let session = Arc::clone(&session);
            move || {
                wait(session.refused.wait());
                session.life.reason()
            }
        });
        let handler = thread::spawn({
            let session = Arc::clone(&session);
            move || {
                assert_eq!(wait(session.life.retired()), "lost");
                session.life.reason()
            }
        });
        session.life.close("lost", "lost", || session.refused.set(()));
        assert_eq!(opener.join().unwrap(), Some("lost"));
        assert_eq!(handler.join().unwrap(), Some("lost"));
    });
}

/// A session is asked to close and is lost: whoever waits for its end learns why, and how it retired stays.
#[test]
fn a_session_retires_while_it_is_lost() {
    explore("a_session_retires_while_it_is_lost", AtMost(4), 4_000, || {
        let (slot, session) = (slot::<Loom>(1), session());
        let id = install(&slot, 1);
        let driver = thread::spawn({
            let (slot, session) = (Arc::clone(&slot), Arc::clone(&session));
            move || {
                let _ = slot.clear(id);
                session.life.close("lost", "lost", || session.refused.set(()));
            }
        });
        let waiter = thread::spawn({
            let session = Arc::clone(&session);
            move || (wait(session.life.closed()), session.life.retirement())
        });
        let clear = || {
            let _ = slot.clear(id);
        };
        session.life.retire("draining", clear, || session.refused.set(()));
        let retired = session.life.retirement();
        let (reason, _) = waiter.join().unwrap();
        driver.join().unwrap();
        assert_eq!(reason, "lost");
        assert!(retired.is_some());
        assert_eq!(session.life.retirement(), retired);
    });
}

/// The end of the crate, which wakes nobody: a panic has taken its wakers along.
struct Crate {
    life: Life<Reason, Reason, Loom>,
    is_gone: AtomicBool,
    bell: Bell<Loom>,
}

impl Crate {
    fn new() -> Arc<Self> {
        Arc::new(Self { life: Life::with_primitives(), is_gone: AtomicBool::new(false), bell: Bell::with_primitives() })
    }

    fn poll(&self, waker: &Waker) -> Poll<()> {
        let waker = Checked::<Loom>::waker(waker);
        let poll = |_: &mut Context<'_>| if self.is_gone.load(Relaxed) { Poll::Ready(()) } else { Poll::Pending };
        self.bell.poll(&mut Context::from_waker(&waker), || self.life.reason().is_some(), poll)
    }

    /// In the order of the teardown: it is published, then the crate is dropped, then tasks are woken.
    fn ends(self: &Arc<Self>) -> JoinHandle<()> {
        let this = Arc::clone(self);
        thread::spawn(move || {
            this.life.close("panicked", "panicked", || {});
            this.is_gone.store(true, Relaxed);
            this.bell.ring();
        })
    }
}

/// A task that polls the crate beside the report of its end notices it.
#[test]
fn a_poll_of_the_crate_beside_the_report() {
    explore("a_poll_of_the_crate_beside_the_report", Unbounded, 300, || {
        let krate = Crate::new();
        let driver = krate.ends();
        block_on(poll_fn(|cx| krate.poll(cx.waker())));
        driver.join().unwrap();
    });
}

/// The same where the task polls once more, with the waker that is registered.
#[test]
fn a_second_poll_of_the_crate_beside_the_report() {
    explore("a_second_poll_of_the_crate_beside_the_report", Unbounded, 300, || {
        let krate = Crate::new();
        let driver = krate.ends();
        block_on(poll_fn(|cx| {
            let waker = Checked::<Loom>::waker(cx.waker());
            let poll = || {
                let poll =
                    |_: &mut Context<'_>| if krate.is_gone.load(Relaxed) { Poll::Ready(()) } else { Poll::Pending };
                krate.bell.poll(&mut Context::from_waker(&waker), || krate.life.reason().is_some(), poll)
            };
            if poll().is_ready() { Poll::Ready(()) } else { poll() }
        }));
        driver.join().unwrap();
    });
}

/// The same where another task has polled before, and moves the stream on.
#[test]
fn a_stream_that_moves_to_another_task_beside_the_report() {
    explore("a_stream_that_moves_to_another_task_beside_the_report", Unbounded, 1_000, || {
        let krate = Crate::new();
        let driver = krate.ends();
        let _ = krate.poll(Waker::noop());
        block_on(poll_fn(|cx| krate.poll(cx.waker())));
        driver.join().unwrap();
    });
}
