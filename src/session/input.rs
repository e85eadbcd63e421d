//! The input from the transport to the crate: each byte once, in order, however reads split the frames (G18).

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, ReadBuf},
    task::coop,
};

use super::{
    buffer::Buffer,
    frame::{HEADER_LEN, Header, HeaderError, Kind, flags},
};

const READ_AHEAD_BYTES: usize = 64 << 10;
/// A body of at least this size may be read straight into the crate's buffer, without a copy.
const DIRECT_BYTES_MIN: usize = 4 << 10;
/// A frame with a longer body is handed to the crate in pieces: the crate allocates a body once it has seen the header,
/// and takes at most 1 MiB, while a peer may fill its window with one frame.
const PIECE_BYTES_MAX: usize = 64 << 10;
/// After this many frames in one round of the scheduler the rest wait for the next, so that the tasks they are for, and
/// all others, get their turn (G16). Tokio's budget counts reads of the transport, and one can bring thousands.
const FRAMES_PER_ROUND: u32 = 256;

/// How the input ended; it is no longer read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum InputEnd {
    /// The peer sends no more.
    Eof,
    Failed,
}

/// The state of the input.
#[derive(Debug)]
pub(super) enum InputState {
    /// Between two frames: the next bytes are a header.
    Boundary,
    /// A frame, or a piece of one, is being handed to the crate.
    Passing(Passing),
    /// This many bytes of a body are to be thrown away.
    Dropping(usize),
}

impl InputState {
    /// The frame goes to the crate.
    pub(super) fn passing(header: Header) -> Self {
        let body = header.body_len() as usize;
        // Nobody reads what comes with an RST.
        let first = if header.has(flags::RST) { 0 } else { body.min(PIECE_BYTES_MAX) };
        Self::Passing(Passing::piece(header, first, body - first, header.flags & flags::FIN))
    }
}

/// A frame, or a piece of one, that is being handed to the crate.
#[derive(Debug)]
pub(super) struct Passing {
    header: Header,
    bytes: [u8; HEADER_LEN],
    header_handed: usize,
    body_left: usize,
    /// How much of the body is left for the pieces after this one.
    rest: usize,
    /// Only the last piece carries this flag.
    last_flag: u16,
}

impl Passing {
    /// The next piece, if this was not the last.
    fn next(&self) -> Option<Self> {
        let body = self.rest.min(PIECE_BYTES_MAX);
        let header = Header { flags: 0, ..self.header };
        (body > 0).then(|| Self::piece(header, body, self.rest - body, self.last_flag))
    }

    fn piece(header: Header, body_left: usize, rest: usize, last_flag: u16) -> Self {
        let is_last = rest == 0;
        let flags = (header.flags & !flags::FIN) | if is_last { last_flag } else { 0 };
        let length = match header.kind {
            Kind::Data => u32::try_from(body_left).unwrap_or(u32::MAX),
            _ => header.length,
        };
        let header = Header { flags, length, ..header };
        Self { header, bytes: header.encode(), header_handed: 0, body_left, rest, last_flag }
    }

    fn is_complete(&self) -> bool {
        self.header_handed == HEADER_LEN && self.body_left == 0
    }
}

/// The input of a session.
#[derive(Debug)]
pub(super) struct Input {
    buffer: Buffer,
    state: InputState,
    end: Option<InputEnd>,
    /// How many more frames may be handled in this round.
    frames_left: u32,
    /// Since the last [`begin_look`](Self::begin_look) the transport itself has answered what there is to read. In a
    /// turn that has used up its budget, tokio answers in its place.
    asked: bool,
}

impl Input {
    pub(super) fn new() -> Self {
        Self {
            buffer: Buffer::with_capacity(READ_AHEAD_BYTES),
            state: InputState::Boundary,
            end: None,
            frames_left: FRAMES_PER_ROUND,
            asked: false,
        }
    }

    pub(super) fn begin_round(&mut self) {
        self.frames_left = FRAMES_PER_ROUND;
    }

    /// Whether the rest of the input waits for the next round.
    pub(super) fn is_put_off(&self) -> bool {
        self.frames_left == 0
    }

    pub(super) fn begin_look(&mut self) {
        self.asked = false;
    }

    pub(super) fn has_looked(&self) -> bool {
        self.asked || self.end.is_some()
    }

    pub(super) fn end(&self) -> Option<InputEnd> {
        self.end
    }

    pub(super) fn state(&self) -> &InputState {
        &self.state
    }

