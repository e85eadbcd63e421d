//! A yamux peer that does, frame by frame, what a test says.
//!
//! The format is that of hashicorp's specification, <https://github.com/hashicorp/yamux/blob/master/spec.md>: a header
//! of twelve bytes, big endian, and a body after Data alone.

use std::{fmt, io, ops::BitOr};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The bytes of a header.
pub const HEADER_BYTES: usize = 12;

/// The receive window that a stream begins with.
pub const INITIAL_WINDOW: u32 = 256 * 1024;

/// The longest body that a [`Peer`] takes.
pub const MAX_BODY_BYTES: u32 = 16 << 20;

/// How many frames [`Peer::recv_until`] passes over before it fails.
pub const MAX_SKIPPED: usize = 100_000;

/// The most bytes that one read of a [`Peer`] takes.
const READ_BYTES: usize = 64 * 1024;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Bytes of a stream; `length` is how many follow the header.
    Data = 0,
    /// Credit for a stream; `length` is by how much it grows.
    WindowUpdate = 1,
    /// A ping, or with ACK its answer; `length` is a value that the answer repeats.
    Ping = 2,
    /// The end of the session; `length` is the code: 0 normal, 1 protocol error, 2 internal error.
    GoAway = 3,
}

/// The flags of a frame. They are combined by `|`; bits without a name are kept.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Flags(pub u16);

impl Flags {
    /// None.
    pub const NONE: Self = Self(0);
    /// Opens a stream, or asks for the answer to a ping.
    pub const SYN: Self = Self(1);
    /// Acknowledges a stream, or answers a ping.
    pub const ACK: Self = Self(2);
    /// The last frame of this direction of a stream.
    pub const FIN: Self = Self(4);
    /// Ends a stream at once.
    pub const RST: Self = Self(8);

    /// Whether all of `flags` are set.
    pub fn contains(self, flags: Self) -> bool {
        self.0 & flags.0 == flags.0
    }
}

impl BitOr for Flags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl fmt::Debug for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        let mut separator = "";
        for (flag, name) in [(Self::SYN, "SYN"), (Self::ACK, "ACK"), (Self::FIN, "FIN"), (Self::RST, "RST")] {
            if self.contains(flag) {
                write!(f, "{separator}{name}")?;
                separator = "|";
                rest &= !flag.0;
            }
        }
        match rest {
            0 if separator.is_empty() => f.write_str("NONE"),
            0 => Ok(()),
            rest => write!(f, "{separator}{rest:#x}"),
        }
    }
}

/// The header of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What the frame is.
    pub kind: Kind,
    /// Its flags.
    pub flags: Flags,
    /// The stream it belongs to; 0 is the session. The client's streams are odd, the server's even.
    pub stream_id: u32,
    /// What this says depends on [`Kind`].
    pub length: u32,
}

impl Header {
    /// The header of a Data frame.
    pub fn data(stream_id: u32, flags: Flags, length: u32) -> Self {
        Self { kind: Kind::Data, flags, stream_id, length }
    }

    /// A window update by `credit` bytes.
    pub fn window_update(stream_id: u32, flags: Flags, credit: u32) -> Self {
        Self { kind: Kind::WindowUpdate, flags, stream_id, length: credit }
    }

    /// A ping that asks for an answer.
    pub fn ping(value: u32) -> Self {
        Self { kind: Kind::Ping, flags: Flags::SYN, stream_id: 0, length: value }
    }

    /// The answer to a ping.
    pub fn pong(value: u32) -> Self {
        Self { flags: Flags::ACK, ..Self::ping(value) }
    }

    /// The end of the session.
    pub fn go_away(code: u32) -> Self {
        Self { kind: Kind::GoAway, flags: Flags::NONE, stream_id: 0, length: code }
    }

    /// How many bytes of body follow.
    pub fn body_bytes(&self) -> u32 {
        if self.kind == Kind::Data { self.length } else { 0 }
    }

    /// The bytes on the wire.
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[1] = self.kind as u8;
        bytes[2..4].copy_from_slice(&self.flags.0.to_be_bytes());
        bytes[4..8].copy_from_slice(&self.stream_id.to_be_bytes());
        bytes[8..].copy_from_slice(&self.length.to_be_bytes());
        bytes
    }

    /// Reads the bytes on the wire.
    ///
    /// # Errors
    ///
    /// `InvalidData`: the version is not 0, or there is no such kind of frame.
    pub fn decode(bytes: [u8; HEADER_BYTES]) -> io::Result<Self> {
        let [version, kind, flags_high, flags_low, id @ .., l0, l1, l2, l3] = bytes;
        if version != 0 {
            return Err(invalid(format!("a frame has version {version}")));
        }
        let kind = match kind {
            0 => Kind::Data,
            1 => Kind::WindowUpdate,
            2 => Kind::Ping,
            3 => Kind::GoAway,
            kind => return Err(invalid(format!("a frame is of kind {kind}"))),
        };
        Ok(Self {
            kind,
            flags: Flags(u16::from_be_bytes([flags_high, flags_low])),
            stream_id: u32::from_be_bytes(id),
            length: u32::from_be_bytes([l0, l1, l2, l3]),
        })
    }
}

