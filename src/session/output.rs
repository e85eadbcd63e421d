//! The output to the transport: the frames of the crate, and our own between them, never inside one (G18).

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::{io::AsyncWrite, task::coop, time::Instant};
use tracing::trace;

use super::{
    buffer::Buffer,
    frame::{HEADER_LEN, Header},
    heartbeat::Heartbeat,
    pace::{Outlet, Throttle},
};
use crate::error::CloseReason;

const WRITE_BUFFER_BYTES: usize = 64 << 10;
/// Bodies of at least this size may go to the transport together with what is buffered, without a copy.
const VECTORED_BODY_BYTES_MIN: usize = 4 << 10;
/// They do so if the total reaches this much. Below it, a system call costs more than the copy.
const GATHERED_BYTES_MIN: usize = 32 << 10;
/// After this many small frames since the last flush, the next flush is put off by one round of the scheduler, so that
/// the tasks they woke can answer and the answers share one write.
const DEFERRED_FROM_FRAMES: u32 = 4;
/// Answers that may wait for the peer to read them; one more is [`CloseReason::PingFlood`].
const MAX_PONGS: usize = 64;
/// RST and GoAway frames of our own that may wait; one more is [`CloseReason::ControlFlood`].
const MAX_CONTROLS: usize = 1024;

/// The frame of the crate that is being written.
#[derive(Debug)]
struct CrateFrame {
    header: [u8; HEADER_LEN],
    header_len: usize,
    body_left: usize,
    drop_body: bool,
}

/// Whether a flush waits for the next round of the scheduler.
#[derive(Debug, Default)]
struct Deferral {
    /// Frames since the last flush that may be answered.
    frames: u32,
    /// Whether a flush may be put off in this round, and whether it was.
    may: bool,
    is: bool,
}

/// What is to be flushed. A transport with a buffer of its own, as TLS has one, takes bytes while the peer takes none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flush {
    /// Nothing.
    Done,
    /// Bytes that the transport has taken.
    Due,
    /// The same, and the transport has refused to. Until it has done so it is given nothing more: that it takes bytes would
    /// say nothing of the peer (G10), and they would only wait there.
    Refused,
}

/// The output of a session.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(super) struct Output<Io> {
    buffer: Buffer,
    of_the_crate: CrateFrame,
    /// Answers to the peer's pings. With `withhold`, they wait until the session is published.
    pongs: VecDeque<Header>,
    withhold: bool,
    /// Our own frames.
    controls: VecDeque<Header>,
    /// The crate may begin no more frames.
    sealed: bool,
    /// Nothing more can be sent.
    shut: bool,
    /// Bytes queued so far, and bytes that the transport has taken.
    queued: u64,
    taken: u64,
    flush: Flush,
    deferral: Deferral,
    /// The last heartbeat ping, and where it ends in the output until the transport has taken it.
    heartbeat_ping: Option<Header>,
    heartbeat_end: Option<u64>,
    /// The transport has refused to write or to flush, and not made room since.
    blocked: bool,
    /// Since the last [`begin_look`](Self::begin_look) the transport itself has answered whether it takes more. In a
    /// turn that has used up its budget, tokio answers in its place.
    asked: bool,
    /// Why the output failed, if it has: the transport is no longer written to, flushed or shut down.
    error: Option<Arc<io::Error>>,
    throttle: Throttle<Io>,
}

impl<Io> Output<Io> {
    pub(super) fn new(io: &Io, withhold: bool, outlet: Outlet<Io>) -> Self {
        Self {
            buffer: Buffer::with_capacity(WRITE_BUFFER_BYTES),
            of_the_crate: CrateFrame { header: [0; HEADER_LEN], header_len: 0, body_left: 0, drop_body: false },
            pongs: VecDeque::new(),
            withhold,
            controls: VecDeque::new(),
            sealed: false,
            shut: false,
            queued: 0,
            taken: 0,
            flush: Flush::Done,
            deferral: Deferral::default(),
            heartbeat_ping: None,
            heartbeat_end: None,
            blocked: false,
            asked: false,
            error: None,
            throttle: Throttle::new(io, outlet),
        }
    }

