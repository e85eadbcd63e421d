//! Managers: how they start, how they stop, and who waits for a session.

use std::{error::Error, io, sync::Arc, time::Duration};

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
    /// Why it gave up.
    pub cause: GaveUpCause,
    /// How many attempts had failed in a row.
    pub attempts: u32,
    /// The error of the last attempt.
    #[source]
    pub last_error: Option<Arc<dyn Error + Send + Sync>>,
}

fn after_attempts(attempts: u32) -> String {
    match attempts {
        0 => String::new(),
        1 => " after one attempt".into(),
        _ => format!(" after {attempts} attempts"),
    }
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
    /// The address is not valid.
    #[error("{address:?} is not an address: give HOST:PORT, for example \"example.com:7233\" or \"[::1]:7233\"")]
    Address {
        /// The address that was given.
        address: String,
    },
    /// The address to listen on cannot be resolved or bound.
    #[error("cannot listen on {address}: {error}")]
    Bind {
        /// The address that was given.
        address: String,
        /// The error of the operating system.
        error: io::Error,
    },
    /// `start()` was called outside a tokio runtime.
    #[error("there is no tokio runtime here: call start() within one, or start_blocking()")]
    NoRuntime,
    /// `start_on()` was given a current-thread runtime.
    #[error(
        "a current-thread runtime runs nothing between two calls of block_on: use a multi-thread one, or start_blocking()"
    )]
    CurrentThread,
    /// The runtime of `start_blocking()` cannot be created.
    #[error("cannot make a runtime: {error}")]
    Runtime {
        /// The error of the operating system.
        error: io::Error,
    },
    /// The number of sessions is out of range.
    #[error("a manager cannot hold {sessions} sessions: give from 1 to 1,024")]
    Sessions {
        /// The number that was given.
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

/// A setting that is out of bounds. Its text contains the value that was given, and what is allowed.
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
