//! What a stretch of work costs, and what a sample says.

use std::{
    io,
    time::{Duration, Instant},
};

use nix::sys::{
    resource::{Usage, UsageWho, getrusage},
    time::{TimeVal, TimeValLike},
};
use serde::{Deserialize, Serialize};

/// What one contestant needed for one unit of a case, in one process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Sample {
    pub(crate) wall_ns: f64,
    /// User and system time of this process, in which both ends run, or of the one end that is looked at.
    pub(crate) cpu_ns: f64,
    /// How often a thread of this process went to sleep.
    pub(crate) switches: f64,
    /// Half of the round trips took at most this, where the case looks at each.
    pub(crate) p50_ns: Option<f64>,
    pub(crate) p99_ns: Option<f64>,
    /// What moved beside what was measured, where something did.
    pub(crate) bulk_mib_per_s: Option<f64>,
    /// How many calls were made again, where calls are interrupted.
    pub(crate) retried: Option<f64>,
}

/// A stretch of work that has begun.
pub(crate) struct Meter {
    who: UsageWho,
    used: Usage,
    begun: Instant,
}

/// What a stretch of work cost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    pub(crate) wall: Duration,
    pub(crate) cpu: Duration,
    pub(crate) switches: f64,
}

impl Meter {
    pub(crate) fn start() -> io::Result<Self> {
        Self::start_of(UsageWho::RUSAGE_SELF)
    }

    /// Of this thread alone.
    pub(crate) fn start_of_thread() -> io::Result<Self> {
        Self::start_of(UsageWho::RUSAGE_THREAD)
    }

    fn start_of(who: UsageWho) -> io::Result<Self> {
        Ok(Self { who, used: getrusage(who)?, begun: Instant::now() })
    }

    pub(crate) fn stop(&self) -> io::Result<Cost> {
        self.stop_at(Instant::now())
    }

    /// As [`stop`](Self::stop), for work that was done at `end` already.
    pub(crate) fn stop_at(&self, end: Instant) -> io::Result<Cost> {
        let used = getrusage(self.who)?;
        Ok(Cost {
            wall: end.saturating_duration_since(self.begun),
            cpu: cpu(&used).saturating_sub(cpu(&self.used)),
            switches: switches(&used) - switches(&self.used),
        })
    }
}

impl Cost {
    /// For each of so many units.
    pub(crate) fn each(&self, units: f64) -> Sample {
        Sample {
            wall_ns: nanos(self.wall) / units,
            cpu_ns: nanos(self.cpu) / units,
            switches: self.switches / units,
            p50_ns: None,
            p99_ns: None,
            bulk_mib_per_s: None,
            retried: None,
        }
    }
}

fn cpu(used: &Usage) -> Duration {
    let of = |time: TimeVal| Duration::from_micros(time.num_microseconds().try_into().unwrap_or_default());
    of(used.user_time()) + of(used.system_time())
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn switches(used: &Usage) -> f64 {
    used.voluntary_context_switches() as f64
}

pub(crate) fn nanos(time: Duration) -> f64 {
    time.as_secs_f64() * 1e9
}
