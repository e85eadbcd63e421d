//! When to ask the peer for a sign of life, and when to give it up (G10).
//!
//! A state machine without a clock: its caller reports what happened and when, and it decides what to do.

#![cfg_attr(not(feature = "__internals"), allow(unreachable_pub, reason = "public for the property tests alone"))]

use std::time::Duration;

use tokio::time::Instant;
use tracing::trace;

use crate::{config::Config, deadline::after, error::CloseReason};

/// What to do now.
#[derive(Debug)]
pub enum Verdict {
    /// Nothing until [`Heartbeat::deadline`].
    Wait,
    /// Send a ping, and report it with [`Heartbeat::on_ping_queued`].
    Ping,
    /// Give the session up.
    Dead(CloseReason),
}

/// The state of the heartbeat's ping.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Ping {
    /// None is under way.
    None,
    /// Behind other bytes. Its time there counts against the socket, and [`CloseReason::WriteStalled`] bounds it.
    Queued,
    /// The socket took it at this time. The peer may have been heard from since.
    Taken(Instant),
}

/// Whether silence counts.
#[derive(Clone, Copy, Debug)]
enum Phase {
    /// Bytes are no proof: unless a write stalls, the session is given up at this moment and not before.
    Proving(Instant),
    /// Silence counts.
    Watching,
    /// Since this moment we wait for the peer to end the connection, and can ask for nothing.
    Closing(Instant),
}

/// The heartbeat of one session, and its check for stalled writes.
#[derive(Debug)]
pub struct Heartbeat {
    idle: Duration,
    timeout: Duration,
    path: Duration,
    write_timeout: Duration,
    last_read: Instant,
    ping: Ping,
    write_pending_since: Option<Instant>,
    phase: Phase,
    signs_of_life: u64,
}

impl Heartbeat {
    /// Checks writes from now on, and the peer from [`start`](Self::start) on, which must come before `prove_by`.
    pub fn new(config: &Config, now: Instant, prove_by: Instant) -> Self {
        Self {
            idle: config.heartbeat_idle(),
            timeout: config.heartbeat_timeout(),
            path: Duration::ZERO,
            write_timeout: config.write_timeout(),
            last_read: now,
            ping: Ping::None,
            write_pending_since: None,
            phase: Phase::Proving(prove_by),
            signs_of_life: 0,
        }
    }

    /// The session is proven: from now on silence counts.
    pub fn start(&mut self, now: Instant) {
        self.phase = Phase::Watching;
        self.last_read = now;
    }

    /// Sets the round trip of the path: an answer may take three times as long, whatever the settings say.
    pub fn on_path(&mut self, round_trip: Duration) {
        self.path = round_trip;
    }

    /// How long an answer may take on this path: three round trips.
    pub fn time_of_the_path(&self) -> Duration {
        self.path.saturating_mul(3)
    }

    /// How long the peer may take to answer.
    fn timeout(&self) -> Duration {
        self.timeout.max(self.time_of_the_path())
    }

    /// This side has ended the connection and waits for the peer to do the same, for as long as it would for an answer.
    pub fn on_shut_down(&mut self, now: Instant) {
        self.phase = Phase::Closing(now);
    }

    /// Bytes came from the socket. Any byte restarts both read timers.
    pub fn on_read(&mut self, now: Instant) {
        self.last_read = now;
        self.signs_of_life += 1;
    }

    /// The socket took bytes after it had refused some.
    pub fn on_room(&mut self) {
        self.signs_of_life += 1;
    }

    /// Counts the signs of life: bytes of any kind came from the peer, or it made room for ours.
    ///
    /// A slow path holds our ping back behind earlier writes, but still takes bytes; a dead one takes none once its
    /// buffers are full.
    pub fn signs_of_life(&self) -> u64 {
        self.signs_of_life
    }

    /// A ping was queued.
    pub fn on_ping_queued(&mut self) {
        self.ping = Ping::Queued;
    }

    /// The socket has taken the ping: the peer's time to answer begins.
    pub fn on_ping_taken(&mut self, now: Instant) {
        if self.ping == Ping::Queued {
            trace!(event = "ping_sent", "ping sent");
            self.ping = Ping::Taken(now);
        }
    }

    /// The ping was answered.
    pub fn on_pong(&mut self) {
        self.ping = Ping::None;
    }

    /// The socket did not take what was written, or did not flush it.
    pub fn on_write_pending(&mut self, now: Instant) {
        self.write_pending_since.get_or_insert(now);
    }

    /// The socket took bytes, or has nothing left to take.
    pub fn on_write_progress(&mut self) {
        self.write_pending_since = None;
    }

    /// Judges the session at `now`, by what was reported. The caller must have looked at the socket after the deadline
    /// passed, or a peer whose bytes are waiting is taken for dead.
    pub fn judge(&self, now: Instant) -> Verdict {
        if self.write_pending_since.is_some_and(|since| now >= after(since, self.write_timeout)) {
            return Verdict::Dead(CloseReason::WriteStalled);
        }
        match self.read_deadline() {
            Some(deadline) if now >= deadline => match (self.phase, self.ping) {
                (Phase::Proving(_), _) => Verdict::Dead(CloseReason::NotProven),
                (Phase::Closing(_), Ping::None) => Verdict::Dead(CloseReason::DrainTimedOut { streams: 0 }),
                (_, Ping::None) => Verdict::Ping,
                _ => Verdict::Dead(CloseReason::HeartbeatTimeout),
            },
            _ => Verdict::Wait,
        }
    }

    /// Whether the session was dead at that time.
    pub fn was_dead(&self, by: Instant) -> bool {
        matches!(self.judge(by), Verdict::Dead(_))
    }

    /// When to judge next; `None` while nothing is awaited. Every report may move it, either way.
    pub fn deadline(&self) -> Option<Instant> {
        let write = self.write_pending_since.map(|since| after(since, self.write_timeout));
        match (self.read_deadline(), write) {
            (Some(read), Some(write)) => Some(read.min(write)),
            (read, write) => read.or(write),
        }
    }

    fn read_deadline(&self) -> Option<Instant> {
        match (self.phase, self.ping) {
            (Phase::Proving(until), _) => Some(until),
            (Phase::Closing(at), Ping::None) | (_, Ping::Taken(at)) => {
                Some(after(at.max(self.last_read), self.timeout()))
            }
            (_, Ping::Queued) => None,
            (_, Ping::None) => Some(after(self.last_read, self.idle)),
        }
    }
}
