//! The one task that owns the yamux connection and polls it.

use std::{
    collections::VecDeque,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_util::io::AsyncRead as _;
use tokio::{
    sync::{mpsc, oneshot},
    task::coop,
    time::{Instant, Sleep, sleep_until},
};
use tracing::{debug, error, info, warn};

use super::{
    goodbye::Goodbye,
    heartbeat::Verdict,
    ledger::{Entry, Place, WINDOW},
    state::SessionState,
    stream::{Inbound, MuxStream, StreamCore, announce},
    wire::{Role, Wire, WireCore},
};
use crate::{
    config::Config,
    deadline,
    error::CloseReason,
    sync::{Ending, Lane, SessionEnd, Turns},
};

/// The crate's own limit on streams is put out of reach: the wire limits them, and the crate's limit ends the session.
const CRATE_STREAMS: usize = if usize::BITS >= 64 { 1 << 20 } else { 1 << 12 };
/// Streams that a peer may leave unacknowledged: hashicorp's resets one more, and others wait for room as well.
const MAX_UNACKNOWLEDGED: usize = 256;
/// Payload of a Data frame. With its header it fits the 64 KiB that one segment of the kernel's TCP can have: a frame that
/// is a little longer costs a segment of its own for the rest.
const SPLIT_SEND: usize = (64 << 10) - 128;
/// What is read and discarded of a stream that was dropped after its FIN.
const LINGER_BYTES: usize = 1 << 20;
const LINGER: Duration = Duration::from_secs(10);
/// What has passed its time is given up only after a look at the socket that begins so much later: by then the timer and the
/// socket have been asked anew, whatever kept this task or the whole process from it before.
const LOOK: Duration = Duration::from_millis(1);
/// What a session that closes keeps of its time for the last frames.
const FINISH: Duration = Duration::from_secs(1);

/// What handles ask of the driver. Each kind is bounded by what it comes from.
pub(crate) enum Command {
    /// Open a stream. Its place was taken: at most `max_streams` at once.
    Open(Place, oneshot::Sender<MuxStream>),
    /// One for each call that waits.
    Ping(oneshot::Sender<Duration>),
    /// Say whether there was no sign of life for so long. One for each candidate that looks for a place.
    Probe(Duration, oneshot::Sender<bool>),
    /// A stream was dropped after its FIN, and the peer has not finished. One for each stream.
    Linger(yamux::Stream, Arc<Entry>),
    /// A stream was reset after its FIN. One for each stream.
    GiveUp(u32),
    /// The session is in its place.
    Publish,
    /// Close in good order, within this time.
    Close(Duration),
    /// Close, and tell the peer why it was given nothing.
    Refuse(Goodbye),
    /// Close at once, for this reason.
    Abort(CloseReason),
}

/// A stream that is read and discarded until the peer has finished (G17).
struct Linger {
    stream: yamux::Stream,
    entry: Arc<Entry>,
    left: usize,
    until: Instant,
}

/// Somebody who waits for a sign of life.
struct Probe {
    /// How many there were before.
    since: u64,
    until: Instant,
    silent: oneshot::Sender<bool>,
}

/// A session that closes.
struct Drain {
    reason: CloseReason,
    /// Until then streams in flight may finish.
    streams_until: Instant,
    until: Instant,
    finishing: bool,
    /// So many streams were cut, because their time was over.
    cut: usize,
}

impl Drain {
    /// How it has ended, if nothing else was met.
    fn outcome(&self) -> CloseReason {
        match (&self.reason, self.cut) {
            (CloseReason::Closed | CloseReason::PeerClosed, streams @ 1..) => CloseReason::DrainTimedOut { streams },
            (reason, _) => reason.clone(),
        }
    }
}

/// What ends with the session, in the order of rule 7: it leaves its slot, its end is published, and then streams and
/// openers learn of it, by the drop of the connection.
struct Life<Io> {
    session: Arc<SessionState>,
    /// None once reported.
    machine: Option<Machine<Io>>,
}

/// Whoever waits for a session when its crate is dropped. Its drop tells them: also where the transport, or the waker of
/// another one, panicked in that drop.
struct Stranded {
    lane: Lane<Inbound>,
    published: bool,
    entries: Vec<Arc<Entry>>,
}

impl Drop for Stranded {
    fn drop(&mut self) {
        // What waits can still be taken: a stream that came whole is whole.
        drop(self.lane.end(self.published));
        // A panic within the crate takes the crate's own list of whom to wake with it.
        for entry in &self.entries {
            entry.wake();
        }
    }
}

impl<Io> Ending for Life<Io> {
    type Reason = CloseReason;

    fn clear(&mut self) {
        self.session.leave_slot();
    }

    fn publish(&mut self, reason: &CloseReason) {
        // One that nobody was given is news to nobody: a port scan makes many.
        if self.machine.as_ref().is_some_and(|machine| machine.published) {
            info!(%reason, "session closed");
        } else {
            debug!(%reason, "session closed");
        }
        self.session.set_closed(reason.clone());
    }

    fn report(&mut self, _: &CloseReason) {
        let Some(machine) = self.machine.take() else { return };
        let entries = machine.wire.entries();
        let (lane, published) = (machine.inbound.clone(), machine.published);
        let stranded = Stranded { lane, published, entries };
        drop(machine);
        drop(stranded);
    }

    fn abandoned(&mut self) -> CloseReason {
        if std::thread::panicking() {
            error!("the driver of a session panicked: the session is lost");
            return CloseReason::Panicked;
        }
        // A closing that was cut short is still that closing.
        self.machine.as_ref().and_then(Machine::cut_short).unwrap_or(CloseReason::RuntimeEnded)
    }
}

/// The task of one session. It ends with the session, and its drop ends the session.
pub(crate) struct Driver<Io> {
    /// None once the session has ended.
    life: Option<SessionEnd<Life<Io>>>,
    /// The crate wakes its own task in every poll that takes a command. Going through the scheduler for each of these
    /// costs twice the context switches.
    turns: Turns,
}

impl<Io> Driver<Io>
where
    Io: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    pub(crate) fn new(
        core: WireCore<Io>,
        role: Role,
        session: Arc<SessionState>,
        config: &Config,
        inbound: Lane<Inbound>,
        channel: (mpsc::WeakUnboundedSender<Command>, mpsc::UnboundedReceiver<Command>),
    ) -> Self {
        let machine = Machine::new(core, role, Arc::clone(&session), config, inbound, channel);
        Self { life: Some(SessionEnd::new(Life { session, machine: Some(machine) })), turns: Turns::new() }
    }
}

