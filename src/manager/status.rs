//! A snapshot of a manager.

use std::{error::Error, net::SocketAddr, sync::Arc, time::Duration};

use super::{Activity, Handles};
use crate::{error::Stopped, sync::SessionId};

/// A snapshot of what a manager is doing.
///
/// With the feature `serde` it can be serialised: errors and reasons as their text, times in seconds, under names that
/// end in `_seconds`.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Status {
    /// What it is doing.
    pub activity: Activity,
    /// The live sessions.
    pub sessions: Vec<SessionStatus>,
    /// How many sessions have become live since the start, including the current one.
    pub sessions_so_far: u64,
    /// How many connections a receiver has dropped during their handshake since the start, to make room for others: see
    /// [`Config::max_handshakes_in_flight`](crate::Config::max_handshakes_in_flight).
    pub crowded_out: u64,
    /// How many connections a receiver has turned away since the start because every place was taken: see
    /// [`CloseReason::HeldOut`](crate::CloseReason::HeldOut).
    pub held_out: u64,
    /// How many connections a receiver has turned away since the start because
    /// [`Builder::admit`](crate::manager::Builder::admit) returned `false`.
    pub not_admitted: u64,
    /// How many attempts have failed in a row since the start or the last session. Always 0 for a receiver, which makes
    /// none.
    pub attempts: u32,
    /// The error of the last attempt or `accept` that failed; kept when a later one succeeds.
    #[cfg_attr(feature = "serde", serde(serialize_with = "serialize::text"))]
    pub last_error: Option<Arc<dyn Error + Send + Sync>>,
    /// Total time paused between attempts since the start, including the current pause.
    #[cfg_attr(feature = "serde", serde(rename = "backoff_slept_seconds", serialize_with = "serialize::seconds"))]
    pub backoff_slept: Duration,
    /// Why no more sessions will be made.
    #[cfg_attr(feature = "serde", serde(serialize_with = "serialize::text"))]
    pub stopped: Option<Stopped>,
}

/// One live session.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct SessionStatus {
    /// Its id.
    #[cfg_attr(feature = "serde", serde(serialize_with = "serialize::id"))]
    pub id: SessionId,
    /// The address of this side, where the transport has one.
    pub local: Option<SocketAddr>,
    /// The address of the other side, where the transport has one.
    pub peer: Option<SocketAddr>,
    /// The round trip of the last ping that was answered: see [`Session::round_trip`](crate::Session::round_trip).
    #[cfg_attr(
        feature = "serde",
        serde(rename = "round_trip_seconds", serialize_with = "serialize::optional_seconds")
    )]
    pub round_trip: Option<Duration>,
    /// Open streams in both directions, plus the calls waiting to open one.
    pub open_streams: usize,
}

impl Status {
    pub(super) fn collect(manager: &Handles) -> Self {
        let snapshot = manager.progress.get();
        let live = manager.slot.live();
        let sessions: Vec<_> = live
            .into_iter()
            .map(|(id, session)| SessionStatus {
                id,
                local: session.local_addr(),
                peer: session.peer_addr(),
                round_trip: session.round_trip(),
                open_streams: session.open_streams(),
            })
            .collect();
        let stopped = manager.slot.stopped();
        let activity = match snapshot.activity {
            // The slot is ahead of the notes.
            activity if stopped.is_some() && activity != Activity::Stopped => Activity::ShuttingDown,
            _ if !sessions.is_empty() => Activity::Live,
            Activity::Live => Activity::Connecting,
            activity => activity,
        };
        Self {
            activity,
            sessions,
            sessions_so_far: snapshot.sessions_so_far,
            crowded_out: snapshot.crowded_out,
            held_out: snapshot.held_out,
            not_admitted: snapshot.not_admitted,
            attempts: snapshot.attempts,
            backoff_slept: snapshot.backoff_slept(),
            last_error: snapshot.last_error,
            stopped,
        }
    }
}

#[cfg(feature = "serde")]
#[allow(clippy::trivially_copy_pass_by_ref, clippy::ref_option, reason = "serde passes references to the fields")]
mod serialize {
    use std::{fmt::Display, time::Duration};

    use serde::{Serialize, Serializer};

    use crate::sync::SessionId;

    pub(super) fn text<S: Serializer>(value: &Option<impl Display>, serializer: S) -> Result<S::Ok, S::Error> {
        value.as_ref().map(ToString::to_string).serialize(serializer)
    }

    pub(super) fn seconds<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        value.as_secs_f64().serialize(serializer)
    }

    pub(super) fn optional_seconds<S: Serializer>(value: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        value.map(|value| value.as_secs_f64()).serialize(serializer)
    }

    pub(super) fn id<S: Serializer>(id: &SessionId, serializer: S) -> Result<S::Ok, S::Error> {
        id.as_u64().serialize(serializer)
    }
}
