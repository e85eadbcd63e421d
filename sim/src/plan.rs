//! What a run does: its network, its settings, who works, and what goes wrong. With the seed it decides the whole run.
//!
//! A plan is [drawn](crate::draw) from the seed by a proptest strategy. One that fails is [shrunk](crate::shrink).

use std::time::Duration;

use evermux::{Config, ConfigBuilder};
use serde::{Deserialize, Serialize};

use crate::usage::Usage;

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
    /// What the programs use of its interface.
    #[serde(default)]
    pub usage: Usage,
    /// Who is not evermux.
    #[serde(default)]
    pub foreign: Option<Foreign>,
    /// How many other clients the receiver has. It has a place for each.
    #[serde(default)]
    pub fleet: u16,
    /// Who works, and how.
    pub callers: Vec<Caller>,
    /// What goes wrong. Faults may overlap.
    pub faults: Vec<Fault>,
    /// How long callers work, at least.
    pub calm_ms: u64,
    /// How often tasks let others run first.
    #[serde(default)]
    pub yields: Yields,
}

/// How often tasks let others run first, where they could go on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Yields {
    /// So many times in a hundred.
    pub percent: u32,
    /// Decides when. Another number is another order of the same run.
    pub order: u64,
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
    /// How many addresses the receiver's name has besides its own, on which nobody answers, or refuses.
    #[serde(default)]
    pub dead_addresses: u16,
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
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// How many sessions each side holds at once.
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
    /// How long an inbound stream waits to be accepted.
    pub accept_timeout_ms: u64,
    /// After how many failed attempts in a row a manager gives up; 0 is never.
    pub max_attempts: u32,
    /// After how long without a session a manager gives up; 0 is never.
    pub max_elapsed_ms: u64,
    /// How many streams a side opens on one session; 0 is any number.
    pub max_streams_per_session: u32,
    /// By how much each pause grows over the last one, in percent.
    pub backoff_factor_percent: u32,
    /// How far a pause may be from what it should be, in percent.
    pub backoff_jitter_percent: u32,
    /// The longest pause before an attempt that would be made at once.
    pub first_retry_jitter_ms: u64,
    /// Whether a session that closes says so to every peer at once.
    pub early_go_away: bool,
    /// By how many KiB the windows of a session may grow.
    pub window_growth_kib: usize,
    /// How many events wait for a slow reader.
    pub event_backlog: usize,
}

impl Settings {
    /// A stream that nobody accepts for longer may be reset.
    pub fn accepted_within(&self) -> Duration {
        Duration::from_millis(self.accept_timeout_ms) * 5 / 6
    }

    /// Whether a manager that has no session for long gives up.
    pub fn gives_up(&self) -> bool {
        self.max_attempts > 0 || self.max_elapsed_ms > 0
    }

    /// The settings of a side, with this seed.
    ///
    /// # Panics
    ///
    /// When a plan that was written by hand has settings that evermux refuses.
    pub fn config(&self, side: Side, seed: u64) -> Config {
        let percent = match side {
            Side::Establisher => self.establisher_clock_percent,
            Side::Receiver => self.receiver_clock_percent,
        };
        let defaults = Config::default();
        let heartbeat = |duration: Duration| duration * percent.max(1) * self.heartbeat_percent.max(1) / 10_000;
        scaled(Config::builder(), percent.max(1))
            .heartbeat_idle(heartbeat(defaults.heartbeat_idle()))
            .heartbeat_timeout(heartbeat(defaults.heartbeat_timeout()))
            .max_handshakes_in_flight(self.handshakes.max(1))
            .accept_backlog(self.accept_backlog.max(1))
            .max_concurrent_streams(self.max_concurrent_streams.max(1))
            .accept_timeout(Duration::from_millis(self.accept_timeout_ms.max(1)))
            .max_attempts((self.max_attempts > 0).then_some(self.max_attempts))
            .max_elapsed((self.max_elapsed_ms > 0).then(|| Duration::from_millis(self.max_elapsed_ms)))
            .max_streams_per_session(match self.max_streams_per_session {
                0 => defaults.max_streams_per_session(),
                streams => streams,
            })
            .backoff_factor(percent_of(self.backoff_factor_percent.max(100)))
            .backoff_jitter(percent_of(self.backoff_jitter_percent.min(100)))
            .first_retry_jitter(Duration::from_millis(self.first_retry_jitter_ms))
            .early_go_away(self.early_go_away)
            .window_growth_budget(self.window_growth_kib << 10)
            .event_backlog(self.event_backlog.max(1))
            .seed(Some(seed))
            .build()
            .expect("a drawn plan has valid settings")
    }

    /// Whether there is room for all streams that a peer sends before it waits, and time to accept them: with the
    /// defaults there is.
    pub fn has_room(&self) -> bool {
        let defaults = Self::default();
        self.accept_backlog >= defaults.accept_backlog && self.accept_timeout_ms >= defaults.accept_timeout_ms
    }
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
    /// A session of evermux's, without a manager.
    Session,
}

