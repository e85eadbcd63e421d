//! The sending half of a connection: what has to be sent, what is acknowledged, and when something is sent again.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::segment::{PAYLOAD_MAX, Segment};

/// Before the first measurement (RFC 6298, section 2.1).
const RTO_FIRST: Duration = Duration::from_secs(1);
/// As in Linux. The RFC has a second.
const RTO_MIN: Duration = Duration::from_millis(200);
const RTO_MAX: Duration = Duration::from_secs(60);
/// After this many ACKs that repeat a number, what follows it counts as lost (RFC 5681, section 3.2).
const DUPLICATES: u32 = 3;

/// Sends what is written, and again what is lost. Its numbers are the sequence numbers of this end.
///
/// 1. `acked <= next <= edge`, but for a SYN, which needs no window.
/// 2. `unacked` begins at the number `acked`, except while SYN or FIN is there.
/// 3. While something is in flight, or waits for a window, the timer runs.
/// 4. There is no congestion control: what is in flight is bounded by the peer's window.
pub(super) struct Sender {
    /// The first number that is not acknowledged.
    acked: u64,
    /// The next number to be sent.
    next: u64,
    /// The number after the last that the peer has room for. A peer never takes room back.
    edge: u64,
    window_max: u64,
    capacity: usize,
    /// What is not acknowledged, and behind it what has not been sent.
    unacked: VecDeque<u8>,
    /// The number of FIN, from when nothing more may be written.
    fin: Option<u64>,
    /// While a loss is being repaired: the end of what was in flight when it was noticed (RFC 6582).
    recover: Option<u64>,
    duplicates: u32,
    /// What begins at `acked` has to be sent again.
    resend: bool,
    round_trip: RoundTrip,
    timer: Option<Instant>,
    /// Since when the peer has said nothing about what is in flight, or about a probe.
    silent_since: Option<Instant>,
}

/// What a segment is to carry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) seq: u64,
    pub(super) payload: Vec<u8>,
    pub(super) fin: bool,
}

/// What came of an ACK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Acked {
    /// More is acknowledged, or the window is larger.
    Progress,
    /// The third that repeated a number.
    FastRetransmit,
    /// Nothing.
    Nothing,
}

/// What came of an expired timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expired {
    /// Something is sent again.
    Resend,
    /// The peer is asked for its window.
    Probe,
    /// A window is filled that is too small to be worth it otherwise.
    Override,
}

impl Sender {
    /// Sends SYN, as the number `first`.
    pub(super) fn new(first: u64, capacity: usize) -> Self {
        Self {
            acked: first,
            next: first,
            edge: first,
            window_max: 0,
            capacity,
            unacked: VecDeque::new(),
            fin: None,
            recover: None,
            duplicates: 0,
            resend: false,
            round_trip: RoundTrip::default(),
            timer: None,
            silent_since: None,
        }
    }

    /// SYN is sent, for the first time or again.
    pub(super) fn send_syn(&mut self, now: Instant) {
        if self.next == self.acked {
            self.next += 1;
            self.round_trip.begin(now, self.next);
        }
        self.timer = Some(now + self.round_trip.timeout());
    }

    /// The number of SYN while it is not acknowledged; the first that is not acknowledged afterwards.
    pub(super) fn acked(&self) -> u64 {
        self.acked
    }

    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// How many bytes may be written.
    pub(super) fn room(&self) -> usize {
        self.capacity.saturating_sub(self.unacked.len())
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> usize {
        let count = bytes.len().min(self.room());
        self.unacked.extend(&bytes[..count]);
        count
    }

    /// FIN follows what has been written.
    pub(super) fn close(&mut self) {
        self.fin.get_or_insert(self.acked + self.unacked.len() as u64);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.fin.is_some()
    }

    pub(super) fn fin_is_sent(&self) -> bool {
        self.fin.is_some_and(|fin| self.next > fin)
    }

    pub(super) fn fin_is_acked(&self) -> bool {
        self.fin.is_some_and(|fin| self.acked > fin)
    }

    /// The number after the last byte that was written.
    fn end(&self) -> u64 {
        self.fin.unwrap_or(self.acked + self.unacked.len() as u64)
    }

    /// Whether something waits to be sent for the first time.
    fn has_unsent(&self) -> bool {
        self.next < self.end() || self.fin == Some(self.next)
    }

    /// When [`expire`](Self::expire) is to be called.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.timer
    }

    pub(super) fn silent_since(&self) -> Option<Instant> {
        self.silent_since
    }

