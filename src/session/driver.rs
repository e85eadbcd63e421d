//! The one task that owns the yamux connection and polls it.
//!
//! A turn has an order, and each step a reason to stand where it does:
//!
//! | step | | why there |
//! | --- | --- | --- |
//! | 1 | has the timer of a look fired | before the socket is read: see [`looks`] |
//! | 2 | what handles ask for | what is written must have been said before |
//! | 3 | the end of a closing's time | nothing else may put it off |
//! | 4 | frames, through the crate, or without it before the session is published | the crate measures from its first poll on |
//! | 5 | streams that are read to their end and discarded | they free credit and places |
//! | 6 | places that have become free | whoever waits for one may open in the next step |
//! | 7 | streams that are opened here | they need a place, and credit of acknowledgements that step 4 has read |
//! | 8 | pings that users ask for, and answers | they go out with the flush |
//! | 9 | the flush, and then the judgement of what is overdue | only when there is nothing more to read or to open |
//! | 10 | the closing, and the timer | they see what all others have left |

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
    ledger::WINDOW,
    state::SessionState,
    stream::MuxStream,
    wire::{Role, Wire, WireCore},
};
use crate::{
    config::Config,
    deadline,
    error::CloseReason,
    sync::{Lane, Repoll, SessionEnd},
};

/// The crate's own limit on streams is put out of reach: the wire limits them, and the crate's limit ends the session.
const CRATE_STREAMS: usize = if usize::BITS >= 64 { 1 << 20 } else { 1 << 12 };
/// Payload of a Data frame. With its header it fits the 64 KiB that one segment of the kernel's TCP can have: a frame
/// that is a little longer costs a segment of its own for the rest.
const SPLIT_SEND: usize = (64 << 10) - 128;

/// The task of one session. It ends with the session, and its drop ends the session.
pub(crate) struct Driver<Io> {
    /// None once the session has ended.
    life: Option<SessionEnd<Teardown<Io>>>,
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
        let machine = DriverState::new(core, role, Arc::clone(&session), config, inbound, channel);
        Self { life: Some(SessionEnd::new(Teardown { session, machine: Some(machine) })), repoll: Repoll::new() }
    }
}

impl<Io> Future for Driver<Io>
where
    Io: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Self { life, repoll } = self.get_mut();
        let Some(Teardown { machine: Some(machine), .. }) = life.as_mut().map(SessionEnd::get_mut) else {
            return Poll::Ready(());
        };
        machine.wire.core().begin_round();
        let polled = repoll.poll(cx, coop::has_budget_remaining, |cx| machine.turn(cx));
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

/// What the driver works on. Its drop reports the end to whatever hangs on the session.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
struct DriverState<Io> {
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
    opens: VecDeque<(OpenPermit, oneshot::Sender<MuxStream>)>,
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

impl<Io> DriverState<Io>
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
            streams_left: config.max_streams_per_session(),
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

    /// Makes places free that have ended on the wire. Not under its lock: others are woken.
    fn settle(&self) {
        let ended = self.wire.core().ledger.take_ended();
        ended.settle(&self.inbound);
        self.session.gate.wake();
    }

    /// Does what handles ask for. Returns the reason when that ends the session.
    fn take_commands(&mut self, cx: &mut Context<'_>) -> Option<CloseReason> {
        while let Poll::Ready(command) = self.commands.poll_recv(cx) {
            match command {
                // One that had its place before the session began to close, and is refused by the drop of its reply.
                Some(Command::Open(..)) if self.drain.is_some() => {}
                Some(Command::Open(permit, reply)) => self.opens.push_back((permit, reply)),
                Some(Command::Ping(reply)) => self.pings.push(reply),
                Some(Command::Probe(within, silent)) => {
                    let wire = self.wire.core();
                    let (since, within) =
                        (wire.pings.heartbeat.signs_of_life(), within.max(wire.pings.heartbeat.time_of_the_path()));
                    self.probes.push(Probe { since, until: deadline::after(Instant::now(), within), silent });
                }
                Some(Command::Linger(stream, entry)) => {
                    self.lingers.push(Linger::new(stream, entry));
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
