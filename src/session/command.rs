//! Commands from handles to the driver.

use std::{sync::Arc, time::Duration};

use tokio::sync::oneshot;

use super::{
    entry::{Entry, OpenPermit},
    goodbye::Goodbye,
    unclaimed::Unclaimed,
};
use crate::error::CloseReason;

/// The number of each kind is bounded by its source.
pub(crate) enum Command {
    /// Open a stream. Its permit is taken: at most `max_concurrent_streams` at once.
    Open(OpenPermit, oneshot::Sender<Unclaimed>),
    /// Ping the peer. One for each waiting call.
    Ping(oneshot::Sender<Duration>),
    /// Report whether there was no sign of life for this long. One for each candidate that looks for a place.
    Probe(Duration, oneshot::Sender<bool>),
    /// A stream was dropped after its FIN, and the peer has not finished. One for each stream.
    Linger(yamux::Stream, Arc<Entry>),
    /// A stream was reset after its FIN. One for each stream.
    GiveUp(u32),
    /// The session is where callers find it.
    Publish,
    /// Close cleanly, within this time.
    Close(Duration),
    /// Close, with a goodbye that says why the peer was given nothing.
    Refuse(Goodbye),
    /// Close at once, for this reason.
    Abort(CloseReason),
}
