//! What can go wrong, as types that a caller can match.
//!
//! What an error says holds what caused it, so its text alone can be logged; its source is what it does not say.

mod transport;

use std::{error::Error, io, sync::Arc, time::Duration};

pub use self::transport::{AcceptError, ConnectError};

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
    /// We closed it: [`Session::close`](crate::Session::close), a shutdown, or the last handle was dropped; or as many
    /// streams were opened on it as [`Config::max_streams_per_session`](crate::Config::max_streams_per_session) allows.
    /// Nothing was cut: each stream had ended, and the peer has ended the connection cleanly as well.
    #[error("the session was closed on this side")]
    Closed,
    /// We ended it at once: [`Session::abort`](crate::Session::abort).
    #[error("the session was aborted on this side")]
    Aborted,
    /// The peer closed it cleanly.
    #[error("the session was closed by the peer")]
    PeerClosed,
    /// It was closed cleanly, on this side or by the peer, and not all of it was over in time.
    #[error("the session was closed, and {}", what_is_left(*.streams))]
    DrainTimedOut {
        /// How many streams were still open, and were cut. If 0, the peer took too long to end the connection, and may
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
    /// What the peer sent is not yamux.
    #[error("the peer broke the yamux protocol: {0}")]
    Protocol(Arc<str>),
    /// The receiver has no place for the session: live sessions have taken them all. This is how two programs that dial
    /// with the same settings hold each other out. Both sides get this reason if both are evermux.
    #[error("every place of the receiver is taken by a session that is alive")]
    HeldOut,
    /// The receiver does not admit this peer: see [`Builder::admit`](crate::manager::Builder::admit). Both sides get
    /// this reason if both are evermux.
    #[error("the receiver does not admit the peer")]
    NotAdmitted,
    /// The peer, a receiver, gave the session's place to another one that waited for it: it had heard nothing from this
    /// side. Its own reason is [`Replaced`](Self::Replaced).
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
        /// For how long the peer had said nothing.
        silent_for: Duration,
    },
    /// The task that drives it panicked. This is a bug in evermux or in what it is given.
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

    /// A name of the reason that stays the same from version to version, for logs and metrics: `heartbeat_timeout`.
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

    /// The [`io::ErrorKind`] that a stream of a session with this end reports.
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

/// Why a stream ended before its time, or can be used no more in this direction: the source of an [`io::Error`] of a
/// [`MuxStream`](crate::MuxStream), where its session has not ended. Then it is a [`CloseReason`].
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
    /// The peer has reset the stream before it gave it to anybody: too many streams wait there, or it is closing.
    /// Nothing that was sent on it had an effect, so it is safe to repeat. Only an evermux peer can be told to have
    /// refused.
    #[error("the stream was refused by the peer: nobody there was given it")]
    Refused,
    /// The peer has reset the stream, or dropped it unfinished.
    #[error("the stream was reset by the peer")]
    ResetByPeer,
    /// It was reset on this side, by [`MuxStream::reset`](crate::MuxStream::reset) or by the drop of its other half.
    #[error("the stream was reset on this side")]
    ResetHere,
    /// It was reset on this side, because the peer had sent more small frames than may wait to be read. What was
    /// buffered is gone.
    #[error("the stream was reset on this side: the peer sent more small frames than may wait to be read")]
    Flooded,
    /// The peer has reset the stream, because this side had sent more small frames than may wait there to be read:
    /// write more at once. There, the reason is [`Flooded`](Self::Flooded). Only an evermux peer says so.
    #[error("the stream was reset by the peer: this side sent more small frames than may wait to be read there")]
    Flooding,
    /// It was shut down for writing.
    #[error("the stream was shut down for writing")]
    ShutDown,
}

impl StreamError {
    /// The [`io::ErrorKind`] of the error that it is the source of.
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

/// What was not over when the time of a closing was.
fn what_is_left(streams: usize) -> String {
    match streams {
        0 => "the peer did not end the connection in time".into(),
        1 => "one stream did not end in time".into(),
        _ => format!("{streams} streams did not end in time"),
    }
}

fn after_attempts(attempts: u32) -> String {
    match attempts {
        0 => String::new(),
        1 => " after one attempt".into(),
        _ => format!(" after {attempts} attempts"),
    }
}

/// What an error adds if an attempt has failed.
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

/// There is no session, and none will be made.
///
/// ```
/// use evermux::{MuxManager, Stopped, error::{ConnectError, GaveUpCause}};
/// use tokio::io::DuplexStream;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let dial = || async { Err::<evermux::Connected<DuplexStream>, _>(ConnectError::fatal("the key has expired")) };
/// let manager = MuxManager::establish_with(dial).start().await?;
/// match manager.session().await {
///     Ok(session) => println!("{session:?}"),
///     Err(Stopped::ShutDown) => println!("we asked for it"),
///     Err(Stopped::GaveUp(gave_up)) => {
///         println!("{gave_up}: {:?}", gave_up.last_error);
///         assert_eq!(gave_up.cause, GaveUpCause::Fatal);
///     }
///     Err(stopped) => println!("{stopped}"),
/// }
/// # assert!(manager.status().stopped.is_some());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Stopped {
    /// The manager was shut down.
    #[error("the manager was shut down")]
    ShutDown,
    /// The manager gave up.
    #[error(transparent)]
    GaveUp(Arc<GaveUp>),
}

impl From<Stopped> for io::Error {
    fn from(stopped: Stopped) -> Self {
        io::Error::new(io::ErrorKind::NotConnected, stopped)
    }
}

