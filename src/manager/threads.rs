//! What threads call that run no async code.

use std::time::{Duration, Instant};

use super::MuxManager;
use crate::{
    blocking::{assert_may_wait, block_on},
    error::{Stopped, WaitError},
    session::Session,
    sync::WaitUntilError,
};

impl MuxManager {
    /// [`session`](Self::session) for threads.
    ///
    /// ```
    /// use std::time::Duration;
    /// use evermux::{MuxManager, WaitError};
    ///
    /// let runtime = tokio::runtime::Runtime::new()?;
    /// let manager = runtime.block_on(MuxManager::receive("127.0.0.1:0").start())?;
    /// let nobody = manager.session_blocking_timeout(Duration::from_millis(10));
    /// assert!(matches!(nobody, Err(WaitError::TimedOut(_))));
    /// runtime.block_on(manager.shutdown());
    /// assert!(manager.session_blocking().is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`session`](Self::session). If the manager's runtime ends, waiting threads get [`Stopped::GaveUp`].
    ///
    /// # Panics
    ///
    /// Where it would have to wait inside an async context. `spawn_blocking` and `block_in_place` are fine.
    pub fn session_blocking(&self) -> Result<Session, Stopped> {
        if let Some(outcome) = self.outcome() {
            return outcome;
        }
        assert_may_wait();
        self.0.slot.wait_blocking()
    }

    /// [`session`](Self::session) for threads, waiting for at most `timeout`. Zero never waits.
    ///
    /// # Errors
    ///
    /// [`WaitError::TimedOut`], or [`WaitError::Stopped`] as for [`session`](Self::session).
    ///
    /// # Panics
    ///
    /// Where it would have to wait inside an async context.
    #[allow(clippy::disallowed_methods, reason = "a thread has no other clock, and a simulation has no threads")]
    pub fn session_blocking_timeout(&self, timeout: Duration) -> Result<Session, WaitError> {
        if let Some(outcome) = self.outcome() {
            return outcome.map_err(WaitError::Stopped);
        }
        if timeout.is_zero() {
            return Err(WaitError::TimedOut(timeout));
        }
        assert_may_wait();
        let Some(deadline) = Instant::now().checked_add(timeout) else {
            // Beyond what the clock can represent.
            return self.0.slot.wait_blocking().map_err(WaitError::Stopped);
        };
        self.0.slot.wait_until(deadline).map_err(|error| match error {
            WaitUntilError::TimedOut => WaitError::TimedOut(timeout),
            WaitUntilError::Stopped(stopped) => WaitError::Stopped(stopped),
        })
    }

    /// [`with_session`](Self::with_session) for threads. The closure is called on this thread.
    ///
    /// # Errors
    ///
    /// As [`session_blocking`](Self::session_blocking).
    ///
    /// # Panics
    ///
    /// As [`session_blocking`](Self::session_blocking).
    pub fn with_session_blocking<T>(&self, f: impl FnOnce(Session) -> T) -> Result<T, Stopped> {
        self.session_blocking().map(f)
    }

    fn outcome(&self) -> Option<Result<Session, Stopped>> {
        self.0.slot.stopped().map(Err).or_else(|| self.try_session().map(Ok))
    }

    /// [`shutdown`](Self::shutdown) for threads.
    ///
    /// # Panics
    ///
    /// Where it would have to wait inside an async context.
    pub fn shutdown_blocking(&self) {
        block_on(self.shutdown());
    }
}
