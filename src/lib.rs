//! One logical multiplexed connection that never dies.
//!
//! One side **establishes** (dials), the other **receives** (listens). Each TCP connection carries a [yamux] session,
//! on which either side opens streams. When a connection dies, the next one is made. Every caller that asks the
//! [`MuxManager`] gets the live session; none gets a session that it knows to be dead, and none hangs at shutdown.
//!
//! ```
//! use evermux::MuxManager;
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let receiver = MuxManager::receive("127.0.0.1:0").start().await?;
//! let address = receiver.local_addr().expect("a TCP receiver has an address");
//! let establisher = MuxManager::establish(address.to_string()).start().await?;
//!
//! let mut outbound = establisher.open_stream().await?;
//! outbound.write_all(b"hello").await?;
//! outbound.shutdown().await?;
//!
//! let mut inbound = receiver.session().await?.accept_stream().await?;
//! let mut text = String::new();
//! inbound.read_to_string(&mut text).await?;
//! assert_eq!(text, "hello");
//! inbound.write_all(b"welcome").await?;
//! inbound.shutdown().await?;
//! let mut reply = String::new();
//! outbound.read_to_string(&mut reply).await?;
//! assert_eq!(reply, "welcome");
//!
//! establisher.shutdown().await;
//! receiver.shutdown().await;
//! # Ok(())
//! # }
//! ```
//!
//! # Guarantees
//!
//! - [`MuxManager::session`] returns a live session, or the reason why there will be none ([`Stopped`]). It never
//!   returns a session to a caller that already knows that it has ended.
//! - A heartbeat detects a peer that has silently gone, and stalled writes a path that takes no bytes; both timeouts
//!   are settings of [`Config`].
//! - A stream that was cut never looks complete: a reader sees end of file only after the peer's own end, and every
//!   byte before it. Anything else is an error ([`MuxStream`]).
//! - After [`MuxManager::shutdown`] no task runs, every socket is closed, and the port can be bound again.
//! - Every future can be dropped at any time. Set deadlines with [`tokio::time::timeout`].
//!
//! # What a drop does
//!
//! | dropped | then |
//! | --- | --- |
//! | the last [`MuxManager`] | it shuts down in the background, within [`Config::drain_timeout`] |
//! | [`manager::Reader`], [`Incoming`], [`Events`] | nothing: they keep no manager running |
//! | the last handle of a session that a manager holds | nothing: the manager keeps it |
//! | the last handle of a session without a manager, including its streams | it closes cleanly |
//! | a [`MuxStream`] before `shutdown()` | it is reset: the peer sees an error, after the bytes that were written |
//! | a [`MuxStream`] after `shutdown()` | the peer has 10 s and 1 MiB to finish; then it is reset |
//! | a [`WriteHalf`] before `shutdown()` | the stream is reset, both directions |
//! | a [`ReadHalf`] while its other half lives | nothing: the peer stops when its window of 256 KiB is full |
//! | a [`provider::Candidate`] | its session ends |
//! | any future | nothing is left behind, no wake-up and no stream is lost |
//!
//! # Where to look
//!
//! | for | see |
//! | --- | --- |
//! | a connection that stays alive | [`MuxManager`] |
//! | a server | [`MuxManager::incoming`] |
//! | several sessions at once | [`Builder::sessions`](manager::Builder::sessions) |
//! | what it is doing | [`MuxManager::status`], [`MuxManager::events`], [`Builder::on_session`](manager::Builder::on_session) |
//! | threads without async | [`Builder::start_blocking`](manager::Builder::start_blocking), [`MuxManager::session_blocking`], [`Session::open_stream_blocking`], [`MuxStream::into_blocking`] |
//! | a resolver, a proxy or a transport of your own, and still several addresses for one name | [`Dialer`](provider::net::Dialer) |
//! | another transport than TCP | [`Connect`] and [`Accept`], with [`MuxManager::establish_with`] and [`MuxManager::receive_with`] |
//! | custom sources of sessions | [`Provide`], with [`MuxManager::provide_with`] |
//! | one session without a manager | [`Session::client`] and [`Session::server`] |
//! | settings | [`Config`] |
//! | the synchronization core by itself | [`sync`] |
//! | a guide for a task: NAT, threads, graceful shutdown, TLS, testing | [`docs`] |
//!
//! Traces go to [`tracing`](https://docs.rs/tracing): a span for each manager, each session, and each place of an
//! establisher that has several; state changes at `info`, failed attempts with the next pause at `warn`, frames without
//! their payload at `trace`.
//!
//! # Security
//!
//! evermux neither encrypts nor authenticates. A receiver gives a place to any yamux client that answers a ping, and
//! hands its session to callers, so a stranger that arrives first gets the place.
//! [`Builder::admit`](manager::Builder::admit) sees only an address. On an untrusted network, put TLS with client
//! certificates into [`Connect`] and [`Accept`]: [`docs::transports`] shows where.
//!
//! What a hostile peer can cost is limited, except for processor time. With the defaults, a session holds at most about
//! 320 MiB, if nobody here reads; up to 64 sessions wait for a place and hold 64 MiB each; handshakes hold 8 MiB. The
//! table of limits in ARCHITECTURE.md lists them all; fewer streams and no window growth lower them
//! ([`docs::settings`]). A peer that floods or breaks the protocol loses its stream or its session, and no peer can
//! take the place of a session that answers.
//!
//! # Features
//!
//! | feature | default | adds |
//! | --- | --- | --- |
//! | `serde` | no | `Serialize` for [`Status`](manager::Status) and its contents |
//!
//! # Platforms
//!
//! evermux is tested on 64-bit Linux. There is code for Windows and other Unix systems where sockets differ, but it is
//! untested.
//!
//! - `TCP_NOTSENT_LOWAT` is set only on Linux and Android. Elsewhere the kernel holds more, so on a slow path a short
//!   message waits longer behind a long one, and so does a heartbeat's ping.
//! - Where `usize` has 32 bits, [`Config::max_concurrent_streams`] and [`Config::accept_backlog`] are at most 1,024.
//!
//! # MSRV
//!
//! Rust 1.88.
//!
//! # Interoperability
//!
//! The other side need not be evermux. Tested peers are hashicorp/yamux (Go), rust-yamux (the `yamux` crate, 0.12 to
//! 0.14), tokio-yamux, and libp2p's yamux for JavaScript and Python: `interop/README.md` has the results for each
//! behaviour. Only an evermux peer reports why it closed a session, or that it refused a stream.
//!
//! [yamux]: https://github.com/hashicorp/yamux/blob/master/spec.md
#![forbid(unsafe_code)]

mod blocking;
pub mod config;
mod deadline;
#[cfg(doc)]
pub mod docs;
pub mod error;
pub mod events;
pub mod manager;
pub mod provider;
mod random;
pub mod session;
pub mod sync;

#[doc(inline)]
pub use config::{Config, ConfigBuilder};
#[doc(inline)]
pub use error::{CloseReason, ConfigError, OpenError, StartError, Stopped, StreamError, WaitError};
#[doc(inline)]
pub use events::{Event, Events};
#[doc(inline)]
pub use manager::{Incoming, MuxManager};
#[doc(inline)]
pub use provider::{Accept, Connect, Connected, Provide, TcpAcceptor, TcpConnector};
#[doc(inline)]
pub use session::{Blocking, BlockingStream, MuxStream, ReadHalf, Session, WriteHalf};
#[doc(inline)]
pub use sync::SessionId;
/// Re-exported from tokio-util: see [`Builder::shutdown_on`](manager::Builder::shutdown_on).
pub use tokio_util::sync::CancellationToken;

/// Compiles the programs in the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
