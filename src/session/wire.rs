//! The frame layer between the socket and the yamux crate.
//!
//! It follows the frame boundaries both ways, and so can do what the crate does not: it sends heartbeats between frames
//! (G10), answers the pings of the peer and of the crate, keeps the [`Ledger`], turns the crate's word for a dropped stream
//! into an RST (G17), refuses streams past the limit (G16), and handles GoAway. The crate sees a connection of the right
//! shape: no pings but its own, and no frame of a stream that has ended.
//!
//! # Bounds (G19)
//!
//! 64 KiB read ahead, 64 KiB waiting to be written, less where the path is [slow](super::pace), [`MAX_PONGS`] answers,
//! [`MAX_CONTROLS`] control frames. [`FRAMES_A_ROUND`] frames of the peer before other tasks have their turn.

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicUsize},
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_util::io::{AsyncRead, AsyncWrite};
use tokio::{io::ReadBuf, task::coop, time::Instant};
use tracing::{debug, trace};

use super::{
    frame::{HEADER_LEN, Header, Kind, flags},
    goodbye::{self, Goodbye},
    heartbeat::{Heartbeat, Verdict},
    ledger::{Ended, Entry, Ledger, Place, Ruling, WINDOW},
    pace::{Limits, Pace, UnsentLimit},
    pings::{self, Answered, Pings},
    stream::Inbound,
};
use crate::{
    config::Config,
    error::CloseReason,
    sync::{Gate, Lane},
};

const READ_AHEAD: usize = 64 << 10;
const WRITE_BUFFER: usize = 64 << 10;
/// Bodies from this size on may go to the socket together with what is buffered, without being copied.
const VECTORED_FROM: usize = 4 << 10;
/// They do when it comes to this much. Below, a system call costs more than the copy.
const GATHERED: usize = 32 << 10;
/// When so many small frames have come in since the last flush, the next is put off by one round of the scheduler: whoever
/// was woken by them answers meanwhile, and the answers travel together.
const PUT_OFF_FROM: u32 = 4;
/// After so many frames of the peer in one round of the scheduler the rest waits for the next: the tasks that they are for,
/// and all others, want their turn. Tokio's budget counts reads of the socket, and one can bring thousands.
const FRAMES_A_ROUND: u32 = 256;
/// A frame with a longer body is handed to the crate in pieces: the crate makes room for a body when it has seen the header,
/// and takes no more than 1 MiB, while peers may fill their window with one frame.
const PIECE: usize = 64 << 10;
/// How much the crate may write before it must read: its loop prefers writing.
const WRITE_BEFORE_READ: usize = 1 << 20;
/// To peers of another kind frames are not cut to less, however slow the path is: tokio-yamux holds eight frames of a stream
/// that nobody reads, whatever their length, and stands still at the ninth.
const FOREIGN_FRAME: usize = 32 << 10;
/// Answers that may wait for the peer to read them; one more is [`CloseReason::PingFlood`].
const MAX_PONGS: usize = 64;
/// RST and GoAway frames of our own that may wait; one more is [`CloseReason::ControlFlood`].
const MAX_CONTROLS: usize = 1024;

/// Whether we dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// We dialled: our streams have odd ids.
    Client,
    /// We accepted: our streams have even ids.
    Server,
}

/// A queue of bytes in one allocation.
#[derive(Debug)]
struct Queue {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Queue {
    fn with_capacity(capacity: usize) -> Self {
        Self { bytes: vec![0; capacity].into_boxed_slice(), start: 0, end: 0 }
    }

