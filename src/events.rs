//! What happens to a manager, one thing after the other.

use std::{
    error::Error,
    fmt,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_util::{Stream, StreamExt};
use tokio::sync::broadcast::{Receiver, Sender, channel, error::RecvError};
use tokio_util::sync::ReusableBoxFuture;

use crate::{
    error::{CloseReason, Stopped},
    sync::SessionId,
};

/// Something that happened to a manager.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// An establisher dials.
    Connecting {
        /// How many attempts there have been in a row for this place, with this one.
        attempt: u32,
    },
    /// An attempt has failed.
    AttemptFailed {
        /// How many have failed in a row for this place, with this one.
        attempt: u32,
        /// Why.
        error: Arc<dyn Error + Send + Sync>,
        /// The pause before the next attempt; `None` when there will be none.
        next_delay: Option<Duration>,
    },
    /// A receiver could not accept a connection. It goes on: at once where that is about this connection, else after a
    /// pause.
    AcceptFailed {
        /// Why.
        error: Arc<dyn Error + Send + Sync>,
    },
    /// A receiver has dropped a connection in its handshake, to make room for another: more were in theirs than
    /// [`Config::max_handshakes_in_flight`](crate::Config::max_handshakes_in_flight) allows.
    CrowdedOut {
        /// The address of the other side, where the transport has one.
        peer: Option<SocketAddr>,
        /// For how long it had said nothing.
        silent_for: Duration,
    },
    /// A receiver had no place for a peer that waited for one: all were taken by sessions that are alive. Told once a second
    /// at most; [`Status::held_out`](crate::manager::Status::held_out) counts them.
    HeldOut {
        /// The address of the peer, where the transport has one.
        peer: Option<SocketAddr>,
        /// The addresses of those that have the places.
        holders: Vec<SocketAddr>,
    },
    /// A receiver has turned a connection away, because [`Builder::admit`](crate::manager::Builder::admit) said so. Told once
    /// a second at most; [`Status::not_admitted`](crate::manager::Status::not_admitted) counts them.
    NotAdmitted {
        /// The address of the other side, where the transport has one.
        peer: Option<SocketAddr>,
    },
    /// A session is live: callers are given it.
    SessionLive {
        /// What names it.
        session: SessionId,
        /// The address of the other side, where the transport has one.
        peer: Option<SocketAddr>,
        /// The round trip that proved it, without the time for which a receiver withheld its answer.
        round_trip: Option<Duration>,
    },
    /// A session that was live opens no more streams: it closes cleanly. Callers get another.
    SessionDraining {
        /// What names it.
        session: SessionId,
        /// Why.
        reason: CloseReason,
        /// How long streams in flight may take to finish on this side: ten years where there is no limit. An earlier one may
        /// follow.
        within: Duration,
    },
    /// A session that was live has ended.
    SessionClosed {
        /// What names it.
        session: SessionId,
        /// Why.
        reason: CloseReason,
    },
    /// There will be no session any more. Those that are there are closed.
    Stopped(Stopped),
    /// The reader was too slow: it has missed this many events before the next one.
    Missed(u64),
}

/// The events of a manager: see [`MuxManager::events`](crate::MuxManager::events).
///
/// A [`Stream`] that ends when the manager has shut down. It does not keep the manager running.
#[must_use = "events are told only as long as it is there"]
pub struct Events(ReusableBoxFuture<'static, (Result<Event, RecvError>, Receiver<Event>)>);

impl Events {
    pub(crate) fn new(receiver: Receiver<Event>) -> Self {
        Self(ReusableBoxFuture::new(receive(receiver)))
    }

    /// Those of a manager that has ended: none.
    pub(crate) fn none() -> Self {
        let (_, receiver): (Sender<Event>, _) = channel(1);
        Self::new(receiver)
    }

    /// Waits for the next event. `None` when the manager has shut down.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future takes no event.
    pub async fn next(&mut self) -> Option<Event> {
        StreamExt::next(self).await
    }
}

async fn receive(mut receiver: Receiver<Event>) -> (Result<Event, RecvError>, Receiver<Event>) {
    (receiver.recv().await, receiver)
}

impl Stream for Events {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let (outcome, receiver) = ready!(self.0.poll(cx));
        self.0.set(receive(receiver));
        Poll::Ready(match outcome {
            Ok(event) => Some(event),
            Err(RecvError::Lagged(missed)) => Some(Event::Missed(missed)),
            Err(RecvError::Closed) => None,
        })
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}
