//! Sessions and streams.

use std::{error::Error, io, sync::Arc, time::Duration};

use super::manager::Stopped;

/// Why a session ended.
///
/// ```
/// use evermux::CloseReason;
///
/// /// What to do about it.
/// fn advice(reason: &CloseReason) -> &'static str {
///     match reason {
///         CloseReason::Closed | CloseReason::PeerClosed => "nothing: it was closed cleanly",
///         CloseReason::DrainTimedOut { .. } => "give streams longer to finish",
///         CloseReason::HeldOut => "look for another program with this configuration",
///         CloseReason::NotAdmitted => "look at what the receiver admits",
///         CloseReason::Lost(_) | CloseReason::HeartbeatTimeout | CloseReason::WriteStalled => "look at the path",
///         CloseReason::Protocol(_) => "look at what listens there",
///         _ => "look at the text",
///     }
/// }
/// assert_eq!(advice(&CloseReason::HeartbeatTimeout), "look at the path");
/// ```
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CloseReason {
    /// We closed it: by [`Session::close`](crate::Session::close), a shutdown or the drop of the last handle, or
    /// because [`Config::max_streams_per_session`](crate::Config::max_streams_per_session) streams had been opened on
    /// it. Nothing was cut: each stream had ended, and the peer has ended the connection cleanly as well.
    #[error("the session was closed on this side")]
    Closed,
    /// We ended it at once: [`Session::abort`](crate::Session::abort).
    #[error("the session was aborted on this side")]
    Aborted,
    /// The peer closed it cleanly.
    #[error("the session was closed by the peer")]
    PeerClosed,
    /// It was closed cleanly, on this side or by the peer, but did not finish in time.
    #[error("the session was closed, and {}", what_is_left(*.streams))]
    DrainTimedOut {
        /// How many streams were still open and were cut. If 0, the peer took too long to end the connection, and may
        /// not have read what was sent last.
        streams: usize,
    },
    /// The peer ended it with an error: 1 is a protocol error, 2 an internal error. Some peers do this when we have
    /// more streams open than they allow.
    #[error(
        "the peer ended the session with error code {0} (1: protocol error or too many streams, 2: internal error)"
    )]
    PeerError(u32),
    /// The connection was lost.
    #[error("the connection was lost: {0}")]
    Lost(Arc<io::Error>),
    /// The peer stayed silent after a ping.
    #[error("the peer stayed silent after a ping")]
    HeartbeatTimeout,
    /// The peer, or the path to it, took no bytes for too long.
    #[error("the peer stopped accepting data")]
    WriteStalled,
    /// The peer sent more pings than it read answers.
    #[error("the peer floods this side with pings, and reads no answers")]
    PingFlood,
    /// The peer caused more control frames than it read.
    #[error("the peer floods this side: it causes control frames, and reads none")]
    ControlFlood,
    /// The peer sent something that is not yamux.
    #[error("the peer broke the yamux protocol: {0}")]
    Protocol(Arc<str>),
    /// The receiver has no place for the session: live sessions have taken them all. Two programs that dial with the
    /// same settings hold each other out like this. Both sides get this reason if both are evermux.
    #[error("every place of the receiver is taken by a session that is alive")]
    HeldOut,
    /// The receiver does not admit this peer: see [`Builder::admit`](crate::manager::Builder::admit). Both sides get
    /// this reason if both are evermux.
    #[error("the receiver does not admit the peer")]
    NotAdmitted,
    /// The peer, a receiver, had heard nothing from this side, and gave the session's place to another one that was
    /// waiting for it. Its own reason is [`Replaced`](Self::Replaced).
    #[error("the receiver gave the place of the session to another one")]
    Displaced,
    /// The peer heard nothing from this side for too long, and gave the session up. Its own reason is
    /// [`HeartbeatTimeout`](Self::HeartbeatTimeout).
    #[error("the peer heard nothing of this side for too long, and gave the session up")]
    PeerTimedOut,
    /// Another session took its place.
    #[error("the session was replaced by another one")]
    Replaced,
    /// The peer did not answer in time while the session was being set up.
    #[error("the peer did not answer in time while the session was being set up")]
    NotProven,
    /// It was dropped during its handshake to make room for another connection: more were in flight than
    /// [`Config::max_handshakes_in_flight`](crate::Config::max_handshakes_in_flight) allows.
    #[error(
        "more handshakes were in flight than max_handshakes_in_flight allows, and the peer had said nothing for {silent_for:?}"
    )]
    CrowdedOut {
        /// How long the peer had been silent.
        silent_for: Duration,
    },
    /// The task that drives it panicked. This is a bug in evermux or in code that it was given.
    #[error("the task that drives the session panicked")]
    Panicked,
    /// The runtime that ran it ended.
    #[error("the runtime that drives the session has ended")]
    RuntimeEnded,
}

