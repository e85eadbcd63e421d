//! How a stream is opened: on the session that is live, or on the next one.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use tokio::time::timeout;
use tokio_util::context::TokioContext;

use super::MuxManager;
use crate::{
    blocking::{block_on, block_on_timeout},
    error::OpenError,
    session::MuxStream,
};

impl MuxManager {
    /// Opens a stream on the live session; moves on to the next one if this one is lost or closing.
    ///
    /// Waits for a session, and for room on it as [`Session::open_stream`](crate::Session::open_stream) does.
    ///
    /// ```
    /// use std::time::Duration;
    /// use evermux::{Config, MuxManager};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let receiver = MuxManager::receive("127.0.0.1:0").start().await?;
    /// let address = receiver.local_addr().unwrap().to_string();
    /// let config = Config::builder().backoff_initial(Duration::from_millis(10)).build()?;
    /// let manager = MuxManager::establish(address).config(config).start().await?;
    ///
    /// let stream = manager.open_stream().await?;
    /// manager.session().await?.abort();
    /// // The stream has gone with its session. This one waits for the next session.
    /// let next = manager.open_stream().await?;
    /// assert_ne!(stream.session_id(), next.session_id());
    /// # drop((stream, next));
    /// # manager.shutdown().await;
    /// # receiver.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`OpenError::TimedOut`] if a live session had no room in time, and [`OpenError::Stopped`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future opens nothing, or resets what was opened.
    pub async fn open_stream(&self) -> Result<MuxStream, OpenError> {
        self.open(&AtomicBool::new(false)).await
    }

    /// Opens a stream, and records whether it is waiting for room on a session rather than for a session.
    async fn open(&self, has_session: &AtomicBool) -> Result<MuxStream, OpenError> {
        loop {
            has_session.store(false, Ordering::Relaxed);
            let session = self.session().await?;
            has_session.store(true, Ordering::Relaxed);
            match session.open_stream().await {
                // It left the slot before this was returned, so the next iteration waits for another.
                Err(OpenError::Draining | OpenError::Lost(_)) => {}
                outcome => return outcome,
            }
        }
    }

    /// [`open_stream`](Self::open_stream), waiting for at most `within`.
    ///
    /// # Errors
    ///
    /// [`OpenError::NoSession`] if there was no session in time, with the error of the last attempt; otherwise as
    /// [`open_stream`](Self::open_stream).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future opens nothing, or resets what was opened.
    pub async fn open_stream_within(&self, within: Duration) -> Result<MuxStream, OpenError> {
        let has_session = AtomicBool::new(false);
        let opening = async { timeout(within, self.open(&has_session)).await };
        let opened = TokioContext::new(opening, self.0.runtime.clone()).await;
        opened.unwrap_or_else(|_| Err(self.not_opened(within, &has_session)))
    }

    /// [`open_stream_within`](Self::open_stream_within) for threads.
    ///
    /// # Errors
    ///
    /// As [`open_stream_within`](Self::open_stream_within).
    ///
    /// # Panics
    ///
    /// Where it would have to wait inside an async context.
    pub fn open_stream_blocking_within(&self, within: Duration) -> Result<MuxStream, OpenError> {
        let has_session = AtomicBool::new(false);
        let opened = block_on_timeout(within, self.open(&has_session));
        opened.unwrap_or_else(|| Err(self.not_opened(within, &has_session)))
    }

    /// [`open_stream`](Self::open_stream) for threads.
    ///
    /// # Errors
    ///
    /// As [`open_stream`](Self::open_stream).
    ///
    /// # Panics
    ///
    /// Where it would have to wait inside an async context.
    pub fn open_stream_blocking(&self) -> Result<MuxStream, OpenError> {
        block_on(self.open_stream())
    }

    /// Why no stream was opened in this time.
    fn not_opened(&self, within: Duration, has_session: &AtomicBool) -> OpenError {
        if has_session.load(Ordering::Relaxed) {
            return OpenError::TimedOut;
        }
        // An error from before the last session says nothing about now.
        let snapshot = self.0.progress.get();
        let last_attempt = snapshot.last_error.filter(|_| snapshot.attempts > 0);
        OpenError::NoSession { within, last_attempt }
    }
}