    pub(super) fn begin_round(&mut self) {
        self.deferral.may = !std::mem::take(&mut self.deferral.is);
    }

    /// Whether a flush waits for the next round.
    pub(super) fn is_put_off(&self) -> bool {
        self.deferral.is
    }

    /// A frame came in that may be answered.
    pub(super) fn expect_answer(&mut self) {
        self.deferral.frames = self.deferral.frames.saturating_add(1);
    }

    /// Whether a flush should wait for answers. It waits only once, and never if nothing more will come.
    pub(super) fn defer(&mut self, is_proven: bool) -> bool {
        let is_put_off = self.deferral.frames >= DEFERRED_FROM_FRAMES && self.deferral.may && is_proven && !self.sealed;
        if is_put_off {
            self.deferral.is = true;
        } else {
            self.deferral.frames = 0;
        }
        is_put_off
    }

    pub(super) fn begin_look(&mut self) {
        self.asked = false;
    }

    pub(super) fn has_looked(&self) -> bool {
        self.asked
    }

    /// Whether the transport has refused to write or to flush, and not made room since.
    pub(super) fn is_blocked(&self) -> bool {
        self.blocked
    }

    /// Why the output failed, if it has.
    pub(super) fn error(&self) -> Option<&Arc<io::Error>> {
        self.error.as_ref()
    }

    /// Where the output ends, counted from its first byte.
    pub(super) fn end(&self) -> u64 {
        self.queued
    }

    /// Whether the transport has taken everything before this offset.
    pub(super) fn has_taken(&self, end: u64) -> bool {
        self.taken >= end
    }

    /// From now on the crate may begin no frame; the one that it has begun must still be finished.
    pub(super) fn seal(&mut self) {
        self.sealed = true;
    }

    /// Whether the crate is barred from beginning a frame now.
    pub(super) fn refuses_frames(&self) -> bool {
        self.sealed && self.of_the_crate.header_len == 0
    }

    /// Nothing more can be sent.
    pub(super) fn shut(&mut self) {
        self.shut = true;
    }

    /// Whether the output is between two frames of the crate.
    pub(super) fn is_between_frames(&self) -> bool {
        self.of_the_crate.body_left == 0 && self.of_the_crate.header_len == 0
    }

    /// Sends our answers to pings from now on: the peer may publish the session as well (G14). Returns whether they
    /// were withheld before.
    pub(super) fn publish(&mut self) -> bool {
        std::mem::take(&mut self.withhold)
    }

    /// Queues an answer ahead of all others.
    pub(super) fn push_first_pong(&mut self, header: Header) {
        self.pongs.push_front(header);
    }

    /// # Errors
    ///
    /// If the peer does not read them.
    pub(super) fn push_pong(&mut self, pong: Header) -> Result<(), CloseReason> {
        if self.pongs.len() >= MAX_PONGS {
            self.append_controls();
        }
        let is_flood = self.pongs.len() >= MAX_PONGS;
        self.pongs.push_back(pong);
        if is_flood { Err(CloseReason::PingFlood) } else { Ok(()) }
    }

    /// # Errors
    ///
    /// If the peer causes them and does not read them.
    pub(super) fn push_control(&mut self, header: Header) -> Result<(), CloseReason> {
        if self.controls.len() >= MAX_CONTROLS {
            self.append_controls();
        }
        if self.controls.len() >= MAX_CONTROLS {
            return Err(CloseReason::ControlFlood);
        }
        self.controls.push_back(header);
        Ok(())
    }

    /// Queues frames of our own that are bounded elsewhere.
    pub(super) fn push_bounded(&mut self, headers: impl IntoIterator<Item = Header>) {
        self.controls.extend(headers);
    }

    /// Queues a heartbeat ping. The heartbeat is notified when the transport has taken it.
    pub(super) fn push_heartbeat(&mut self, ping: Header) {
        self.controls.push_back(ping);
        (self.heartbeat_ping, self.heartbeat_end) = (Some(ping), None);
    }

