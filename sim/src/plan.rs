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
    /// Who is not evermux.
    #[serde(default)]
    pub foreign: Option<Foreign>,
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
    /// What becomes of segments on their way.
    #[serde(default)]
    pub impairments: Impairments,
    /// How long every message travels. One value for all: turmoil draws it anew for each segment, which TCP on a real path
    /// does not see.
    pub latency_ms: u64,
    /// By how much longer what the receiver sends travels.
    #[serde(default)]
    pub return_ms: u64,
    /// How much each way carries.
    #[serde(default)]
    pub bandwidth: Bandwidth,
    /// Whether the hosts run in an order that is drawn anew, from the seed, in each step.
    pub random_order: bool,
    /// The most that one read or write of a socket moves: short reads and writes. 0 is no limit.
    pub chunk: usize,
    /// Whether connections begin with a handshake of the transport's own, as TLS has one: who dials says a byte first.
    pub handshake: bool,
    /// What kind of transport evermux gets.
    #[serde(default)]
    pub sockets: Sockets,
    /// By how much time moves in one step.
    pub tick_ms: u64,
}

/// What kind of transport evermux gets, within the contract of `AsyncRead` and `AsyncWrite`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sockets {
    /// It writes vectors. With short writes such a write ends in any of the slices.
    pub vectored: bool,
    /// What is written leaves when it is flushed, as with TLS.
    pub buffered: bool,
    /// How many calls in a hundred say Pending and wake at once.
    pub spurious_percent: u32,
}

/// How many bytes a second each way carries; any number without it. What comes faster waits in a queue on the way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bandwidth {
    /// What the establisher sends.
    pub up: Option<u64>,
    /// What is sent to it.
    pub down: Option<u64>,
}

impl Bandwidth {
    /// The way that carries less, if one has a limit.
    pub fn least(self) -> Option<u64> {
        self.up.into_iter().chain(self.down).min()
    }
}

/// What becomes of the segments of a TCP connection on their way. The TCP lives through it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Impairments {
    /// How many segments in a hundred are lost.
    pub loss: u32,
    /// How many in a hundred arrive twice.
    pub duplication: u32,
    /// How many in a hundred are overtaken.
    pub reordering: u32,
}

/// What one end of a connection holds that is not acknowledged.
const SOCKET_BYTES: u64 = 64 << 10;

/// How long so many bytes take at so many a second.
pub(crate) fn travels(bytes: u64, rate: u64) -> Duration {
    Duration::from_millis(bytes.saturating_mul(1_000) / rate.max(1))
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

impl Settings {
    /// Whether there is room for all streams that a peer sends before it waits: with the defaults there is.
    pub fn has_room(&self) -> bool {
        self.accept_backlog >= Self::default().accept_backlog
    }
}

/// What plans have that are older than the setting.
fn one() -> usize {
    1
}

/// A side that is not evermux.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Foreign {
    /// Which side.
    pub side: Side,
    /// What it runs on.
    pub library: Library,
}

/// A yamux library that others wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Library {
    /// hashicorp's, for Go.
    Hashicorp,
    /// The yamux crate, alone.
    Yamux,
}

/// The work that ends sessions.
pub const ABORTS: &str = "aborts";

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
    /// When it begins, or from when on it waits for an event.
    pub at_ms: u64,
    /// The event after which it begins, if it waits for one. Where none comes in time it begins without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on: Option<On>,
    /// How long it lasts.
    pub lasts_ms: u64,
    /// The side that it concerns, where it concerns one.
    pub side: Side,
    /// How bad it is, from 0 to 100, where it may be more or less bad.
    pub severity: u32,
}

/// Something that happens to the manager of a side, after which a fault begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct On {
    /// What happens.
    pub event: Event,
    /// To which side.
    pub side: Side,
    /// How long after it the fault begins.
    pub after_ms: u64,
}

/// What a fault may wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// It dials.
    Connecting,
    /// A session is live.
    Live,
    /// A session drains.
    Draining,
    /// A session has ended.
    Closed,
    /// A session has asked its peer for a sign of life.
    Ping,
}

/// How long a fault waits for its event.
const WAITS: Duration = Duration::from_secs(12);

impl Fault {
    /// When it begins at the latest.
    pub fn begin(&self) -> Duration {
        let waits = self.on.map_or(Duration::ZERO, |on| WAITS + Duration::from_millis(on.after_ms));
        Duration::from_millis(self.at_ms) + waits
    }

    /// When it ends at the latest.
    pub fn end(&self) -> Duration {
        self.begin().saturating_add(Duration::from_millis(self.lasts_ms))
    }

    /// The fault as it is when it begins now.
    pub(crate) fn begun(&self, now: Duration) -> Self {
        Self { at_ms: u64::try_from(now.as_millis()).unwrap_or(u64::MAX), on: None, ..self.clone() }
    }

    /// A value between two, as bad as the severity says.
    pub fn between(&self, mild: u64, bad: u64) -> u64 {
        let severity = u64::from(self.severity.min(100));
        if bad >= mild { mild + (bad - mild) * severity / 100 } else { mild - (mild - bad) * severity / 100 }
    }
}

impl Plan {
    /// What a side runs on that is not evermux.
    pub fn foreign(&self, side: Side) -> Option<Library> {
        self.foreign.filter(|foreign| foreign.side == side).map(|foreign| foreign.library)
    }

    /// When the last fault is over, and the callers may stop.
    pub fn faults_end(&self) -> Duration {
        let calm = Duration::from_millis(self.calm_ms);
        self.faults.iter().map(Fault::end).fold(calm, Duration::max)
    }

    /// Whether nothing is lost, so that only faults hold anybody up.
    pub fn is_lossless(&self) -> bool {
        self.network.impairments.loss == 0
    }

    /// Whether nothing goes wrong, nobody ends a session, and nobody has to wait for a slow link.
    pub fn is_calm(&self) -> bool {
        self.faults.is_empty()
            && self.is_lossless()
            && self.network.bandwidth.least().is_none()
            && self.callers.iter().all(|caller| caller.work != ABORTS)
    }

    /// How long a message and its answer travel, at most: behind all that the sockets of every session hold.
    pub fn round_trip(&self) -> Duration {
        let sockets = SOCKET_BYTES * (self.settings.sessions as u64 + 1);
        let queue = self.network.bandwidth.least().map_or(Duration::ZERO, |rate| travels(2 * sockets, rate));
        Duration::from_millis(2 * self.network.latency_ms + self.network.return_ms) + queue
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
            impairments: Impairments::default(),
            latency_ms: 10,
            return_ms: 0,
            bandwidth: Bandwidth::default(),
            random_order: false,
            chunk: 0,
            handshake: false,
            sockets: Sockets::default(),
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
