use std::{
    cell::Cell,
    panic::{self, AssertUnwindSafe},
    pin::pin,
    sync::{
        Arc, LazyLock, Mutex, MutexGuard,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    thread,
    time::{Duration, Instant},
};

use super::{
    Arrivals, Bell, Claim, ClearHook, Earliest, Ending, Ends, Gate, Hold, Lane, LaneLimits, Latch, Latched, LazyLatch,
    Life, Primitives, Queue, Refused, Relay, Repoll, SessionEnd, SessionId, SessionSlot, SlotReader, Std, Steps,
    StopGuard, Taker, Ticket, Tracker, WaitUntilError, block_on,
};

mod arrivals;
mod ending;
mod ends;
mod gate;
mod holds;
mod repoll;
mod shows;
mod slot;
mod told;
mod waiting;

type Slot = SessionSlot<&'static str, &'static str>;

fn slot(places: usize) -> Arc<Slot> {
    Arc::new(SessionSlot::new(places))
}

fn install(slot: &Arc<Slot>, session: &'static str) -> SessionId {
    install_with(slot, session, &Arc::default())
}

fn install_with(slot: &Arc<Slot>, session: &'static str, load: &Arc<AtomicUsize>) -> SessionId {
    let mut reservation = slot.reserve();
    slot.install(&mut reservation, session, Arc::clone(load)).unwrap();
    reservation.id()
}

#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Count {
    fn new() -> (Arc<Self>, Waker) {
        let count = Arc::new(Self::default());
        (Arc::clone(&count), Waker::from(count))
    }

    fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

struct Panics;

impl Wake for Panics {
    fn wake(self: Arc<Self>) {
        panic!("this waker panics");
    }
}

fn poll<F: Future + Unpin>(future: &mut F, waker: &Waker) -> Poll<F::Output> {
    pin!(future).poll(&mut Context::from_waker(waker))
}

fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    poll(future, Waker::noop())
}

#[expect(clippy::disallowed_methods, reason = "these threads wait by the real clock")]
fn now() -> Instant {
    Instant::now()
}

/// Blocks a thread in the slot, and returns once it waits.
fn blocked<T: Send + 'static>(
    slot: &Arc<Slot>,
    wait: impl FnOnce(&Slot) -> T + Send + 'static,
) -> thread::JoinHandle<T> {
    let before = slot.waiting();
    let thread = thread::spawn({
        let slot = Arc::clone(slot);
        move || wait(&slot)
    });
    while slot.waiting() == before {
        thread::yield_now();
    }
    thread
}