    /// Appends a header. There must be room for it.
    pub(super) fn push_frame(&mut self, header: Header) {
        trace!(?header, "frame out");
        let pushed = self.buffer.push(&header.encode());
        debug_assert_eq!(pushed, HEADER_LEN);
        self.queued += HEADER_LEN as u64;
    }

    /// Appends our own frames, if the output is between two frames of the crate.
    pub(super) fn append_controls(&mut self) {
        if !self.is_between_frames() || self.shut {
            return;
        }
        while self.buffer.room() >= HEADER_LEN {
            if !self.withhold
                && let Some(pong) = self.pongs.pop_front()
            {
                self.push_frame(pong);
            } else if let Some(header) = self.controls.pop_front() {
                self.push_frame(header);
                if self.heartbeat_ping.take_if(|ping| *ping == header).is_some() {
                    self.heartbeat_end = Some(self.queued);
                }
            } else {
                return;
            }
        }
    }

    /// Allows short frames: the peer is evermux, and takes any length.
    pub(super) fn cut_frames_short(&mut self, io: &Io) {
        self.throttle.cut_frames_short(io);
    }

    /// How many bytes of the crate there is room for.
    fn room(&self) -> usize {
        self.buffer.room().min(self.throttle.output().saturating_sub(self.buffer.len()))
    }

    /// A failed write ends only the output: what the peer sent before is still read.
    pub(super) fn fail(&mut self, error: io::Error, heartbeat: &mut Heartbeat) {
        self.error.get_or_insert_with(|| Arc::new(error));
        heartbeat.on_write_pending(Instant::now());
        self.abandon();
    }

    fn abandon(&mut self) {
        self.buffer.clear();
        self.pongs.clear();
        self.controls.clear();
    }

    /// The transport has no room, or did not flush. In a turn that has used up its budget, it was not the transport
    /// that said so.
    fn on_blocked(&mut self, heartbeat: &mut Heartbeat) {
        if coop::has_budget_remaining() {
            self.asked = true;
            self.blocked = true;
            let now = Instant::now();
            self.throttle.on_full(now);
            heartbeat.on_write_pending(now);
        }
    }

    fn on_progress(&mut self, heartbeat: &mut Heartbeat) {
        if std::mem::take(&mut self.blocked) {
            heartbeat.on_room();
        }
        heartbeat.on_write_progress();
    }

    /// The transport took `n` bytes. If its ping is among them, the heartbeat's time begins (G10).
    fn on_taken(&mut self, io: &Io, n: usize, heartbeat: &mut Heartbeat) {
        self.taken += n as u64;
        self.throttle.on_taken(io, n);
        self.on_progress(heartbeat);
        self.flush = Flush::Due;
        if self.heartbeat_end.take_if(|end| self.taken >= *end).is_some() {
            heartbeat.on_ping_taken(Instant::now());
        }
    }
}

impl<Io: AsyncWrite + Unpin> Output<Io> {
    /// Writes out what is buffered. Also ready if that failed.
    pub(super) fn poll_flush(&mut self, io: &mut Io, heartbeat: &mut Heartbeat, cx: &mut Context<'_>) -> Poll<()> {
        if self.error.is_some() {
            self.asked = true;
            self.abandon();
            return Poll::Ready(());
        }
        loop {
            self.append_controls();
            if self.buffer.is_empty() && self.flush == Flush::Done {
                self.throttle.on_drained();
                self.asked = true;
                return Poll::Ready(());
            }
            let pinned = Pin::new(&mut *io);
            let flushes = self.buffer.is_empty() || self.flush == Flush::Refused;
            let progress = if flushes {
                pinned.poll_flush(cx).map_ok(|()| None)
            } else {
                pinned.poll_write(cx, self.buffer.as_slice()).map_ok(Some)
            };
            match progress {
                Poll::Pending => {
                    // Not where the budget of the turn is used up: then it was not the transport that said so.
                    if flushes && coop::has_budget_remaining() {
                        self.flush = Flush::Refused;
                    }
                    self.on_blocked(heartbeat);
                    return Poll::Pending;
                }
                Poll::Ready(Ok(Some(0))) => self.fail(io::ErrorKind::WriteZero.into(), heartbeat),
                Poll::Ready(Err(error)) => self.fail(error, heartbeat),
                Poll::Ready(Ok(None)) => {
                    self.flush = Flush::Done;
                    self.on_progress(heartbeat);
                }
                Poll::Ready(Ok(Some(n))) => {
                    self.buffer.consume(n);
                    self.on_taken(io, n, heartbeat);
                }
            }
            if self.error.is_some() {
                return Poll::Ready(());
            }
        }
    }

