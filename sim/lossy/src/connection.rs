//! One connection: what it does on a segment, on a timer, and for its owner (RFC 9293, RFC 5961).
//!
//! It knows neither sockets nor tasks. What it has to send is collected by [`Connection::output`], and the time is given
//! to it.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use tokio::time::Instant;

use super::count::Counter;
use super::receiver::{Arrival, Receiver};
use super::segment::{Flags, Segment};
use super::sender::{Acked, Expired, Piece, Sender};
use super::settings::Settings;

mod owner;

/// How often, at most, a connection answers what it does not understand, so that two of them do not answer each other
/// forever. As in Linux.
const CHALLENGE_INTERVAL: Duration = Duration::from_millis(500);

/// Where a connection is in its life. FIN-WAIT, CLOSE-WAIT, CLOSING and LAST-ACK are not here: what has been said and
/// acknowledged by either side tells them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// SYN was sent.
    SynSent,
    /// SYN came, and was answered.
    SynReceived,
    /// The handshake is over.
    Open,
    /// Both sides have closed, this one first: it stays for a while to acknowledge a FIN that is sent again.
    TimeWait,
    /// It sends nothing any more, and nothing that comes is for it.
    Closed,
}

/// Who has a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// A listener, until it is accepted.
    Listener(u64),
    /// A stream, or the call that makes one.
    Stream,
    /// Nobody: it was closed, and delivers what was written.
    Nobody,
}

/// A connection and its two halves.
pub(super) struct Connection {
    settings: Arc<Settings>,
    counter: Counter,
    pub(super) local: SocketAddr,
    pub(super) peer: SocketAddr,
    pub(super) phase: Phase,
    pub(super) owner: Owner,
    sender: Sender,
    receiver: Receiver,
    /// SYN, or the answer to it, is due.
    syn_due: bool,
    /// How often SYN was sent again.
    syn_retries: u32,
    /// The peer is to be told what has arrived, or how large the window is.
    ack_due: bool,
    /// FIN was sent before the peer's FIN came.
    closed_first: bool,
    challenged_at: Option<Instant>,
    /// When a connection that only waits is forgotten.
    expires_at: Option<Instant>,
    /// What the next call is told, once, as by a socket of the kernel.
    error: Option<i32>,
    reader: Option<Waker>,
    writer: Option<Waker>,
    out: VecDeque<Segment>,
}

impl Connection {
    /// Connects to `peer`. The address of this end is known when it answers.
    pub(super) fn connect(
        settings: Arc<Settings>,
        counter: Counter,
        local: SocketAddr,
        peer: SocketAddr,
        first: u64,
    ) -> Self {
        let sender = Sender::new(first, settings.send_buffer);
        let receiver = Receiver::new(0, settings.receive_buffer);
        Self {
            settings,
            counter,
            local,
            peer,
            phase: Phase::SynSent,
            owner: Owner::Stream,
            sender,
            receiver,
            syn_due: true,
            syn_retries: 0,
            ack_due: false,
            closed_first: false,
            challenged_at: None,
            expires_at: None,
            error: None,
            reader: None,
            writer: None,
            out: VecDeque::new(),
        }
    }

    /// Answers the SYN that came to a listener.
    pub(super) fn accept(
        settings: Arc<Settings>,
        counter: Counter,
        peer: SocketAddr,
        syn: &Segment,
        first: u64,
        listener: u64,
    ) -> Self {
        let receiver = Receiver::new(syn.seq + 1, settings.receive_buffer);
        Self {
            phase: Phase::SynReceived,
            owner: Owner::Listener(listener),
            receiver,
            ..Self::connect(settings, counter, syn.destination, peer, first)
        }
    }

    /// Whether a SYN begins another connection in the place of this one, which only waits (RFC 9293, section 3.6.1).
    pub(super) fn yields_to(&self, segment: &Segment) -> bool {
        self.phase == Phase::TimeWait && segment.flags == Flags::SYN && segment.seq > self.receiver.next()
    }

    /// Takes a segment of the peer.
    pub(super) fn on_segment(&mut self, now: Instant, segment: &Segment) {
        match self.phase {
            Phase::SynSent => self.on_answer(now, segment),
            Phase::SynReceived | Phase::Open => self.on_usual(now, segment),
            Phase::TimeWait => self.on_late(now, segment),
            Phase::Closed => {}
        }
    }

    /// RFC 9293, section 3.10.7.3.
    fn on_answer(&mut self, now: Instant, segment: &Segment) {
        let acks_syn = segment.flags.has(Flags::ACK) && segment.ack == self.sender.next();
        if segment.flags.has(Flags::RST) {
            if acks_syn {
                self.die(libc::ECONNREFUSED);
            }
        } else if segment.flags.has(Flags::ACK) && !acks_syn {
            // The peer has a connection of ours from before we lost our memory.
            self.answer_with_reset(segment);
        } else if acks_syn && segment.flags.has(Flags::SYN) {
            self.local.set_ip(segment.destination.ip());
            self.receiver = Receiver::new(segment.seq + 1, self.settings.receive_buffer);
            self.sender.on_ack(now, segment);
            self.phase = Phase::Open;
            self.ack_due = true;
            self.wake();
        }
    }

