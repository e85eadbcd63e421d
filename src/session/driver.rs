//! The one task that owns the yamux connection and polls it.
//!
//! A turn has an order, and each step a reason for its position:
//!
//! | step | | why there |
//! | --- | --- | --- |
//! | 1 | has the timer of a look fired? | before the socket is read: see [`looks`] |
//! | 2 | commands from handles | what is written must have been asked for first |
//! | 3 | the deadline of a drain | nothing else may delay it |
//! | 4 | frames: through the crate, but without it until publication or the first stream | the crate measures from its first poll on |
//! | 5 | streams that linger: read and discarded | they free credit and permits |
//! | 6 | streams that have ended | whoever waits for their permits may open in the next step |
//! | 7 | streams that are opened here | they need a permit, and the acknowledgements that step 4 has read |
//! | 8 | pings that users ask for, and their answers | they go out with the flush |
//! | 9 | the flush, and then the judgement of what is overdue | only when nothing is left to read or to open |
//! | 10 | the drain, and the timer | they see what all other steps have left |

mod drain;
mod looks;
mod streams;
mod teardown;

use std::{
    collections::VecDeque,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot},
    task::coop,
    time::{Instant, Sleep, sleep_until},
};

use self::{
    drain::{Drain, FINISH},
    looks::Probe,
    streams::Linger,
    teardown::Teardown,
};
use super::{
    command::Command,
    entry::OpenPermit,
    inbound::Inbound,
    ledger::Ended,
    record::WINDOW,
    role::Role,
    state::SessionState,
    unclaimed::Unclaimed,
    wire::{Wire, WireCore},
};
use crate::{
    config::Config,
    deadline,
    error::CloseReason,
    sync::{Lane, Repoll, SessionEnd},
};

/// The crate's own limit on streams is out of reach: the wire limits them, and the crate's limit ends the session.
const CRATE_STREAMS: usize = if usize::BITS >= 64 { 1 << 20 } else { 1 << 12 };
/// Payload of a Data frame. With its header it fits into the 64 KiB of one segment of the kernel's TCP: a slightly
/// longer frame costs a segment of its own for the rest.
const SPLIT_SEND: usize = (64 << 10) - 128;

/// The task of one session. It ends with the session, and its drop ends the session.
pub(crate) struct Driver<Io> {
    /// `None` once the session has ended.
    end: Option<SessionEnd<Teardown<Io>>>,
    /// The crate wakes its own task in every poll that takes a command. Going through the scheduler for each of these
    /// costs twice the context switches.
    repoll: Repoll,
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
        let wire = Wire::new(core);
        let state = DriverState::new(wire.clone(), role, Arc::clone(&session), config, inbound, channel);
        let teardown = Teardown { session, running: Some(Running { state, wire }) };
        Self { end: Some(SessionEnd::new(teardown)), repoll: Repoll::new() }
    }
}

impl<Io> Future for Driver<Io>
where
    Io: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Self { end, repoll } = self.get_mut();
        let Some(Teardown { running: Some(Running { state, wire }), .. }) = end.as_mut().map(SessionEnd::get_mut)
        else {
            return Poll::Ready(());
        };
        wire.core().begin_round();
        let polled = repoll.poll(cx, coop::has_budget_remaining, |cx| state.turn(wire, cx));
        if polled.is_pending() && wire.core().has_put_off() {
            cx.waker().wake_by_ref();
        }
        let reason = ready!(polled);
        // Streams that ended before the session did not end with it.
        let ended = wire.core().ledger.take_ended();
        state.settle(ended);
        if let Some(end) = end.take() {
            end.end(&reason);
        }
        Poll::Ready(())
    }
}

/// A session that has not ended. Its drop reports the end to everything that depends on it.
struct Running<Io> {
    state: DriverState<Io>,
    wire: Wire<Io>,
}