    fn as_slice(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    fn len(&self) -> usize {
        self.end - self.start
    }

    fn is_empty(&self) -> bool {
        self.start == self.end
    }

    fn room(&self) -> usize {
        self.bytes.len() - self.len()
    }

    fn consume(&mut self, n: usize) {
        self.start += n;
        debug_assert!(self.start <= self.end);
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Moves what is there to the front where that makes room.
    fn compact(&mut self) {
        if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
    }

    /// Appends as much as there is room for.
    fn push(&mut self, bytes: &[u8]) -> usize {
        let n = bytes.len().min(self.room());
        if self.end + n > self.bytes.len() {
            self.compact();
        }
        self.bytes[self.end..self.end + n].copy_from_slice(&bytes[..n]);
        self.end += n;
        n
    }
}

/// A frame, or a piece of one, that is being handed to the crate.
#[derive(Debug)]
struct Passing {
    header: Header,
    bytes: [u8; HEADER_LEN],
    header_handed: usize,
    body_left: usize,
    /// So much of the body is left for the pieces after this one.
    rest: usize,
    /// The last piece has this flag, and no other.
    last_flag: u16,
}

impl Passing {
    fn new(header: Header) -> Self {
        let body = header.body_len() as usize;
        // Nobody reads what comes with an RST.
        let first = if header.has(flags::RST) { 0 } else { body.min(PIECE) };
        Self::piece(header, first, body - first, header.flags & flags::FIN)
    }

    /// The next piece, if this was not the last.
    fn next(&self) -> Option<Self> {
        let body = self.rest.min(PIECE);
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

/// Where the input stands between two frames.
#[derive(Debug)]
enum Incoming {
    /// The next bytes are a header.
    Boundary,
    /// A frame is being handed over.
    Passing(Passing),
    /// So many bytes of a body are to be thrown away.
    Dropping(usize),
}

/// Where the output stands between two frames of the crate.
#[derive(Debug)]
struct Outgoing {
    header: [u8; HEADER_LEN],
    header_len: usize,
    body_left: usize,
    drop_body: bool,
}

/// How far [`WireCore::poll_finish`] has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Finish {
    Resetting,
    Flushing,
    ShuttingDown,
    Discarding,
}

/// How the input has ended: it is not read any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum InputEnd {
    /// The peer says no more.
    Eof,
    Failed,
}

/// What decides how much may wait in front of the path.
pub(crate) struct Outlet<Io> {
    pub(crate) unsent_limit: Option<UnsentLimit<Io>>,
    /// Where writers wait.
    pub(crate) gate: Arc<Gate>,
}

/// The wire itself. The crate owns one handle of it, the driver another; both live in one task.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(crate) struct WireCore<Io> {
    io: Io,
    role: Role,
    ledger: Ledger,
    heartbeat: Heartbeat,

    input: Queue,
    incoming: Incoming,

    output: Queue,
    pace: Pace,
    limits: Limits,
    outlet: Outlet<Io>,
    outgoing: Outgoing,
    /// Answers to the peer's pings.
    pongs: VecDeque<Header>,
    controls: VecDeque<Header>,
    /// The crate may begin no more frames.
    sealed: bool,
    written_since_read: usize,
    write_paused: bool,
    /// Reads that gave bytes, and writes that the socket took after it had refused.
    signs: u64,
    /// The socket has refused a write since it took one.
    refused: bool,
    /// Since the last [`begin_look`](Self::begin_look) the socket itself has said what there is to read, and whether it
    /// takes what there is to write. A turn that has used up its budget is told so by tokio instead.
    asked_to_read: bool,
    asked_to_write: bool,
    /// The crate has read in this poll of it, and was given something.
    crate_reads: bool,
    crate_was_given: bool,
    /// The last frame that it was given.
    given: Header,
    /// Bytes that were put into the output, and that the socket took.
    queued: u64,
    taken: u64,
    /// The socket took bytes that it has not flushed.
    unflushed: bool,
    /// Frames since the last flush that somebody may answer.
    small_frames: u32,
    /// A flush may be put off in this round of the scheduler, and was.
    may_put_off: bool,
    put_off: bool,
    /// How many frames of the peer may still be looked at in this round.
    frames_left: u32,

    /// Answers to the peer's pings wait until the session is published.
    withhold: bool,
    /// When the peer's proof came, if it is evermux.
    proof_came: Option<Instant>,
    pings: Pings,
    /// Where in the output the heartbeat's ping ends.
    beat_end: Option<u64>,

    peer_is_evermux: bool,
    go_away_in: bool,
    go_away_out: bool,
    /// The peer has said goodbye before us.
    is_guest: bool,
    /// What ours says.
    goodbye: Goodbye,
    /// The output has failed: the transport is neither written to nor flushed nor shut down any more.
    write_error: Option<Arc<io::Error>>,
    input_end: Option<InputEnd>,
    failure: Option<CloseReason>,
    finish: Finish,
}

/// A handle of the wire, as the crate takes it.
pub(crate) struct Wire<Io>(Arc<Mutex<WireCore<Io>>>);

impl<Io> Clone for Wire<Io> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<Io> Wire<Io> {
    pub(crate) fn new(core: WireCore<Io>) -> Self {
        Self(Arc::new(Mutex::new(core)))
    }

    /// One task holds both handles, so this never waits.
    pub(crate) fn core(&self) -> MutexGuard<'_, WireCore<Io>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The entries of all streams that are open.
    pub(crate) fn entries(&self) -> Vec<Arc<Entry>> {
        self.core().ledger.entries()
    }
}

impl<Io> WireCore<Io> {
    /// How many streams are open on the wire.
    pub(crate) fn open_streams(&self) -> usize {
        self.ledger.len()
    }
}

impl<Io> WireCore<Io>
where
    Io: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    /// Begins a session: its proof stands first in the output, and must be answered by that time.
    pub(crate) fn new(
        io: Io,
        role: Role,
        withhold: bool,
        prove_by: Instant,
        config: &Config,
        (lane, load): (Lane<Inbound>, Arc<AtomicUsize>),
        outlet: Outlet<Io>,
    ) -> Self {
        let pace = Pace::new();
        let now = Instant::now();
        let mut wire = Self {
            io,
            role,
            ledger: Ledger::new(config, lane, load, Arc::clone(&outlet.gate)),
            heartbeat: Heartbeat::new(config, now, prove_by),
            input: Queue::with_capacity(READ_AHEAD),
            incoming: Incoming::Boundary,
            output: Queue::with_capacity(WRITE_BUFFER),
            limits: pace.limits(),
            pace,
            outlet,
            outgoing: Outgoing { header: [0; HEADER_LEN], header_len: 0, body_left: 0, drop_body: false },
            pongs: VecDeque::new(),
            controls: VecDeque::new(),
            sealed: false,
            written_since_read: 0,
            write_paused: false,
            signs: 0,
            refused: false,
            asked_to_read: false,
            asked_to_write: false,
            crate_reads: false,
            crate_was_given: false,
            given: Header::ping(0),
            queued: 0,
            taken: 0,
            unflushed: false,
            small_frames: 0,
            may_put_off: false,
            put_off: false,
            frames_left: FRAMES_A_ROUND,
            withhold,
            proof_came: None,
            pings: Pings::new(role, now),
            beat_end: None,
            peer_is_evermux: false,
            go_away_in: false,
            go_away_out: false,
            is_guest: false,
            goodbye: Goodbye::Closing,
            write_error: None,
            input_end: None,
            failure: None,
            finish: Finish::Resetting,
        };
        wire.push_frame(Header::ping(role.proof()));
        wire.set_limits();
        wire
    }