/// Why a manager gave up.
#[derive(Debug, thiserror::Error)]
#[error("the manager gave up{}: {cause}", after_attempts(*attempts))]
#[non_exhaustive]
pub struct GaveUp {
    /// What made it give up.
    pub cause: GaveUpCause,
    /// How many attempts had failed in a row.
    pub attempts: u32,
    /// The error of the last attempt.
    #[source]
    pub last_error: Option<Arc<dyn Error + Send + Sync>>,
}

/// What made a manager give up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GaveUpCause {
    /// `max_attempts` or `max_elapsed` was reached.
    #[error("the limit on attempts was reached")]
    Exhausted,
    /// A fatal error: retrying cannot help.
    #[error("a fatal error: retrying cannot help")]
    Fatal,
    /// The provider panicked.
    #[error("the provider panicked")]
    Panicked,
    /// A custom provider returned before it was asked to.
    #[error("the provider returned")]
    Ended,
    /// The runtime ended.
    #[error("the runtime ended")]
    RuntimeEnded,
}

/// Why a wait with a deadline returned no session.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WaitError {
    /// There was no session in time.
    #[error("there was no session within {0:?}")]
    TimedOut(Duration),
    /// No more sessions will be made.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

impl From<WaitError> for io::Error {
    fn from(error: WaitError) -> Self {
        match error {
            WaitError::TimedOut(_) => io::Error::new(io::ErrorKind::TimedOut, error),
            WaitError::Stopped(stopped) => stopped.into(),
        }
    }
}

/// Why a manager did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The address cannot be understood.
    #[error("{address:?} is not an address: give HOST:PORT, for example \"example.com:7233\" or \"[::1]:7233\"")]
    Address {
        /// What was given.
        address: String,
    },
    /// The address to listen on cannot be resolved or bound.
    #[error("cannot listen on {address}: {error}")]
    Bind {
        /// What was given.
        address: String,
        /// What the operating system said.
        error: io::Error,
    },
    /// `start()` was called outside a tokio runtime.
    #[error("there is no tokio runtime here: call start() within one, or start_blocking()")]
    NoRuntime,
    /// `start_on()` was given a runtime without threads of its own.
    #[error(
        "a current-thread runtime runs nothing between two calls of block_on: use a multi-thread one, or start_blocking()"
    )]
    CurrentThread,
    /// The runtime of `start_blocking()` cannot be made.
    #[error("cannot make a runtime: {error}")]
    Runtime {
        /// What the operating system said.
        error: io::Error,
    },
    /// The number of sessions is out of range.
    #[error("a manager cannot hold {sessions} sessions: give from 1 to 1,024")]
    Sessions {
        /// What was given.
        sessions: usize,
    },
}

impl From<StartError> for io::Error {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Bind { error, .. } | StartError::Runtime { error } => error,
            StartError::Address { .. } | StartError::Sessions { .. } => {
                io::Error::new(io::ErrorKind::InvalidInput, error)
            }
            StartError::NoRuntime | StartError::CurrentThread => io::Error::other(error),
        }
    }
}

/// A setting that is out of its bounds. Its text says what was given, and what is allowed.
///
/// ```
/// let error = evermux::Config::builder().accept_backlog(0).build().unwrap_err();
/// assert_eq!(error.setting(), "accept_backlog");
/// assert_eq!(error.to_string(), "accept_backlog is 0: it must be from 1 to 65536");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{setting} is {given}: it {bound}")]
pub struct ConfigError {
    pub(crate) setting: &'static str,
    pub(crate) given: String,
    pub(crate) bound: String,
}

impl ConfigError {
    /// The name of the setting.
    pub fn setting(&self) -> &'static str {
        self.setting
    }
}

impl From<ConfigError> for io::Error {
    fn from(error: ConfigError) -> Self {
        io::Error::new(io::ErrorKind::InvalidInput, error)
    }
}
#[cfg(test)]
mod tests {
    use super::*;

    /// Each error of the chain, and what it says.
    fn chain(error: &(dyn Error + 'static)) -> Vec<String> {
        let mut chain = vec![error.to_string()];
        let mut next = error.source();
        while let Some(error) = next {
            chain.push(error.to_string());
            next = error.source();
        }
        chain
    }

    /// An error that has a cause of its own.
    #[derive(Debug, thiserror::Error)]
    #[error("the certificate is refused")]
    struct Refused(#[source] io::Error);

    fn refused() -> Refused {
        Refused(io::Error::other("it has expired"))
    }

    #[test]
    fn a_chain_says_each_thing_once() {
        let lost = || CloseReason::Lost(Arc::new(io::Error::other("broken pipe")));
        let gave_up = GaveUp { cause: GaveUpCause::Fatal, attempts: 3, last_error: Some(Arc::new(refused())) };
        let errors: [Box<dyn Error>; 10] = [
            Box::new(lost()),
            Box::new(io::Error::from(lost())),
            Box::new(OpenError::Lost(lost())),
            Box::new(io::Error::from(OpenError::Lost(lost()))),
            Box::new(OpenError::NoSession { within: Duration::from_secs(1), last_attempt: Some(Arc::new(refused())) }),
            Box::new(Stopped::GaveUp(Arc::new(gave_up))),
            Box::new(StartError::Bind { address: "x:1".into(), error: io::Error::other("it is taken") }),
            Box::new(StartError::Runtime { error: io::Error::other("no thread") }),
            Box::new(ConnectError::transient(refused())),
            Box::new(AcceptError::connection(refused())),
        ];
        for error in &errors {
            let chain = chain(&**error);
            let is_repeated = |(at, text): (usize, &String)| chain[..at].iter().any(|before| before.contains(text));
            assert!(!chain.iter().enumerate().any(is_repeated), "{chain:?}");
        }
        assert_eq!(chain(&ConnectError::fatal(refused())), ["the certificate is refused", "it has expired"]);
        assert_eq!(chain(&lost()), ["the connection was lost: broken pipe"]);
    }
}
