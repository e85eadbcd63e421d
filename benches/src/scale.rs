//! How much work a sample is.

use std::time::Duration;

/// The sizes of all cases.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale {
    pub(crate) name: &'static str,
    pub(crate) rounds: usize,
    /// For cases that take long to prepare.
    pub(crate) slow_rounds: usize,
    /// All streams together.
    pub(crate) bulk_bytes: u64,
    /// Passes before what is measured; its content is looked at.
    pub(crate) warm_bytes: u64,
    pub(crate) flood_bytes: u64,
    pub(crate) opens: usize,
    pub(crate) round_trips: usize,
    pub(crate) reading: Duration,
    pub(crate) waiters: usize,
    pub(crate) wakes: usize,
    pub(crate) links: usize,
    /// On a slow path; and how long downloads run before the first.
    pub(crate) slow_requests: usize,
    pub(crate) slow_settle: Duration,
    pub(crate) restarts: u64,
    /// How long a session lives before it is cut. None: until it counts as stable.
    pub(crate) settle: Option<Duration>,
}

impl Scale {
    pub(crate) const FULL: Self = Self {
        name: "full",
        rounds: 25,
        slow_rounds: 5,
        bulk_bytes: 512 << 20,
        warm_bytes: 32 << 20,
        flood_bytes: 8 << 20,
        opens: 8_000,
        round_trips: 20_000,
        reading: Duration::from_millis(200),
        waiters: 10_000,
        wakes: 10,
        links: 16,
        slow_requests: 20,
        restarts: 10,
        slow_settle: Duration::from_secs(4),
        settle: None,
    };

    /// The whole table in some seven minutes, on two quiet cores.
    pub(crate) const QUICK: Self = Self {
        name: "quick",
        rounds: 9,
        slow_rounds: 3,
        bulk_bytes: 256 << 20,
        warm_bytes: 16 << 20,
        flood_bytes: 4 << 20,
        opens: 4_000,
        round_trips: 10_000,
        reading: Duration::from_millis(100),
        waiters: 10_000,
        wakes: 5,
        links: 8,
        slow_requests: 7,
        restarts: 5,
        slow_settle: Duration::from_secs(4),
        settle: None,
    };

    /// To see that it works.
    pub(crate) const SMOKE: Self = Self {
        name: "smoke",
        rounds: 1,
        slow_rounds: 1,
        bulk_bytes: 1 << 20,
        warm_bytes: 1 << 20,
        flood_bytes: 64 << 10,
        opens: 128,
        round_trips: 64,
        reading: Duration::from_millis(1),
        waiters: 100,
        wakes: 1,
        links: 1,
        slow_requests: 1,
        restarts: 1,
        slow_settle: Duration::from_millis(100),
        settle: Some(Duration::ZERO),
    };
}
