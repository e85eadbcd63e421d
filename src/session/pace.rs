//! How fast the path takes bytes, and how many may wait for it.
//!
//! A new message waits for everything that was taken before it: a frame of each busy stream, what the wire has
//! buffered, and what the kernel holds unsent. On a fast path that takes no time; on a slow one it is cut to what the
//! path carries in some milliseconds, so that a short answer overtakes a long one.

use std::{io, sync::Arc, time::Duration};

use tokio::time::Instant;
use tracing::debug;

use crate::sync::Gate;

/// Sets how many unsent bytes a transport may hold.
pub(crate) type UnsentLimit<Io> = fn(&Io, u32) -> io::Result<()>;

/// At this many bytes a second and above there are no limits.
const FAST: u64 = 16 << 20;
/// The assumed rate of an unknown path: what waits in front of it cannot be taken back.
const UNKNOWN: u64 = 512 << 10;
/// A path is judged after it was busy for this long, or took this much.
const BUSY: Duration = Duration::from_millis(50);
const MUCH: u64 = 1 << 20;
/// A path that takes this much without a pause is twice as fast as assumed.
const WITHOUT_A_PAUSE: u64 = 64 << 10;
/// Frames to other peers are not cut below this, however slow the path is: tokio-yamux holds eight frames of a stream
/// that nobody reads, whatever their length, and stalls at the ninth.
const FOREIGN_FRAME_BYTES_MIN: usize = 32 << 10;

/// What limits how much may wait in front of the path.
pub(crate) struct Outlet<Io> {
    pub(crate) unsent_limit: Option<UnsentLimit<Io>>,
    /// Where writers wait.
    pub(crate) gate: Arc<Gate>,
}

/// How much may wait, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Limits {
    /// In one write, which becomes one frame. The yamux crate may hold two, for all streams together.
    frame: usize,
    /// In the output of the wire.
    output: usize,
    /// In the kernel.
    unsent: u32,
}

impl Limits {
    const NONE: Self = Self { frame: usize::MAX, output: 64 << 10, unsent: 128 << 10 };

    /// For a path that carries `rate` bytes a second: what it carries in some 4, 16 and 31 ms, but no less than what
    /// costs little.
    fn of(rate: u64) -> Self {
        if rate >= FAST {
            return Self::NONE;
        }
        let part = |of_a_second: u64, least: u64, most: u64| (rate / of_a_second).clamp(least, most);
        Self {
            frame: usize::try_from(part(256, 2 << 10, 64 << 10)).unwrap_or(usize::MAX),
            output: usize::try_from(part(64, 8 << 10, 64 << 10)).unwrap_or(usize::MAX),
            unsent: u32::try_from(part(32, 16 << 10, 128 << 10)).unwrap_or(u32::MAX),
        }
    }
}

/// Lets as much wait in front of a path as its pace allows.
pub(super) struct Throttle<Io> {
    pace: Pace,
    limits: Limits,
    outlet: Outlet<Io>,
    /// Frames are not cut below this.
    frame_min: usize,
}

impl<Io> Throttle<Io> {
    pub(super) fn new(io: &Io, outlet: Outlet<Io>) -> Self {
        let pace = Pace::new();
        let throttle = Self { limits: pace.limits(), pace, outlet, frame_min: FOREIGN_FRAME_BYTES_MIN };
        throttle.set_limits(io);
        throttle
    }

    /// Allows short frames: the peer is evermux, and takes any length.
    pub(super) fn cut_frames_short(&mut self, io: &Io) {
        self.frame_min = 0;
        self.set_limits(io);
    }

    /// How many bytes may wait in the output of the wire.
    pub(super) fn output(&self) -> usize {
        self.limits.output
    }

    /// The transport has no room for what waits.
    pub(super) fn on_full(&mut self, now: Instant) {
        self.pace.on_full(now);
    }

    /// The transport took this many bytes.
    pub(super) fn on_taken(&mut self, io: &Io, bytes: usize) {
        self.pace.on_taken(bytes, Instant::now);
        let limits = self.pace.limits();
        if std::mem::replace(&mut self.limits, limits) != limits {
            debug!(?limits, "the pace of the path has changed");
            self.set_limits(io);
        }
    }

    /// The transport took all that waited.
    pub(super) fn on_drained(&mut self) {
        self.pace.on_drained(Instant::now);
    }

    fn set_limits(&self, io: &Io) {
        let frame = self.limits.frame.max(self.frame_min);
        // Two, so that the next is there when the one before it has left.
        self.outlet.gate.limit(frame, frame.saturating_mul(2));
        if let Some(set) = self.outlet.unsent_limit {
            // If it cannot be set, it stays as it was.
            let _ = set(io, self.limits.unsent);
        }
    }
}

/// The pace of one path. It never reads a clock: its caller reports what happened and when.
#[derive(Debug)]
struct Pace {
    /// In bytes a second, as far as is known.
    rate: u64,
    /// The power of two from which the limits follow.
    level: u32,
    /// Since when the path has had no room for what waits.
    full_since: Option<Instant>,
    /// How long it had none before that, and how much it took in that time, since it was last judged.
    busy: Duration,
    taken: u64,
    /// How much it has taken since it last had no room.
    with_room: u64,
}

impl Pace {
    /// The pace of an unknown path.
    fn new() -> Self {
        Self { rate: UNKNOWN, level: UNKNOWN.ilog2(), full_since: None, busy: Duration::ZERO, taken: 0, with_room: 0 }
    }

