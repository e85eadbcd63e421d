//! What happens to segments on their way.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use tokio::time::Instant;

use super::segment::{Segment, trace_segment};

/// What the network does to each segment that a host sends. Clones speak of the same thing, which may change at any time.
#[derive(Clone, Default)]
pub struct Impairments(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    conditions: Conditions,
    filter: Option<Filter>,
}

type Filter = Box<dyn FnMut(&Segment) -> Verdict + Send>;

/// What becomes of one segment, on top of the conditions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// What the conditions say.
    Sent,
    /// It is lost.
    Lost,
    /// It is kept back for so long.
    Late(Duration),
    /// It arrives, and once more so much later.
    Again(Duration),
}

/// The conditions on a host's way out. The default is a perfect network, which adds nothing to turmoil's.
#[derive(Clone, Debug, PartialEq)]
pub struct Conditions {
    /// The share of segments that is lost, from 0 to 1.
    pub loss: f64,
    /// The share that arrives twice.
    pub duplication: f64,
    /// The share that is kept back, so that later ones overtake it.
    pub reordering: f64,
    /// How long a segment is kept back, at most.
    pub reordering_delay: Duration,
    /// What is added to the time that every segment travels.
    pub latency: Duration,
    /// How many bytes leave the host in a second; any number without it.
    pub bytes_per_second: Option<u64>,
    /// How many bytes wait to leave. What comes on top is lost.
    pub queue_bytes: u64,
}

impl Default for Conditions {
    fn default() -> Self {
        Self {
            loss: 0.0,
            duplication: 0.0,
            reordering: 0.0,
            reordering_delay: Duration::from_millis(30),
            latency: Duration::ZERO,
            bytes_per_second: None,
            queue_bytes: 256 << 10,
        }
    }
}

impl Impairments {
    /// These conditions.
    pub fn new(conditions: Conditions) -> Self {
        Self(Arc::new(Mutex::new(State { conditions, filter: None })))
    }

    /// The conditions now.
    pub fn conditions(&self) -> Conditions {
        self.state().conditions.clone()
    }

    /// Changes the conditions for what is sent from now on.
    pub fn change(&self, change: impl FnOnce(&mut Conditions)) {
        change(&mut self.state().conditions);
    }

    /// Lets `filter` decide about each segment from now on, in the place of the one before. It is called with the stack
    /// locked.
    pub fn filter(&self, filter: impl FnMut(&Segment) -> Verdict + Send + 'static) {
        self.state().filter = Some(Box::new(filter));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Impairments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Impairments").field(&self.conditions()).finish()
    }
}

/// The way out of one host, under its impairments. What is on this way dies with the host.
pub(super) struct Egress {
    impairments: Impairments,
    rng: ChaCha8Rng,
    /// When all that has been sent has left.
    free_at: Instant,
    /// What is on its way, in the order of leaving, and of sending where that is equal.
    leaving: BTreeMap<(Instant, u64), Datagram>,
    sent: u64,
}

pub(super) type Datagram = (SocketAddr, Vec<u8>);

impl Egress {
    pub(super) fn new(impairments: Impairments, rng: ChaCha8Rng) -> Self {
        Self { impairments, rng, free_at: Instant::now(), leaving: BTreeMap::new(), sent: 0 }
    }

    /// Sends a segment to a port of the host that it is for.
    pub(super) fn send(&mut self, now: Instant, segment: &Segment, port: u16) {
        let mut state = self.impairments.state();
        let verdict = state.filter.as_mut().map_or(Verdict::Sent, |filter| filter(segment));
        let conditions = state.conditions.clone();
        drop(state);
        if verdict == Verdict::Lost || self.rng.random_bool(conditions.loss) {
            trace_segment!(segment, "lost");
            return;
        }
        let bytes = segment.encode();
        if let Some(rate) = conditions.bytes_per_second {
            let taken = |bytes: u64| Duration::from_nanos(bytes.saturating_mul(1_000_000_000) / rate.max(1));
            let begin = self.free_at.max(now);
            if begin - now > taken(conditions.queue_bytes) {
                trace_segment!(segment, "lost at the tail of the queue");
                return;
            }
            self.free_at = begin + taken(bytes.len() as u64);
        } else {
            self.free_at = now;
        }
        let base = self.free_at + conditions.latency;
        let again = match verdict {
            Verdict::Sent | Verdict::Lost => None,
            Verdict::Late(delay) => return self.leave(base + delay, segment, port, bytes),
            Verdict::Again(delay) => Some(base + delay),
        };
        for _ in 0..=u32::from(self.rng.random_bool(conditions.duplication)) {
            let is_late = self.rng.random_bool(conditions.reordering);
            let delay = if is_late { conditions.reordering_delay.mul_f64(self.rng.random()) } else { Duration::ZERO };
            self.leave(base + delay, segment, port, bytes.clone());
        }
        if let Some(at) = again {
            self.leave(at, segment, port, bytes);
        }
    }

    fn leave(&mut self, at: Instant, segment: &Segment, port: u16, bytes: Vec<u8>) {
        self.sent += 1;
        self.leaving.insert((at, self.sent), (SocketAddr::new(segment.destination.ip(), port), bytes));
    }

    /// When the next segment leaves.
    pub(super) fn next_at(&self) -> Option<Instant> {
        self.leaving.first_key_value().map(|((at, _), _)| *at)
    }

    /// Takes a segment that has left.
    pub(super) fn take(&mut self, now: Instant) -> Option<Datagram> {
        let first = self.leaving.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }
}