impl<Io> Future for Driver<Io>
where
    Io: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Self { life, turns } = self.get_mut();
        let Some(Life { machine: Some(machine), .. }) = life.as_mut().map(SessionEnd::get_mut) else {
            return Poll::Ready(());
        };
        machine.wire.core().begin_round();
        let polled = turns.poll(cx, coop::has_budget_remaining, |cx| machine.turn(cx));
        if polled.is_pending() && machine.wire.core().has_put_off() {
            cx.waker().wake_by_ref();
        }
        let reason = ready!(polled);
        // What has ended before the session has not ended with it.
        machine.settle();
        if let Some(life) = life.take() {
            life.end(&reason);
        }
        Poll::Ready(())
    }
}

#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
/// What the driver works on. Its drop reports the end to whatever hangs on the session.
struct Machine<Io> {
    connection: yamux::Connection<Wire<Io>>,
    wire: Wire<Io>,
    session: Arc<SessionState>,
    commands: mpsc::UnboundedReceiver<Command>,
    /// For the streams that are handed out.
    handles: mpsc::WeakUnboundedSender<Command>,
    /// Where the streams of the peer wait, un-ACKed, for whoever takes them.
    inbound: Lane<Inbound>,
    /// From when on they wait there, in milliseconds since this moment, and how long they may.
    begun: Instant,
    accept_timeout: Duration,
    /// Something may wait there.
    inbound_waits: bool,
    /// That nobody takes them was told.
    refusal_told: bool,
    published: bool,
    /// It is published, or the peer has opened a stream before that.
    needs_the_crate: bool,
    opens: VecDeque<(Place, oneshot::Sender<MuxStream>)>,
    pings: Vec<oneshot::Sender<Duration>>,
    pinging: bool,
    /// The signs of life that were noted while nothing was proven.
    heard: u64,
    probes: Vec<Probe>,
    lingers: Vec<Linger>,
    drain: Option<Drain>,
    drain_timeout: Duration,
    early_go_away: bool,
    /// How many streams this side may still open.
    streams_left: u32,
    timer: Pin<Box<Sleep>>,
    timer_set: Option<Instant>,
    /// Something has passed its time: when to look at the socket once more.
    look_at: Option<Instant>,
    /// That is now. For when it was set: what has passed its time since then is not a matter of this look.
    look: Option<Instant>,
}

