//! The errors of a transport: of dialling, and of accepting.

use std::{error::Error, fmt, io, sync::Arc};

/// Why an attempt to connect failed, and whether another may succeed.
#[derive(Debug)]
pub struct ConnectError {
    source: Box<dyn Error + Send + Sync>,
    fatal: bool,
}

impl ConnectError {
    /// Another attempt may succeed.
    pub fn transient(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { source: source.into(), fatal: false }
    }

    /// No other attempt can succeed: the manager gives up.
    pub fn fatal(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { source: source.into(), fatal: true }
    }

    /// Whether no other attempt can succeed.
    pub fn is_fatal(&self) -> bool {
        self.fatal
    }

    /// What kind of error of the system it is, if it is one.
    pub(crate) fn io_kind(&self) -> Option<io::ErrorKind> {
        self.source.downcast_ref().map(io::Error::kind)
    }

    pub(crate) fn into_source(self) -> Arc<dyn Error + Send + Sync> {
        self.source.into()
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.source.fmt(f)
    }
}

impl Error for ConnectError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.source()
    }
}

impl From<io::Error> for ConnectError {
    fn from(source: io::Error) -> Self {
        Self::transient(source)
    }
}

/// Why a connection could not be accepted, and whether the next one may be.
///
/// An [`io::Error`] that concerns a single connection becomes [`connection`](Self::connection), and any other becomes
/// [`transient`](Self::transient); none becomes [`fatal`](Self::fatal), since the error number alone cannot show that.
///
/// ```
/// use std::io;
/// use evermux::error::AcceptError;
///
/// let aborted = AcceptError::from(io::Error::from(io::ErrorKind::ConnectionAborted));
/// assert!(aborted.is_connection() && !aborted.is_fatal());
/// ```
#[derive(Debug)]
pub struct AcceptError {
    source: Box<dyn Error + Send + Sync>,
    concerns: Concerns,
}

/// What an accept error costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Concerns {
    /// One connection.
    Connection,
    /// All connections for a while.
    Now,
    /// All connections from now on.
    Ever,
}

impl AcceptError {
    /// One connection is lost and nothing else: the next one is accepted at once.
    pub fn connection(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { source: source.into(), concerns: Concerns::Connection }
    }

    /// The next connection may be accepted, after a pause: something has run out, perhaps file descriptors.
    pub fn transient(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { source: source.into(), concerns: Concerns::Now }
    }

    /// No connection will ever be accepted again: the manager gives up.
    pub fn fatal(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { source: source.into(), concerns: Concerns::Ever }
    }

    /// Whether one connection is lost and nothing else.
    pub fn is_connection(&self) -> bool {
        self.concerns == Concerns::Connection
    }

    /// Whether no connection will ever be accepted again.
    pub fn is_fatal(&self) -> bool {
        self.concerns == Concerns::Ever
    }

    pub(crate) fn into_source(self) -> Arc<dyn Error + Send + Sync> {
        self.source.into()
    }
}

impl fmt::Display for AcceptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.source.fmt(f)
    }
}

impl Error for AcceptError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.source()
    }
}

impl From<io::Error> for AcceptError {
    fn from(source: io::Error) -> Self {
        if is_of_one_connection(&source) { Self::connection(source) } else { Self::transient(source) }
    }
}

/// Whether this is an error of the new connection that `accept` passed on: accept(2) names these, and firewalls cause
/// `EPERM`.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{
        ConnectionAborted, ConnectionReset, HostUnreachable, Interrupted, NetworkDown, NetworkUnreachable, TimedOut,
    };
    let named = matches!(
        error.kind(),
        ConnectionAborted
            | ConnectionReset
            | HostUnreachable
            | Interrupted
            | NetworkDown
            | NetworkUnreachable
            | TimedOut
    );
    named || error.raw_os_error().is_some_and(|number| NAMELESS.contains(&number))
}

/// Those of them that have no [`io::ErrorKind`], or share it with others.
#[cfg(any(target_os = "android", target_os = "linux"))]
const NAMELESS: &[i32] =
    &[libc::EPERM, libc::EPROTO, libc::ENOPROTOOPT, libc::EHOSTDOWN, libc::EOPNOTSUPP, libc::ENONET];
#[cfg(all(unix, not(any(target_os = "android", target_os = "linux"))))]
const NAMELESS: &[i32] = &[libc::EPERM, libc::EPROTO, libc::ENOPROTOOPT, libc::EHOSTDOWN, libc::EOPNOTSUPP];
#[cfg(not(unix))]
const NAMELESS: &[i32] = &[];