/// The work that ends sessions.
pub const ABORTS: &str = "aborts";

/// The fault by which clients come that are proven, and break rules.
pub const HOSTILE: &str = "hostile clients";

/// The fault by which a session is closed that could go on.
pub const CLOSES: &str = "close";

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

/// The work that moves much.
const VOLUME: [&str; 3] = ["volume", "frames", "both"];

impl Plan {
    /// What makes its runs unlike others: how long they take, and how long callers wait in them.
    pub fn kind(&self) -> &'static str {
        if self.fleet > 0 {
            "a fleet"
        } else if !self.is_lossless() {
            "segments are lost"
        } else if self.network.bandwidth.least().is_some() {
            "a slow link"
        } else if self.foreign.is_some() {
            "another library"
        } else if self.callers.iter().any(|caller| VOLUME.contains(&caller.work.as_str())) {
            "volume"
        } else if self.faults.is_empty() {
            "no faults"
        } else {
            "plain"
        }
    }

    /// How many sessions a side holds at once.
    pub fn places(&self, side: Side) -> usize {
        match side {
            Side::Establisher => self.settings.sessions,
            Side::Receiver => self.settings.sessions + usize::from(self.fleet) + self.places_of_hostile(),
        }
    }

    /// How many places a receiver has besides, so that clients get one that break every rule.
    pub(crate) fn places_of_hostile(&self) -> usize {
        if self.faults.iter().any(|fault| fault.kind == HOSTILE) { 2 } else { 0 }
    }

    /// What a side runs on that is not evermux.
    pub fn foreign(&self, side: Side) -> Option<Library> {
        self.foreign.filter(|foreign| foreign.side == side).map(|foreign| foreign.library)
    }

    /// When the last fault is over, and the callers may stop.
    pub fn faults_end(&self) -> Duration {
        let calm = Duration::from_millis(self.calm_ms);
        self.faults.iter().map(Fault::end).fold(calm, Duration::max)
    }

    /// Whether sessions may be lost at any time, faults or not.
    pub(crate) fn may_always_lose(&self) -> bool {
        self.ends_sessions() || !self.is_lossless()
    }

    /// When sessions may be lost for the first time.
    pub(crate) fn trouble_begins(&self) -> Duration {
        let first = self.faults.iter().map(|fault| Duration::from_millis(fault.at_ms)).min();
        first.filter(|_| !self.may_always_lose()).unwrap_or_default()
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
            && !self.ends_sessions()
    }

    /// Whether somebody ends sessions that could go on.
    pub fn ends_sessions(&self) -> bool {
        self.settings.max_streams_per_session > 0
            || self.callers.iter().any(|caller| caller.work == ABORTS)
            || self.faults.iter().any(|fault| fault.kind == CLOSES)
    }

    /// How long a message and its answer travel at least.
    pub fn path(&self) -> Duration {
        Duration::from_millis(2 * self.network.latency_ms + self.network.return_ms)
    }

    /// How many bytes a second a connection carries: what the link does, and what the sockets hold in a round trip.
    pub(crate) fn rate(&self) -> Option<u64> {
        let round_trip_ms = u64::try_from(self.path().as_millis()).unwrap_or(u64::MAX);
        let windows = (SOCKET_BYTES * 1_000).checked_div(round_trip_ms);
        self.network.bandwidth.least().into_iter().chain(windows).min()
    }

    /// How long a message and its answer travel, at most: behind all that the sockets of every session hold.
    pub fn round_trip(&self) -> Duration {
        let sockets = SOCKET_BYTES * (self.settings.sessions as u64 + 1);
        let queue = self.network.bandwidth.least().map_or(Duration::ZERO, |rate| travels(2 * sockets, rate));
        self.path() + queue
    }

    /// The settings of a side, with this seed.
    ///
    /// # Panics
    ///
    /// When a plan that was written by hand has settings that evermux refuses.
    pub fn config(&self, side: Side, seed: u64) -> Config {
        self.settings.config(side, seed)
    }
}

#[expect(clippy::cast_precision_loss, reason = "a few hundred")]
fn percent_of(percent: u32) -> f32 {
    percent as f32 / 100.0
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
            dead_addresses: 0,
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
            accept_timeout_ms: defaults.accept_timeout().as_millis().try_into().expect("a minute"),
            max_attempts: 0,
            max_elapsed_ms: 0,
            max_streams_per_session: 0,
            backoff_factor_percent: 150,
            backoff_jitter_percent: 20,
            first_retry_jitter_ms: 0,
            early_go_away: defaults.early_go_away(),
            window_growth_kib: defaults.window_growth_budget() >> 10,
            event_backlog: defaults.event_backlog(),
        }
    }
}
