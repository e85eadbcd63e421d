//! The frame layer between the socket and the yamux crate.
//!
//! It follows the frame boundaries both ways, and so can do what the crate does not: it sends heartbeats between frames
//! (G10), answers the pings of the peer and of the crate, keeps the [`Ledger`], turns the crate's FIN for a dropped
//! stream into an RST (G17), refuses streams past the limit (G16), and handles GoAway. The crate sees a clean
//! connection: no pings but its own, and no frame of a stream that has ended.
//!
//! # Bounds (G19)
//!
//! Those of the [input](super::input) and the [output](super::output), and [`WRITE_BEFORE_READ_BYTES`].

mod finish;
mod rules;

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, TryLockError, atomic::AtomicUsize},
    task::{Context, Poll, ready},
};

use futures_util::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use self::finish::Finish;
use super::{
    entry::Entry,
    frame::{Header, Kind},
    goodbye::Goodbye,
    heartbeat::{Heartbeat, Verdict},
    inbound::Inbound,
    input::{Input, InputState},
    ledger::Ledger,
    output::Output,
    pace::Outlet,
    pings::{self, Pings},
    role::Role,
};
use crate::{config::Config, error::CloseReason, sync::Lane};

/// How much the crate may write before it must read: its loop prefers writing.
const WRITE_BEFORE_READ_BYTES: usize = 1 << 20;
/// How the crate uses the wire.
#[derive(Debug)]
struct CratePolls {
    /// Whether it has read in this poll, and whether it was given something.
    reads: bool,
    was_given: bool,
    /// The last frame that it was given.
    last: Header,
    written_since_read: usize,
    write_paused: bool,
}

/// The wire itself. The crate owns one handle of it, the driver another; both live in one task.
pub(crate) struct WireCore<Io> {
    io: Io,
    role: Role,
    pub(super) ledger: Ledger,
    pub(super) pings: Pings,
    input: Input,
    output: Output<Io>,
    polls: CratePolls,
    /// When the peer's proof came, if it is evermux.
    proof_came: Option<Instant>,
    go_away_in: bool,
    go_away_out: bool,
    /// The peer said goodbye before us.
    is_guest: bool,
    /// What our GoAway says.
    goodbye: Goodbye,
    failure: Option<CloseReason>,
    finish: Finish,
}

/// A handle of the wire, for the crate.
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

    /// Never waits: one task has both handles, and the driver holds no guard while it polls the crate. Wakers and hooks
    /// may run while it is held: nothing outside the driver can reach the wire, so G7 does not count it as a lock.
    pub(crate) fn core(&self) -> MutexGuard<'_, WireCore<Io>> {
        match self.0.try_lock() {
            Ok(core) => core,
            Err(TryLockError::Poisoned(core)) => core.into_inner(),
            Err(TryLockError::WouldBlock) => unreachable!("the driver polls the crate while it holds the wire"),
        }
    }

    /// The entries of all open streams.
    pub(crate) fn entries(&self) -> Vec<Arc<Entry>> {
        self.core().ledger.entries()
    }
}

