//! What handles ask of the driver.

use std::{sync::Arc, time::Duration};

use tokio::sync::oneshot;

use super::{
    entry::{Entry, OpenPermit},
    goodbye::Goodbye,
    stream::MuxStream,
};
use crate::error::CloseReason;

/// Each kind is bounded by what it comes from.
pub(crate) enum Command {
    /// Open a stream. Its permit was taken: at most `max_concurrent_streams` at once.
    Open(OpenPermit, oneshot::Sender<MuxStream>),
    /// One for each call that waits.
    Ping(oneshot::Sender<Duration>),
    /// Say whether there was no sign of life for this long. One for each candidate that looks for a place.
    Probe(Duration, oneshot::Sender<bool>),
    /// A stream was dropped after its FIN, and the peer has not finished. One for each stream.
    Linger(yamux::Stream, Arc<Entry>),
    /// A stream was reset after its FIN. One for each stream.
    GiveUp(u32),
    /// The session is in its place.
    Publish,
    /// Close cleanly, within this time.
    Close(Duration),
    /// Close, and tell the peer why it was given nothing.
    Refuse(Goodbye),
    /// Close at once, for this reason.
    Abort(CloseReason),
}
