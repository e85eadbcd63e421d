//! A peer that behaves as a program with hashicorp's yamux library for Go does, version 0.1.2.
//!
//! It is written from what that library does, function by function; where it matters, the Go function is named, as
//! `Session.incomingStream`. Mistakes of the library are in it as well. What is good to know about such a peer:
//!
//! - `Session.AcceptStream`: a stream is acknowledged when it is accepted, not when it comes. One that was finished by its
//!   opener before that is *never* acknowledged.
//! - `Session.OpenStream`: with [`accept_backlog`](Config::accept_backlog) opens that are not acknowledged, the next one
//!   waits.
//! - `Session.setOpenTimeout`: one stream that nobody acknowledges ends the *session*; a FIN or a close from either side is
//!   enough to be spared.
//! - `Session.incomingStream`: when as many streams wait for accept, the next one is reset. Ids are not looked at: even
//!   the server's own and 0 will do.
//! - `Stream.write`: one frame is as long as the window is open. `Stream.readData`: a reader waits for the whole frame.
//! - `Stream.processFlags`: a second FIN ends the session, and so does, in `Stream.readData`, a frame beyond the window.
//!   The GoAway that is queued then does not come out: the connection is closed before.
//! - `Stream.Read`: after a reset what was not read is lost. After the end of the session there is the rest, also half a
//!   frame, and then an end of file like any other.
//! - `Stream.readData` takes bytes after a FIN. `Stream.Read` sends window updates after a FIN, and after both.
//! - `Stream.closeTimeout`: five minutes after a close, without a FIN from the other side, there is a RST.
//! - `Session.Close` says no goodbye, and neither does dropping the handles: it does nothing, as the library runs on then.
//!
//! Unlike there, every method can be dropped while it waits. Frames wait for the transport in a queue of 64; where Go
//! changes the state of a stream before it waits for room in it, this does so when there is room.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), testkit::hashicorp::Error> {
//! use testkit::hashicorp::{Config, Session};
//!
//! let (near, far) = tokio::io::duplex(4096);
//! let (near, far) = (Session::client(near, Config::default()), Session::server(far, Config::default()));
//! let (opened, accepted) = tokio::try_join!(near.open(), far.accept())?;
//! opened.write(b"hello").await?;
//! opened.close().await;
//! assert_eq!(accepted.read_to_end().await?, b"hello");
//! near.close().await;
//! # Ok(())
//! # }
//! ```

use std::{fmt, io, time::Duration};

pub use session::{Counters, Session};
pub use stream::Stream;

mod session;
mod stream;

/// The settings of a [`Session`], with the values of `DefaultConfig`.
#[derive(Clone, Debug)]
pub struct Config {
    accept_backlog: usize,
    enable_keepalive: bool,
    keepalive_interval: Duration,
    connection_write_timeout: Duration,
    max_stream_window_size: u32,
    stream_close_timeout: Duration,
    stream_open_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            accept_backlog: 256,
            enable_keepalive: true,
            keepalive_interval: Duration::from_secs(30),
            connection_write_timeout: Duration::from_secs(10),
            max_stream_window_size: crate::frames::INITIAL_WINDOW,
            stream_close_timeout: Duration::from_secs(300),
            stream_open_timeout: Duration::from_secs(75),
        }
    }
}

impl Config {
    /// How many streams may wait for accept, and how many of our own for their acknowledgement. 256 by default.
    #[must_use]
    pub fn accept_backlog(self, streams: usize) -> Self {
        Self { accept_backlog: streams, ..self }
    }

    /// Whether pings are sent. They are by default.
    #[must_use]
    pub fn enable_keepalive(self, enable: bool) -> Self {
        Self { enable_keepalive: enable, ..self }
    }

    /// The pause before each ping. 30 s by default.
    #[must_use]
    pub fn keepalive_interval(self, interval: Duration) -> Self {
        Self { keepalive_interval: interval, ..self }
    }

    /// How long a frame may wait for the transport, and then a ping for its answer. 10 s by default.
    #[must_use]
    pub fn connection_write_timeout(self, timeout: Duration) -> Self {
        Self { connection_write_timeout: timeout, ..self }
    }

    /// The receive window of a stream, 256 KiB or more. 256 KiB by default. What is more comes with the SYN or the ACK.
    #[must_use]
    pub fn max_stream_window_size(self, bytes: u32) -> Self {
        Self { max_stream_window_size: bytes, ..self }
    }

    /// How long a closed stream waits for the other side's FIN; 0 is forever. 5 min by default.
    #[must_use]
    pub fn stream_close_timeout(self, timeout: Duration) -> Self {
        Self { stream_close_timeout: timeout, ..self }
    }

    /// How long an opened stream waits for its acknowledgement; 0 is forever. 75 s by default.
    #[must_use]
    pub fn stream_open_timeout(self, timeout: Duration) -> Self {
        Self { stream_open_timeout: timeout, ..self }
    }
}

/// What calls end with, and why a session has ended. The texts are the library's.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the texts say it")]
pub enum Error {
    InvalidVersion,
    InvalidMsgType,
    /// Also why a session has ended that was closed by its own side.
    SessionShutdown,
    StreamsExhausted,
    DuplicateStream,
    RecvWindowExceeded,
    Timeout,
    StreamClosed,
    UnexpectedFlag,
    RemoteGoAway,
    ConnectionReset,
    ConnectionWriteTimeout,
    KeepAliveTimeout,
    /// A GoAway with code 1.
    RemoteProtocolError,
    /// A GoAway with code 2.
    RemoteInternalError,
    /// A GoAway with another code.
    UnexpectedGoAway,
    /// The connection has ended between two frames.
    Eof,
    /// The connection has failed, or ended within a header.
    Io(io::ErrorKind),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InvalidVersion => "invalid protocol version",
            Self::InvalidMsgType => "invalid msg type",
            Self::SessionShutdown => "session shutdown",
            Self::StreamsExhausted => "streams exhausted",
            Self::DuplicateStream => "duplicate stream initiated",
            Self::RecvWindowExceeded => "recv window exceeded",
            Self::Timeout => "i/o deadline reached",
            Self::StreamClosed => "stream closed",
            Self::UnexpectedFlag => "unexpected flag",
            Self::RemoteGoAway => "remote end is not accepting connections",
            Self::ConnectionReset => "connection reset",
            Self::ConnectionWriteTimeout => "connection write timeout",
            Self::KeepAliveTimeout => "keepalive timeout",
            Self::RemoteProtocolError => "yamux protocol error",
            Self::RemoteInternalError => "remote yamux internal error",
            Self::UnexpectedGoAway => "unexpected go away received",
            Self::Eof => "EOF",
            Self::Io(kind) => return kind.fmt(f),
        })
    }
}

impl std::error::Error for Error {}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Io(error.kind())
    }
}

#[cfg(test)]
mod tests;
