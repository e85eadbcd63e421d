//! How a thread without async waits for a future.

use std::{
    future::Future,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
    time::Duration,
};

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits for a future that needs no runtime.
///
/// # Panics
///
/// Inside an async context, if it would have to wait.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    park_until_ready(future, || {
        thread::park();
        true
    })
    .unwrap_or_else(|| unreachable!("there is no deadline"))
}

/// As [`block_on`], for at most this long.
#[allow(clippy::disallowed_methods, reason = "a thread has no other clock, and a simulation has no threads")]
pub(crate) fn block_on_timeout<F: Future>(timeout: Duration, future: F) -> Option<F::Output> {
    let start = std::time::Instant::now();
    park_until_ready(future, || {
        let left = timeout.saturating_sub(start.elapsed());
        thread::park_timeout(left);
        !left.is_zero()
    })
}

/// Polls until the future is ready. `park` waits for a wake-up, and returns whether there is time left for another.
fn park_until_ready<F: Future>(future: F, mut park: impl FnMut() -> bool) -> Option<F::Output> {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut cx = Context::from_waker(&waker);
    let mut time_left = true;
    let mut may_wait = false;
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
            return Some(output);
        }
        if !time_left {
            return None;
        }
        if !may_wait {
            assert_may_wait();
            may_wait = true;
        }
        time_left = park();
    }
}

/// Panics where a wait would block a thread that drives async tasks.
///
/// `Handle::try_current` cannot tell such a thread from one in `spawn_blocking` or `block_in_place`. A blocking receive
/// of a value that is already there can: it panics only on the former.
pub(crate) fn assert_may_wait() {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let _ = sender.send(());
    let _ = receiver.blocking_recv();
}