impl CloseReason {
    /// Whether the session was closed cleanly, or is being closed.
    pub(crate) fn is_goodbye(&self) -> bool {
        matches!(self, Self::Closed | Self::PeerClosed)
    }

    /// A name for the reason that is stable across versions, for logs and metrics, such as `heartbeat_timeout`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Aborted => "aborted",
            Self::PeerClosed => "peer_closed",
            Self::DrainTimedOut { .. } => "drain_timed_out",
            Self::PeerError(_) => "peer_error",
            Self::Lost(_) => "lost",
            Self::HeartbeatTimeout => "heartbeat_timeout",
            Self::WriteStalled => "write_stalled",
            Self::PingFlood => "ping_flood",
            Self::ControlFlood => "control_flood",
            Self::Protocol(_) => "protocol",
            Self::HeldOut => "held_out",
            Self::NotAdmitted => "not_admitted",
            Self::Displaced => "displaced",
            Self::PeerTimedOut => "peer_timed_out",
            Self::Replaced => "replaced",
            Self::NotProven => "not_proven",
            Self::CrowdedOut { .. } => "crowded_out",
            Self::Panicked => "panicked",
            Self::RuntimeEnded => "runtime_ended",
        }
    }

    /// The [`io::ErrorKind`] that streams report when their session has ended for this reason.
    pub fn kind(&self) -> io::ErrorKind {
        match self {
            Self::HeartbeatTimeout
            | Self::PeerTimedOut
            | Self::WriteStalled
            | Self::NotProven
            | Self::CrowdedOut { .. } => io::ErrorKind::TimedOut,
            Self::Protocol(_) | Self::PingFlood | Self::ControlFlood => io::ErrorKind::InvalidData,
            _ => io::ErrorKind::ConnectionReset,
        }
    }
}

impl From<CloseReason> for io::Error {
    fn from(reason: CloseReason) -> Self {
        io::Error::new(reason.kind(), reason)
    }
}

/// Why a stream ended early, or can no longer be used in this direction: the source of an [`io::Error`] of a
/// [`MuxStream`](crate::MuxStream) whose session has not ended. If it has, the source is a [`CloseReason`].
///
/// ```
/// use evermux::StreamError;
///
/// /// Whether a request on this stream may be repeated on another one, whatever it does.
/// fn was_refused(error: &std::io::Error) -> bool {
///     let stream = error.get_ref().and_then(|source| source.downcast_ref());
///     matches!(stream, Some(StreamError::Refused))
/// }
/// assert!(was_refused(&StreamError::Refused.into()));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    /// The peer reset the stream before it handed it to anyone: too many streams are waiting there, or it is closing.
    /// Nothing that was sent on it had an effect, so it is safe to repeat. Only the refusals of an evermux peer can be
    /// recognised.
    #[error("the stream was refused by the peer: nobody there was given it")]
    Refused,
    /// The peer reset the stream, or dropped it unfinished.
    #[error("the stream was reset by the peer")]
    ResetByPeer,
    /// It was reset on this side, by [`MuxStream::reset`](crate::MuxStream::reset) or by the drop of its other half.
    #[error("the stream was reset on this side")]
    ResetHere,
    /// It was reset on this side because the peer had sent more small frames than may wait to be read. Buffered data is
    /// lost.
    #[error("the stream was reset on this side: the peer sent more small frames than may wait to be read")]
    Flooded,
    /// The peer reset the stream because this side had sent more small frames than may wait there to be read: write
    /// more at once. The peer's own error is [`Flooded`](Self::Flooded). Only an evermux peer reports this.
    #[error("the stream was reset by the peer: this side sent more small frames than may wait to be read there")]
    Flooding,
    /// It was shut down for writing.
    #[error("the stream was shut down for writing")]
    ShutDown,
}