    /// How much may wait now.
    fn limits(&self) -> Limits {
        Limits::of(1 << self.level)
    }

    /// The transport has no room for what waits.
    fn on_full(&mut self, now: Instant) {
        self.full_since.get_or_insert(now);
        self.with_room = 0;
    }

    /// The transport took this many bytes.
    fn on_taken(&mut self, bytes: usize, now: impl FnOnce() -> Instant) {
        if let Some(since) = self.full_since {
            self.taken += bytes as u64;
            let now = now();
            let busy = self.busy + now.saturating_duration_since(since);
            if busy >= BUSY || self.taken >= MUCH {
                self.judge(busy);
                self.full_since = Some(now);
            }
        } else if self.rate < FAST {
            self.with_room += bytes as u64;
            if self.with_room >= WITHOUT_A_PAUSE {
                self.with_room = 0;
                self.set((self.rate * 2).min(FAST));
            }
        }
    }

    /// The transport took all that waited.
    fn on_drained(&mut self, now: impl FnOnce() -> Instant) {
        if let Some(since) = self.full_since.take() {
            self.busy += now().saturating_duration_since(since);
        }
    }

    /// Sets the rate. A path that is a little faster or slower than the level stays at it.
    fn set(&mut self, rate: u64) {
        self.rate = rate;
        let level = 1_u64 << self.level;
        if rate >= 2 * level || rate < level - level / 4 {
            self.level = rate.ilog2();
        }
    }

    /// Measures the rate by what was taken while the path was busy. It falls by at most half for each [`BUSY`]: a short
    /// pause makes no slow path.
    fn judge(&mut self, busy: Duration) {
        let nanos = u64::try_from(busy.as_nanos()).unwrap_or(u64::MAX).max(1);
        let measured = u128::from(self.taken) * 1_000_000_000 / u128::from(nanos);
        let halvings = u32::try_from(busy.as_millis() / BUSY.as_millis()).unwrap_or(u32::MAX).max(1);
        let least = self.rate.checked_shr(halvings).unwrap_or(0).max(1);
        self.set(u64::try_from(measured).unwrap_or(u64::MAX).clamp(least, FAST));
        (self.busy, self.taken) = (Duration::ZERO, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    const SLOW: Limits = Limits { frame: 2 << 10, output: 8 << 10, unsent: 16 << 10 };

    /// A path that has taken a megabyte without a pause.
    fn fast(now: Instant) -> Pace {
        let mut pace = Pace::new();
        assert_eq!(pace.limits(), SLOW);
        for _ in 0..64 {
            pace.on_taken(16 << 10, || now);
        }
        assert_eq!(pace.limits(), Limits::NONE);
        pace
    }

    /// A path that is always full, and takes `bytes` at a time, `apart` from each other.
    fn full(pace: &mut Pace, mut now: Instant, times: usize, bytes: usize, apart: Duration) -> Instant {
        pace.on_full(now);
        for _ in 0..times {
            now += apart;
            pace.on_taken(bytes, || now);
            pace.on_full(now);
        }
        now
    }

    #[test]
    fn a_slow_path_is_known_after_one_look() {
        let now = Instant::now();
        let mut pace = fast(now);
        // 1 Mbit/s: half of what the kernel may hold is sent before it takes more.
        full(&mut pace, now, 1, 64 << 10, 524 * MS);
        assert_eq!(pace.limits(), SLOW);
    }

    #[test]
    fn what_may_wait_is_what_the_path_carries_in_some_milliseconds() {
        let mut pace = Pace::new();
        let now = full(&mut pace, Instant::now(), 100, 10 << 10, 5 * MS);
        assert_eq!(
            pace.limits(),
            Limits { frame: 4 << 10, output: 16 << 10, unsent: 32 << 10 },
            "2 MiB a second: {pace:?}"
        );
        full(&mut pace, now, 100, 64 << 10, MS);
        assert_eq!(pace.limits(), Limits::NONE, "64 MiB a second: {pace:?}");
    }

    #[test]
    fn a_short_pause_makes_no_slow_path() {
        let now = Instant::now();
        let mut pace = fast(now);
        let now = full(&mut pace, now, 1, 100, 50 * MS);
        assert_eq!(pace.limits(), Limits::of(FAST / 2));
        full(&mut pace, now, 1, 1 << 20, MS);
        assert_eq!(pace.limits(), Limits::NONE);
    }

    /// Occasional writes that wait for nothing are no measure.
    #[test]
    fn a_path_that_is_not_full_is_not_judged() {
        let mut now = Instant::now();
        let mut pace = fast(now);
        for _ in 0..1_000 {
            pace.on_full(now);
            now += MS / 100;
            pace.on_taken(10_000, || now);
            pace.on_drained(|| now);
            now += 1_000 * MS;
        }
        assert_eq!(pace.limits(), Limits::NONE);
    }

    #[test]
    fn a_path_that_has_become_fast_is_found_so_though_it_is_never_full() {
        let mut pace = Pace::new();
        let now = full(&mut pace, Instant::now(), 10, 1 << 10, 100 * MS);
        assert_ne!(pace.limits(), Limits::NONE);
        pace.on_drained(|| now);
        for _ in 0..2_000 {
            pace.on_taken(2 << 10, || now);
        }
        assert_eq!(pace.limits(), Limits::NONE, "{pace:?}");
    }
}