    pub(crate) fn entry(&self, id: u32) -> Option<Arc<Entry>> {
        self.ledger.entry(id)
    }

    pub(crate) fn open(&mut self, id: u32, place: Place) -> Arc<Entry> {
        self.ledger.open(id, place)
    }

    /// Whether no stream is open on the wire.
    pub(crate) fn is_idle(&self) -> bool {
        self.ledger.is_empty()
    }

    /// How many streams of ours the peer has not acknowledged.
    pub(crate) fn unacknowledged(&self) -> usize {
        self.ledger.unacknowledged()
    }

    /// What has ended since the last call, to be settled outside the lock of the wire.
    pub(crate) fn take_ended(&mut self) -> Ended {
        self.ledger.take_ended()
    }

    /// The last round trip. There is none before the session is proven.
    pub(crate) fn round_trip(&self) -> Option<Duration> {
        self.pings.round_trip()
    }

    /// Whether the peer has said that it opens no more streams.
    pub(crate) fn has_go_away(&self) -> bool {
        self.go_away_in
    }

    pub(crate) fn peer_is_evermux(&self) -> bool {
        self.peer_is_evermux
    }

    /// Why the session cannot go on.
    pub(crate) fn failure(&self) -> Option<&CloseReason> {
        self.failure.as_ref()
    }

    /// The session is in its place: answers what was asked meanwhile.
    pub(crate) fn publish(&mut self) {
        if std::mem::take(&mut self.withhold)
            && let Some(came) = self.proof_came
        {
            self.pongs.push_front(pings::held(came.elapsed()));
        }
    }

    /// Gives up a stream whose FIN the user has sent.
    pub(crate) fn give_up(&mut self, id: u32) {
        if self.ledger.give_up(id) {
            self.push_control(Header::reset(id));
        }
    }

    /// Opens and accepts no more streams.
    pub(crate) fn refuse_streams(&mut self) {
        self.ledger.refuse_all();
    }

    /// Whether the peer knows of every stream that we have opened. A GoAway that overtook a SYN would have it refused.
    pub(crate) fn is_announced(&self) -> bool {
        self.ledger.is_announced()
    }

    /// What the peer is to be told with our GoAway.
    pub(crate) fn set_goodbye(&mut self, goodbye: Goodbye) {
        self.goodbye = goodbye;
    }

    /// Says, once, that we open no more streams.
    pub(crate) fn send_go_away(&mut self) {
        if !std::mem::replace(&mut self.go_away_out, true) {
            self.push_control(Header::go_away(self.goodbye.code(self.peer_is_evermux)));
        }
    }

    /// The session ends at once: tells an evermux peer why, if it can be said without waiting.
    pub(crate) fn say_why(&mut self, reason: &CloseReason, cx: &mut Context<'_>) {
        if let Some(goodbye) = Goodbye::at_the_end(reason).filter(|_| self.peer_is_evermux) {
            self.goodbye = goodbye;
            self.send_go_away();
            let _ = self.poll_flush(cx);
        }
    }

    /// Sends a ping for the user. One at a time.
    pub(crate) fn send_ping(&mut self) {
        let ping = self.pings.ask_for_the_user(Instant::now());
        self.controls.push_back(ping);
    }

    /// How often there was a sign of life: bytes of any kind came from the peer, or it made room for ours.
    ///
    /// A path that is slow holds a ping of ours back behind what was written before it, and takes bytes meanwhile; one that
    /// is dead takes none once its buffers are full.
    pub(crate) fn signs_of_life(&self) -> u64 {
        self.signs
    }

    /// Takes the round trip of the user's ping when it has been answered.
    pub(crate) fn take_pong(&mut self) -> Option<Duration> {
        self.pings.take_pong()
    }

    /// When [`judge`](Self::judge) is to be called next.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.heartbeat.deadline()
    }

    /// How long an answer may take on this path.
    pub(crate) fn time_to_answer(&self) -> Duration {
        self.heartbeat.time_of_the_path()
    }

    /// When the crate, which must be polled for that, is to be given the answer to its ping.
    pub(crate) fn pong_due(&self) -> Option<Instant> {
        self.pings.pong_due()
    }

