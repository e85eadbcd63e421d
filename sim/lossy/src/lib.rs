//! A small TCP over turmoil's UDP: connections that live through loss.
//!
//! turmoil's own TCP does not retransmit: a fault that passes ends every connection that it met. This one has what
//! recovers: sequence numbers and reassembly (`receiver`), retransmission after a timeout and after three repeated ACKs,
//! windows and probes (`sender`), the handshake with a backlog, half-close, resets with a sequence check, TIME-WAIT
//! and aborts (`connection`). What the network does to segments is the [`Impairments`] of the host that sends them; what
//! turmoil does to datagrams (latency, partitions in one or both directions, holds, power losses) comes on top.
//!
//! Where RFC 9293 leaves a choice it does as Linux does, which `sim/tests/parity` compares. What is absent: congestion
//! control, selective and delayed ACKs, Nagle's algorithm, keep-alive, urgent data, simultaneous open.
//!
//! A [`Stack`] is one host's. It lives as long as the tasks of the host: a crash is a power loss, after which the host
//! sends nothing, and answers with resets when it is back. To end a process and not its host, end the tasks that hold the
//! streams, and let those that started the stack run on.

mod connection;
mod count;
mod impairments;
mod receiver;
mod segment;
mod sender;
mod settings;
mod stack;
mod stream;

pub use count::Count;
pub use impairments::{Conditions, Impairments, Verdict};
pub use segment::{Flags, PAYLOAD_MAX, Segment};
pub use settings::Settings;
pub use stack::{Listener, Readiness, Stack, UDP_PORT};
pub use stream::Stream;
