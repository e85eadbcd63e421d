//! The inbound streams of a manager, across its sessions.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures_util::{Stream, StreamExt};
use tokio::sync::{Notify, futures::OwnedNotified};
use tokio_util::sync::WaitForCancellationFutureOwned;

use crate::{provider::tasks::Tasks, session::MuxStream};

/// The inbound streams of a manager: see [`MuxManager::incoming`](crate::MuxManager::incoming).
///
/// A [`Stream`] that ends with the manager. It does not keep the manager running.
pub struct Incoming {
    tasks: Tasks,
    arrivals: Arc<Notify>,
    /// The next arrival, from before the last look.
    arrival: Option<Pin<Box<OwnedNotified>>>,
    stopped: Pin<Box<WaitForCancellationFutureOwned>>,
    /// From which session the next stream is taken first: each has its turn.
    turn: usize,
}

impl Incoming {
    pub(super) fn new(tasks: Tasks, arrivals: Arc<Notify>) -> Self {
        let stopped = Box::pin(tasks.stopped_owned());
        Self { tasks, arrivals, arrival: None, stopped, turn: 0 }
    }

    /// Waits for the next inbound stream of any session. `None` when the manager has stopped and no stream is left that
    /// came before.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future takes no stream.
    pub async fn next(&mut self) -> Option<MuxStream> {
        StreamExt::next(self).await
    }

    fn take_next(&mut self) -> Option<MuxStream> {
        let sessions = self.tasks.sessions();
        let count = sessions.len();
        let (turn, stream) = (0..count)
            .map(|step| (self.turn + step) % count)
            .find_map(|turn| Some((turn, sessions[turn].take_inbound()?)))?;
        self.turn = turn + 1;
        Some(stream)
    }
}

impl Stream for Incoming {
    type Item = MuxStream;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<MuxStream>> {
        loop {
            let arrivals = Arc::clone(&self.arrivals);
            // Made before the look, so that no arrival after it goes unnoticed.
            self.arrival.get_or_insert_with(|| Box::pin(arrivals.notified_owned()));
            let is_stopped = self.stopped.as_mut().poll(cx).is_ready();
            if let Some(stream) = self.take_next() {
                return Poll::Ready(Some(stream));
            }
            if is_stopped {
                return Poll::Ready(None);
            }
            if let Some(arrival) = &mut self.arrival {
                ready!(arrival.as_mut().poll(cx));
            }
            self.arrival = None;
        }
    }
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming").finish_non_exhaustive()
    }
}
