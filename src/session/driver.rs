//! The one task that owns the yamux connection and polls it.

use std::{
    collections::VecDeque,
    future::Future,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::io::{AsyncRead as _, AsyncWrite as _};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, Sleep, sleep_until},
};
use tracing::{debug, error, info};

use super::{
    ledger::{Entry, Place},
    state::SessionState,
    stream::{MuxStream, StreamCore},
    wire::{Role, Wire, WireCore},
};
use crate::{
    config::Config,
    error::CloseReason,
    sync::{Ending, SessionEnd},
};

/// The crate's own limit on streams is put out of reach: the wire limits them, and the crate's limit ends the session.
const CRATE_STREAMS: usize = if usize::BITS >= 64 { 1 << 20 } else { 1 << 12 };
/// The window that a stream begins with.
const WINDOW: usize = 256 << 10;
/// Payload of a Data frame.
const SPLIT_SEND: usize = 32 << 10;
/// Turns of the loop before the scheduler is let in.
const MAX_TURNS: usize = 32;
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
    /// A stream was dropped after its FIN, and the peer has not finished. One for each stream.
    Linger(yamux::Stream, Arc<Entry>),
    /// A stream was reset after its FIN. One for each stream.
    GiveUp(u32),
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
/// openers learn of it. They learn by the drop of the connection.
struct Life<Io> {
    session: Arc<SessionState>,
    /// None once reported.
    parts: Option<Parts<Io>>,
}

/// What reports the end of the session when it is dropped.
struct Parts<Io> {
    connection: yamux::Connection<Wire<Io>>,
    opens: VecDeque<(Place, oneshot::Sender<MuxStream>)>,
    pings: VecDeque<oneshot::Sender<Duration>>,
    unpublished: Vec<(yamux::Stream, Arc<Entry>)>,
    lingers: Vec<Linger>,
    inbound: mpsc::Sender<MuxStream>,
    commands: mpsc::UnboundedReceiver<Command>,
    wire: Wire<Io>,
}

impl<Io> Ending for Life<Io> {
    type Reason = CloseReason;

    fn clear(&mut self) {
        self.session.retire();
    }

    fn publish(&mut self, reason: &CloseReason) {
        info!(%reason, "session closed");
        self.session.set_closed(reason.clone());
    }

    fn report(&mut self, _: &CloseReason) {
        self.parts = None;
    }

    fn abandoned(&mut self) -> CloseReason {
        if std::thread::panicking() {
            error!("the driver of a session panicked: the session is lost");
            CloseReason::Panicked
        } else {
            CloseReason::RuntimeEnded
        }
    }
}

/// The task of one session. It ends with the session, and its drop ends the session.
pub(crate) struct Driver<Io> {
    /// None once the session has ended.
    life: Option<SessionEnd<Life<Io>>>,
    handles: mpsc::WeakUnboundedSender<Command>,
    published: bool,
    pinging: bool,
    drain: Option<Drain>,
    drain_timeout: Duration,
    accept_backlog: usize,
    timer: Pin<Box<Sleep>>,
    timer_set: Option<Instant>,
}

impl<Io> Driver<Io>
where
    Io: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin,
{
    pub(crate) fn new(
        core: WireCore<Io>,
        role: Role,
        session: Arc<SessionState>,
        config: &Config,
        inbound: mpsc::Sender<MuxStream>,
        channel: (mpsc::WeakUnboundedSender<Command>, mpsc::UnboundedReceiver<Command>),
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
        let (handles, commands) = channel;
        let parts = Parts {
            connection: yamux::Connection::new(wire.clone(), yamux_config, mode),
            opens: VecDeque::new(),
            pings: VecDeque::new(),
            unpublished: Vec::new(),
            lingers: Vec::new(),
            inbound,
            commands,
            wire,
        };
        Self {
            life: Some(SessionEnd::new(Life { session, parts: Some(parts) })),
            handles,
            published: false,
            pinging: false,
            drain: None,
            drain_timeout: config.drain_timeout(),
            accept_backlog: config.accept_backlog(),
            timer: Box::pin(sleep_until(Instant::now())),
            timer_set: None,
        }
    }
}

impl<Io> Future for Driver<Io>
where
    Io: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin,
{
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        let mut turns = 0;
        loop {
            match this.turn(cx) {
                Turn::Ended(reason) => {
                    if let Some(life) = this.life.take() {
                        life.end(&reason);
                    }
                    return Poll::Ready(());
                }
                Turn::Idle => return Poll::Pending,
                Turn::Again if turns == MAX_TURNS => {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Turn::Again => turns += 1,
            }
        }
    }
}

/// How one turn of the loop went.
enum Turn {
    /// Nothing is left to do until a wake-up.
    Idle,
    /// Something was done that may make more possible.
    Again,
    Ended(CloseReason),
}

