//! A small TCP of the simulation's own, over turmoil's UDP: connections that live through loss.
//!
//! turmoil's TCP does not retransmit, so that on it a fault that passes ends every connection that it met. This one has
//! what recovers: sequence numbers and reassembly (`receiver`), retransmission after a timeout and after three repeated
//! ACKs, windows and probes (`sender`), the handshake with a backlog, half-close, resets with a sequence check, TIME-WAIT
//! and aborts (`connection`). What the network does to segments is the [`Weather`] of the host that sends them; what
//! turmoil does to datagrams (latency, partitions in one or both directions, holds, power losses) comes on top.
//!
//! Where RFC 9293 leaves a choice it does as Linux does, which `tests/parity` compares. What is absent: congestion
//! control, selective and delayed ACKs, Nagle's algorithm, keep-alive, urgent data, simultaneous open.
//!
//! A [`Stack`] is one host's. It lives as long as the tasks of the host: a crash is a power loss, after which the host
//! sends nothing, and answers with resets when it is back. To end a process and not its host, end the tasks that hold the
//! streams, and let those that started the stack run on.

use std::time::Duration;

mod connection;
mod receiver;
mod segment;
mod sender;
mod stack;
mod stream;
mod weather;

pub use segment::{Flags, PAYLOAD_MAX, Segment};
pub use stack::{Listener, Stack, UDP_PORT};
pub use stream::Stream;
pub use weather::{Conditions, Fate, Weather};

/// The settings of a [`Stack`]. The defaults are those of Linux, except for the buffers, whose size does not change.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How many bytes a connection keeps that are written and not acknowledged.
    pub send_buffer: usize,
    /// How many bytes a connection keeps for a reader.
    pub receive_buffer: usize,
    /// How many connections a listener holds that are not accepted, open or not. Another SYN is dropped.
    pub backlog: usize,
    /// How often SYN, or the answer to it, is sent again before the attempt ends. The first time is after a second, and
    /// the pause doubles.
    pub syn_retries: u32,
    /// For how long the peer may say nothing, when something waits for it, before the connection is aborted.
    pub user_timeout: Duration,
    /// For how long a connection that nobody has waits for the FIN of the peer.
    pub fin_timeout: Duration,
    /// For how long an end that closed first stays to acknowledge the peer's FIN once more.
    pub time_wait: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            send_buffer: 64 << 10,
            receive_buffer: 64 << 10,
            backlog: 128,
            syn_retries: 6,
            user_timeout: Duration::from_millis(924_600),
            fin_timeout: Duration::from_secs(60),
            time_wait: Duration::from_secs(60),
        }
    }
}
