//! How a session is closed, and how one learns of it.

use std::time::Duration;

use super::{Session, command::Command, goodbye::Goodbye};
use crate::{error::CloseReason, sync::Steps};

impl Session {
    /// Waits for the session to end, and returns why.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    pub async fn closed(&self) -> CloseReason {
        self.0.state.closed().await
    }

    /// Waits until the session opens no more streams and refuses those of the peer, and returns the reason: it is
    /// closing cleanly, at the request of either side, or it has ended.
    ///
    /// A closing session waits for its streams, for up to [`Config::drain_timeout`](crate::Config::drain_timeout). If a
    /// stream would never end by itself, such as an HTTP/2 connection, send its own goodbye now, and the session closes
    /// within a round trip.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    pub async fn draining(&self) -> CloseReason {
        self.retired().await.reason
    }

    /// Whether the session opens no more streams: it is closing, or has ended.
    pub fn is_draining(&self) -> bool {
        self.0.state.retirement().is_some()
    }

    /// Closes the session cleanly, waits until it is closed, and returns the outcome.
    ///
    /// It leaves its manager at once. No new streams are opened; those in flight may finish within
    /// [`Config::drain_timeout`](crate::Config::drain_timeout), then they are reset.
    ///
    /// [`CloseReason::Closed`] means that every stream had ended, the transport took every byte, and the peer ended the
    /// connection cleanly. Whether an application has read the bytes, only the application can tell.
    /// [`CloseReason::DrainTimedOut`] counts the streams that were cut; any other reason is what went wrong on the way.
    ///
    /// ```
    /// use evermux::CloseReason;
    /// # use evermux::{Config, Session};
    /// # use tokio::io::{AsyncReadExt, AsyncWriteExt};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (near, far) = tokio::io::duplex(4096);
    /// # let config = Config::default();
    /// # let (client, server) = tokio::try_join!(Session::client(near, &config), Session::server(far, &config))?;
    /// let mut stream = client.open_stream().await?;
    /// stream.write_all(b"the last words").await?;
    /// stream.shutdown().await?;
    /// let reading = tokio::spawn(async move {
    ///     let mut stream = server.accept_stream().await?;
    ///     let mut text = String::new();
    ///     stream.read_to_string(&mut text).await?;
    ///     stream.shutdown().await?;
    ///     Ok::<_, std::io::Error>(text)
    /// });
    /// match client.close().await {
    ///     CloseReason::Closed => println!("nothing was cut"),
    ///     CloseReason::DrainTimedOut { streams } => panic!("{streams} streams were cut"),
    ///     reason => panic!("the session was lost as it closed: {reason}"),
    /// }
    /// assert_eq!(reading.await??, "the last words");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Once polled, dropping the future does not stop the closing.
    pub async fn close(&self) -> CloseReason {
        self.close_within(self.0.drain_timeout).await
    }

    pub(crate) async fn close_within(&self, within: Duration) -> CloseReason {
        self.retire(CloseReason::Closed, Some(within), Command::Close(within));
        self.closed().await
    }

    /// Ends the session at once: nothing more is sent, and the connection is dropped.
    pub fn abort(&self) {
        self.end(CloseReason::Aborted);
    }

    pub(crate) fn end(&self, reason: CloseReason) {
        self.retire(reason.clone(), None, Command::Abort(reason));
    }

    /// The driver learns of it whatever the wakers do of those who learn of it first.
    fn retire(&self, reason: CloseReason, drains: Option<Duration>, command: Command) {
        let mut steps = Steps::new();
        steps.run(|| self.0.state.retire(reason, drains));
        steps.run(|| self.command(command));
    }

    /// Closes a session that was handed to nobody, with a goodbye that says why. Waits until that is done, for at most
    /// a second.
    pub(crate) async fn refuse(&self, goodbye: Goodbye) {
        self.command(Command::Refuse(goodbye));
        self.closed().await;
    }
}