impl<Io> Driver<Io>
where
    Io: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin,
{
    fn turn(&mut self, cx: &mut Context<'_>) -> Turn {
        let Some(Life { session, parts: Some(parts) }) = self.life.as_mut().map(SessionEnd::get_mut) else {
            unreachable!("a driver is not polled after its end");
        };
        let session = Arc::clone(session);

        // What handles ask for.
        let mut again = false;
        while let Poll::Ready(command) = parts.commands.poll_recv(cx) {
            match command {
                Some(Command::Open(place, reply)) => parts.opens.push_back((place, reply)),
                Some(Command::Ping(reply)) => parts.pings.push_back(reply),
                Some(Command::Linger(stream, entry)) => {
                    parts.lingers.push(Linger { stream, entry, left: LINGER_BYTES, until: Instant::now() + LINGER })
                }
                Some(Command::GiveUp(id)) => parts.wire.core().give_up(id),
                Some(Command::Publish) => {
                    self.published = true;
                    parts.wire.core().publish();
                    for (stream, entry) in mem::take(&mut parts.unpublished) {
                        parts.deliver(stream, entry, &session, &self.handles, cx);
                    }
                }
                Some(Command::Close(within)) => parts.drain(&mut self.drain, &session, CloseReason::Closed, within),
                Some(Command::Abort(reason)) => return Turn::Ended(reason),
                None if !self.published => return Turn::Ended(CloseReason::Aborted),
                None => {
                    // The last handle is gone, and no command can come any more.
                    parts.drain(&mut self.drain, &session, CloseReason::Closed, self.drain_timeout);
                    break;
                }
            }
        }

        // What the time says.
        let now = Instant::now();
        if let Some(drain) = &self.drain
            && now >= drain.until
        {
            return Turn::Ended(drain.reason.clone());
        }
        if parts.wire.core().deadline().is_some_and(|deadline| now >= deadline) {
            parts.wire.core().on_deadline(now);
        }

        // What the crate does: it writes what streams have queued, and reads.
        let sealed = self.drain.as_ref().is_some_and(|drain| drain.finishing);
        if !sealed || !parts.wire.core().is_between_frames() {
            match parts.connection.poll_next_inbound(cx) {
                Poll::Ready(Some(Ok(stream))) => {
                    again = true;
                    let entry = parts.wire.core().entry(stream.id().val());
                    let entry = entry.unwrap_or_default();
                    if self.published {
                        parts.deliver(stream, entry, &session, &self.handles, cx);
                    } else if parts.unpublished.len() < self.accept_backlog {
                        parts.unpublished.push((stream, entry));
                    } else {
                        entry.set_gone();
                    }
                }
                Poll::Ready(None | Some(Err(_))) => {
                    let failure = parts.wire.core().failure().cloned();
                    let reason = self.drain.take().map(|drain| drain.reason).or(failure);
                    let unknown = || CloseReason::Protocol("the yamux crate ended the session".into());
                    return Turn::Ended(reason.unwrap_or_else(unknown));
                }
                Poll::Pending => {}
            }
            again |= parts.open_streams(&session, &self.handles, cx);
        }
        parts.poll_lingers(now, cx);

        // What the wire has learnt.
        {
            let mut wire = parts.wire.core();
            if let Some(round_trip) = wire.proven()
                && session.round_trip().is_none()
            {
                session.set_proven(round_trip);
            }
            if let Some(round_trip) = wire.take_pong() {
                self.pinging = false;
                // Who asked while the ping was under way is answered by it too: it is a newer sign of life.
                for reply in parts.pings.drain(..) {
                    let _ = reply.send(round_trip);
                }
            }
            parts.pings.retain(|reply| !reply.is_closed());
            if !self.pinging && !parts.pings.is_empty() {
                self.pinging = true;
                wire.send_ping();
            }
            let _ = wire.poll_flush(cx);
        }
        let (failure, go_away) = {
            let wire = parts.wire.core();
            (wire.failure().cloned(), wire.has_go_away())
        };
        if let Some(reason) = failure {
            return Turn::Ended(self.drain.take().map_or(reason, |drain| drain.reason));
        }
        if go_away {
            parts.drain(&mut self.drain, &session, CloseReason::PeerClosed, self.drain_timeout);
        }

        // How far the closing is.
        if let Some(drain) = &mut self.drain {
            if !drain.finishing && (parts.wire.core().is_idle() || now >= drain.streams_until) {
                drain.finishing = true;
                parts.wire.core().seal();
                again = true;
            }
            if drain.finishing && parts.wire.core().is_between_frames() {
                if parts.wire.core().poll_finish(cx).is_ready() {
                    return Turn::Ended(drain.reason.clone());
                }
            }
        }

        if again || self.arm_timer(cx) { Turn::Again } else { Turn::Idle }
    }

    /// Sets the timer to the next deadline. Says whether it has already passed.
    fn arm_timer(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(Life { parts: Some(parts), .. }) = self.life.as_mut().map(SessionEnd::get_mut) else { return false };
        let wire = parts.wire.core().deadline();
        let lingers = parts.lingers.iter().map(|linger| linger.until);
        let drain = self.drain.as_ref().map(|d| if d.finishing { d.until } else { d.streams_until });
        let next = wire.into_iter().chain(drain).chain(lingers).min();
        let Some(next) = next else {
            self.timer_set = None;
            return false;
        };
        // A timer that is early costs one look; moving it for every byte that comes would cost more.
        if self.timer_set.is_none_or(|set| next < set) {
            self.timer.as_mut().reset(next);
            self.timer_set = Some(next);
        }
        if self.timer.as_mut().poll(cx).is_ready() {
            self.timer_set = None;
            return true;
        }
        false
    }
}

