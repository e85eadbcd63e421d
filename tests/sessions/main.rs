//! One session: over pipes, sockets and slow links, against evermux, other libraries and peers that misbehave.
#![allow(missing_docs, reason = "test names say it")]

#[path = "../support/mod.rs"]
mod support;

mod closing;
mod draining;
mod in_use;
mod look;
mod refused;
mod session_blocking;
mod session_ends;
mod session_heartbeat;
mod session_limits;
mod session_pipes;
mod session_windows;
mod slow_link;
mod stream_closed;
mod yamux;