impl<Io> Machine<Io> {
    /// Why the session has ended, where its closing has to end before it is over.
    fn cut_short(&self) -> Option<CloseReason> {
        let streams = self.drain.as_ref()?.cut.max(self.wire.core().ledger.len());
        Some(CloseReason::DrainTimedOut { streams })
    }
}

impl<Io> Machine<Io>
where
    Io: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    fn new(
        core: WireCore<Io>,
        role: Role,
        session: Arc<SessionState>,
        config: &Config,
        inbound: Lane<Inbound>,
        (handles, commands): (mpsc::WeakUnboundedSender<Command>, mpsc::UnboundedReceiver<Command>),
    ) -> Self {
        let wire = Wire::new(core);
        let mut yamux_config = yamux::Config::default();
        yamux_config
            .set_max_connection_receive_window(Some(CRATE_STREAMS * WINDOW as usize + config.window_growth_budget()))
            .set_max_num_streams(CRATE_STREAMS)
            .set_split_send_size(SPLIT_SEND);
        let mode = match role {
            Role::Client => yamux::Mode::Client,
            Role::Server => yamux::Mode::Server,
        };
        Self {
            connection: yamux::Connection::new(wire.clone(), yamux_config, mode),
            wire,
            session,
            commands,
            handles,
            inbound,
            begun: Instant::now(),
            accept_timeout: config.accept_timeout(),
            inbound_waits: false,
            refusal_told: false,
            published: false,
            needs_the_crate: false,
            opens: VecDeque::new(),
            pings: Vec::new(),
            pinging: false,
            heard: 0,
            probes: Vec::new(),
            lingers: Vec::new(),
            drain: None,
            drain_timeout: config.drain_timeout(),
            early_go_away: config.early_go_away(),
            streams_left: config.streams_per_session(),
            timer: Box::pin(sleep_until(Instant::now())),
            timer_set: None,
            look_at: None,
            look: None,
        }
    }

    /// Does everything that can be done now. Ready with the reason when the session has ended.
    fn turn(&mut self, cx: &mut Context<'_>) -> Poll<CloseReason> {
        self.poll_look(cx);
        loop {
            if let Some(reason) = self.take_commands(cx) {
                return Poll::Ready(reason);
            }
            let now = Instant::now();
            if self.drain.as_ref().is_some_and(|drain| now >= drain.until)
                && let Some(reason) = self.cut_short()
            {
                return Poll::Ready(reason);
            }
            let mut again = false;
            if !self.needs_the_crate && !self.is_sealed() {
                self.needs_the_crate = self.wire.core().poll_without_the_crate(cx).is_ready();
            }
            if self.needs_the_crate && !self.is_sealed() {
                self.wire.core().begin_poll();
                match self.connection.poll_next_inbound(cx) {
                    Poll::Ready(Some(Ok(stream))) => {
                        again = true;
                        self.take_inbound(stream);
                    }
                    Poll::Ready(None | Some(Err(_))) => return Poll::Ready(self.end(cx)),
                    Poll::Pending => again |= self.wire.core().end_poll(),
                }
            }
            self.poll_lingers(now, cx);
            self.settle();
            again |= !self.is_sealed() && self.open_streams(cx);
            self.poll_pings();
            if !again {
                self.wire.core().flush_soon(cx);
                self.judge(now, cx);
            }
            if self.wire.core().failure().is_some() {
                return Poll::Ready(self.end(cx));
            }
            self.hear_goodbye();
            if let Some(reason) = self.poll_drain(now, cx) {
                return Poll::Ready(reason);
            }
            if !again && !self.arm_timer(cx) {
                return Poll::Pending;
            }
        }
    }

    /// The peer's goodbye begins a closing. What answers our own sets no limit.
    fn hear_goodbye(&mut self) {
        if self.drain.is_none() && self.wire.core().has_go_away() {
            self.drain(CloseReason::PeerClosed, self.drain_timeout);
        }
    }

    /// The connection has ended: says why, to the peer as well, if it can still be told.
    fn end(&mut self, cx: &mut Context<'_>) -> CloseReason {
        // It may have come together with the end.
        self.hear_goodbye();
        let reason = self.reason_of_end();
        let mut wire = self.wire.core();
        wire.say_why(&reason, cx);
        let _ = wire.poll_flush(cx);
        reason
    }

    /// Makes places free that have ended on the wire. Not under its lock: others are woken.
    fn settle(&self) {
        let ended = self.wire.core().ledger.take_ended();
        ended.settle(&self.inbound);
        self.session.gate.wake();
    }

    /// Does what handles ask for. Gives the reason when that ends the session.
    fn take_commands(&mut self, cx: &mut Context<'_>) -> Option<CloseReason> {
        while let Poll::Ready(command) = self.commands.poll_recv(cx) {
            match command {
                // One that had its place before the session began to close, and is refused by the drop of its reply.
                Some(Command::Open(..)) if self.drain.is_some() => {}
                Some(Command::Open(place, reply)) => self.opens.push_back((place, reply)),
                Some(Command::Ping(reply)) => self.pings.push(reply),
                Some(Command::Probe(within, silent)) => {
                    let wire = self.wire.core();
                    let (since, within) =
                        (wire.pings.heartbeat.signs_of_life(), within.max(wire.pings.heartbeat.time_of_the_path()));
                    self.probes.push(Probe { since, until: deadline::after(Instant::now(), within), silent });
                }
                Some(Command::Linger(stream, entry)) => {
                    self.lingers.push(Linger { stream, entry, left: LINGER_BYTES, until: Instant::now() + LINGER });
                }
                Some(Command::GiveUp(id)) => self.wire.core().give_up(id),
                Some(Command::Publish) => {
                    (self.published, self.needs_the_crate) = (true, true);
                    self.wire.core().publish();
                }
                Some(Command::Close(within)) => self.drain(CloseReason::Closed, within),
                Some(Command::Refuse(goodbye)) => {
                    self.wire.core().set_goodbye(goodbye);
                    self.drain(goodbye.reason(), FINISH);
                    if let Some(drain) = &mut self.drain {
                        // Nobody has been given its streams.
                        drain.streams_until = Instant::now();
                    }
                }
                Some(Command::Abort(reason)) => {
                    self.wire.core().say_why(&reason, cx);
                    return Some(reason);
                }
                None if !self.published => return Some(CloseReason::Aborted),
                None => {
                    // The last handle is gone, and no command can come any more.
                    self.drain(CloseReason::Closed, self.drain_timeout);
                    break;
                }
            }
        }
        None
    }

    /// Whether the timer of a look has fired. Before the socket is read: tokio asks the system about sockets before it fires
    /// timers, so what this turn does not find there had not come when the timer fired.
    fn poll_look(&mut self, cx: &mut Context<'_>) {
        if self.timer_set.is_none() || self.timer.as_mut().poll(cx).is_pending() {
            return;
        }
        let fired = self.timer_set.take();
        if self.look_at.is_some() && self.look_at == fired {
            self.look_at = None;
            self.look = fired;
            self.wire.core().begin_look();
        }
    }

    /// Says what has passed its time, once the wire has read and written what it can (G10). A task that is woken late, by a
    /// process that was stopped or a thread that was busy, sees a late clock and an old socket: what is overdue is given up
    /// only in a look.
    fn judge(&mut self, now: Instant, cx: &mut Context<'_>) {
        let mut wire = self.wire.core();
        // What passed its time after the timer was due may have been kept from us since.
        let look = self.look.filter(|_| wire.has_looked());
        let is_due = |deadline: Instant| look.is_some_and(|look| look >= deadline);
        let mut is_overdue = false;
        match wire.judge(now) {
            Verdict::Wait => {}
            Verdict::Ping => drop(wire.poll_flush(cx)),
            Verdict::Dead(reason) if look.is_some_and(|look| wire.pings.heartbeat.was_dead(look)) => wire.fail(reason),
            Verdict::Dead(_) => is_overdue = true,
        }
        drop(wire);
        for probe in self.probes.extract_if(.., |probe| is_due(probe.until)) {
            let _ = probe.silent.send(true);
        }
        is_overdue |= self.probes.iter().any(|probe| now >= probe.until);
        if let Some(look) = look
            && self.accept_deadline().is_some_and(is_due)
        {
            self.expire_inbound(look);
        }
        is_overdue |= self.accept_deadline().is_some_and(|deadline| now >= deadline);
        if look.is_some() {
            self.look = None;
        }
        if is_overdue && self.look.is_some() {
            // The look is not over: what could not be asked in this turn is asked in the next.
            cx.waker().wake_by_ref();
        }
        self.look_at = (is_overdue && self.look.is_none()).then(|| self.look_at.unwrap_or(now + LOOK));
    }

    /// Takes a stream that the peer has opened, and lets it wait, un-ACKed, for whoever takes it. Past the limit it is
    /// dropped, and so reset (G16).
    fn take_inbound(&mut self, stream: yamux::Stream) {
        let id = stream.id().val();
        let Some(entry) = self.wire.core().ledger.entry(id) else { return };
        let inbound = Inbound::new(stream, entry, Arc::clone(&self.session), self.handles.clone());
        self.inbound_waits = true;
        let refused = self.inbound.push(id, self.stamp(Instant::now()), inbound).is_err();
        if refused && self.drain.is_none() && !std::mem::replace(&mut self.refusal_told, true) {
            warn!("the peer opens streams, and nobody is left to take them: they are refused");
        }
    }

    /// A moment, as the lane of inbound streams knows it.
    fn stamp(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.begun).as_millis()).unwrap_or(u64::MAX)
    }

    /// When the inbound stream that has waited longest is to be reset.
    fn accept_deadline(&mut self) -> Option<Instant> {
        if !self.inbound_waits {
            return None;
        }
        let oldest = self.inbound.oldest();
        self.inbound_waits = oldest.is_some();
        Some(deadline::after(self.begun + Duration::from_millis(oldest?), self.accept_timeout))
    }

    /// Resets the inbound streams that nobody has taken in time: a peer of hashicorp's would end the session for them.
    fn expire_inbound(&mut self, now: Instant) {
        let Some(until) = now.checked_sub(self.accept_timeout) else { return };
        let expired = self.inbound.expire(self.stamp(until));
        if !expired.is_empty() {
            warn!(streams = expired.len(), after = ?self.accept_timeout, "streams of the peer were reset: nobody took them");
        }
    }

    /// Opens streams for those who wait. Says whether any was opened.
    fn open_streams(&mut self, cx: &mut Context<'_>) -> bool {
        let mut opened = false;
        // Whoever is gone by now opens nothing.
        self.opens.retain_mut(|(_, reply)| reply.poll_closed(cx).is_pending());
        while !self.opens.is_empty()
            // The crate counts fewer: one that was finished still waits at the peer. It also looks at every stream to find
            // that out, so it is not asked in vain. What the peer acknowledges is read in a turn, and then comes this.
            && self.wire.core().ledger.unacknowledged() < MAX_UNACKNOWLEDGED
            && let Some(commands) = self.handles.upgrade()
            && let Poll::Ready(outcome) = self.connection.poll_new_outbound(cx)
        {
            // Out of ids, or at its end: the next turn finds the connection ended.
            let Ok(mut stream) = outcome else { return true };
            let Some((place, reply)) = self.opens.pop_front() else { break };
            let entry = self.wire.core().ledger.open(stream.id().val(), place);
            announce(&mut stream, cx);
            opened = true;
            self.streams_left -= 1;
            // If the caller is gone by now, the drop of the stream resets it (G9).
            let _ = reply.send(MuxStream::new(StreamCore::new(stream, entry, Arc::clone(&self.session), commands)));
            if self.streams_left == 0 {
                self.drain(CloseReason::Closed, self.drain_timeout);
            }
        }
        opened
    }

    /// Reads and discards what comes for streams that were dropped after their FIN.
    fn poll_lingers(&mut self, now: Instant, cx: &mut Context<'_>) {
        if self.lingers.is_empty() {
            return;
        }
        let wire = &self.wire;
        let mut scratch = [0; 4096];
        self.lingers.retain_mut(|linger| {
            while linger.left > 0 {
                match Pin::new(&mut linger.stream).poll_read(cx, &mut scratch) {
                    Poll::Ready(Ok(n @ 1..)) => {
                        linger.left = linger.left.saturating_sub(n);
                        linger.entry.add_read(n);
                    }
                    Poll::Ready(_) => return false,
                    Poll::Pending if now < linger.until => return true,
                    Poll::Pending => break,
                }
            }
            linger.entry.set_gone();
            wire.core().give_up(linger.stream.id().val());
            false
        });
    }

    /// Sends and answers the pings of users and probes, and tells of the proof.
    fn poll_pings(&mut self) {
        let (round_trip, pong, signs) = {
            let mut wire = self.wire.core();
            (wire.pings.round_trip(), wire.pings.take_pong(), wire.pings.heartbeat.signs_of_life())
        };
        match round_trip {
            Some(round_trip) if self.session.round_trip() != Some(round_trip) => {
                self.session.set_round_trip(round_trip);
            }
            None if signs != self.heard => {
                self.heard = signs;
                self.session.set_heard(Instant::now());
            }
            _ => {}
        }
        if let Some(round_trip) = pong {
            self.pinging = false;
            // Whoever asked while the ping was under way shares its answer.
            for reply in self.pings.drain(..) {
                let _ = reply.send(round_trip);
            }
        }
        self.pings.retain(|reply| !reply.is_closed());
        for probe in self.probes.extract_if(.., |probe| probe.since < signs) {
            let _ = probe.silent.send(false);
        }
        self.probes.retain(|probe| !probe.silent.is_closed());
        let asked = !self.pings.is_empty() || !self.probes.is_empty();
        if !self.pinging && asked {
            self.pinging = true;
            self.wire.core().send_ping();
        }
    }

    /// Begins to close. A second reason does not begin anew; an earlier deadline counts.
    fn drain(&mut self, reason: CloseReason, within: Duration) {
        let now = Instant::now();
        let until = deadline::after(now, within);
        let streams_until = deadline::after(now, within.saturating_sub(FINISH.min(within / 10)));
        if let Some(drain) = &mut self.drain {
            drain.until = drain.until.min(until);
            drain.streams_until = drain.streams_until.min(streams_until);
            return;
        }
        self.session.retire(reason.clone(), Some(within));
        debug!(%reason, "session draining");
        self.wire.core().ledger.refuse_all();
        self.opens.clear();
        self.drain = Some(Drain { reason, streams_until, until, finishing: false, cut: 0 });
    }

    /// Goes on with the closing. Gives the reason when it is done.
    fn poll_drain(&mut self, now: Instant, cx: &mut Context<'_>) -> Option<CloseReason> {
        let limit = deadline::after(now, self.drain_timeout);
        let drain = self.drain.as_mut()?;
        let mut wire = self.wire.core();
        // An evermux peer keeps its streams after a GoAway; some others end the session at once.
        if (wire.peer_is_evermux() || self.early_go_away) && wire.ledger.is_announced() {
            wire.send_go_away();
            let _ = wire.poll_flush(cx);
        }
        if !drain.finishing && (wire.ledger.is_empty() || now >= drain.streams_until) {
            drain.finishing = true;
            drain.cut = wire.ledger.len();
            // The goodbye itself is not waited for without a limit.
            drain.until = drain.until.min(limit);
            wire.seal();
            drop(wire);
            // Whoever has not taken his stream by now never will, so that its opener may believe what it is told.
            drop(self.inbound.close());
            wire = self.wire.core();
        }
        let done = drain.finishing && wire.is_between_frames() && wire.poll_finish(cx).is_ready();
        drop(wire);
        done.then(|| self.reason_of_end())
    }

    /// Whether the crate has written its last frame.
    fn is_sealed(&self) -> bool {
        self.drain.as_ref().is_some_and(|drain| drain.finishing) && self.wire.core().is_between_frames()
    }

    /// Why the connection has ended: what was met on the way comes before what was wanted, unless nothing is lost by it.
    fn reason_of_end(&self) -> CloseReason {
        let wire = self.wire.core();
        match (&self.drain, wire.failure()) {
            (Some(drain), None) => drain.outcome(),
            (Some(drain), Some(_)) if wire.is_over() => drain.outcome(),
            (Some(Drain { cut, .. }), Some(CloseReason::DrainTimedOut { .. })) => {
                CloseReason::DrainTimedOut { streams: *cut }
            }
            (_, Some(met)) => met.clone(),
            (None, None) => CloseReason::Protocol("the yamux crate ended the session".into()),
        }
    }

    /// Sets the timer to the next deadline. Says whether it has already passed.
    fn arm_timer(&mut self, cx: &mut Context<'_>) -> bool {
        let judged = match self.look_at {
            Some(look_at) => Some(look_at),
            None if self.look.is_some() => None,
            None => {
                let probes = self.probes.iter().map(|probe| probe.until).min();
                let accept = self.accept_deadline();
                self.wire.core().pings.heartbeat.deadline().into_iter().chain(probes).chain(accept).min()
            }
        };
        // Once due it is given with the next frame, whenever that comes.
        let pong = self.wire.core().pings.pong_due().filter(|due| *due > Instant::now());
        let lingers = self.lingers.iter().map(|linger| linger.until);
        let drain = self.drain.as_ref().map(|drain| if drain.finishing { drain.until } else { drain.streams_until });
        let Some(next) = judged.into_iter().chain(pong).chain(drain).chain(lingers).min() else {
            self.timer_set = None;
            return false;
        };
        // A timer that is early costs one look; moving it for every byte that comes would cost more.
        if self.timer_set.is_none_or(|set| next < set) {
            self.timer.as_mut().reset(next);
            self.timer_set = Some(next);
        }
        let passed = self.timer.as_mut().poll(cx).is_ready();
        if passed {
            self.timer_set = None;
            // Set for a moment that had passed, the timer has not asked anybody.
            self.look_at = None;
        }
        passed
    }
}
