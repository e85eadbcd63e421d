//! A value that is set once, and waited for.

use std::sync::OnceLock;

use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// A value that is set once, and that tasks can wait for. The first one set stays.
#[derive(Debug)]
pub(super) struct Latch<T> {
    value: OnceLock<T>,
    signal: CancellationToken,
}

impl<T> Default for Latch<T> {
    fn default() -> Self {
        Self { value: OnceLock::new(), signal: CancellationToken::new() }
    }
}

impl<T: Clone> Latch<T> {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// A latch that is already set.
    pub(super) fn of(value: T) -> Self {
        let latch = Self::new();
        latch.set(value);
        latch
    }

    pub(super) fn set(&self, value: T) {
        let _ = self.value.set(value);
        self.signal.cancel();
    }

    pub(super) fn get(&self) -> Option<T> {
        self.value.get().cloned()
    }

    /// Becomes ready when it is set. For those that look by [`get`](Self::get).
    pub(super) fn signal(&self) -> WaitForCancellationFutureOwned {
        self.signal.clone().cancelled_owned()
    }

    pub(super) async fn wait(&self) -> T {
        loop {
            if let Some(value) = self.get() {
                return value;
            }
            self.signal.cancelled().await;
        }
    }
}
