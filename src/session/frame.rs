//! The header of a yamux frame.
//!
//! Twelve bytes, big endian: version (0), type, flags (2), stream id (4), length (4). Only Data frames have a body; in
//! the others `length` is a credit, an opaque value or a code. See the [specification].
//!
//! [specification]: https://github.com/hashicorp/yamux/blob/master/spec.md

#![cfg_attr(not(feature = "__internals"), allow(unreachable_pub, reason = "public for the property tests alone"))]

/// Bytes in a header.
pub const HEADER_LEN: usize = 12;

/// Flags of a header.
pub mod flags {
    /// Opens a stream; in a Ping, asks.
    pub const SYN: u16 = 1;
    /// Acknowledges a stream; in a Ping, answers.
    pub const ACK: u16 = 2;
    /// The sender sends no more.
    pub const FIN: u16 = 4;
    /// Ends the stream at once.
    pub const RST: u16 = 8;
}

/// The type of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Bytes of a stream.
    Data,
    /// Credit for a stream.
    WindowUpdate,
    /// A request for a sign of life, or the answer.
    Ping,
    /// The sender opens no more streams, or has met an error.
    GoAway,
}

/// A decoded header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The type of the frame.
    pub kind: Kind,
    /// See [`flags`].
    pub flags: u16,
    /// The stream, or 0 for the session.
    pub stream_id: u32,
    /// Length of the body, credit, opaque value or code.
    pub length: u32,
}

/// Why twelve bytes are not a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// The first byte is not 0.
    #[error("a frame of version {0}, where 0 is the only one: is the peer a yamux peer?")]
    Version(u8),
    /// The second byte is no known type.
    #[error("a frame of unknown type {0}")]
    Kind(u8),
}

impl Header {
    /// A Ping that asks.
    pub fn ping(value: u32) -> Self {
        Self { kind: Kind::Ping, flags: flags::SYN, stream_id: 0, length: value }
    }

    /// A Ping that answers.
    pub fn pong(value: u32) -> Self {
        Self { kind: Kind::Ping, flags: flags::ACK, stream_id: 0, length: value }
    }

    /// Ends a stream at once.
    pub fn reset(stream_id: u32) -> Self {
        Self { kind: Kind::WindowUpdate, flags: flags::RST, stream_id, length: 0 }
    }

    /// Ends the session: 0 for a clean end, 1 after a protocol error, 2 after an internal one.
    pub fn go_away(code: u32) -> Self {
        Self { kind: Kind::GoAway, flags: 0, stream_id: 0, length: code }
    }

    /// Whether all of `flags` are set.
    pub fn has(&self, flags: u16) -> bool {
        self.flags & flags == flags
    }

    /// How many bytes follow the header.
    pub fn body_len(&self) -> u32 {
        if self.kind == Kind::Data { self.length } else { 0 }
    }

    /// How many more bytes of a stream the sender of this frame accepts.
    pub fn credit(&self) -> u64 {
        let gives = self.kind == Kind::WindowUpdate && !self.has(flags::RST);
        if gives { self.length.into() } else { 0 }
    }

    /// The header as it goes over the wire.
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[1] = self.kind as u8;
        bytes[2..4].copy_from_slice(&self.flags.to_be_bytes());
        bytes[4..8].copy_from_slice(&self.stream_id.to_be_bytes());
        bytes[8..12].copy_from_slice(&self.length.to_be_bytes());
        bytes
    }

    /// Decodes a header.
    ///
    /// # Errors
    ///
    /// [`HeaderError`] if no yamux peer sends this.
    pub fn decode(bytes: [u8; HEADER_LEN]) -> Result<Self, HeaderError> {
        let [version, kind, flags_high, flags_low, rest @ ..] = bytes;
        if version != 0 {
            return Err(HeaderError::Version(version));
        }
        let kind = match kind {
            0 => Kind::Data,
            1 => Kind::WindowUpdate,
            2 => Kind::Ping,
            3 => Kind::GoAway,
            other => return Err(HeaderError::Kind(other)),
        };
        let [a, b, c, d, length @ ..] = rest;
        Ok(Self {
            kind,
            flags: u16::from_be_bytes([flags_high, flags_low]),
            stream_id: u32::from_be_bytes([a, b, c, d]),
            length: u32::from_be_bytes(length),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_survives_the_wire() {
        let header = Header { kind: Kind::Data, flags: flags::SYN | flags::FIN, stream_id: 7, length: 1 << 20 };
        assert_eq!(header.encode(), [0, 0, 0, 5, 0, 0, 0, 7, 0, 16, 0, 0]);
        assert_eq!(Header::decode(header.encode()), Ok(header));
    }

    #[test]
    fn what_is_no_header_is_refused_with_its_reason() {
        assert_eq!(Header::decode(*b"GET / HTTP/1"), Err(HeaderError::Version(b'G')));
        assert_eq!(Header::decode([0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), Err(HeaderError::Kind(9)));
    }

    #[test]
    fn only_a_data_frame_has_a_body() {
        assert_eq!(Header::ping(u32::MAX).body_len(), 0);
        assert_eq!(Header::decode(Header::ping(u32::MAX).encode()), Ok(Header::ping(u32::MAX)));
    }
}