/// A yamux peer that does what a test says, right or wrong.
///
/// It sends nothing by itself, unless [`answer_pings`](Self::answer_pings) says so, and keeps no credit. It reads only in
/// the `recv` calls and in [`expect`](Self::expect): a test in which both sides send much must split the work between two
/// peers or read in between. Every method may be dropped while it waits, and the next call goes on where it stood.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// use testkit::frames::{Flags, Header, Kind, Peer};
///
/// let (ours, theirs) = tokio::io::duplex(1024);
/// let (mut us, mut them) = (Peer::new(ours), Peer::new(theirs));
/// us.send_data(1, Flags::SYN, b"hello").await?;
/// let (_, body) = them.expect(Kind::Data, Flags::SYN, 1).await?;
/// assert_eq!(body, b"hello");
/// them.send(Header::window_update(1, Flags::ACK, 0), &[]).await?;
/// us.expect(Kind::WindowUpdate, Flags::ACK, 1).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Peer<Io> {
    io: Io,
    answers_pings: bool,
    /// Bytes that came and are not part of a frame given out yet: less than one frame and one read.
    inbound: Vec<u8>,
    /// Bytes to send: what one call queued, and one answer.
    outbound: Vec<u8>,
}

impl<Io: AsyncRead + AsyncWrite + Unpin> Peer<Io> {
    /// A peer on `io` that answers no pings.
    pub fn new(io: Io) -> Self {
        Self { io, answers_pings: false, inbound: Vec::new(), outbound: Vec::new() }
    }

    /// Whether a ping that asks for an answer is answered while frames are received, and not given out.
    pub fn answer_pings(&mut self, answer: bool) {
        self.answers_pings = answer;
    }

    /// Sends a header and a body as they are, whether or not they fit.
    ///
    /// # Errors
    ///
    /// Those of the transport.
    pub async fn send(&mut self, header: Header, body: &[u8]) -> io::Result<()> {
        self.send_raw(&[&header.encode(), body].concat()).await
    }

    /// Sends a Data frame with this body.
    ///
    /// # Errors
    ///
    /// Those of the transport; `InvalidInput` for a body over 4 GiB.
    pub async fn send_data(&mut self, stream_id: u32, flags: Flags, body: &[u8]) -> io::Result<()> {
        let length = u32::try_from(body.len()).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        self.send(Header::data(stream_id, flags, length), body).await
    }