    /// Takes the acknowledgement in a segment, whose number is at most `next`.
    pub(super) fn on_ack(&mut self, now: Instant, segment: &Segment) -> Acked {
        let edge = self.edge;
        self.window_max = self.window_max.max(u64::from(segment.window));
        self.edge = self.edge.max(segment.ack + u64::from(segment.window));
        if segment.ack > self.acked {
            self.advance(now, segment.ack);
            return Acked::Progress;
        }
        if segment.ack < self.acked {
            return Acked::Nothing;
        }
        if self.next == self.acked {
            // The answer to a probe.
            self.silent_since = None;
        }
        if self.edge > edge {
            if self.next == self.acked {
                // The window at last: what is sent now has a timer of its own.
                self.timer = None;
                self.round_trip.back_offs = 0;
            }
            return Acked::Progress;
        }
        let repeats = segment.is_pure_ack() && self.next > self.acked;
        self.duplicates += u32::from(repeats);
        if repeats && self.duplicates == DUPLICATES && self.recover.is_none() {
            self.lost(now);
            return Acked::FastRetransmit;
        }
        Acked::Nothing
    }

    fn advance(&mut self, now: Instant, ack: u64) {
        // SYN and FIN are no bytes of the buffer.
        let bytes = usize::try_from(ack - self.acked).unwrap_or(usize::MAX).min(self.unacked.len());
        self.unacked.drain(..bytes);
        self.acked = ack;
        self.duplicates = 0;
        self.round_trip.end(now, ack);
        match self.recover {
            Some(recover) if ack < recover => self.resend = true,
            _ => (self.recover, self.resend) = (None, false),
        }
        let in_flight = self.next > self.acked;
        self.timer = in_flight.then(|| now + self.round_trip.timeout());
        self.silent_since = in_flight.then_some(now);
    }

    /// What begins at `acked` is taken for lost.
    fn lost(&mut self, now: Instant) {
        self.resend = true;
        self.recover = Some(self.next);
        self.round_trip.cancel();
        self.timer = Some(now + self.round_trip.timeout());
    }

    /// The timer has expired.
    pub(super) fn expire(&mut self, now: Instant) -> Expired {
        self.round_trip.back_off();
        if self.next > self.acked {
            self.lost(now);
            return Expired::Resend;
        }
        self.timer = Some(now + self.round_trip.timeout());
        self.silent_since.get_or_insert(now);
        if self.edge > self.next { Expired::Override } else { Expired::Probe }
    }

    /// What has to be sent again.
    pub(super) fn resend(&mut self) -> Option<Piece> {
        if !std::mem::take(&mut self.resend) || self.next == self.acked {
            return None;
        }
        self.round_trip.cancel();
        Some(self.piece(self.acked, self.next))
    }

    /// What can be sent now. A segment that is neither full nor the last waits for a larger window, unless `small`.
    pub(super) fn send(&mut self, now: Instant, small: bool) -> Option<Piece> {
        if !self.has_unsent() {
            return None;
        }
        let piece = self.piece(self.next, self.edge);
        let length = piece.payload.len() as u64;
        let is_last = self.next + length == self.end();
        let worthwhile = length >= (PAYLOAD_MAX as u64).min(self.window_max / 2) || is_last || small;
        let next = self.next + length + u64::from(piece.fin);
        let is_sent = next > self.next && worthwhile;
        if is_sent {
            self.next = next;
            if self.recover.is_none() {
                self.round_trip.begin(now, next);
            }
            self.silent_since.get_or_insert(now);
        }
        // It runs for what is in flight, or for a window.
        self.timer.get_or_insert(now + self.round_trip.timeout());
        is_sent.then_some(piece)
    }

    /// A segment from `seq` on that ends before `limit`.
    fn piece(&self, seq: u64, limit: u64) -> Piece {
        let end = self.end().min(limit).min(seq + PAYLOAD_MAX as u64).max(seq);
        let (begin, count) = (index(seq - self.acked), index(end - seq));
        let (front, back) = self.unacked.as_slices();
        let split = front.len().clamp(begin, begin + count);
        let mut payload = Vec::with_capacity(count);
        payload.extend_from_slice(front.get(begin..split).unwrap_or_default());
        let rest = count - payload.len();
        payload.extend_from_slice(&back[split.saturating_sub(front.len())..][..rest]);
        Piece { seq, payload, fin: self.fin == Some(end) && end < limit }
    }
}

