//! The events of a manager, in order.

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
        /// The number of attempts in a row for this place, including this one.
        attempt: u32,
    },
    /// An attempt has failed.
    AttemptFailed {
        /// The number of failures in a row for this place, including this one.
        attempt: u32,
        /// Why.
        error: Arc<dyn Error + Send + Sync>,
        /// The pause before the next attempt; `None` when there will be none.
        next_delay: Option<Duration>,
    },
    /// A receiver could not accept a connection. It continues: at once if the error concerns only that connection
    /// and is not one of many in a row, otherwise after a pause.
    AcceptFailed {
        /// Why.
        error: Arc<dyn Error + Send + Sync>,
    },
    /// A receiver dropped a connection during its handshake to make room for another: more were in flight than
    /// [`Config::max_handshakes_in_flight`](crate::Config::max_handshakes_in_flight) allows.
    CrowdedOut {
        /// The address of the other side, where the transport has one.
        peer: Option<SocketAddr>,
        /// How long it had been silent.
        silent_for: Duration,
    },
    /// A receiver had no place for a peer that waited for one: all were taken by live sessions. Sent at most once a
    /// second; [`Status::held_out`](crate::manager::Status::held_out) counts them all.
    HeldOut {
        /// The address of the peer, where the transport has one.
        peer: Option<SocketAddr>,
        /// The addresses of the peers that hold the places.
        holders: Vec<SocketAddr>,
    },
    /// A receiver turned a connection away because [`Builder::admit`](crate::manager::Builder::admit) returned `false`.
    /// Sent at most once a second; [`Status::not_admitted`](crate::manager::Status::not_admitted) counts them all.
    NotAdmitted {
        /// The address of the other side, where the transport has one.
        peer: Option<SocketAddr>,
    },
    /// A session is live: callers get it from now on.
    SessionLive {
        /// Its id.
        session: SessionId,
        /// The address of the other side, where the transport has one.
        peer: Option<SocketAddr>,
        /// The round trip that proved it, less the time for which a receiver withheld its answer.
        round_trip: Option<Duration>,
    },
    /// A session that was live is closing cleanly, and opens no more streams. Callers get another.
    SessionDraining {
        /// Its id.
        session: SessionId,
        /// Why.
        reason: CloseReason,
        /// How long streams in flight may take to finish on this side: ten years if there is no limit. A shorter limit
        /// may follow.
        within: Duration,
    },
    /// A session that was live has ended.
    SessionClosed {
        /// Its id.
        session: SessionId,
        /// Why.
        reason: CloseReason,
    },
    /// No more sessions will be made; the open ones are closed.
    Stopped(Stopped),
    /// The reader was too slow: this many events before the next one were lost.
    Missed(u64),
}

/// The events of a manager: see [`MuxManager::events`](crate::MuxManager::events).
///
/// A [`Stream`] that ends when the manager has shut down. It does not keep the manager running.
#[must_use = "a reader gets only the events that are sent while it exists"]
pub struct Events(ReusableBoxFuture<'static, (Result<Event, RecvError>, Receiver<Event>)>);

impl Events {
    pub(crate) fn new(receiver: Receiver<Event>) -> Self {
        Self(ReusableBoxFuture::new(receive(receiver)))
    }

    /// The events of a manager that has ended: none.
    pub(crate) fn none() -> Self {
        let (_, receiver): (Sender<Event>, _) = channel(1);
        Self::new(receiver)
    }

    /// Waits for the next event. Returns `None` once the manager has shut down.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no event.
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