    /// RFC 9293, section 3.10.7.4, as RFC 5961 tightens it.
    fn on_usual(&mut self, now: Instant, segment: &Segment) {
        let Segment { flags, seq, ack, .. } = *segment;
        if flags.has(Flags::RST) {
            return self.on_reset(now, segment);
        }
        if flags.has(Flags::SYN) {
            let again = self.phase == Phase::SynReceived && seq + 1 == self.receiver.next();
            return if again { self.syn_due = true } else { self.challenge(now) };
        }
        if !self.receiver.accepts(seq, segment.length()) {
            self.count_if(segment.length() > 0, "duplicate segments");
            return if segment.length() > 0 { self.acknowledge() } else { self.acknowledge_rarely(now) };
        }
        if !flags.has(Flags::ACK) {
            return;
        }
        if self.phase == Phase::SynReceived {
            if ack != self.sender.next() {
                return self.answer_with_reset(segment);
            }
            self.phase = Phase::Open;
        }
        if ack > self.sender.next() {
            return self.acknowledge_rarely(now);
        }
        match self.sender.on_ack(now, segment) {
            Acked::Progress => wake(&mut self.writer),
            Acked::FastRetransmit => self.count_if(true, "fast retransmits"),
            Acked::Nothing => {}
        }
        self.take(segment);
        self.after(now);
    }

    fn take(&mut self, segment: &Segment) {
        let Segment { flags, seq, ref payload, .. } = *segment;
        if self.owner == Owner::Nobody && seq + payload.len() as u64 > self.receiver.next() {
            // Nobody will read it: the peer is to know.
            return self.reset();
        }
        if segment.length() == 0 || self.receiver.is_finished() {
            return;
        }
        let fin_was_sent = self.sender.fin_is_sent();
        match self.receiver.take(seq, payload, flags.has(Flags::FIN)) {
            Arrival::InOrder => self.ack_due = true,
            Arrival::Early => {
                self.count_if(true, "out of order segments");
                self.acknowledge();
            }
            Arrival::Nothing => {
                self.count_if(true, "duplicate segments");
                self.acknowledge();
            }
        }
        self.closed_first = self.receiver.is_finished() && fin_was_sent;
        if self.receiver.has_unread() || self.receiver.is_finished() {
            wake(&mut self.reader);
        }
    }

    pub(super) fn has_unread(&self) -> bool {
        self.receiver.has_unread()
    }

    pub(super) fn has_room(&self) -> bool {
        self.sender.room() > 0
    }

    /// What follows from both sides' FIN.
    fn after(&mut self, now: Instant) {
        if self.phase != Phase::Open || !self.sender.fin_is_acked() {
            return;
        }
        if !self.receiver.is_finished() {
            if self.owner == Owner::Nobody {
                self.expires_at.get_or_insert(now + self.settings.fin_timeout);
            }
        } else if self.closed_first {
            self.phase = Phase::TimeWait;
            self.expires_at = Some(now + self.settings.time_wait);
        } else {
            self.phase = Phase::Closed;
        }
    }

    /// Only what is exactly expected resets: anything else could be old, or forged (RFC 5961, section 3.2).
    fn on_reset(&mut self, now: Instant, segment: &Segment) {
        if segment.seq == self.receiver.next() {
            let half_closed = self.receiver.is_finished() && !self.sender.is_closed();
            self.die(if half_closed { libc::EPIPE } else { libc::ECONNRESET });
        } else if self.receiver.accepts(segment.seq, 0) {
            self.challenge(now);
        }
    }

    fn on_late(&mut self, now: Instant, segment: &Segment) {
        if segment.flags.has(Flags::RST) {
            if segment.seq == self.receiver.next() {
                self.phase = Phase::Closed;
            }
        } else if segment.flags.has(Flags::FIN) {
            self.expires_at = Some(now + self.settings.time_wait);
            self.acknowledge();
        } else if segment.flags.has(Flags::SYN) || segment.length() > 0 || segment.seq != self.receiver.next() {
            self.acknowledge_rarely(now);
        }
    }

