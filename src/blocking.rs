//! How a thread without async waits for a future.

use std::{
    future::Future,
    time::{Duration, Instant},
};

use crate::sync::{self, Std};

/// Waits for a future that needs no runtime.
///
/// # Panics
///
/// Inside an async context, if it would have to wait.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    sync::block_on::<_, Std>(future, None, assert_may_wait).unwrap_or_else(|| unreachable!("there is no deadline"))
}

/// As [`block_on`], for at most this long.
#[allow(clippy::disallowed_methods, reason = "a thread has no other clock, and a simulation has no threads")]
pub(crate) fn block_on_timeout<F: Future>(timeout: Duration, future: F) -> Option<F::Output> {
    // Without a deadline if that is beyond what the clock can represent.
    sync::block_on::<_, Std>(future, Instant::now().checked_add(timeout), assert_may_wait)
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