    /// Judges the session by its heartbeat. A ping that it asks for is sent with the next flush; whether it is dead is for
    /// the caller to say, who knows how old the last look at the socket is.
    pub(crate) fn judge(&mut self, now: Instant) -> Verdict {
        let verdict = self.heartbeat.judge(now);
        match verdict {
            Verdict::Ping => {
                let ping = self.pings.ask_for_the_heartbeat(now);
                self.controls.push_back(ping);
                self.beat_end = None;
                self.heartbeat.on_ping_queued();
                Verdict::Ping
            }
            // After a failed write only the end of the input is waited for.
            Verdict::Dead(reason) => Verdict::Dead(self.write_error.clone().map_or(reason, CloseReason::Lost)),
            Verdict::Wait => Verdict::Wait,
        }
    }

    /// Whether the session was dead by then.
    pub(crate) fn was_dead(&self, by: Instant) -> bool {
        matches!(self.heartbeat.judge(by), Verdict::Dead(_))
    }

    /// From now on it counts whether the socket was asked.
    pub(crate) fn begin_look(&mut self) {
        self.asked_to_read = false;
        self.asked_to_write = false;
    }

    /// Whether the socket was asked for all that it could say since [`begin_look`](Self::begin_look).
    pub(crate) fn has_looked(&self) -> bool {
        (self.asked_to_read || self.input_end.is_some()) && self.asked_to_write
    }

    /// The crate is polled.
    pub(crate) fn begin_poll(&mut self) {
        self.crate_reads = false;
        self.crate_was_given = false;
    }

    /// The crate was polled and has nothing to do. Says whether it is to be polled once more.
    ///
    /// It reads whenever it is polled, but where a GoAway of its own waits behind what cannot be written: then it would never
    /// read again, and no look be complete. What it was given last may have been what it says that of.
    pub(crate) fn end_poll(&mut self) -> bool {
        if !self.crate_reads {
            self.fail_refused();
        }
        self.crate_was_given && self.refused
    }

    /// The driver is polled. A flush is put off once.
    pub(crate) fn begin_round(&mut self) {
        self.may_put_off = !std::mem::take(&mut self.put_off);
        self.frames_left = FRAMES_A_ROUND;
    }

    /// Whether the driver is to be polled in the next round of the scheduler.
    pub(crate) fn has_put_off(&self) -> bool {
        self.put_off || self.frames_left == 0
    }

    /// Writes out what is buffered, now or in the next round of the scheduler.
    pub(crate) fn flush_soon(&mut self, cx: &mut Context<'_>) {
        let is_live = self.pings.is_proven() && !self.sealed;
        if self.small_frames >= PUT_OFF_FROM && self.may_put_off && is_live {
            self.put_off = true;
        } else {
            self.small_frames = 0;
            let _ = self.poll_flush(cx);
        }
    }