/// The time between a segment and its acknowledgement, and the timeout that follows from it (RFC 6298).
#[derive(Debug, Default)]
struct RoundTrip {
    /// The smoothed time, and how much it varies.
    measured: Option<(Duration, Duration)>,
    /// The number whose acknowledgement is timed. What is sent again is not timed (Karn).
    timed: Option<(u64, Instant)>,
    back_offs: u32,
}

impl RoundTrip {
    fn begin(&mut self, now: Instant, number: u64) {
        self.timed.get_or_insert((number, now));
    }

    fn cancel(&mut self) {
        self.timed = None;
    }

    fn end(&mut self, now: Instant, ack: u64) {
        self.back_offs = 0;
        let Some((_, begun)) = self.timed.take_if(|(number, _)| *number <= ack) else { return };
        let time = now - begun;
        self.measured = Some(match self.measured {
            None => (time, time / 2),
            Some((smoothed, varies)) => ((smoothed * 7 + time) / 8, (varies * 3 + smoothed.abs_diff(time)) / 4),
        });
    }

    fn back_off(&mut self) {
        self.cancel();
        self.back_offs += 1;
    }

    fn timeout(&self) -> Duration {
        let timeout = self.measured.map_or(RTO_FIRST, |(smoothed, varies)| smoothed + varies * 4);
        timeout.max(RTO_MIN).saturating_mul(1 << self.back_offs.min(16)).min(RTO_MAX)
    }
}

fn index(count: u64) -> usize {
    usize::try_from(count).expect("less than a buffer")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Flags;

    const MS: Duration = Duration::from_millis(1);
    const SECOND: Duration = Duration::from_secs(1);

    fn ack(number: u64) -> Segment {
        let destination = "192.168.0.1:80".parse().unwrap();
        Segment { source: 1, destination, flags: Flags::ACK, seq: 0, ack: number, window: 10_000, payload: Vec::new() }
    }

    /// A sender whose SYN was acknowledged after 20 ms.
    fn open(start: Instant) -> Sender {
        let mut sender = Sender::new(0, 10_000);
        sender.send_syn(start);
        assert_eq!(sender.on_ack(start + 20 * MS, &ack(1)), Acked::Progress);
        sender
    }

    fn timeout(sender: &Sender, now: Instant) -> Duration {
        sender.deadline().expect("something is in flight") - now
    }

    #[test]
    fn the_timeout_follows_the_round_trip_and_doubles() {
        let start = Instant::now();
        let mut sender = open(start);
        sender.write(b"0123456789");
        assert!(sender.send(start, false).is_some());
        assert_eq!(timeout(&sender, start), RTO_MIN);
        let mut now = start;
        for pause in [400, 800, 1_600] {
            now = sender.deadline().unwrap();
            assert_eq!(sender.expire(now), Expired::Resend);
            assert_eq!(timeout(&sender, now), pause * MS);
        }
        // What was sent again is not measured: nobody knows which of the two is acknowledged (Karn).
        assert_eq!(sender.on_ack(now + 900 * MS, &ack(11)), Acked::Progress);
        assert_eq!(sender.deadline(), None);
        sender.write(b"0");
        assert!(sender.send(now, false).is_some());
        assert_eq!(timeout(&sender, now), RTO_MIN);
        // This is: 7/8 of 20 ms and 1/8 of 900 ms, and four times 3/4 of 10 ms and 1/4 of 880 ms.
        assert_eq!(sender.on_ack(now + 900 * MS, &ack(12)), Acked::Progress);
        sender.write(b"0");
        assert!(sender.send(now, false).is_some());
        assert_eq!(timeout(&sender, now), 1_040 * MS);
    }

    #[test]
    fn a_segment_that_is_neither_full_nor_the_last_waits_for_a_larger_window() {
        let start = Instant::now();
        let mut sender = Sender { capacity: 20_000, ..open(start) };
        sender.write(&vec![0; 20_000]);
        let sent = std::iter::from_fn(|| sender.send(start, false)).map(|piece| piece.payload.len());
        assert_eq!(sent.collect::<Vec<_>>(), [1_400; 7]);
        let full = Segment { window: 200, ..ack(9_801) };
        assert_eq!(sender.on_ack(start, &full), Acked::Progress);
        assert_eq!(sender.send(start, false).map(|piece| piece.payload.len()), None);
        // If nothing else comes, it goes all the same.
        assert_eq!(sender.expire(start + SECOND), Expired::Override);
        assert_eq!(sender.send(start + SECOND, true).map(|piece| piece.payload.len()), Some(200));
    }
}
