//! What a GoAway says.
//!
//! yamux has three codes: 0 for a clean end, 1 after a protocol error, 2 after an internal error. Two evermux peers,
//! which know each other by their proofs, use more:
//!
//! | code | sent when | the peer's reason |
//! | --- | --- | --- |
//! | `0x65760001` | a receiver has no place for the session | [`CloseReason::HeldOut`] |
//! | `0x65760002` | a receiver does not admit the peer | [`CloseReason::NotAdmitted`] |
//! | `0x65760003` | another session was given its place | [`CloseReason::Displaced`] |
//! | `0x65760004` | the peer was silent for too long | [`CloseReason::PeerTimedOut`] |
//!
//! Every other peer is sent 0 instead: hashicorp's takes any code but these three for a failure of its own.
//!
//! The RST of a stream whose frames nobody read carries [`FLOODED`] in place of a credit: [`StreamError::Flooding`].
//!
//! [`StreamError::Flooding`]: crate::StreamError::Flooding

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy, sink};

use super::{
    frame::{HEADER_LEN, Header},
    role::Role,
};
use crate::error::CloseReason;

/// Marks the RST of a stream that was reset for its unread frames.
pub(super) const FLOODED: u32 = 0x6576_0005;

/// Why a side opens no more streams, as announced to its peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Goodbye {
    /// It closes cleanly.
    Closing,
    /// There is no place for the session.
    HeldOut,
    /// The peer is not admitted.
    NotAdmitted,
    /// Another session has its place.
    Displaced,
    /// The peer was silent for too long.
    TimedOut,
}

/// Goodbyes for evermux peers alone, with their codes.
const PRIVATE: [(Goodbye, u32); 4] = [
    (Goodbye::HeldOut, 0x6576_0001),
    (Goodbye::NotAdmitted, 0x6576_0002),
    (Goodbye::Displaced, 0x6576_0003),
    (Goodbye::TimedOut, 0x6576_0004),
];

impl Goodbye {
    /// The code of the frame.
    pub(super) fn code(self, to_evermux: bool) -> u32 {
        let private = PRIVATE.iter().find(|(goodbye, _)| to_evermux && *goodbye == self);
        private.map_or(0, |(_, code)| *code)
    }

    /// The goodbye of a code, if it is no error.
    fn of(code: u32, from_evermux: bool) -> Option<Self> {
        let private = PRIVATE.iter().find(|(_, private)| from_evermux && *private == code);
        private.map(|(goodbye, _)| *goodbye).or_else(|| (code == 0).then_some(Self::Closing))
    }

    /// The goodbye with which a side ends a session at once for this reason, if there is one.
    pub(super) fn at_the_end(reason: &CloseReason) -> Option<Self> {
        match reason {
            CloseReason::Replaced => Some(Self::Displaced),
            CloseReason::HeartbeatTimeout => Some(Self::TimedOut),
            _ => None,
        }
    }

    /// Why a side that says this goodbye closes the session.
    pub(super) fn reason(self) -> CloseReason {
        match self {
            Self::Closing => CloseReason::Closed,
            Self::HeldOut => CloseReason::HeldOut,
            Self::NotAdmitted => CloseReason::NotAdmitted,
            Self::Displaced => CloseReason::Replaced,
            Self::TimedOut => CloseReason::HeartbeatTimeout,
        }
    }
}

/// Why a GoAway with this code ends the session of its recipient. `None` if the peer only opens no more streams.
pub(super) fn reason_of(code: u32, from_evermux: bool) -> Option<CloseReason> {
    match Goodbye::of(code, from_evermux) {
        Some(Goodbye::Closing) => None,
        Some(Goodbye::HeldOut) => Some(CloseReason::HeldOut),
        Some(Goodbye::NotAdmitted) => Some(CloseReason::NotAdmitted),
        Some(Goodbye::Displaced) => Some(CloseReason::Displaced),
        Some(Goodbye::TimedOut) => Some(CloseReason::PeerTimedOut),
        None => Some(CloseReason::PeerError(code)),
    }
}

/// Tells a peer that dialled why there is no session, and closes the connection. Only an evermux peer, which speaks
/// first, gets an answer: nobody else learns what is here.
///
/// It waits for the peer's first frame and for its end; the caller must bound that.
pub(crate) async fn turn_away<Io: AsyncRead + AsyncWrite + Unpin>(mut io: Io, goodbye: Goodbye) -> io::Result<()> {
    let mut first = [0; HEADER_LEN];
    io.read_exact(&mut first).await?;
    if first == Header::ping(Role::Client.proof()).encode() {
        let words = [Header::ping(Role::Server.proof()), Header::go_away(goodbye.code(true))];
        io.write_all(words.map(|header| header.encode()).as_flattened()).await?;
        io.shutdown().await?;
        // With unread input left, what was sent may be lost.
        copy(&mut io, &mut sink()).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_evermux_peer_is_told_more_and_everybody_else_nothing_strange() {
        for (goodbye, code) in PRIVATE {
            assert_eq!((goodbye.code(true), goodbye.code(false)), (code, 0));
            assert_eq!((Goodbye::of(code, true), Goodbye::of(code, false)), (Some(goodbye), None));
        }
        assert_eq!(Goodbye::Closing.code(true), 0);
        assert!(reason_of(0, false).is_none());
        assert!(matches!(reason_of(1, true), Some(CloseReason::PeerError(1))));
        assert!(
            matches!(reason_of(0x6576_0001, false), Some(CloseReason::PeerError(_))),
            "a stranger means something else"
        );
    }
}