    /// Writes out what is buffered.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.write_error.is_some() {
            self.asked_to_write = true;
            self.abandon_output();
            return Poll::Ready(());
        }
        loop {
            self.append_controls();
            if self.output.is_empty() && !self.unflushed {
                self.pace.on_drained(Instant::now);
                self.asked_to_write = true;
                return Poll::Ready(());
            }
            let io = Pin::new(&mut self.io);
            let progress = if self.output.is_empty() {
                io.poll_flush(cx).map_ok(|()| None)
            } else {
                io.poll_write(cx, self.output.as_slice()).map_ok(Some)
            };
            match progress {
                Poll::Pending => {
                    self.on_refused();
                    return Poll::Pending;
                }
                Poll::Ready(Ok(Some(0))) => self.on_write_error(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Err(error)) => self.on_write_error(error),
                Poll::Ready(Ok(None)) => {
                    self.unflushed = false;
                    self.heartbeat.on_write_progress();
                }
                Poll::Ready(Ok(Some(n))) => {
                    self.output.consume(n);
                    self.on_taken(n);
                }
            }
            if self.write_error.is_some() {
                return Poll::Ready(());
            }
        }
    }

    /// From now on the crate begins no frame; the one that it is in the middle of must still be finished.
    pub(crate) fn seal(&mut self) {
        self.sealed = true;
    }

    /// Whether the output stands between two frames.
    pub(crate) fn is_between_frames(&self) -> bool {
        self.outgoing.body_left == 0 && self.outgoing.header_len == 0
    }

    /// Ends the connection in good order: resets what is still open, says that no more comes, and reads to the end. Where the
    /// peer may not have taken all of it, that is a [`failure`](Self::failure).
    ///
    /// Closing a TCP socket with unread input resets it, and destroys what was already sent. And two sides that close at once
    /// with full sockets wait for each other's reading, so it reads from the start. Call only when
    /// [`is_between_frames`](Self::is_between_frames).
    pub(crate) fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.finish == Finish::Resetting {
            // Bounded by the limits on streams.
            self.controls.extend(self.ledger.close_all());
            self.send_go_away();
            self.finish = Finish::Flushing;
        }
        let read_to_end = self.poll_discard(cx);
        if self.failure.is_some() {
            return Poll::Ready(());
        }
        if self.finish == Finish::Flushing {
            ready!(self.poll_flush(cx));
            self.finish = Finish::ShuttingDown;
        }
        if self.finish == Finish::ShuttingDown {
            if self.write_error.is_none() {
                match ready!(Pin::new(&mut self.io).poll_shutdown(cx)) {
                    Ok(()) => self.heartbeat.on_shut_down(Instant::now()),
                    Err(error) => self.on_write_error(error),
                }
            }
            self.finish = Finish::Discarding;
        }
        ready!(read_to_end);
        if let Some(error) = &self.write_error {
            self.fail(CloseReason::Lost(Arc::clone(error)));
        }
        Poll::Ready(())
    }

    /// Reads to the end, and discards what comes.
    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.input_end.is_none() {
            let mut buffer = ReadBuf::new(&mut self.input.bytes);
            let read = Pin::new(&mut self.io).poll_read(cx, &mut buffer);
            self.asked_to_read |= read.is_ready() || coop::has_budget_remaining();
            match ready!(read) {
                Ok(()) if buffer.filled().is_empty() => self.input_end = Some(InputEnd::Eof),
                Ok(()) => {
                    self.on_read();
                    self.heartbeat.on_pong();
                }
                Err(error) => {
                    self.input_end = Some(InputEnd::Failed);
                    self.fail(CloseReason::Lost(Arc::new(error)));
                }
            }
        }
        Poll::Ready(())
    }

    /// Whether nothing is lost by the end of the connection: no stream is open, the transport has taken all of those that we
    /// have finished, and the peer has ended the connection in good order, or has said goodbye first.
    pub(crate) fn is_over(&self) -> bool {
        self.is_in_order() && self.ledger.is_empty()
    }

    fn is_in_order(&self) -> bool {
        (self.input_end == Some(InputEnd::Eof) || self.is_guest) && self.taken >= self.ledger.said()
    }

    pub(crate) fn fail(&mut self, reason: CloseReason) {
        self.failure.get_or_insert(reason);
    }

    /// Fails, and tells the peer so, if it still reads.
    fn fail_protocol(&mut self, what: impl Into<Arc<str>>) {
        if self.failure.is_none() {
            self.push_control(Header::go_away(1));
        }
        self.fail(CloseReason::Protocol(what.into()));
    }

    /// The crate refuses what it was given last.
    fn fail_refused(&mut self) {
        let Header { kind, flags, stream_id, length } = self.given;
        let frame = format!("{kind:?} frame of stream {stream_id}, of length {length} and with the flags {flags:#x}");
        self.fail_protocol(format!("the yamux crate refuses its last frame, a {frame}"));
    }

    /// A failed write ends only the output: what the peer sent before is still read.
    fn on_write_error(&mut self, error: io::Error) {
        self.write_error.get_or_insert_with(|| Arc::new(error));
        self.heartbeat.on_write_pending(Instant::now());
        self.abandon_output();
    }

    fn abandon_output(&mut self) {
        self.output.consume(self.output.len());
        self.pongs.clear();
        self.controls.clear();
    }

    fn push_control(&mut self, header: Header) {
        if self.controls.len() >= MAX_CONTROLS {
            self.append_controls();
        }
        if self.controls.len() >= MAX_CONTROLS {
            self.fail(CloseReason::ControlFlood);
        } else {
            self.controls.push_back(header);
        }
    }

    /// Says why as well, to whom that means something.
    fn push_reset(&mut self, reset: Header) {
        let length = if self.peer_is_evermux { reset.length } else { 0 };
        self.push_control(Header { length, ..reset });
    }

    fn push_frame(&mut self, header: Header) {
        trace!(?header, "frame out");
        let pushed = self.output.push(&header.encode());
        debug_assert_eq!(pushed, HEADER_LEN);
        self.queued += HEADER_LEN as u64;
    }

    /// Puts our own frames into the output, when it stands between two frames of the crate.
    fn append_controls(&mut self) {
        // After the shutdown of the output nothing can be said.
        if !self.is_between_frames() || self.finish > Finish::Flushing {
            return;
        }
        while self.output.room() >= HEADER_LEN {
            if !self.withhold
                && let Some(pong) = self.pongs.pop_front()
            {
                self.push_frame(pong);
            } else if let Some(header) = self.controls.pop_front() {
                self.push_frame(header);
                if self.pings.is_heartbeat(&header) {
                    self.beat_end = Some(self.queued);
                }
            } else {
                return;
            }
        }
    }

    /// The socket has no room, or did not flush. A turn that has used up its budget was not told so by the socket.
    fn on_refused(&mut self) {
        if coop::has_budget_remaining() {
            self.asked_to_write = true;
            self.refused = true;
            let now = Instant::now();
            self.pace.on_full(now);
            self.heartbeat.on_write_pending(now);
        }
    }

    /// The socket took `n` bytes. The heartbeat's time begins when its ping is among them (G10).
    fn on_taken(&mut self, n: usize) {
        self.taken += n as u64;
        self.pace.on_taken(n, Instant::now);
        self.limit();
        if std::mem::take(&mut self.refused) {
            self.signs += 1;
        }
        self.unflushed = true;
        self.heartbeat.on_write_progress();
        if self.beat_end.is_some_and(|end| self.taken >= end) {
            self.beat_end = None;
            self.heartbeat.on_ping_taken(Instant::now());
        }
    }

    /// Lets as much wait as the pace of the path allows.
    fn limit(&mut self) {
        let limits = self.pace.limits();
        if std::mem::replace(&mut self.limits, limits) == limits {
            return;
        }
        debug!(?limits, "the pace of the path has changed");
        self.set_limits();
    }

    fn set_limits(&self) {
        let frame = self.limits.frame.max(if self.peer_is_evermux { 0 } else { FOREIGN_FRAME });
        // The next one is there when the one before it has left.
        self.outlet.gate.limit(frame, frame.saturating_mul(2));
        if let Some(set) = self.outlet.unsent_limit {
            // What cannot be set is as it was.
            let _ = set(&self.io, self.limits.unsent);
        }
    }

    /// How many bytes of the crate's there is room for in the output.
    fn room(&self) -> usize {
        self.output.room().min(self.limits.output.saturating_sub(self.output.len()))
    }

    /// Decides on the frame whose header is next in the input.
    fn on_header(&mut self, header: Header) {
        self.frames_left = self.frames_left.saturating_sub(1);
        let body = header.body_len() as usize;
        self.incoming = match header.kind {
            Kind::Ping if header.has(flags::ACK) => {
                trace!(?header, "frame in");
                self.on_pong(header.length);
                Incoming::Boundary
            }
            Kind::Ping => {
                trace!(?header, "frame in");
                self.on_ping(header.length);
                Incoming::Boundary
            }
            Kind::GoAway => {
                trace!(?header, "frame in");
                match goodbye::told(header.length, self.peer_is_evermux) {
                    None => {
                        self.is_guest |= !self.go_away_out;
                        self.go_away_in = true;
                    }
                    Some(reason) => self.fail(reason),
                }
                Incoming::Boundary
            }
            Kind::Data | Kind::WindowUpdate => {
                let is_small = header.kind == Kind::Data && body < VECTORED_FROM;
                if is_small || header.has(flags::SYN) || header.has(flags::FIN) {
                    self.small_frames = self.small_frames.saturating_add(1);
                }
                self.check_stream(&header);
                if let Some(reset) = self.ledger.relieve() {
                    self.push_reset(reset);
                }
                let ruling = self.ledger.rule_in(&header);
                trace!(?header, ?ruling, "frame in");
                match ruling {
                    Ruling::Refuse(reset) => {
                        self.push_reset(reset);
                        Incoming::Dropping(body)
                    }
                    Ruling::Pass => Incoming::Passing(Passing::new(header)),
                    Ruling::Reset | Ruling::PassThenReset | Ruling::Drop => Incoming::Dropping(body),
                }
            }
        };
    }

    /// Finds what the crate would answer with a GoAway of its own, to say it more clearly.
    fn check_stream(&mut self, header: &Header) {
        let (id, body) = (header.stream_id, header.body_len());
        if id == 0 {
            return self.fail_protocol(format!("a {:?} frame for stream 0", header.kind));
        }
        let (credit, allowance) = if header.has(flags::SYN) {
            let theirs = id.is_multiple_of(2) == (self.role == Role::Client);
            if !theirs {
                let text = format!("stream {id} was opened by the peer, whose ids have the other parity");
                return self.fail_protocol(text);
            }
            if self.ledger.is_open(id) {
                return self.fail_protocol(format!("stream {id} was opened twice"));
            }
            (Some(WINDOW.into()), Some(WINDOW.into()))
        } else {
            (self.ledger.credit(id), self.ledger.allowance(id))
        };
        if let Some(credit) = credit
            && u64::from(body) > credit
        {
            self.fail_protocol(format!("a frame of {body} bytes on stream {id}, whose credit is {credit} bytes"));
        }
        if let Some(allowance) = allowance
            && allowance + header.credit() > u32::MAX.into()
        {
            let more = header.credit();
            let text =
                format!("a credit of {more} bytes more on stream {id}, which has {allowance}: 4 GiB is too much");
            self.fail_protocol(text);
        }
    }

    fn on_ping(&mut self, value: u32) {
        if value == self.role.proof() {
            self.fail_protocol(
                "the peer sends our own words back: it is an echo, or a program that has the same role as this one",
            );
        }
        // However often it says so.
        if pings::is_proof(value) && !std::mem::replace(&mut self.peer_is_evermux, true) {
            self.set_limits();
            self.proof_came = Some(Instant::now());
        }
        if self.peer_is_evermux && self.pings.tells(value) {
            return;
        }
        if self.pongs.len() >= MAX_PONGS {
            self.append_controls();
        }
        if self.pongs.len() >= MAX_PONGS {
            self.fail(CloseReason::PingFlood);
        }
        self.pongs.push_back(Header::pong(value));
    }

    fn on_pong(&mut self, value: u32) {
        let now = Instant::now();
        let Some(answered) = self.pings.on_pong(value, now) else { return };
        match answered {
            Answered::Proof => self.heartbeat.start(now),
            Answered::Heartbeat => {
                self.beat_end = None;
                self.heartbeat.on_pong();
            }
            Answered::Other => {}
        }
        if let Some(path) = self.pings.path() {
            self.heartbeat.on_path(path);
        }
    }

    /// Reads from the socket into `direct`, or into the read-ahead where there is none.
    fn poll_fill(&mut self, cx: &mut Context<'_>, direct: Option<&mut [u8]>) -> Poll<io::Result<usize>> {
        if self.input_end.is_some() {
            return Poll::Ready(Ok(0));
        }
        self.flush_soon(cx);
        let into_input = direct.is_none();
        let space = match direct {
            Some(buffer) => buffer,
            None => {
                if self.input.end == self.input.bytes.len() {
                    self.input.compact();
                }
                &mut self.input.bytes[self.input.end..]
            }
        };
        let mut buffer = ReadBuf::new(space);
        let read = Pin::new(&mut self.io).poll_read(cx, &mut buffer);
        self.asked_to_read |= read.is_ready() || coop::has_budget_remaining();
        match ready!(read) {
            Err(error) => {
                self.on_input_end(InputEnd::Failed, error);
                Poll::Ready(Ok(0))
            }
            Ok(()) => {
                let n = buffer.filled().len();
                if n == 0 {
                    let error = if self.go_away_in {
                        "the peer closed the connection, and something was not over"
                    } else {
                        "the peer closed the connection without a word"
                    };
                    self.on_input_end(InputEnd::Eof, io::Error::new(io::ErrorKind::UnexpectedEof, error));
                } else {
                    self.on_read();
                    if into_input {
                        self.input.end += n;
                    }
                }
                Poll::Ready(Ok(n))
            }
        }
    }

    /// Bytes came from the socket.
    fn on_read(&mut self) {
        self.signs += 1;
        self.heartbeat.on_read(Instant::now());
    }

    fn on_input_end(&mut self, end: InputEnd, error: io::Error) {
        self.input_end = Some(end);
        // A peer that closes resets what it leaves behind, if it knows of it.
        let is_left = if self.write_error.is_some() { !self.ledger.is_empty() } else { self.ledger.is_used() };
        let reason = match &self.write_error {
            _ if self.go_away_in && self.is_in_order() && !is_left => CloseReason::PeerClosed,
            Some(earlier) => CloseReason::Lost(Arc::clone(earlier)),
            None => CloseReason::Lost(Arc::new(error)),
        };
        self.fail(reason);
    }

    /// Reads what needs no crate. Ready when the next frame does, or at the end.
    ///
    /// Before the session is published that is all: the crate measures round trips from its first poll on.
    pub(crate) fn poll_without_the_crate(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.failure.is_none() {
            if self.frames_left == 0 {
                return Poll::Pending;
            }
            match self.input.as_slice().first_chunk().map(|bytes| Header::decode(*bytes)) {
                Some(Ok(Header { kind: Kind::Data | Kind::WindowUpdate, .. })) => break,
                Some(Ok(header)) => {
                    self.input.consume(HEADER_LEN);
                    self.on_header(header);
                }
                Some(Err(error)) => self.fail_protocol(error.to_string()),
                None => drop(ready!(self.poll_fill(cx, None))),
            }
        }
        Poll::Ready(())
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        self.crate_reads = true;
        self.written_since_read = 0;
        if std::mem::take(&mut self.write_paused) {
            cx.waker().wake_by_ref();
        }
        loop {
            if self.failure.is_some() {
                return Poll::Ready(Ok(0));
            }
            match &mut self.incoming {
                Incoming::Passing(passing) => {
                    if passing.header_handed < HEADER_LEN {
                        let rest = &passing.bytes[passing.header_handed..];
                        let n = rest.len().min(buf.len());
                        buf[..n].copy_from_slice(&rest[..n]);
                        passing.header_handed += n;
                        self.crate_was_given = true;
                        self.close_frame();
                        return Poll::Ready(Ok(n));
                    }
                    let n = passing.body_left.min(buf.len());
                    let n = if self.input.is_empty() {
                        let direct = (n >= VECTORED_FROM).then_some(&mut buf[..n]);
                        let is_direct = direct.is_some();
                        let n = ready!(self.poll_fill(cx, direct))?;
                        if !is_direct {
                            continue;
                        }
                        n
                    } else {
                        let n = n.min(self.input.len());
                        buf[..n].copy_from_slice(&self.input.as_slice()[..n]);
                        self.input.consume(n);
                        n
                    };
                    if let Incoming::Passing(passing) = &mut self.incoming {
                        passing.body_left -= n;
                    }
                    self.close_frame();
                    return Poll::Ready(Ok(n));
                }
                Incoming::Dropping(left) => {
                    let n = self.input.len().min(*left);
                    *left -= n;
                    let done = *left == 0;
                    self.input.consume(n);
                    if done {
                        self.incoming = Incoming::Boundary;
                        continue;
                    }
                }
                Incoming::Boundary => {
                    if self.pings.pong_due().is_some()
                        && let Some(pong) = self.pings.pong_for_the_crate(Instant::now())
                    {
                        self.incoming = Incoming::Passing(Passing::new(pong));
                        continue;
                    }
                    if self.frames_left == 0 {
                        return Poll::Pending;
                    }
                    if let Some(bytes) = self.input.as_slice().first_chunk() {
                        match Header::decode(*bytes) {
                            Ok(header) => {
                                self.input.consume(HEADER_LEN);
                                self.on_header(header);
                            }
                            Err(error) => self.fail_protocol(error.to_string()),
                        }
                        continue;
                    }
                }
            }
            ready!(self.poll_fill(cx, None))?;
        }
    }

    /// Books a frame, or a piece of one, whose last byte is about to be handed over.
    fn close_frame(&mut self) {
        let Incoming::Passing(passing) = &self.incoming else { return };
        if !passing.is_complete() {
            return;
        }
        self.given = passing.header;
        if passing.header.kind != Kind::Ping {
            self.ledger.book_in(&passing.header, self.peer_is_evermux);
        }
        self.incoming = match passing.next() {
            Some(next) if self.ledger.is_open(passing.header.stream_id) => Incoming::Passing(next),
            // The stream has ended between two pieces.
            _ if passing.rest > 0 => Incoming::Dropping(passing.rest),
            _ => Incoming::Boundary,
        };
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.outgoing.body_left > 0 {
            return self.poll_write_body(cx, buf);
        }
        if self.sealed && self.outgoing.header_len == 0 {
            return Poll::Pending;
        }
        if self.written_since_read >= WRITE_BEFORE_READ {
            self.write_paused = true;
            return Poll::Pending;
        }
        let len = self.outgoing.header_len;
        if len == 0 {
            self.append_controls();
        }
        // Room for the header and for an RST after it.
        if self.room() < 2 * HEADER_LEN {
            ready!(self.poll_flush(cx));
        }
        let n = buf.len().min(HEADER_LEN - len);
        self.outgoing.header[len..len + n].copy_from_slice(&buf[..n]);
        self.outgoing.header_len += n;
        if self.outgoing.header_len == HEADER_LEN {
            self.outgoing.header_len = 0;
            let header = Header::decode(self.outgoing.header).map_err(io::Error::other)?;
            self.on_header_out(header);
        }
        self.written_since_read += n;
        Poll::Ready(Ok(n))
    }

    fn on_header_out(&mut self, header: Header) {
        if header.body_len() > 0 {
            self.ledger.on_bytes_out(header.stream_id);
        }
        let ruling = match header.kind {
            Kind::Ping => {
                if let Some(ping) = self.pings.on_ping_of_the_crate(header.length, Instant::now()) {
                    self.push_control(ping);
                }
                Ruling::Drop
            }
            Kind::GoAway => {
                // The crate goes on after an error of its own; nothing else makes it send one.
                self.fail_refused();
                Ruling::Drop
            }
            // What is thrown away has not been said.
            Kind::Data | Kind::WindowUpdate if self.write_error.is_some() => Ruling::Drop,
            Kind::Data | Kind::WindowUpdate => self.ledger.pass_out(&header, self.queued + HEADER_LEN as u64),
        };
        if ruling != Ruling::Pass {
            trace!(?header, ?ruling, "frame of the crate");
        }
        self.outgoing.body_left = header.body_len() as usize;
        self.outgoing.drop_body = !matches!(ruling, Ruling::Pass | Ruling::PassThenReset);
        match ruling {
            Ruling::Pass => self.push_frame(header),
            Ruling::PassThenReset => {
                self.push_frame(header);
                self.push_control(Header::reset(header.stream_id));
            }
            Ruling::Reset => self.push_frame(Header::reset(header.stream_id)),
            Ruling::Refuse(_) | Ruling::Drop => {}
        }
    }

    fn poll_write_body(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let body = &buf[..buf.len().min(self.outgoing.body_left)];
        let n = if self.outgoing.drop_body || self.write_error.is_some() {
            body.len()
        } else {
            ready!(self.poll_put(cx, body))
        };
        self.outgoing.body_left -= n;
        self.written_since_read += n;
        Poll::Ready(Ok(n))
    }

    /// Puts bytes of a body into the output, or straight into the socket behind what is there.
    fn poll_put(&mut self, cx: &mut Context<'_>, body: &[u8]) -> Poll<usize> {
        let gathered = self.output.len() + body.len() >= GATHERED;
        if gathered && body.len() >= VECTORED_FROM && self.io.is_write_vectored() {
            let parts = [IoSlice::new(self.output.as_slice()), IoSlice::new(body)];
            match Pin::new(&mut self.io).poll_write_vectored(cx, &parts) {
                Poll::Ready(Ok(n)) if n > 0 => {
                    let buffered = n.min(self.output.len());
                    self.output.consume(buffered);
                    self.on_taken(n);
                    if n > buffered {
                        self.queued += (n - buffered) as u64;
                        return Poll::Ready(n - buffered);
                    }
                }
                Poll::Ready(Ok(_)) => self.on_write_error(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Err(error)) => self.on_write_error(error),
                Poll::Pending => self.on_refused(),
            }
        }
        if self.room() == 0 {
            ready!(self.poll_flush(cx));
        }
        let n = self.output.push(&body[..body.len().min(self.room())]);
        self.queued += n as u64;
        Poll::Ready(n)
    }
}

impl<Io> AsyncRead for Wire<Io>
where
    Io: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        self.core().poll_read(cx, buf)
    }
}

impl<Io> AsyncWrite for Wire<Io>
where
    Io: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.core().poll_write(cx, buf)
    }

    /// The driver flushes when the crate has nothing more to write, and the wire before each read.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// The wire is the only closer.
    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