/// The state of the driver, without the wire.
///
/// The crate locks the wire whenever it is polled, so [`turn`](Self::turn) holds the guard before and after that, and
/// hands what is behind it to each step.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
struct DriverState<Io> {
    connection: yamux::Connection<Wire<Io>>,
    session: Arc<SessionState>,
    commands: mpsc::UnboundedReceiver<Command>,
    /// For the streams that are handed out.
    handles: mpsc::WeakUnboundedSender<Command>,
    /// Where the streams of the peer wait, un-ACKed, until they are taken.
    inbound: Lane<Inbound>,
    /// Their stamps are milliseconds since this moment; and how long they may wait.
    begun: Instant,
    accept_timeout: Duration,
    /// A stream may be waiting there.
    inbound_waits: bool,
    /// The warning that nobody takes them was logged.
    refusal_logged: bool,
    published: bool,
    /// The session is published, or the peer has opened a stream before that.
    needs_the_crate: bool,
    opens: VecDeque<(OpenPermit, oneshot::Sender<Unclaimed>)>,
    pings: Vec<oneshot::Sender<Duration>>,
    pinging: bool,
    /// The signs of life that were recorded while nothing was proven.
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
    /// Something is overdue: when to look at the socket once more.
    look_at: Option<Instant>,
    /// The look that is under way, by the time it was set for: what became overdue after that is not a matter of this
    /// look.
    look: Option<Instant>,
}

