//! G1 G3 G17: how sessions and streams end, beside many who open, wait, read and park.

use std::{
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll},
};

use evermux::sync::{Bell, Latch, LazyLatch, Life, Primitives, block_on as park};
use loom_tests::{Checked, Shuttle, Spurious, advance_to, install, sample, slot, wake_for_no_reason};
use shuttle::{
    future::block_on,
    sync::atomic::{AtomicBool, Ordering::SeqCst},
    thread,
};

use super::{each, join};

type Reason = &'static str;

/// A session, and whoever waits to open a stream on it.
struct Session {
    life: Life<Reason, Reason, Shuttle>,
    /// Set when no more streams are opened.
    refused: Arc<Latch<(), Shuttle>>,
}

impl Session {
    fn new() -> Arc<Self> {
        Arc::new(Self { life: Life::with_primitives(), refused: Arc::new(Latch::with_primitives()) })
    }

    /// Waits until it opens no more streams, in one of the ways in which one learns of that.
    fn ends(&self, how: u32) {
        match how {
            0 => block_on(self.refused.wait()),
            1 => assert!(matches!(block_on(self.life.retired()), "draining" | "lost")),
            _ => assert_eq!(block_on(self.life.closed()), "lost"),
        }
    }
}

/// Open, retire, drain: one session is asked to close, drains and ends, while another thread loses it; the next is
/// lost; the third stays. Nobody is given a session again that has refused him.
#[test]
fn openers_beside_sessions_that_drain_and_are_lost() {
    sample("openers_beside_sessions_that_drain_and_are_lost", || {
        let slot = slot::<Shuttle>(1);
        let sessions: Arc<[_; 2]> = Arc::new([Session::new(), Session::new()]);
        let openers = each(4, {
            let (slot, sessions) = (Arc::clone(&slot), Arc::clone(&sessions));
            move |number| {
                let mut refused = Vec::new();
                loop {
                    let session = if number == 0 { slot.wait_blocking() } else { block_on(slot.wait()) };
                    let session = session.unwrap();
                    assert!(!refused.contains(&session), "{session} has refused it before");
                    let Some(ends) = sessions.get(session as usize) else { return session };
                    ends.ends(number % 3);
                    refused.push(session);
                }
            }
        });
        let first = install(&slot, 0);
        let driver = thread::spawn({
            let (slot, sessions) = (Arc::clone(&slot), Arc::clone(&sessions));
            move || {
                let _ = slot.clear(first);
                sessions[0].life.close("lost", "lost", || sessions[0].refused.set(()));
            }
        });
        let clear = || {
            let _ = slot.clear(first);
        };
        sessions[0].life.retire("draining", clear, || sessions[0].refused.set(()));
        let second = install(&slot, 1);
        assert_eq!(slot.clear(second), Some(1));
        sessions[1].life.close("lost", "lost", || sessions[1].refused.set(()));
        install(&slot, 2);
        assert_eq!(join(openers), [2; 4]);
        driver.join().unwrap();
    });
}

/// The wire, the user and the teardown tell how a stream ended; three who wait, in tasks and threads, learn the same.
#[test]
fn everybody_learns_the_same_end() {
    sample("everybody_learns_the_same_end", || {
        let end = Arc::new(LazyLatch::<u32, Shuttle>::with_primitives());
        let tell = each(3, {
            let end = Arc::clone(&end);
            move |number| end.set(number)
        });
        let learn = each(3, {
            let end = Arc::clone(&end);
            move |number| {
                let latched = end.latch().wait();
                if number == 0 { park::<_, Shuttle>(latched, None, || {}).unwrap() } else { block_on(latched) }
            }
        });
        let learnt = join(learn);
        join(tell);
        assert_eq!(learnt, [block_on(end.latch().wait()); 3]);
    });
}

/// Both halves of two streams poll the crate while it is lost with its wakers, some of them on their second task.
#[test]
fn many_poll_the_crate_beside_the_report() {
    sample("many_poll_the_crate_beside_the_report", || {
        let life = Arc::new(Life::<Reason, Reason, Shuttle>::with_primitives());
        let (is_gone, bells) =
            (Arc::new(AtomicBool::new(false)), Arc::new([(); 4].map(|()| Bell::<Shuttle>::with_primitives())));
        let halves = each(4, {
            let (life, is_gone, bells) = (Arc::clone(&life), Arc::clone(&is_gone), Arc::clone(&bells));
            move |number| {
                let poll = |cx: &mut Context<'_>| {
                    let waker = Checked::<Shuttle>::waker(cx.waker());
                    let crate_is_gone = |_: &mut Context<'_>| {
                        if is_gone.load(SeqCst) { Poll::Ready(()) } else { Poll::Pending }
                    };
                    let is_over = || life.reason().is_some();
                    bells[number as usize].poll(&mut Context::from_waker(&waker), is_over, crate_is_gone)
                };
                if number % 2 == 0 {
                    let _ = poll(&mut Context::from_waker(std::task::Waker::noop()));
                }
                block_on(poll_fn(poll));
            }
        });
        life.close("panicked", "panicked", || {});
        is_gone.store(true, SeqCst);
        for bell in &*bells {
            bell.ring();
        }
        join(halves);
    });
}

/// Threads without async that wait for one thing, with and without a deadline, and are woken for no reason.
#[test]
fn threads_that_park_beside_a_clock() {
    sample("threads_that_park_beside_a_clock", || {
        let latch = Arc::new(Latch::<u32, Shuttle>::with_primitives());
        let threads = each(4, {
            let latch = Arc::clone(&latch);
            move |number| {
                let deadline = (number < 2).then_some(u64::from(number) + 1);
                let seen = park::<_, Spurious<Shuttle>>(latch.wait(), deadline, || {});
                let in_time = deadline.is_some_and(|deadline| Spurious::<Shuttle>::now() >= deadline);
                assert!(seen == Some(1) || in_time, "{seen:?} before {deadline:?}");
            }
        });
        let clock = thread::spawn(|| {
            advance_to::<Shuttle>(1);
            wake_for_no_reason::<Shuttle>();
            advance_to::<Shuttle>(2);
        });
        latch.set(1);
        join(threads);
        clock.join().unwrap();
        assert_eq!(park::<_, Spurious<Shuttle>>(latch.wait(), Some(1), || {}), Some(1));
    });
}