    pub(super) fn set_state(&mut self, state: InputState) {
        self.state = state;
    }

    /// The next header, if it is complete. Only between two frames.
    pub(super) fn peek_header(&self) -> Option<Result<Header, HeaderError>> {
        self.buffer.as_slice().first_chunk().map(|bytes| Header::decode(*bytes))
    }

    /// Consumes the header that was peeked at.
    pub(super) fn consume_header(&mut self) {
        self.buffer.consume(HEADER_LEN);
        self.frames_left = self.frames_left.saturating_sub(1);
    }

    /// Hands over what is left of the passing header. `None` if nothing is.
    pub(super) fn hand_header(&mut self, buf: &mut [u8]) -> Option<usize> {
        let InputState::Passing(passing) = &mut self.state else { return None };
        let rest = &passing.bytes[passing.header_handed..];
        let n = rest.len().min(buf.len());
        buf[..n].copy_from_slice(&rest[..n]);
        passing.header_handed += n;
        (!rest.is_empty()).then_some(n)
    }

    /// Hands over what is buffered of the passing body. `None` if nothing is.
    pub(super) fn hand_body(&mut self, buf: &mut [u8]) -> Option<usize> {
        let InputState::Passing(passing) = &mut self.state else { return None };
        if self.buffer.is_empty() {
            return None;
        }
        let n = passing.body_left.min(buf.len()).min(self.buffer.len());
        buf[..n].copy_from_slice(&self.buffer.as_slice()[..n]);
        self.buffer.consume(n);
        passing.body_left -= n;
        Some(n)
    }

    /// How much of the passing body to read straight into a buffer of `len` bytes. Report what was read with
    /// [`handed`](Self::handed).
    pub(super) fn direct(&self, len: usize) -> Option<usize> {
        let InputState::Passing(passing) = &self.state else { return None };
        let n = passing.body_left.min(len);
        (n >= DIRECT_BYTES_MIN).then_some(n)
    }

    /// This much of the passing body was read straight into the crate's buffer.
    pub(super) fn handed(&mut self, n: usize) {
        if let InputState::Passing(passing) = &mut self.state {
            passing.body_left -= n;
        }
    }

    /// The header of the frame, or piece, whose last byte is about to be handed over.
    pub(super) fn completed(&self) -> Option<Header> {
        match &self.state {
            InputState::Passing(passing) if passing.is_complete() => Some(passing.header),
            _ => None,
        }
    }

    /// A piece was handed over. The next follows, unless its stream has ended in between.
    pub(super) fn next_piece(&mut self, is_open: bool) {
        let InputState::Passing(passing) = &self.state else { return };
        self.state = match passing.next() {
            Some(next) if is_open => InputState::Passing(next),
            _ if passing.rest > 0 => InputState::Dropping(passing.rest),
            _ => InputState::Boundary,
        };
    }

    /// Throws away what is buffered of a dropped body. Returns whether that was all of it.
    pub(super) fn drop_body(&mut self) -> bool {
        let InputState::Dropping(left) = &mut self.state else { return true };
        let n = self.buffer.len().min(*left);
        *left -= n;
        self.buffer.consume(n);
        let is_done = *left == 0;
        if is_done {
            self.state = InputState::Boundary;
        }
        is_done
    }

    /// Throws away what was read ahead.
    pub(super) fn discard(&mut self) {
        self.buffer.clear();
    }

    /// Reads from the transport into `direct`, or into the read-ahead if there is none. Returns 0 at the end; do not
    /// call it after that.
    pub(super) fn poll_fill<Io: AsyncRead + Unpin>(
        &mut self,
        io: &mut Io,
        cx: &mut Context<'_>,
        direct: Option<&mut [u8]>,
    ) -> Poll<io::Result<usize>> {
        let is_read_ahead = direct.is_none();
        let mut space = ReadBuf::new(direct.unwrap_or_else(|| self.buffer.space()));
        let read = Pin::new(io).poll_read(cx, &mut space);
        let n = space.filled().len();
        self.asked |= read.is_ready() || coop::has_budget_remaining();
        match ready!(read) {
            Ok(()) if n == 0 => self.end = Some(InputEnd::Eof),
            Ok(()) if is_read_ahead => self.buffer.filled(n),
            Ok(()) => {}
            Err(error) => {
                self.end = Some(InputEnd::Failed);
                return Poll::Ready(Err(error));
            }
        }
        Poll::Ready(Ok(n))
    }
}

#[cfg(test)]
mod tests;