    /// When [`on_timer`](Self::on_timer) is to be called.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let gives_up = self.sender.silent_since().map(|since| since + self.settings.user_timeout);
        match self.phase {
            Phase::SynSent | Phase::SynReceived => self.sender.deadline(),
            Phase::Open => [self.sender.deadline(), gives_up, self.expires_at].into_iter().flatten().min(),
            Phase::TimeWait => self.expires_at,
            Phase::Closed => None,
        }
    }

    /// Does what is due.
    pub(super) fn on_timer(&mut self, now: Instant) {
        if self.expires_at.is_some_and(|at| at <= now) {
            self.phase = Phase::Closed;
        }
        let is_due = self.sender.deadline().is_some_and(|at| at <= now);
        match self.phase {
            Phase::SynSent | Phase::SynReceived if is_due => {
                if self.syn_retries == self.settings.syn_retries {
                    return self.die(libc::ETIMEDOUT);
                }
                self.syn_retries += 1;
                self.syn_due = true;
                self.sender.expire(now);
                self.count_if(true, "retransmitted segments");
            }
            Phase::Open => {
                let gives_up = self.sender.silent_since().map(|since| since + self.settings.user_timeout);
                if gives_up.is_some_and(|at| at <= now) {
                    self.count_if(true, "RTO aborts");
                    return self.die(libc::ETIMEDOUT);
                }
                if is_due {
                    match self.sender.expire(now) {
                        Expired::Resend => {}
                        Expired::Probe => {
                            self.count_if(true, "zero window probes");
                            // An old number: the peer answers that, and tells its window.
                            let piece = Piece { seq: self.sender.acked() - 1, payload: Vec::new(), fin: false };
                            self.push(Flags::ACK, piece);
                        }
                        Expired::Override => {
                            if let Some(piece) = self.sender.send(now, true) {
                                self.push(Flags::ACK, piece);
                            }
                        }
                    }
                }
            }
            _ => {}
        }
    }

    /// Collects what is to be sent now.
    pub(super) fn output(&mut self, now: Instant) -> impl Iterator<Item = Segment> + '_ {
        if std::mem::take(&mut self.syn_due) {
            let flags = match self.phase {
                Phase::SynSent => Some(Flags::SYN),
                Phase::SynReceived => Some(Flags::SYN | Flags::ACK),
                _ => None,
            };
            if let Some(flags) = flags {
                self.sender.send_syn(now);
                self.push(flags, Piece { seq: self.sender.acked(), payload: Vec::new(), fin: false });
            }
        }
        if self.phase == Phase::Open {
            if let Some(piece) = self.sender.resend() {
                self.count_if(true, "retransmitted segments");
                self.push(Flags::ACK, piece);
            }
            while let Some(piece) = self.sender.send(now, false) {
                self.push(Flags::ACK, piece);
            }
            // Its owner may have gone after all was acknowledged.
            self.after(now);
        }
        if self.ack_due {
            self.acknowledge();
        }
        self.out.drain(..)
    }

    /// Whether the stack can forget it: it is closed, and nobody has it. One that died in a backlog is still accepted.
    pub(super) fn is_over(&self) -> bool {
        self.phase == Phase::Closed && self.owner == Owner::Nobody
    }

    /// It is over, and the owner is told why.
    fn die(&mut self, error: i32) {
        if self.phase == Phase::SynReceived {
            self.owner = Owner::Nobody;
        }
        self.phase = Phase::Closed;
        self.error = Some(error);
        self.ack_due = false;
        self.wake();
    }

    /// It is over, and the peer is told.
    fn reset(&mut self) {
        self.count_if(true, "resets sent");
        self.push(Flags::RST | Flags::ACK, Piece { seq: self.sender.next(), payload: Vec::new(), fin: false });
        self.phase = Phase::Closed;
    }

    fn answer_with_reset(&mut self, segment: &Segment) {
        self.count_if(true, "resets sent");
        self.out.push_back(segment.reset(self.peer));
    }

    /// Tells the peer the state of this end, so that a peer that means it can prove that it knows (RFC 5961).
    fn challenge(&mut self, now: Instant) {
        let before = self.out.len();
        self.acknowledge_rarely(now);
        self.count_if(self.out.len() > before, "challenge ACKs");
    }

    fn acknowledge_rarely(&mut self, now: Instant) {
        if self.challenged_at.is_none_or(|at| now - at >= CHALLENGE_INTERVAL) {
            self.challenged_at = Some(now);
            self.acknowledge();
        }
    }

    fn acknowledge(&mut self) {
        self.push(Flags::ACK, Piece { seq: self.sender.next(), payload: Vec::new(), fin: false });
    }

    fn push(&mut self, flags: Flags, piece: Piece) {
        let Piece { seq, payload, fin } = piece;
        let flags = if fin { flags | Flags::FIN } else { flags };
        let (ack, window) = if flags.has(Flags::ACK) { (self.receiver.next(), self.receiver.window()) } else { (0, 0) };
        self.ack_due &= !flags.has(Flags::ACK);
        let (source, destination) = (self.local.port(), self.peer);
        self.out.push_back(Segment { source, destination, flags, seq, ack, window, payload });
    }

    fn wake(&mut self) {
        wake(&mut self.reader);
        wake(&mut self.writer);
    }

    fn count_if(&self, holds: bool, what: &'static str) {
        if holds {
            self.counter.count(what);
        }
    }
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}
