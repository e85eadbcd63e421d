//! The inbound streams of a manager, across its sessions.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::{Stream, StreamExt};

use crate::{
    blocking::block_on,
    session::{Inbound, MuxStream},
    sync::{Arrivals, Taker},
};

/// The inbound streams of a manager: see [`MuxManager::incoming`](crate::MuxManager::incoming).
///
/// A [`Stream`] that ends with the manager. It does not keep the manager running.
///
/// When the last one is dropped, nobody is left to take what the peers open: waiting streams are reset, and so are new
/// ones until there is another. Before the first, streams wait for it; those of a session from which
/// [`accept_stream`](crate::Session::accept_stream) takes wait for that.
#[must_use = "streams are refused when the last one is dropped"]
pub struct Incoming(Taker<Inbound>);

impl Incoming {
    pub(super) fn new(arrivals: &Arc<Arrivals<Inbound>>) -> Self {
        Self(arrivals.taker())
    }

    /// Takes the next inbound stream of any session, and acknowledges it to the peer. Returns `None` once the manager
    /// has stopped and no earlier stream is left.
    ///
    /// Waits while there is none, and while each session that has some already has
    /// [`Config::max_concurrent_streams`](crate::Config::max_concurrent_streams) taken streams open. Streams that were
    /// waiting when their session was lost are still returned: a stream that arrived whole is whole.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future takes no stream.
    pub async fn next(&mut self) -> Option<MuxStream> {
        StreamExt::next(self).await
    }

    /// [`next`](Self::next) for threads.
    ///
    /// # Panics
    ///
    /// Where it would have to wait inside an async context.
    pub fn next_blocking(&mut self) -> Option<MuxStream> {
        block_on(self.next())
    }
}

impl Stream for Incoming {
    type Item = MuxStream;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<MuxStream>> {
        self.0.poll_take(cx).map(|inbound| inbound.map(Inbound::accept))
    }
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming").finish_non_exhaustive()
    }
}