impl StreamError {
    /// The [`io::ErrorKind`] of an [`io::Error`] with this source.
    pub fn kind(self) -> io::ErrorKind {
        match self {
            Self::Refused => io::ErrorKind::ConnectionRefused,
            Self::ResetByPeer | Self::ResetHere | Self::Flooded | Self::Flooding => io::ErrorKind::ConnectionReset,
            Self::ShutDown => io::ErrorKind::BrokenPipe,
        }
    }
}

impl From<StreamError> for io::Error {
    fn from(error: StreamError) -> Self {
        io::Error::new(error.kind(), error)
    }
}

/// Why a stream could not be opened.
///
/// ```
/// use std::time::Duration;
/// use evermux::{MuxManager, OpenError};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let manager = MuxManager::receive("127.0.0.1:0").start().await?;
/// match manager.open_stream_within(Duration::from_millis(10)).await {
///     Ok(stream) => drop(stream),
///     Err(OpenError::NoSession { last_attempt, .. }) => println!("there is no peer: {last_attempt:?}"),
///     Err(OpenError::TimedOut) => println!("too many streams are open"),
///     Err(OpenError::Stopped(why)) => println!("there will be no session: {why}"),
///     // `Draining` and `Lost` come from a `Session` alone: a manager moves on to the next session.
///     Err(error) => println!("{error}"),
/// }
/// # manager.shutdown().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// There was no room in time: too many streams are open, or the peer acknowledges none.
    #[error("no stream could be opened in time: too many are open, or the peer acknowledges none")]
    TimedOut,
    /// There was no session in time.
    #[error("there was no session within {within:?}{}", after_failure(last_attempt.as_deref()))]
    NoSession {
        /// How long the call waited.
        within: Duration,
        /// The error of the last attempt, if one has failed since the start or the last session.
        last_attempt: Option<Arc<dyn Error + Send + Sync>>,
    },
    /// The session is closing; open the stream on the next one.
    #[error("the session is closing and opens no more streams")]
    Draining,
    /// The session has ended.
    #[error("the session has ended: {0}")]
    Lost(CloseReason),
    /// The manager has stopped: no more sessions will be made.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// What had not finished when the time to close was up.
fn what_is_left(streams: usize) -> String {
    match streams {
        0 => "the peer did not end the connection in time".into(),
        1 => "one stream did not end in time".into(),
        _ => format!("{streams} streams did not end in time"),
    }
}

/// The end of an error's text, if an attempt has failed.
fn after_failure(last_attempt: Option<&(dyn Error + Send + Sync)>) -> String {
    last_attempt.map(|error| format!("; the last attempt failed: {error}")).unwrap_or_default()
}

impl From<OpenError> for io::Error {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::TimedOut | OpenError::NoSession { .. } => io::Error::new(io::ErrorKind::TimedOut, error),
            OpenError::Draining => io::Error::new(io::ErrorKind::NotConnected, error),
            OpenError::Lost(reason) => reason.into(),
            OpenError::Stopped(stopped) => stopped.into(),
        }
    }
}
