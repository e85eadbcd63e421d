//! What a run does: its network, its settings, who works, and what goes wrong. With the seed it decides the whole run.
//!
//! A plan is drawn from the seed by a proptest strategy. One that fails is [shrunk](crate::shrink).

use std::time::Duration;

use evermux::{Config, ConfigBuilder};
use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any};
use proptest::sample::select;
use proptest::strategy::{BoxedStrategy, ValueTree as _};
use proptest::test_runner::{Config as RunnerConfig, Reason, RngAlgorithm, TestRng, TestRunner};
use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::run::{TICK, rng};
use crate::{faults, work};

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
    /// How long callers go on working at the least, from the beginning.
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
    /// What the caller does: the name of one of [`work::ALL`].
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
    /// What goes wrong: the name of one of [`faults::ALL`].
    pub kind: String,
    /// When it begins.
    pub at_ms: u64,
    /// How long it lasts.
    pub lasts_ms: u64,
    /// The side that it concerns, where it concerns one.
    pub side: Side,
    /// How bad it is, from 0 to 100, where it may be more or less bad.
    pub degree: u32,
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

    /// A value between two, as bad as the degree says.
    pub fn between(&self, mild: u64, bad: u64) -> u64 {
        let degree = u64::from(self.degree.min(100));
        if bad >= mild { mild + (bad - mild) * degree / 100 } else { mild - (mild - bad) * degree / 100 }
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

    /// Names what is wrong with a plan that was read from a file.
    pub fn check(&self) -> Result<(), String> {
        for fault in &self.faults {
            faults::find(&fault.kind).ok_or_else(|| {
                let known = faults::ALL.iter().map(|kind| kind.name).collect::<Vec<_>>().join(", ");
                format!("there is no fault {:?}; there are: {known}", fault.kind)
            })?;
        }
        for caller in &self.callers {
            work::find(&caller.work).ok_or_else(|| {
                let known = work::ALL.iter().map(|kind| kind.name).collect::<Vec<_>>().join(", ");
                format!("there is no work {:?}; there are: {known}", caller.work)
            })?;
        }
        if !(1..=1024).contains(&self.settings.sessions) {
            return Err("sessions must be from 1 to 1,024".into());
        }
        if self.network.tick_ms == 0 {
            return Err("tick_ms must be at least 1".into());
        }
        Ok(())
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

/// From what a plan is drawn.
pub type Plans = BoxedStrategy<Plan>;

/// Draws the plan of a seed.
///
/// # Errors
///
/// That the strategy rejects what it draws.
pub fn draw(plans: &Plans, seed: u64) -> Result<Plan, Reason> {
    let mut key = [0; 32];
    rng(seed, "plan").fill_bytes(&mut key);
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &key);
    Ok(plans.new_tree(&mut TestRunner::new_with_rng(RunnerConfig::default(), rng))?.current())
}

/// Any transport: mostly the one that is fast.
pub fn any_transport() -> BoxedStrategy<Transport> {
    let lossy = (0..=10_u32, 0..=10_u32, 0..=20_u32).prop_map(|(loss, duplication, reordering)| Transport::Lossy {
        loss,
        duplication,
        reordering,
    });
    proptest::prop_oneof![3 => Just(Transport::Turmoil), 1 => lossy].boxed()
}

/// Any network.
pub fn any_network() -> BoxedStrategy<Network> {
    let chunk = proptest::prop_oneof![4 => Just(0), 1 => 64..2_000_usize];
    // A freeze holds back what is sent meanwhile: the capacity must take what a window allows.
    (any_transport(), 0..=50_u64, any::<bool>(), chunk, any::<bool>())
        .prop_map(|(transport, latency_ms, random_order, chunk, handshake)| Network {
            transport,
            latency_ms,
            random_order,
            chunk,
            handshake,
            ..Network::default()
        })
        .boxed()
}

/// Any settings.
pub fn any_settings() -> BoxedStrategy<Settings> {
    let percent = || proptest::prop_oneof![3 => Just(100), 1 => 60..=150_u32];
    let heartbeat = proptest::prop_oneof![3 => Just(100), 1 => 30..=60_u32];
    let handshakes = proptest::prop_oneof![Just(64), 4..=8_usize];
    let accept_backlog = proptest::prop_oneof![3 => Just(256), 1 => 2..=8_usize];
    let max_concurrent_streams = proptest::prop_oneof![3 => Just(256), 1 => 8..=16_u32];
    let sessions = proptest::prop_oneof![4 => Just(1), 1 => 2..=4_usize];
    (sessions, handshakes, accept_backlog, max_concurrent_streams, heartbeat, percent(), percent())
        .prop_map(
            |(
                sessions,
                handshakes,
                accept_backlog,
                max_concurrent_streams,
                heartbeat_percent,
                receiver_clock_percent,
                establisher_clock_percent,
            )| {
                Settings {
                    sessions,
                    handshakes,
                    accept_backlog,
                    max_concurrent_streams,
                    heartbeat_percent,
                    receiver_clock_percent,
                    establisher_clock_percent,
                }
            },
        )
        .boxed()
}

/// Any caller.
pub fn any_caller() -> BoxedStrategy<Caller> {
    let works = work::ALL.iter().filter(|work| work.drawn).map(|work| work.name).collect::<Vec<_>>();
    let side = proptest::prop_oneof![3 => Just(Side::Establisher), 1 => Just(Side::Receiver)];
    (select(works), side, 100..4_000_u64, 1..300_000_u32)
        .prop_map(|(work, side, pause_ms, bytes)| Caller { work: work.to_owned(), side, pause_ms, bytes })
        .boxed()
}

/// Any fault, that begins before and lasts at most so many milliseconds.
pub fn any_fault(before_ms: u64, lasts_ms: u64) -> BoxedStrategy<Fault> {
    let kinds = faults::ALL.iter().map(|kind| kind.name).collect::<Vec<_>>();
    let side = proptest::prop_oneof![Just(Side::Receiver), Just(Side::Establisher)];
    // Half of them short: what heals by itself is another matter than what is found out.
    let lasts = proptest::prop_oneof![1..1_000.min(lasts_ms), 1..lasts_ms];
    (select(kinds), 0..before_ms, lasts, side, 0..=100_u32)
        .prop_map(|(kind, at_ms, lasts_ms, side, degree)| Fault {
            kind: kind.to_owned(),
            at_ms,
            lasts_ms,
            side,
            degree,
        })
        .boxed()
}

/// Any plan with so many callers and faults.
pub fn any_plan(callers: std::ops::RangeInclusive<usize>, faults: std::ops::RangeInclusive<usize>) -> Plans {
    let parts = (any_network(), any_settings(), vec(any_caller(), callers), vec(any_fault(60_000, 30_000), faults));
    parts
        .prop_map(|(network, settings, mut callers, faults)| {
            // Somebody must want a session.
            if let Some(first) = callers.first_mut() {
                first.side = Side::Establisher;
            }
            Plan { network, settings, callers, faults, calm_ms: 1_000 }
        })
        .boxed()
}