impl<Io> Parts<Io>
where
    Io: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin,
{
    /// Begins to close. A second reason does not begin anew; an earlier deadline counts.
    fn drain(&mut self, drain: &mut Option<Drain>, session: &SessionState, reason: CloseReason, within: Duration) {
        let now = Instant::now();
        let streams_until = now + (within - FINISH.min(within / 10));
        match drain {
            Some(drain) => {
                drain.until = drain.until.min(now + within);
                drain.streams_until = drain.streams_until.min(streams_until);
            }
            None => {
                session.retire();
                debug!(%reason, "session draining");
                let mut wire = self.wire.core();
                wire.refuse_streams();
                if wire.peer_is_evermux() {
                    // An evermux peer keeps its streams after a GoAway; others end the session at once.
                    wire.send_go_away();
                }
                self.opens.clear();
                *drain = Some(Drain { reason, streams_until, until: now + within, finishing: false });
            }
        }
    }

    /// Acknowledges an inbound stream and queues it; past the limit of the queue it is reset (G16).
    fn deliver(
        &mut self,
        mut stream: yamux::Stream,
        entry: Arc<Entry>,
        session: &Arc<SessionState>,
        handles: &mpsc::WeakUnboundedSender<Command>,
        cx: &mut Context<'_>,
    ) {
        let (Some(commands), Ok(slot)) = (handles.upgrade(), self.inbound.try_reserve()) else {
            entry.set_gone();
            return;
        };
        announce(&mut stream, cx);
        slot.send(MuxStream::new(StreamCore::new(stream, entry, Arc::clone(session), commands)));
    }

    /// Opens streams for those who wait. Says whether any was opened.
    fn open_streams(
        &mut self,
        session: &Arc<SessionState>,
        handles: &mpsc::WeakUnboundedSender<Command>,
        cx: &mut Context<'_>,
    ) -> bool {
        let mut opened = false;
        while !self.opens.is_empty() {
            self.opens.retain(|(_, reply)| !reply.is_closed());
            let Some(commands) = handles.upgrade() else { break };
            if self.opens.is_empty() {
                break;
            }
            // Pending behind 256 streams that the peer has not acknowledged. Only an ACK wakes, so ask in every turn.
            let Poll::Ready(Ok(mut stream)) = self.connection.poll_new_outbound(cx) else { break };
            let Some((place, reply)) = self.opens.pop_front() else { break };
            let entry = self.wire.core().open(stream.id().val(), place);
            announce(&mut stream, cx);
            opened = true;
            // If the caller is gone by now, the drop of the stream resets it (G9).
            let _ = reply.send(MuxStream::new(StreamCore::new(stream, entry, Arc::clone(session), commands)));
        }
        opened
    }

    fn poll_lingers(&mut self, now: Instant, cx: &mut Context<'_>) {
        let mut given_up = Vec::new();
        self.lingers.retain_mut(|linger| {
            let mut scratch = [0; 4096];
            while linger.left > 0 {
                match Pin::new(&mut linger.stream).poll_read(cx, &mut scratch) {
                    Poll::Ready(Ok(n @ 1..)) => linger.left = linger.left.saturating_sub(n),
                    Poll::Ready(_) => return false,
                    Poll::Pending if now < linger.until => return true,
                    Poll::Pending => break,
                }
            }
            linger.entry.set_gone();
            given_up.push(linger.stream.id().val());
            false
        });
        for id in given_up {
            self.wire.core().give_up(id);
        }
    }
}

/// Sends the SYN or the ACK of a stream at once: the crate would wait for the first bytes, and a server-first protocol
/// for ever.
fn announce(stream: &mut yamux::Stream, cx: &mut Context<'_>) {
    // The channel of a new stream has room, so this is never pending; an error is a session that is ending.
    let _ = Pin::new(stream).poll_write(cx, &[]);
}
