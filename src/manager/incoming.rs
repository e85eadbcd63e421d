//! The inbound streams of a manager, across its sessions.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
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
/// When the last one is dropped nobody is left to take what the peers open: what waits is reset, and what comes is,
/// until there is another. Before the first, streams wait for it; those of a session from which
/// [`accept_stream`](crate::Session::accept_stream) takes wait for that.
#[must_use = "streams are refused when the last one is dropped"]
pub struct Incoming(Taker<Inbound>);

impl Incoming {
    pub(super) fn new(arrivals: &Arc<Arrivals<Inbound>>) -> Self {
        Self(arrivals.taker())
    }

    /// Takes the next inbound stream of any session, and tells its peer so. `None` when the manager has stopped and no
    /// stream is left that came before.
    ///
    /// Waits for one; and while [`Config::max_concurrent_streams`](crate::Config::max_concurrent_streams) that were
    /// taken are open in each session that has some. What waited when its session was lost is given out all the same: a
    /// stream that came whole is whole.
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
        loop {
            let Some(inbound) = ready!(self.0.poll_take(cx)) else { return Poll::Ready(None) };
            if let Some(stream) = inbound.accept() {
                return Poll::Ready(Some(stream));
            }
        }
    }
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming").finish_non_exhaustive()
    }
}
