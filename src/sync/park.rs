//! How a thread without async waits for a future.

use std::{
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
};

use super::Primitives;

/// Waits for a future on this thread, until `deadline` if there is one. `None` if that comes first: the future was
/// polled once more after it, and dropped.
///
/// No wake-up is lost: after one that comes during a poll or before the thread sleeps, the future is polled again.
/// `before_waiting` is called once, before the thread first has to wait.
pub fn block_on<F: Future, P: Primitives>(
    future: F,
    deadline: Option<P::Instant>,
    before_waiting: impl FnOnce(),
) -> Option<F::Output>
where
    P::Mutex<bool>: Send + Sync,
    P::Condvar: Send + Sync,
{
    let mut future = pin!(future);
    let parker = Arc::new(Parker::<P> { woken: P::mutex(false), changed: P::condvar() });
    let waker = Waker::from(Arc::clone(&parker));
    let mut cx = Context::from_waker(&waker);
    let mut before_waiting = Some(before_waiting);
    let mut time_left = true;
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
            return Some(output);
        }
        if !time_left {
            return None;
        }
        if let Some(before_waiting) = before_waiting.take() {
            before_waiting();
        }
        time_left = parker.park(deadline);
    }
}

/// Where the thread sleeps.
struct Parker<P: Primitives> {
    /// Woken since the last poll began.
    woken: P::Mutex<bool>,
    changed: P::Condvar,
}

impl<P: Primitives> Parker<P> {
    /// Sleeps until it is woken, or the deadline has passed. Returns whether there is time left.
    fn park(&self, deadline: Option<P::Instant>) -> bool {
        // One lock from the look to the sleep.
        let mut woken = P::lock(&self.woken);
        loop {
            let time_left = deadline.is_none_or(|deadline| P::now() < deadline);
            if *woken || !time_left {
                *woken = false;
                return time_left;
            }
            woken = match deadline {
                None => P::wait(&self.changed, woken),
                Some(deadline) => P::wait_until(&self.changed, woken, deadline),
            };
        }
    }
}

impl<P: Primitives> Wake for Parker<P> {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let was_woken = std::mem::replace(&mut *P::lock(&self.woken), true);
        if !was_woken {
            P::notify_all(&self.changed);
        }
    }
}