    /// Whether the crate is in the middle of a body.
    pub(super) fn expects_body(&self) -> bool {
        self.of_the_crate.body_left > 0
    }

    /// Takes bytes of a header from the crate. Returns how many, and the header once it is complete; then call
    /// [`begin_body`](Self::begin_body).
    pub(super) fn poll_header(
        &mut self,
        io: &mut Io,
        heartbeat: &mut Heartbeat,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<(usize, Option<[u8; HEADER_LEN]>)> {
        let len = self.of_the_crate.header_len;
        if len == 0 {
            self.append_controls();
        }
        // Room for the header and for an RST after it.
        if self.room() < 2 * HEADER_LEN {
            ready!(self.poll_flush(io, heartbeat, cx));
        }
        let n = buf.len().min(HEADER_LEN - len);
        self.of_the_crate.header[len..len + n].copy_from_slice(&buf[..n]);
        self.of_the_crate.header_len = (len + n) % HEADER_LEN;
        let is_whole = self.of_the_crate.header_len == 0;
        Poll::Ready((n, is_whole.then_some(self.of_the_crate.header)))
    }

    /// A body of this length follows. With `drop`, it is thrown away.
    pub(super) fn begin_body(&mut self, len: u32, drop: bool) {
        (self.of_the_crate.body_left, self.of_the_crate.drop_body) = (len as usize, drop);
    }

    /// Takes bytes of a body from the crate.
    pub(super) fn poll_body(
        &mut self,
        io: &mut Io,
        heartbeat: &mut Heartbeat,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<usize> {
        let body = &buf[..buf.len().min(self.of_the_crate.body_left)];
        let n = if self.of_the_crate.drop_body || self.error.is_some() {
            body.len()
        } else {
            ready!(self.poll_put(io, heartbeat, cx, body))
        };
        self.of_the_crate.body_left -= n;
        Poll::Ready(n)
    }

    /// Appends bytes of a body, or writes them straight to the transport behind what is buffered.
    fn poll_put(&mut self, io: &mut Io, heartbeat: &mut Heartbeat, cx: &mut Context<'_>, body: &[u8]) -> Poll<usize> {
        let is_much = self.buffer.len() + body.len() >= GATHERED_BYTES_MIN;
        let is_direct = is_much && body.len() >= VECTORED_BODY_BYTES_MIN && io.is_write_vectored();
        if is_direct && self.flush != Flush::Refused {
            let parts = [IoSlice::new(self.buffer.as_slice()), IoSlice::new(body)];
            match Pin::new(&mut *io).poll_write_vectored(cx, &parts) {
                Poll::Ready(Ok(n)) if n > 0 => {
                    let buffered = n.min(self.buffer.len());
                    self.buffer.consume(buffered);
                    self.on_taken(io, n, heartbeat);
                    if n > buffered {
                        self.queued += (n - buffered) as u64;
                        return Poll::Ready(n - buffered);
                    }
                }
                Poll::Ready(Ok(_)) => self.fail(io::ErrorKind::WriteZero.into(), heartbeat),
                Poll::Ready(Err(error)) => self.fail(error, heartbeat),
                Poll::Pending => self.on_blocked(heartbeat),
            }
        }
        if self.room() == 0 {
            ready!(self.poll_flush(io, heartbeat, cx));
        }
        let n = self.buffer.push(&body[..body.len().min(self.room())]);
        self.queued += n as u64;
        Poll::Ready(n)
    }
}

#[cfg(test)]
mod tests;
