//! What a GoAway says.
//!
//! yamux knows three codes: 0 for a clean end, 1 after a protocol error, 2 after an internal error. Two evermux peers,
//! who know each other by their proofs, say more:
//!
//! | code | said when | the peer's reason |
//! | --- | --- | --- |
//! | `0x65760001` | a receiver has no place for the session | [`CloseReason::HeldOut`] |
//! | `0x65760002` | a receiver does not admit the peer | [`CloseReason::NotAdmitted`] |
//! | `0x65760003` | another session was given its place | [`CloseReason::Displaced`] |
//! | `0x65760004` | the peer was not heard of for too long | [`CloseReason::PeerTimedOut`] |
//!
//! Everybody else is told 0 instead: hashicorp's takes any code but these three for a failure of its own.
//!
//! The RST of a stream whose frames nobody read carries [`FLOODED`] where a credit would stand:
//! [`StreamError::Flooding`].
//!
//! [`StreamError::Flooding`]: crate::StreamError::Flooding

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy, sink};

use super::{
    frame::{HEADER_LEN, Header},
    wire::Role,
};
use crate::error::CloseReason;

/// Of a stream that was reset for its unread frames.
pub(super) const FLOODED: u32 = 0x6576_0005;

/// Why a side opens no more streams, as its peer is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Goodbye {
    /// It closes cleanly.
    Closing,
    /// There is no place for the session.
    HeldOut,
    /// The peer is not welcome.
    NotAdmitted,
    /// Another session has its place.
    Displaced,
    /// The peer was not heard of.
    TimedOut,
}

/// What evermux peers alone are told, with its code.
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

    /// What a code says, if it is no error.
    fn of(code: u32, from_evermux: bool) -> Option<Self> {
        let private = PRIVATE.iter().find(|(_, private)| from_evermux && *private == code);
        private.map(|(goodbye, _)| *goodbye).or_else(|| (code == 0).then_some(Self::Closing))
    }

    /// What a side that ends a session at once for this reason tells its peer, where it has something to say.
    pub(super) fn at_the_end(reason: &CloseReason) -> Option<Self> {
        match reason {
            CloseReason::Replaced => Some(Self::Displaced),
            CloseReason::HeartbeatTimeout => Some(Self::TimedOut),
            _ => None,
        }
    }

    /// Why a side that says so closes the session.
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

/// What a GoAway with this code means to who is told it: nothing where the peer only opens no more streams.
pub(super) fn told(code: u32, from_evermux: bool) -> Option<CloseReason> {
    match Goodbye::of(code, from_evermux) {
        Some(Goodbye::Closing) => None,
        Some(Goodbye::HeldOut) => Some(CloseReason::HeldOut),
        Some(Goodbye::NotAdmitted) => Some(CloseReason::NotAdmitted),
        Some(Goodbye::Displaced) => Some(CloseReason::Displaced),
        Some(Goodbye::TimedOut) => Some(CloseReason::PeerTimedOut),
        None => Some(CloseReason::PeerError(code)),
    }
}

/// Tells whoever has dialled why there is no session, and closes the connection. Only to an evermux peer, which speaks
/// first: nobody else learns what is here.
///
/// It waits for the peer's words and for its end, which is for the caller to bound.
pub(crate) async fn turn_away<Io: AsyncRead + AsyncWrite + Unpin>(mut io: Io, goodbye: Goodbye) -> io::Result<()> {
    let mut first = [0; HEADER_LEN];
    io.read_exact(&mut first).await?;
    if first == Header::ping(Role::Client.proof()).encode() {
        let words = [Header::ping(Role::Server.proof()), Header::go_away(goodbye.code(true))];
        io.write_all(words.map(|header| header.encode()).as_flattened()).await?;
        io.shutdown().await?;
        // Where something is left unread what was said may be lost.
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
        assert!(told(0, false).is_none());
        assert!(matches!(told(1, true), Some(CloseReason::PeerError(1))));
        assert!(matches!(told(0x6576_0001, false), Some(CloseReason::PeerError(_))), "a stranger means something else");
    }
}
