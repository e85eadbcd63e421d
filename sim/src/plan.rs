//! What a run does: its network, its settings, who works, and what goes wrong. With the seed it decides the whole run.
//!
//! A plan is [drawn](crate::draw) from the seed by a proptest strategy. One that fails is [shrunk](crate::shrink).

use std::time::Duration;

use evermux::{Config, ConfigBuilder};
use serde::{Deserialize, Serialize};

/// By how much the simulated clock moves in one step, if the plan does not say otherwise. Hosts see what others sent at
/// the next step.
pub const TICK: Duration = Duration::from_millis(5);

/// What a run does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// The network between the hosts.
    pub network: Network,
    /// The settings of evermux.
    pub settings: Settings,
    /// Who works, and how.
    pub callers: Vec<Caller>,
    /// What goes wrong. Faults may overlap.
    pub faults: Vec<Fault>,
    /// How long callers work, at least.
    pub calm_ms: u64,
}

/// The network between the hosts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// What carries the bytes.
    pub transport: Transport,
    /// How long every message travels. One value for all: turmoil draws it anew for each packet, which TCP on a real path
    /// does not see.
    pub latency_ms: u64,
    /// Whether the hosts run in an order that is drawn anew, from the seed, in each step.
    pub random_order: bool,
    /// How many segments a socket holds for a reader, on turmoil's TCP.
    pub capacity: usize,
    /// The most that one read or write of a socket moves: short reads and writes. 0 is no limit.
    pub chunk: usize,
    /// Whether connections begin with a handshake of the transport's own, as TLS has one: who dials says a byte first.
    pub handshake: bool,
    /// By how much time moves in one step.
    pub tick_ms: u64,
}

/// What carries the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Transport {
    /// turmoil's TCP: fast, loses nothing, and repairs nothing.
    Turmoil,
    /// The simulation's own TCP, which lives through loss, over a network that loses segments.
    Lossy {
        /// How many segments in a hundred are lost.
        loss: u32,
        /// How many in a hundred arrive twice.
        duplication: u32,
        /// How many in a hundred are overtaken.
        reordering: u32,
    },
}

/// The settings of evermux.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// How many sessions each side holds at once.
    #[serde(default = "one")]
    pub sessions: usize,
    /// How many handshakes may be in flight on a receiver.
    pub handshakes: usize,
    /// How many inbound streams may wait to be accepted.
    pub accept_backlog: usize,
    /// How many streams may be open in each direction.
    pub max_concurrent_streams: u32,
    /// The heartbeat's times, in percent of what they would be: an eager one finds a loss before a session is stable.
    pub heartbeat_percent: u32,
    /// All durations of a receiver's settings, in percent of the defaults: its clock as the other side sees it.
    pub receiver_clock_percent: u32,
    /// The same of the establisher.
    pub establisher_clock_percent: u32,
}

/// What plans have that are older than the setting.
fn one() -> usize {
    1
}

/// Somebody who works.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Caller {
    /// What the caller does: the name of one of [`work::ALL`](crate::work::ALL).
    pub work: String,
    /// On which side.
    pub side: Side,
    /// The longest pause between two pieces of work.
    pub pause_ms: u64,
    /// The most bytes of one piece of work.
    pub bytes: u32,
}

/// One of the two programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// Who dials.
    Establisher,
    /// Who listens.
    Receiver,
}

/// Something that goes wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// What goes wrong: the name of one of [`faults::ALL`](crate::faults::ALL).
    pub kind: String,
    /// When it begins.
    pub at_ms: u64,
    /// How long it lasts.
    pub lasts_ms: u64,
    /// The side that it concerns, where it concerns one.
    pub side: Side,
    /// How bad it is, from 0 to 100, where it may be more or less bad.
    pub severity: u32,
}

impl Fault {
    /// When it begins.
    pub fn begin(&self) -> Duration {
        Duration::from_millis(self.at_ms)
    }

    /// When it ends.
    pub fn end(&self) -> Duration {
        Duration::from_millis(self.at_ms.saturating_add(self.lasts_ms))
    }

    /// A value between two, as bad as the severity says.
    pub fn between(&self, mild: u64, bad: u64) -> u64 {
        let severity = u64::from(self.severity.min(100));
        if bad >= mild { mild + (bad - mild) * severity / 100 } else { mild - (mild - bad) * severity / 100 }
    }
}

impl Plan {
    /// When the last fault is over, and the callers may stop.
    pub fn faults_end(&self) -> Duration {
        let calm = Duration::from_millis(self.calm_ms);
        self.faults.iter().map(Fault::end).fold(calm, Duration::max)
    }

    /// Whether nothing is lost, so that only faults hold anybody up.
    pub fn is_lossless(&self) -> bool {
        !matches!(self.network.transport, Transport::Lossy { loss: 1.., .. })
    }

    /// Whether nothing goes wrong.
    pub fn is_calm(&self) -> bool {
        self.faults.is_empty() && self.is_lossless()
    }

    /// The settings of a side, with this seed.
    ///
    /// # Panics
    ///
    /// When a plan that was written by hand has settings that evermux refuses.
    pub fn config(&self, side: Side, seed: u64) -> Config {
        let settings = self.settings;
        let percent = match side {
            Side::Establisher => settings.establisher_clock_percent,
            Side::Receiver => settings.receiver_clock_percent,
        };
        let defaults = Config::default();
        let heartbeat = |duration: Duration| duration * percent.max(1) * settings.heartbeat_percent.max(1) / 10_000;
        scaled(Config::builder(), percent.max(1))
            .heartbeat_idle(heartbeat(defaults.heartbeat_idle()))
            .heartbeat_timeout(heartbeat(defaults.heartbeat_timeout()))
            .max_handshakes_in_flight(settings.handshakes.max(1))
            .accept_backlog(settings.accept_backlog.max(1))
            .max_concurrent_streams(settings.max_concurrent_streams.max(1))
            .seed(Some(seed))
            .build()
            .expect("a drawn plan has valid settings")
    }
}

/// The same settings by a clock that is slower or faster.
fn scaled(builder: ConfigBuilder, percent: u32) -> ConfigBuilder {
    if percent == 100 {
        return builder;
    }
    let defaults = Config::default();
    let scale = |duration: Duration| duration * percent / 100;
    builder
        .resolve_timeout(scale(defaults.resolve_timeout()))
        .connect_timeout(scale(defaults.connect_timeout()))
        .handshake_timeout(scale(defaults.handshake_timeout()))
        .backoff_initial(scale(defaults.backoff_initial()))
        .backoff_max(scale(defaults.backoff_max()))
        .stable_after(scale(defaults.stable_after()))
        .write_timeout(scale(defaults.write_timeout()))
        .takeover_probe_timeout(scale(defaults.takeover_probe_timeout()))
        .drain_timeout(scale(defaults.drain_timeout()))
        .open_timeout(scale(defaults.open_timeout()))
}

impl Default for Network {
    fn default() -> Self {
        Self {
            transport: Transport::Turmoil,
            latency_ms: 10,
            random_order: false,
            capacity: 1024,
            chunk: 0,
            handshake: false,
            tick_ms: TICK.as_millis().try_into().expect("a few"),
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        let defaults = Config::default();
        Self {
            sessions: 1,
            handshakes: defaults.max_handshakes_in_flight(),
            accept_backlog: defaults.accept_backlog(),
            max_concurrent_streams: defaults.max_concurrent_streams(),
            heartbeat_percent: 100,
            receiver_clock_percent: 100,
            establisher_clock_percent: 100,
        }
    }
}
