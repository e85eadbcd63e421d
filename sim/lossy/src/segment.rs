//! What travels: one segment in one datagram.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::ops::BitOr;

use twox_hash::XxHash3_64;

/// The longest payload. With the header it stays below 1,500 bytes.
pub const PAYLOAD_MAX: usize = 1_400;

/// Of flags, ports, the destination's address, two numbers and the window.
pub(super) const HEADER: usize = 1 + 2 + 2 + 16 + 8 + 8 + 4;

/// The flags of a segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(u8);

impl Flags {
    /// The segment acknowledges.
    pub const ACK: Self = Self(1);
    /// It opens a connection.
    pub const SYN: Self = Self(2);
    /// Its sender will send nothing more.
    pub const FIN: Self = Self(4);
    /// It resets the connection.
    pub const RST: Self = Self(8);

    const NAMED: [(Self, &'static str); 4] =
        [(Self::SYN, "SYN"), (Self::FIN, "FIN"), (Self::RST, "RST"), (Self::ACK, "ACK")];

    /// Whether one of `flags` is set.
    pub fn has(self, flags: Self) -> bool {
        self.0 & flags.0 != 0
    }
}

impl BitOr for Flags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl fmt::Display for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (_, name) in Self::NAMED.iter().filter(|(flag, _)| self.has(*flag)) {
            write!(f, "{separator}{name}")?;
            separator = " ";
        }
        Ok(())
    }
}

/// Traces what becomes of a segment, with its payload as a length and a hash.
macro_rules! trace_segment {
    ($segment:expr, $what:literal) => {{
        let segment: &$crate::segment::Segment = $segment;
        tracing::trace!(
            from = segment.source,
            to = segment.destination.port(),
            flags = %segment.flags,
            seq = segment.seq,
            ack = segment.ack,
            window = segment.window,
            bytes = segment.payload.len(),
            hash = twox_hash::XxHash3_64::oneshot(&segment.payload),
            $what
        );
    }};
}
pub(super) use trace_segment;

/// A segment of TCP, as a [filter](crate::Impairments::filter) sees it.
///
/// Its numbers have 64 bits, so that nothing wraps around. It carries the address that it is sent to, from which a host
/// learns its own.
#[derive(Clone, PartialEq, Eq)]
pub struct Segment {
    /// The port of the sender.
    pub source: u16,
    /// Where it is sent to.
    pub destination: SocketAddr,
    /// Its flags.
    pub flags: Flags,
    /// The sequence number of its first byte, or of SYN, or of FIN.
    pub seq: u64,
    /// The next number that its sender expects.
    pub ack: u64,
    /// How many bytes from `ack` on its sender has room for.
    pub window: u32,
    /// The bytes that it carries.
    pub payload: Vec<u8>,
}

impl Segment {
    /// How many sequence numbers it takes: one for each byte, one for SYN and one for FIN.
    pub fn length(&self) -> u64 {
        self.payload.len() as u64 + u64::from(self.flags.has(Flags::SYN)) + u64::from(self.flags.has(Flags::FIN))
    }

    /// The number that follows it.
    pub fn end(&self) -> u64 {
        self.seq + self.length()
    }

    /// Whether it does nothing but acknowledge.
    pub fn is_pure_ack(&self) -> bool {
        self.flags == Flags::ACK && self.payload.is_empty()
    }

    /// The reset that answers it on behalf of a connection that does not exist (RFC 9293, section 3.10.7.1). It goes
    /// from where the segment was sent to.
    pub(super) fn reset(&self, from: SocketAddr) -> Self {
        let (flags, seq, ack) = if self.flags.has(Flags::ACK) {
            (Flags::RST, self.ack, 0)
        } else {
            (Flags::RST | Flags::ACK, 0, self.end())
        };
        Self { source: self.destination.port(), destination: from, flags, seq, ack, window: 0, payload: Vec::new() }
    }

    /// The datagram that carries it. A test forges segments with this.
    pub fn encode(&self) -> Vec<u8> {
        let address = match self.destination.ip() {
            IpAddr::V4(address) => address.to_ipv6_mapped(),
            IpAddr::V6(address) => address,
        };
        let mut bytes = Vec::with_capacity(HEADER + self.payload.len());
        bytes.push(self.flags.0);
        bytes.extend(self.source.to_be_bytes());
        bytes.extend(self.destination.port().to_be_bytes());
        bytes.extend(address.octets());
        bytes.extend(self.seq.to_be_bytes());
        bytes.extend(self.ack.to_be_bytes());
        bytes.extend(self.window.to_be_bytes());
        bytes.extend(&self.payload);
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (flags, bytes) = take(bytes)?;
        let (source, bytes) = take(bytes)?;
        let (port, bytes) = take(bytes)?;
        let (address, bytes) = take(bytes)?;
        let (seq, bytes) = take(bytes)?;
        let (ack, bytes) = take(bytes)?;
        let (window, payload) = take(bytes)?;
        let address = IpAddr::V6(Ipv6Addr::from(address)).to_canonical();
        Some(Self {
            source: u16::from_be_bytes(source),
            destination: SocketAddr::new(address, u16::from_be_bytes(port)),
            flags: Flags(u8::from_be_bytes(flags)),
            seq: u64::from_be_bytes(seq),
            ack: u64::from_be_bytes(ack),
            window: u32::from_be_bytes(window),
            payload: payload.to_vec(),
        })
    }
}

/// The payload is shown by its length and its hash.
impl fmt::Debug for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { source, destination, flags, seq, ack, window, payload } = self;
        let (bytes, hash) = (payload.len(), XxHash3_64::oneshot(payload));
        write!(f, "{source} > {destination}: {flags}, seq {seq}, ack {ack}, window {window}, {bytes} bytes {hash:016x}")
    }
}

fn take<const N: usize>(bytes: &[u8]) -> Option<([u8; N], &[u8])> {
    bytes.split_first_chunk().map(|(first, rest)| (*first, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_comes_back_as_it_was_sent() {
        for destination in ["192.168.0.1:80", "[fe80::1]:80"] {
            let segment = Segment {
                source: 49_152,
                destination: destination.parse().unwrap(),
                flags: Flags::ACK | Flags::FIN,
                seq: 1 << 40,
                ack: 7,
                window: 65_536,
                payload: b"payload".to_vec(),
            };
            let bytes = segment.encode();
            assert_eq!(Segment::decode(&bytes), Some(segment));
            assert_eq!(Segment::decode(&bytes[..HEADER - 1]), None);
        }
    }
}
