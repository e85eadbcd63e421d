//! The one task that owns the yamux connection and polls it.

use std::{
    collections::VecDeque,
    future::Future,
    mem,
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
use tracing::{debug, error, info};

use super::{
    ledger::{Entry, Place},
    state::SessionState,
    stream::{Inbound, MuxStream, StreamCore, announce},
    turn::Turns,
    wire::{Role, Wire, WireCore},
};
use crate::{
    config::Config,
    deadline,
    error::CloseReason,
    sync::{Ending, SessionEnd},
};

/// The crate's own limit on streams is put out of reach: the wire limits them, and the crate's limit ends the session.
const CRATE_STREAMS: usize = if usize::BITS >= 64 { 1 << 20 } else { 1 << 12 };
/// The window that a stream begins with.
const WINDOW: usize = 256 << 10;
/// Payload of a Data frame. With its header it fits the 64 KiB that one segment of the kernel's TCP can have: a frame that
/// is a little longer costs a segment of its own for the rest.
const SPLIT_SEND: usize = (64 << 10) - 128;
/// What is read and discarded of a stream that was dropped after its FIN.
const LINGER_BYTES: usize = 1 << 20;
const LINGER: Duration = Duration::from_secs(10);
/// What a session that closes keeps of its time for the last frames.
const FINISH: Duration = Duration::from_secs(1);

/// What handles ask of the driver. Each kind is bounded by what it comes from.
pub(crate) enum Command {
    /// Open a stream. Its place was taken: at most `max_streams` at once.
    Open(Place, oneshot::Sender<MuxStream>),
    /// One for each call that waits.
    Ping(oneshot::Sender<Duration>),
    /// Say when there is a sign of life. One for each candidate that looks for a place.
    Probe(oneshot::Sender<()>),
    /// A stream was dropped after its FIN, and the peer has not finished. One for each stream.
    Linger(yamux::Stream, Arc<Entry>),
    /// A stream was reset after its FIN. One for each stream.
    GiveUp(u32),
    /// A stream was half-closed while somebody waits to open one.
    Look,
    /// The session is in its place.
    Publish,
    /// Close in good order, within this time.
    Close(Duration),
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

/// A session that closes.
struct Drain {
    reason: CloseReason,
    /// Until then streams in flight may finish.
    streams_until: Instant,
    until: Instant,
    finishing: bool,
}

/// What ends with the session, in the order of rule 7: it leaves its slot, its end is published, and then streams and
/// openers learn of it, by the drop of the connection.
struct Life<Io> {
    session: Arc<SessionState>,
    /// None once reported.
    machine: Option<Machine<Io>>,
}

impl<Io> Ending for Life<Io> {
    type Reason = CloseReason;

    fn clear(&mut self) {
        self.session.leave_slot();
    }

    fn publish(&mut self, reason: &CloseReason) {
        info!(%reason, "session closed");
        self.session.set_closed(reason.clone());
    }

    fn report(&mut self, _: &CloseReason) {
        let Some(machine) = self.machine.take() else { return };
        let entries = machine.wire.entries();
        drop(machine);
        // A panic within the crate takes the crate's own list of whom to wake with it.
        for entry in entries {
            entry.wake();
        }
    }

    fn abandoned(&mut self) -> CloseReason {
        if std::thread::panicking() {
            error!("the driver of a session panicked: the session is lost");
            return CloseReason::Panicked;
        }
        // A closing that was cut short is still that closing.
        let drain = self.machine.as_ref().and_then(|machine| machine.drain.as_ref());
        drain.map_or(CloseReason::RuntimeEnded, |drain| drain.reason.clone())
    }
}

/// The task of one session. It ends with the session, and its drop ends the session.
pub(crate) struct Driver<Io> {
    /// None once the session has ended.
    life: Option<SessionEnd<Life<Io>>>,
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
        inbound: mpsc::Sender<Inbound>,
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
        let polled = turns.poll(cx, |cx| machine.turn(cx));
        if polled.is_pending() && machine.wire.core().has_put_off() {
            cx.waker().wake_by_ref();
        }
        let reason = ready!(polled);
        if let Some(life) = life.take() {
            life.end(&reason);
        }
        Poll::Ready(())
    }
}

/// What the driver works on. Its drop reports the end to whatever hangs on the session.
struct Machine<Io> {
    connection: yamux::Connection<Wire<Io>>,
    wire: Wire<Io>,
    session: Arc<SessionState>,
    commands: mpsc::UnboundedReceiver<Command>,
    /// For the streams that are handed out.
    handles: mpsc::WeakUnboundedSender<Command>,
    inbound: mpsc::Sender<Inbound>,
    accept_backlog: usize,
    published: bool,
    /// Inbound streams that wait for the session to be published, un-ACKed.
    unpublished: Vec<Inbound>,
    opens: VecDeque<(Place, oneshot::Sender<MuxStream>)>,
    pings: Vec<oneshot::Sender<Duration>>,
    pinging: bool,
    /// The signs of life that were noted while nothing was proven.
    heard: u64,
    /// Who waits for a sign of life, with how many there were before.
    probes: Vec<(u64, oneshot::Sender<()>)>,
    lingers: Vec<Linger>,
    drain: Option<Drain>,
    drain_timeout: Duration,
    early_go_away: bool,
    /// How many streams this side may still open.
    streams_left: u32,
    timer: Pin<Box<Sleep>>,
    timer_set: Option<Instant>,
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
        inbound: mpsc::Sender<Inbound>,
        (handles, commands): (mpsc::WeakUnboundedSender<Command>, mpsc::UnboundedReceiver<Command>),
    ) -> Self {
        let wire = Wire::new(core);
        let mut yamux_config = yamux::Config::default();
        yamux_config
            .set_max_connection_receive_window(Some(CRATE_STREAMS * WINDOW + config.window_growth_budget()))
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
            accept_backlog: config.accept_backlog(),
            published: false,
            unpublished: Vec::new(),
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
        }
    }

    /// Does everything that can be done now. Ready with the reason when the session has ended.
    fn turn(&mut self, cx: &mut Context<'_>) -> Poll<CloseReason> {
        loop {
            if let Some(reason) = self.take_commands(cx) {
                return Poll::Ready(reason);
            }
            let now = Instant::now();
            if let Some(drain) = &self.drain
                && now >= drain.until
            {
                return Poll::Ready(drain.reason.clone());
            }
            let mut again = false;
            // Without budget the socket may refuse itself to this turn.
            let is_whole = coop::has_budget_remaining();
            if !self.is_sealed() {
                match self.connection.poll_next_inbound(cx) {
                    Poll::Ready(Some(Ok(stream))) => {
                        again = true;
                        self.take_inbound(stream, cx);
                    }
                    Poll::Ready(None | Some(Err(_))) => {
                        // The peer may still learn why.
                        let _ = self.wire.core().poll_flush(cx);
                        return Poll::Ready(self.reason_of_end());
                    }
                    Poll::Pending => {}
                }
                again |= self.open_streams(cx);
            }
            self.poll_lingers(now, cx);
            self.poll_pings();
            if !again {
                self.wire.core().flush_soon(cx);
            }
            if is_whole {
                self.judge(now, cx);
            }
            if self.wire.core().failure().is_some() {
                return Poll::Ready(self.reason_of_end());
            }
            if self.wire.core().has_go_away() {
                self.drain(CloseReason::PeerClosed, self.drain_timeout);
            }
            if let Some(reason) = self.poll_drain(now, cx) {
                return Poll::Ready(reason);
            }
            if !again && !self.arm_timer(cx) {
                return Poll::Pending;
            }
        }
    }

    /// Does what handles ask for. Gives the reason when that ends the session.
    fn take_commands(&mut self, cx: &mut Context<'_>) -> Option<CloseReason> {
        while let Poll::Ready(command) = self.commands.poll_recv(cx) {
            match command {
                // One that had its place before the session began to close, and is refused by the drop of its reply.
                Some(Command::Open(..)) if self.drain.is_some() => {}
                Some(Command::Open(place, reply)) => self.opens.push_back((place, reply)),
                Some(Command::Ping(reply)) => self.pings.push(reply),
                Some(Command::Probe(reply)) => self.probes.push((self.wire.core().signs_of_life(), reply)),
                Some(Command::Linger(stream, entry)) => {
                    self.lingers.push(Linger { stream, entry, left: LINGER_BYTES, until: Instant::now() + LINGER });
                }
                Some(Command::GiveUp(id)) => self.wire.core().give_up(id),
                Some(Command::Look) => {}
                Some(Command::Publish) => self.publish(cx),
                Some(Command::Close(within)) => self.drain(CloseReason::Closed, within),
                Some(Command::Abort(reason)) => return Some(reason),
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

    fn publish(&mut self, cx: &mut Context<'_>) {
        self.published = true;
        self.wire.core().publish();
        for inbound in mem::take(&mut self.unpublished) {
            self.deliver(inbound, cx);
        }
    }

    /// Asks the wire what the time means, once it has read and written what it can: a process that was stopped for a
    /// while must not take the peer for dead whose bytes are waiting (G10).
    fn judge(&mut self, now: Instant, cx: &mut Context<'_>) {
        let mut wire = self.wire.core();
        if wire.judge(now) {
            let _ = wire.poll_flush(cx);
        }
    }

    /// Takes a stream that the peer has opened. Past the limit it is dropped, and so reset.
    fn take_inbound(&mut self, stream: yamux::Stream, cx: &mut Context<'_>) {
        let Some(entry) = self.wire.core().entry(stream.id().val()) else { return };
        let inbound = Inbound::new(stream, entry);
        if self.published {
            self.deliver(inbound, cx);
        } else if self.unpublished.len() < self.accept_backlog {
            self.unpublished.push(inbound);
        }
    }

    /// Acknowledges an inbound stream and queues it; past the limit of the queue it is reset (G16).
    fn deliver(&mut self, mut inbound: Inbound, cx: &mut Context<'_>) {
        if let Ok(place) = self.inbound.try_reserve() {
            inbound.acknowledge(cx);
            place.send(inbound);
            self.session.arrivals.notify_waiters();
        }
    }

    /// Opens streams for those who wait. Says whether any was opened.
    fn open_streams(&mut self, cx: &mut Context<'_>) -> bool {
        let mut opened = false;
        // Whoever is gone by now opens nothing.
        self.opens.retain_mut(|(_, reply)| reply.poll_closed(cx).is_pending());
        // Before the crate is asked: what changes after that is reported.
        self.session.set_opens_wait(!self.opens.is_empty());
        while !self.opens.is_empty()
            && let Some(commands) = self.handles.upgrade()
            // Pending behind 256 streams that the peer has not acknowledged. Only an ACK wakes, so ask in every turn.
            && let Poll::Ready(outcome) = self.connection.poll_new_outbound(cx)
        {
            // Out of ids, or at its end: the next turn finds the connection ended.
            let Ok(mut stream) = outcome else { return true };
            let Some((place, reply)) = self.opens.pop_front() else { break };
            let entry = self.wire.core().open(stream.id().val(), place);
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
                    Poll::Ready(Ok(n @ 1..)) => linger.left = linger.left.saturating_sub(n),
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
        let (proven, pong, signs) = {
            let mut wire = self.wire.core();
            (wire.proven(), wire.take_pong(), wire.signs_of_life())
        };
        match proven {
            Some(round_trip) if self.session.round_trip().is_none() => self.session.set_proven(round_trip),
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
        for (_, reply) in self.probes.extract_if(.., |(since, _)| *since < signs) {
            let _ = reply.send(());
        }
        self.probes.retain(|(_, reply)| !reply.is_closed());
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
        self.session.retire();
        debug!(%reason, "session draining");
        self.wire.core().refuse_streams();
        self.opens.clear();
        self.drain = Some(Drain { reason, streams_until, until, finishing: false });
    }

    /// Goes on with the closing. Gives the reason when it is done.
    fn poll_drain(&mut self, now: Instant, cx: &mut Context<'_>) -> Option<CloseReason> {
        let drain = self.drain.as_mut()?;
        let mut wire = self.wire.core();
        // An evermux peer keeps its streams after a GoAway; some others end the session at once.
        if (wire.peer_is_evermux() || self.early_go_away) && wire.is_announced() {
            wire.send_go_away();
            let _ = wire.poll_flush(cx);
        }
        if !drain.finishing && (wire.is_idle() || now >= drain.streams_until) {
            drain.finishing = true;
            wire.seal();
        }
        let done = drain.finishing && wire.is_between_frames() && wire.poll_finish(cx).is_ready();
        done.then(|| drain.reason.clone())
    }

    /// Whether the crate has written its last frame.
    fn is_sealed(&self) -> bool {
        self.drain.as_ref().is_some_and(|drain| drain.finishing) && self.wire.core().is_between_frames()
    }

    /// Why the connection has ended: what was wanted comes before what was met on the way.
    fn reason_of_end(&self) -> CloseReason {
        let wanted = self.drain.as_ref().map(|drain| drain.reason.clone());
        let met = || self.wire.core().failure().cloned();
        wanted.or_else(met).unwrap_or_else(|| CloseReason::Protocol("the yamux crate ended the session".into()))
    }

    /// Sets the timer to the next deadline. Says whether it has already passed.
    fn arm_timer(&mut self, cx: &mut Context<'_>) -> bool {
        let wire = self.wire.core().deadline();
        let lingers = self.lingers.iter().map(|linger| linger.until);
        let drain = self.drain.as_ref().map(|drain| if drain.finishing { drain.until } else { drain.streams_until });
        let Some(next) = wire.into_iter().chain(drain).chain(lingers).min() else {
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
        }
        passed
    }
}
