//! One logical multiplexed connection that never dies.
//!
//! One side **establishes** (dials), the other **receives** (listens). Over each TCP connection runs a [yamux] session,
//! on which either side opens streams. When a connection dies the next one is made. Every caller that asks the
//! [`MuxManager`] is given the live session; none is given a session that it knows to be dead, and none hangs at
//! shutdown.
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
//!
//! establisher.shutdown().await;
//! receiver.shutdown().await;
//! # Ok(())
//! # }
//! ```
//!
//! # Guarantees
//!
//! - [`MuxManager::session`] ends in a live session, or in the reason why there will be none ([`Stopped`]). It never
//!   returns a session to a caller that has learnt of its end.
//! - A peer that is silently gone is found by a heartbeat, a path that takes no bytes by its stalled writes; both
//!   bounds are settings of [`Config`].
//! - A stream that was cut never looks complete: reading ends with end of file only after the peer's own end, with
//!   every byte before it. Anything else is an error ([`MuxStream`]).
//! - After [`MuxManager::shutdown`] no task runs, every socket is closed, and the port can be bound again.
//! - Every future can be dropped at any time. Put deadlines on them with [`tokio::time::timeout`].
//!
//! # What a drop does
//!
//! | dropped | then |
//! | --- | --- |
//! | the last [`MuxManager`] | it shuts down in the background, within [`Config::drain_timeout`] |
//! | [`manager::Reader`], [`Incoming`], [`Events`] | nothing: they keep no manager running |
//! | the last handle of a session that a manager has | nothing: the manager keeps it |
//! | the last handle of a session alone, its streams among them | it closes cleanly |
//! | a [`MuxStream`] before `shutdown()` | it is reset: the peer sees an error, after the bytes that were written |
//! | a [`MuxStream`] after `shutdown()` | the peer has 10 s and 1 MiB to finish; then it is reset |
//! | a [`WriteHalf`] before `shutdown()` | the stream is reset, both directions |
//! | a [`ReadHalf`] beside its other half | nothing: the peer stops when its window of 256 KiB is full |
//! | a [`provider::Candidate`] | its session ends |
//! | any future | nothing is left behind, no wake-up and no stream is lost |
//!
//! # Where to look
//!
//! | for | see |
//! | --- | --- |
//! | a connection that lives | [`MuxManager`] |
//! | a server | [`MuxManager::incoming`] |
//! | several sessions at once | [`Builder::sessions`](manager::Builder::sessions) |
//! | what happens to it | [`MuxManager::status`], [`MuxManager::events`], [`Builder::on_session`](manager::Builder::on_session) |
//! | threads without async | [`Builder::start_blocking`](manager::Builder::start_blocking), [`MuxManager::session_blocking`], [`Session::open_stream_blocking`], [`MuxStream::into_blocking`] |
//! | another transport than TCP | [`Connect`] and [`Accept`], with [`MuxManager::establish_with`] and [`MuxManager::receive_with`] |
//! | custom sources of sessions | [`Provide`], with [`MuxManager::provide_with`] |
//! | one session without a manager | [`Session::client`] and [`Session::server`] |
//! | settings | [`Config`] |
//! | the synchronization core alone | [`sync`] |
//! | a guide for a task: NAT, threads, graceful shutdown, TLS, testing | [`docs`] |
//!
//! Traces go to [`tracing`](https://docs.rs/tracing): a span for each manager, each place of an establisher that has
//! several, and each session; changes of state at `info`, failed attempts with the next pause at `warn`, frames without
//! their payload at `trace`.
//!
//! # Security
//!
//! evermux neither encrypts nor authenticates. A receiver gives a place to any yamux client that answers a ping, and
//! hands its session to callers, so a stranger that comes first has the place.
//! [`Builder::admit`](manager::Builder::admit) sees an address and nothing else. On an untrusted network put TLS, with
//! client certificates, into [`Connect`] and [`Accept`]: [`docs::transports`] shows where.
//!
//! What a hostile peer can cost is limited, but for processor time. With the defaults a session holds at most some 320
//! MiB, where nobody here reads; the up to 64 sessions that wait for a place hold 64 MiB each; handshakes hold 8 MiB.
//! The table of limits in ARCHITECTURE.md has them all; fewer streams and no growth of windows make them smaller
//! ([`docs::settings`]). A peer that floods or breaks the protocol loses its stream or its session, and no peer takes
//! the place of a session that answers.
//!
//! # Features
//!
//! | feature | default | adds |
//! | --- | --- | --- |
//! | `serde` | no | `Serialize` for [`Status`](manager::Status) and what it holds |
//!
//! # Platforms
//!
//! It is tested on 64-bit Linux. There is code for Windows and other Unix systems where sockets differ; it is not
//! tested.
//!
//! - `TCP_NOTSENT_LOWAT` is set on Linux and Android alone. Elsewhere the kernel holds more, so on a slow path a short
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
//! 0.14), tokio-yamux, and libp2p's yamux for JavaScript and Python: `interop/README.md` has the results, behaviour by
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
/// Of tokio-util: see [`Builder::shutdown_on`](manager::Builder::shutdown_on).
pub use tokio_util::sync::CancellationToken;

/// The programs of the README compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
