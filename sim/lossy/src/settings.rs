//! The settings of a stack.

use std::time::Duration;

/// The settings of a [`Stack`](crate::Stack). The defaults are those of Linux, except for the buffers, whose size does not change.
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