impl<Io> WireCore<Io>
where
    Io: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    /// Begins a session: its proof comes first in the output, and must be answered by `prove_by`.
    pub(crate) fn new(
        io: Io,
        role: Role,
        withhold: bool,
        prove_by: Instant,
        config: &Config,
        (lane, load): (Lane<Inbound>, Arc<AtomicUsize>),
        outlet: Outlet<Io>,
    ) -> Self {
        let now = Instant::now();
        let ledger = Ledger::new(config, lane, load, Arc::clone(&outlet.gate));
        let mut output = Output::new(&io, withhold, outlet);
        output.push_frame(Header::ping(role.proof()));
        Self {
            io,
            role,
            ledger,
            pings: Pings::new(role, Heartbeat::new(config, now, prove_by), now),
            input: Input::new(),
            output,
            polls: CratePolls {
                reads: false,
                was_given: false,
                last: Header::ping(0),
                written_since_read: 0,
                write_paused: false,
            },
            proof_came: None,
            go_away_in: false,
            go_away_out: false,
            is_guest: false,
            goodbye: Goodbye::Closing,
            failure: None,
            finish: Finish::Resetting,
        }
    }

    /// Whether the peer has announced that it opens no more streams.
    pub(crate) fn has_go_away(&self) -> bool {
        self.go_away_in
    }

    /// Whether the peer has proven itself as evermux.
    pub(crate) fn peer_is_evermux(&self) -> bool {
        self.proof_came.is_some()
    }

    /// Why the session cannot go on.
    pub(crate) fn failure(&self) -> Option<&CloseReason> {
        self.failure.as_ref()
    }

    /// The session is where callers find it: answers what was asked in the meantime.
    pub(crate) fn publish(&mut self) {
        if self.output.publish()
            && let Some(came) = self.proof_came
        {
            self.output.push_first_pong(pings::held(came.elapsed()));
        }
    }

    /// Gives up a stream whose FIN the user has sent.
    pub(crate) fn give_up(&mut self, id: u32) {
        if self.ledger.give_up(id) {
            self.push_control(Header::reset(id));
        }
    }

    /// Sends a ping for the user. One at a time.
    pub(crate) fn send_ping(&mut self) {
        let ping = self.pings.ask_for_the_user(Instant::now());
        self.output.push_bounded([ping]);
    }

    /// Judges the session by its heartbeat. A ping that it asks for goes out with the next flush; whether it is dead is
    /// for the caller to decide, which knows how old the last look at the socket is.
    pub(crate) fn judge(&mut self, now: Instant) -> Verdict {
        let (verdict, ping) = self.pings.judge(now);
        if let Some(ping) = ping {
            self.output.push_heartbeat(ping);
        }
        match verdict {
            // After a failed write we wait only for the end of the input.
            Verdict::Dead(reason) => Verdict::Dead(self.output.error().cloned().map_or(reason, CloseReason::Lost)),
            verdict => verdict,
        }
    }

    /// From now on it counts whether the socket was asked.
    pub(crate) fn begin_look(&mut self) {
        self.input.begin_look();
        self.output.begin_look();
    }

    /// Whether the socket was asked for everything, both ways, since [`begin_look`](Self::begin_look).
    pub(crate) fn has_looked(&self) -> bool {
        self.input.has_looked() && self.output.has_looked()
    }

    /// The crate is about to be polled.
    pub(crate) fn begin_poll(&mut self) {
        (self.polls.reads, self.polls.was_given) = (false, false);
    }

    /// The crate was polled and has nothing to do. Returns whether to poll it once more.
    ///
    /// It reads whenever it is polled, unless a GoAway of its own waits behind what cannot be written: then it would
    /// never read again, and no look would complete. That GoAway may be about what it was given last.
    pub(crate) fn end_poll(&mut self) -> bool {
        if !self.polls.reads {
            self.fail_refused();
        }
        self.polls.was_given && self.output.is_blocked()
    }

    /// The driver is polled: a round of the scheduler begins.
    pub(crate) fn begin_round(&mut self) {
        self.input.begin_round();
        self.output.begin_round();
    }

    /// Whether the driver is to be polled in the next round of the scheduler.
    pub(crate) fn has_put_off(&self) -> bool {
        self.input.is_put_off() || self.output.is_put_off()
    }

    /// Writes out what is buffered, now or in the next round of the scheduler.
    pub(crate) fn flush_soon(&mut self, cx: &mut Context<'_>) {
        if !self.output.defer(self.pings.is_proven()) {
            let _ = self.poll_flush(cx);
        }
    }

    /// Writes out what is buffered. Also ready if that failed.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.output.poll_flush(&mut self.io, &mut self.pings.heartbeat, cx)
    }

    pub(crate) fn fail(&mut self, reason: CloseReason) {
        self.failure.get_or_insert(reason);
    }

    fn push_control(&mut self, header: Header) {
        if let Err(reason) = self.output.push_control(header) {
            self.fail(reason);
        }
    }

    /// Reads from the transport into `direct`, or into the read-ahead if there is none.
    fn poll_fill(&mut self, cx: &mut Context<'_>, direct: Option<&mut [u8]>) -> Poll<io::Result<usize>> {
        if self.input.end().is_some() {
            return Poll::Ready(Ok(0));
        }
        self.flush_soon(cx);
        match ready!(self.input.poll_fill(&mut self.io, cx, direct)) {
            Ok(0) => {
                let error = if self.go_away_in {
                    "the peer closed the connection while streams were open or bytes unsent"
                } else {
                    "the peer closed the connection without a GoAway"
                };
                self.on_input_end(io::Error::new(io::ErrorKind::UnexpectedEof, error));
                Poll::Ready(Ok(0))
            }
            Ok(n) => {
                self.pings.heartbeat.on_read(Instant::now());
                Poll::Ready(Ok(n))
            }
            Err(error) => {
                self.on_input_end(error);
                Poll::Ready(Ok(0))
            }
        }
    }

    /// Handles what needs no crate. Ready when the next frame does, or at the end.
    ///
    /// Until the session is published that is all: the crate measures round trips from its first poll on.
    pub(crate) fn poll_without_the_crate(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.failure.is_none() {
            if self.input.is_put_off() {
                return Poll::Pending;
            }
            match self.input.peek_header() {
                Some(Ok(Header { kind: Kind::Data | Kind::WindowUpdate, .. })) => break,
                Some(Ok(header)) => self.on_header(header),
                Some(Err(error)) => self.fail_protocol(error.to_string()),
                None => drop(ready!(self.poll_fill(cx, None))),
            }
        }
        Poll::Ready(())
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        self.polls.reads = true;
        self.polls.written_since_read = 0;
        if std::mem::take(&mut self.polls.write_paused) {
            cx.waker().wake_by_ref();
        }
        loop {
            if self.failure.is_some() {
                return Poll::Ready(Ok(0));
            }
            match self.input.state() {
                InputState::Passing(_) => {
                    if let Some(n) = self.input.hand_header(buf) {
                        self.polls.was_given = true;
                        self.close_frame();
                        return Poll::Ready(Ok(n));
                    }
                    if let Some(n) = self.input.hand_body(buf) {
                        self.close_frame();
                        return Poll::Ready(Ok(n));
                    }
                    if let Some(n) = self.input.direct(buf.len()) {
                        let n = ready!(self.poll_fill(cx, Some(&mut buf[..n])))?;
                        self.input.handed(n);
                        self.close_frame();
                        return Poll::Ready(Ok(n));
                    }
                }
                InputState::Dropping(_) => {
                    if self.input.drop_body() {
                        continue;
                    }
                }
                InputState::Boundary => {
                    if self.pings.pong_due().is_some()
                        && let Some(pong) = self.pings.pong_for_the_crate(Instant::now())
                    {
                        self.input.set_state(InputState::passing(pong));
                        continue;
                    }
                    if self.input.is_put_off() {
                        return Poll::Pending;
                    }
                    match self.input.peek_header() {
                        Some(Ok(header)) => {
                            self.on_header(header);
                            continue;
                        }
                        Some(Err(error)) => {
                            self.fail_protocol(error.to_string());
                            continue;
                        }
                        None => {}
                    }
                }
            }
            ready!(self.poll_fill(cx, None))?;
        }
    }

    /// Books a frame, or a piece of one, whose last byte is about to be handed over.
    fn close_frame(&mut self) {
        let Some(header) = self.input.completed() else { return };
        self.polls.last = header;
        if header.kind != Kind::Ping {
            self.ledger.book_in(&header, self.peer_is_evermux());
        }
        let is_open = self.ledger.is_open(header.stream_id);
        self.input.next_piece(is_open);
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let heartbeat = &mut self.pings.heartbeat;
        if self.output.expects_body() {
            let n = ready!(self.output.poll_body(&mut self.io, heartbeat, cx, buf));
            self.polls.written_since_read += n;
            return Poll::Ready(Ok(n));
        }
        if self.output.refuses_frames() {
            return Poll::Pending;
        }
        if self.polls.written_since_read >= WRITE_BEFORE_READ_BYTES {
            self.polls.write_paused = true;
            return Poll::Pending;
        }
        let (n, header) = ready!(self.output.poll_header(&mut self.io, heartbeat, cx, buf));
        if let Some(bytes) = header {
            self.on_header_out(Header::decode(bytes).map_err(io::Error::other)?);
        }
        self.polls.written_since_read += n;
        Poll::Ready(Ok(n))
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

    /// Does nothing: the driver flushes when the crate has nothing more to write, and the wire before each read.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Does nothing: only the wire closes the connection.
    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