    /// Sends bytes that need not be a frame.
    ///
    /// # Errors
    ///
    /// Those of the transport.
    pub async fn send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.outbound.extend_from_slice(bytes);
        self.flush().await
    }

    /// The next frame.
    ///
    /// # Errors
    ///
    /// Those of the transport; `UnexpectedEof` at the end of the connection; `InvalidData` for what is not yamux and for a
    /// body over [`MAX_BODY_BYTES`].
    pub async fn recv(&mut self) -> io::Result<(Header, Vec<u8>)> {
        loop {
            self.flush().await?;
            let Some((header, body)) = self.take_frame()? else {
                if self.fill().await? == 0 {
                    let rest = self.inbound.len();
                    let text = format!("the connection ended, {rest} bytes into a frame");
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text));
                }
                continue;
            };
            if self.answers_pings && header.kind == Kind::Ping && header.flags.contains(Flags::SYN) {
                self.outbound.extend_from_slice(&Header::pong(header.length).encode());
                continue;
            }
            return Ok((header, body));
        }
    }

    /// The next frame, which must have this kind, these flags and no other, and this stream.
    ///
    /// # Errors
    ///
    /// Those of [`recv`](Self::recv); `InvalidData` when the frame is another one, and says which.
    pub async fn expect(&mut self, kind: Kind, flags: Flags, stream_id: u32) -> io::Result<(Header, Vec<u8>)> {
        let (header, body) = self.recv().await?;
        if (header.kind, header.flags, header.stream_id) == (kind, flags, stream_id) {
            Ok((header, body))
        } else {
            Err(invalid(format!("expected {kind:?} {flags:?} of stream {stream_id}, got {header:?}")))
        }
    }

    /// The next frame that `wanted` accepts. Those before it are thrown away.
    ///
    /// # Errors
    ///
    /// Those of [`recv`](Self::recv); `InvalidData` after [`MAX_SKIPPED`] other frames.
    pub async fn recv_until(&mut self, mut wanted: impl FnMut(&Header) -> bool) -> io::Result<(Header, Vec<u8>)> {
        for _ in 0..=MAX_SKIPPED {
            let (header, body) = self.recv().await?;
            if wanted(&header) {
                return Ok((header, body));
            }
        }
        Err(invalid(format!("none of {MAX_SKIPPED} frames was the wanted one")))
    }

    /// Waits for the end of the connection, which must come before any other frame.
    ///
    /// # Errors
    ///
    /// Those of [`recv`](Self::recv), but for an end between two frames; `InvalidData` when a frame came.
    pub async fn expect_end(&mut self) -> io::Result<()> {
        match self.recv().await {
            Ok((header, _)) => Err(invalid(format!("expected the end, got {header:?}"))),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof && self.inbound.is_empty() => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Ends the sending side of the connection.
    ///
    /// # Errors
    ///
    /// Those of the transport.
    pub async fn shutdown(&mut self) -> io::Result<()> {
        self.flush().await?;
        self.io.shutdown().await
    }

    /// The transport.
    pub fn io(&self) -> &Io {
        &self.io
    }

    /// The transport, without what was read ahead.
    pub fn into_io(self) -> Io {
        self.io
    }

    async fn flush(&mut self) -> io::Result<()> {
        while !self.outbound.is_empty() {
            let count = self.io.write(&self.outbound).await?;
            if count == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            self.outbound.drain(..count);
        }
        self.io.flush().await
    }

    async fn fill(&mut self) -> io::Result<usize> {
        let mut buffer = vec![0; READ_BYTES];
        let count = self.io.read(&mut buffer).await?;
        self.inbound.extend_from_slice(&buffer[..count]);
        Ok(count)
    }

    fn take_frame(&mut self) -> io::Result<Option<(Header, Vec<u8>)>> {
        let Some(header) = self.inbound.first_chunk::<HEADER_BYTES>() else { return Ok(None) };
        let header = Header::decode(*header)?;
        if header.body_bytes() > MAX_BODY_BYTES {
            return Err(invalid(format!("a body is too long: {header:?}")));
        }
        let end = HEADER_BYTES + header.body_bytes() as usize;
        if self.inbound.len() < end {
            return Ok(None);
        }
        let body = self.inbound[HEADER_BYTES..end].to_vec();
        self.inbound.drain(..end);
        Ok(Some((header, body)))
    }
}

fn invalid(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{DuplexStream, duplex};

    use super::*;

    fn pair(capacity: usize) -> (Peer<DuplexStream>, Peer<DuplexStream>) {
        let (ours, theirs) = duplex(capacity);
        (Peer::new(ours), Peer::new(theirs))
    }

    #[test]
    fn a_header_has_the_bytes_of_the_specification() {
        let header = Header::data(0x0102_0304, Flags::SYN | Flags::FIN, 0x0A0B_0C0D);
        assert_eq!(header.encode(), [0, 0, 0, 5, 1, 2, 3, 4, 10, 11, 12, 13]);
        assert_eq!(Header::window_update(2, Flags::ACK, 9).encode(), [0, 1, 0, 2, 0, 0, 0, 2, 0, 0, 0, 9]);
        assert_eq!(Header::ping(7).encode(), [0, 2, 0, 1, 0, 0, 0, 0, 0, 0, 0, 7]);
        assert_eq!(Header::pong(7).encode(), [0, 2, 0, 2, 0, 0, 0, 0, 0, 0, 0, 7]);
        assert_eq!(Header::go_away(1).encode(), [0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    }

    #[test]
    fn decoding_gives_back_what_was_encoded() {
        for header in [
            Header::data(1, Flags::RST, 0),
            Header::window_update(u32::MAX, Flags(0xFFFF), u32::MAX),
            Header::ping(0x0100),
            Header::go_away(2),
        ] {
            assert_eq!(Header::decode(header.encode()).unwrap(), header);
        }
    }

    #[test]
    fn another_version_and_another_kind_are_refused() {
        let mut bytes = Header::ping(0).encode();
        bytes[0] = 1;
        assert_eq!(Header::decode(bytes).unwrap_err().kind(), io::ErrorKind::InvalidData);
        bytes[..2].copy_from_slice(&[0, 4]);
        assert_eq!(Header::decode(bytes).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn flags_are_shown_by_name() {
        assert_eq!(format!("{:?}", Flags::NONE), "NONE");
        assert_eq!(format!("{:?}", Flags::SYN | Flags::FIN), "SYN|FIN");
        assert_eq!(format!("{:?}", Flags::RST | Flags(0x30)), "RST|0x30");
    }

    #[tokio::test]
    async fn frames_arrive_whole_through_a_pipe_of_one_byte() {
        let (mut us, mut them) = pair(1);
        let sending = async {
            us.send_data(1, Flags::SYN, &[5; 1000]).await.unwrap();
            us.send(Header::go_away(0), &[]).await.unwrap();
            us.shutdown().await.unwrap();
        };
        let receiving = async {
            let (header, body) = them.recv().await.unwrap();
            assert_eq!((header, body), (Header::data(1, Flags::SYN, 1000), vec![5; 1000]));
            them.expect(Kind::GoAway, Flags::NONE, 0).await.unwrap();
            them.expect_end().await.unwrap();
        };
        tokio::join!(sending, receiving);
    }

    #[tokio::test]
    async fn pings_are_answered_only_when_told_to() {
        let (mut us, mut them) = pair(1024);
        us.send(Header::ping(1), &[]).await.unwrap();
        assert_eq!(them.recv().await.unwrap().0, Header::ping(1));

        them.answer_pings(true);
        us.send(Header::ping(2), &[]).await.unwrap();
        us.send(Header::pong(3), &[]).await.unwrap();
        us.send(Header::go_away(0), &[]).await.unwrap();
        // An answer is no question: it is given out.
        assert_eq!(them.recv().await.unwrap().0, Header::pong(3));
        assert_eq!(them.recv().await.unwrap().0, Header::go_away(0));
        assert_eq!(us.recv().await.unwrap().0, Header::pong(2));
    }

    #[tokio::test]
    async fn expect_says_what_came_instead() {
        for sent in
            [Header::window_update(3, Flags::SYN, 0), Header::data(3, Flags::ACK, 0), Header::data(5, Flags::SYN, 0)]
        {
            let (mut us, mut them) = pair(1024);
            us.send(sent, &[]).await.unwrap();
            let error = them.expect(Kind::Data, Flags::SYN, 3).await.unwrap_err();
            assert!(error.to_string().contains(&format!("{sent:?}")), "{error}");
        }
        let (mut us, mut them) = pair(1024);
        us.send(Header::ping(0), &[]).await.unwrap();
        them.expect_end().await.unwrap_err();
    }

    #[tokio::test]
    async fn recv_until_passes_over_other_frames() {
        let (mut us, mut them) = pair(1024);
        us.send_data(1, Flags::NONE, b"one").await.unwrap();
        us.send_data(3, Flags::NONE, b"three").await.unwrap();
        let (_, body) = them.recv_until(|header| header.stream_id == 3).await.unwrap();
        assert_eq!(body, b"three");
    }

    #[tokio::test]
    async fn an_end_within_a_frame_is_an_error() {
        let (mut us, mut them) = pair(1024);
        us.send(Header::data(1, Flags::NONE, 10), b"short").await.unwrap();
        us.shutdown().await.unwrap();
        assert_eq!(them.expect_end().await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[tokio::test]
    async fn a_body_beyond_the_limit_is_refused_before_it_comes() {
        let (mut us, mut them) = pair(1024);
        us.send(Header::data(1, Flags::NONE, MAX_BODY_BYTES + 1), &[]).await.unwrap();
        assert_eq!(them.recv().await.unwrap_err().kind(), io::ErrorKind::InvalidData);
        // Credit is no body.
        let (mut us, mut them) = pair(1024);
        us.send(Header::window_update(1, Flags::NONE, u32::MAX), &[]).await.unwrap();
        them.expect(Kind::WindowUpdate, Flags::NONE, 1).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_dropped_receive_or_send_loses_no_byte() {
        let (mut us, mut them) = pair(16);
        let short = Duration::from_millis(1);
        // The pipe takes 16 of 32 bytes; the call is dropped, and the next one sends the rest first.
        assert!(tokio::time::timeout(short, us.send_data(1, Flags::NONE, &[9; 20])).await.is_err());
        assert!(tokio::time::timeout(short, them.recv()).await.is_err());
        let (sent, received) = tokio::join!(us.send(Header::ping(1), &[]), them.recv());
        sent.unwrap();
        assert_eq!(received.unwrap().1, vec![9; 20]);
        assert_eq!(them.recv().await.unwrap().0, Header::ping(1));
    }
}