impl<Io> DriverState<Io>
where
    Io: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    fn new(
        wire: Wire<Io>,
        role: Role,
        session: Arc<SessionState>,
        config: &Config,
        inbound: Lane<Inbound>,
        (handles, commands): (mpsc::WeakUnboundedSender<Command>, mpsc::UnboundedReceiver<Command>),
    ) -> Self {
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
            connection: yamux::Connection::new(wire, yamux_config, mode),
            session,
            commands,
            handles,
            inbound,
            begun: Instant::now(),
            accept_timeout: config.accept_timeout(),
            inbound_waits: false,
            refusal_logged: false,
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
            streams_left: config.max_streams_per_session(),
            timer: Box::pin(sleep_until(Instant::now())),
            timer_set: None,
            look_at: None,
            look: None,
        }
    }

    /// Does everything that can be done now. Ready with the reason when the session has ended.
    fn turn(&mut self, wire: &Wire<Io>, cx: &mut Context<'_>) -> Poll<CloseReason> {
        self.poll_look(&mut wire.core(), cx);
        loop {
            let mut core = wire.core();
            if let Some(reason) = self.take_commands(&mut core, cx) {
                return Poll::Ready(reason);
            }
            let now = Instant::now();
            if self.drain.as_ref().is_some_and(|drain| now >= drain.until)
                && let Some(reason) = self.cut_short(&core)
            {
                return Poll::Ready(reason);
            }
            if !self.needs_the_crate && !self.is_sealed(&core) {
                self.needs_the_crate = core.poll_without_the_crate(cx).is_ready();
            }
            let polls_the_crate = self.needs_the_crate && !self.is_sealed(&core);
            if polls_the_crate {
                core.begin_poll();
            }
            drop(core);
            let inbound = if polls_the_crate { self.connection.poll_next_inbound(cx) } else { Poll::Pending };
            let mut core = wire.core();
            let mut again = inbound.is_ready();
            match inbound {
                Poll::Ready(Some(Ok(stream))) => self.take_inbound(&core, stream),
                Poll::Ready(None | Some(Err(_))) => return Poll::Ready(self.end(&mut core, cx)),
                Poll::Pending => again = polls_the_crate && core.end_poll(),
            }
            self.poll_lingers(&mut core, now, cx);
            let (ended, sealed) = (core.ledger.take_ended(), self.is_sealed(&core));
            drop(core);
            self.settle(ended);
            again |= !sealed && self.open_streams(wire, cx);
            let mut core = wire.core();
            self.poll_pings(&mut core);
            if !again {
                core.flush_soon(cx);
                self.judge(&mut core, now, cx);
            }
            if core.failure().is_some() {
                return Poll::Ready(self.end(&mut core, cx));
            }
            self.hear_goodbye(&mut core);
            if let Some(reason) = self.poll_drain(&mut core, now, cx) {
                return Poll::Ready(reason);
            }
            if !again && !self.arm_timer(&core, cx) {
                return Poll::Pending;
            }
        }
    }

    /// Releases what ended streams held on the wire, which wakes others.
    fn settle(&self, ended: Ended) {
        ended.settle(&self.inbound);
        self.session.gate.wake();
    }

    /// Runs the commands of handles. Returns the reason if one ends the session.
    fn take_commands(&mut self, core: &mut WireCore<Io>, cx: &mut Context<'_>) -> Option<CloseReason> {
        while let Poll::Ready(command) = self.commands.poll_recv(cx) {
            match command {
                // It had its permit before the session began to close; dropping its reply refuses it.
                Some(Command::Open(..)) if self.drain.is_some() => {}
                Some(Command::Open(permit, reply)) => self.opens.push_back((permit, reply)),
                Some(Command::Ping(reply)) => self.pings.push(reply),
                Some(Command::Probe(within, silent)) => {
                    let heartbeat = &core.pings.heartbeat;
                    let (since, within) = (heartbeat.signs_of_life(), within.max(heartbeat.time_of_the_path()));
                    self.probes.push(Probe { since, until: deadline::after(Instant::now(), within), silent });
                }
                Some(Command::Linger(stream, entry)) => {
                    self.lingers.push(Linger::new(stream, entry));
                }
                Some(Command::GiveUp(id)) => core.give_up(id),
                Some(Command::Publish) => {
                    (self.published, self.needs_the_crate) = (true, true);
                    core.publish();
                }
                Some(Command::Close(within)) => self.drain(core, CloseReason::Closed, within),
                Some(Command::Refuse(goodbye)) => {
                    core.set_goodbye(goodbye);
                    self.drain(core, goodbye.reason(), FINISH);
                    if let Some(drain) = &mut self.drain {
                        // Nobody was given its streams.
                        drain.streams_until = Instant::now();
                    }
                }
                Some(Command::Abort(reason)) => {
                    core.say_why(&reason, cx);
                    return Some(reason);
                }
                None if !self.published => return Some(CloseReason::Aborted),
                None => {
                    // The last handle is gone, and no more commands can come.
                    self.drain(core, CloseReason::Closed, self.drain_timeout);
                    break;
                }
            }
        }
        None
    }

    /// Sends and answers the pings of users and probes, and reports the proof.
    fn poll_pings(&mut self, core: &mut WireCore<Io>) {
        let pings = &mut core.pings;
        let (round_trip, pong, signs) = (pings.round_trip(), pings.take_pong(), pings.heartbeat.signs_of_life());
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
            // Calls made while the ping was under way share its answer.
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
            core.send_ping();
        }
    }

    /// Sets the timer to the next deadline. Returns whether it has already passed.
    fn arm_timer(&mut self, core: &WireCore<Io>, cx: &mut Context<'_>) -> bool {
        let judged = match self.look_at {
            Some(look_at) => Some(look_at),
            None if self.look.is_some() => None,
            None => {
                let probes = self.probes.iter().map(|probe| probe.until).min();
                let accept = self.accept_deadline();
                core.pings.heartbeat.deadline().into_iter().chain(probes).chain(accept).min()
            }
        };
        // Once due, it is handed over with the next frame, whenever that comes.
        let pong = core.pings.pong_due().filter(|due| *due > Instant::now());
        let lingers = self.lingers.iter().map(|linger| linger.until);
        let drain = self.drain.as_ref().map(|drain| if drain.finishing { drain.until } else { drain.streams_until });
        let Some(next) = judged.into_iter().chain(pong).chain(drain).chain(lingers).min() else {
            self.timer_set = None;
            return false;
        };
        // An early timer costs one look; moving it for every byte would cost more.
        if self.timer_set.is_none_or(|set| next < set) {
            self.timer.as_mut().reset(next);
            self.timer_set = Some(next);
        }
        let passed = self.timer.as_mut().poll(cx).is_ready();
        if passed {
            self.timer_set = None;
            // Set for a moment in the past, the timer fired without a poll of the sockets.
            self.look_at = None;
        }
        passed
    }
}
