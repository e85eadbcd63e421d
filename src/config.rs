//! All settings, with their defaults, units and bounds.
//!
//! A [`Config`] is checked once, when it is built, and never again: a manager works with every allowed value, which
//! `proptests/tests/config.rs` tests.

use std::{fmt, ops::RangeInclusive, time::Duration};

use crate::error::ConfigError;

/// Clocks count in milliseconds: a shorter time would be over before it began.
const SHORTEST: Duration = Duration::from_millis(1);

const MAX_HANDSHAKES_IN_FLIGHT: usize = 1 << 16;
/// Together with the open streams these must stay below the yamux crate's own limit, which ends the session.
const MAX_ACCEPT_BACKLOG: usize = if usize::BITS >= 64 { 1 << 16 } else { 1 << 10 };
/// To open a stream, the yamux crate looks at every stream of the session: 198 µs with this many. Where `usize` has 32
/// bits, the crate's own limit, which ends the session, is close.
const MAX_STREAMS: u32 = if usize::BITS >= 64 { 1 << 14 } else { 1 << 10 };
const MAX_WINDOW_GROWTH_BUDGET: usize = 1 << 30;
const MAX_EVENT_BACKLOG: usize = 1 << 16;

/// How many streams one side can open on a session: half of the ids, less a margin for streams that are opened in the
/// meantime.
const STREAM_IDS: u32 = (1 << 31) - (1 << 17);

/// The settings of a manager and of its sessions.
///
/// A `Duration` may be arbitrarily long, to mean "never": anything over ten years counts as ten years.
///
/// ```
/// use std::time::Duration;
/// use evermux::Config;
///
/// let config = Config::builder()
///     .heartbeat_idle(Duration::from_secs(3))
///     .heartbeat_timeout(Duration::from_secs(2))
///     .build()?;
/// assert_eq!(config.heartbeat_idle(), Duration::from_secs(3));
/// # Ok::<(), evermux::ConfigError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    resolve_timeout: Duration,
    connect_timeout: Duration,
    handshake_timeout: Duration,
    backoff_initial: Duration,
    backoff_factor: f32,
    backoff_max: Duration,
    backoff_jitter: f32,
    stable_after: Duration,
    first_retry_jitter: Duration,
    max_attempts: Option<u32>,
    max_elapsed: Option<Duration>,
    heartbeat_idle: Duration,
    heartbeat_timeout: Duration,
    write_timeout: Duration,
    takeover_probe_timeout: Duration,
    max_handshakes_in_flight: usize,
    drain_timeout: Duration,
    open_timeout: Duration,
    accept_backlog: usize,
    accept_timeout: Duration,
    max_concurrent_streams: u32,
    max_streams_per_session: u32,
    early_go_away: bool,
    window_growth_budget: usize,
    event_backlog: usize,
    seed: Option<u64>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            resolve_timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(5),
            handshake_timeout: Duration::from_secs(10),
            backoff_initial: Duration::from_secs(1),
            backoff_factor: 1.5,
            backoff_max: Duration::from_secs(30),
            backoff_jitter: 0.2,
            stable_after: Duration::from_secs(10),
            first_retry_jitter: Duration::ZERO,
            max_attempts: None,
            max_elapsed: None,
            heartbeat_idle: Duration::from_secs(10),
            heartbeat_timeout: Duration::from_secs(5),
            write_timeout: Duration::from_secs(10),
            takeover_probe_timeout: Duration::from_secs(2),
            max_handshakes_in_flight: 64,
            drain_timeout: Duration::from_secs(10),
            open_timeout: Duration::from_secs(75),
            accept_backlog: 256,
            accept_timeout: Duration::from_secs(60),
            max_concurrent_streams: 256,
            max_streams_per_session: STREAM_IDS,
            early_go_away: false,
            window_growth_budget: 64 << 20,
            event_backlog: 1024,
            seed: None,
        }
    }
}

macro_rules! settings {
    ($($(#[$doc:meta])* $name:ident: $type:ty,)*) => {
        impl Config {
            $($(#[$doc])* pub fn $name(&self) -> $type { self.$name })*
        }

        impl ConfigBuilder {
            $($(#[$doc])* pub fn $name(mut self, $name: $type) -> Self {
                self.0.$name = $name;
                self
            })*
        }
    };
}

settings! {
    /// How long resolving a host name may take; at least 1 ms. Default: 5 s.
    resolve_timeout: Duration,
    /// How long connecting may take, for all addresses of the host together; at least 1 ms. Default: 5 s.
    connect_timeout: Duration,
    /// How long the transport's handshake and the proof of the session may take together; at least 1 ms. Default: 10 s.
    handshake_timeout: Duration,
    /// The first pause between attempts; longer than zero. Default: 1 s.
    backoff_initial: Duration,
    /// Factor by which each pause grows over the last, from 1 to 100. Default: 1.5.
    backoff_factor: f32,
    /// The longest pause between attempts, before jitter; not below `backoff_initial`. Default: 30 s.
    backoff_max: Duration,
    /// Jitter, as a fraction of the pause, from 0 to 1: with 0.2, a pause of 10 s lasts from 8 s to 12 s.
    /// Default: 0.2.
    backoff_jitter: f32,
    /// How long a session must have lived for the next attempt to follow its loss at once, and for the backoff to start
    /// over. After the first goodbye of a shorter session, the next attempt follows at once as well. Default: 10 s.
    stable_after: Duration,
    /// The longest random pause before an attempt that would be made at once. It spreads out a fleet whose members lost
    /// the same peer at the same moment. Default: none.
    first_retry_jitter: Duration,
    /// The manager gives up after this many failed attempts in a row; at least 1. Default: never.
    max_attempts: Option<u32>,
    /// The manager gives up after this long without a session; longer than zero. Default: never.
    max_elapsed: Option<Duration>,
    /// A ping is sent after this long without a byte from the peer; at least 1 ms. Default: 10 s.
    heartbeat_idle: Duration,
    /// How long the peer may stay silent after the socket has taken a ping; at least 1 ms. If three round trips take
    /// longer, they count instead. Default: 5 s.
    heartbeat_timeout: Duration,
    /// How long a write to the socket may stay pending; at least 1 ms. Default: 10 s.
    write_timeout: Duration,
    /// At a receiver, how long a live session may stay silent while another waits for its place, before it loses the
    /// place: this is how a peer that comes back takes over from its own ghost. Sessions are probed no more often than
    /// this. At least 1 ms; capped at half of `handshake_timeout`. Default: 2 s.
    takeover_probe_timeout: Duration,
    /// How many accepted connections may be in their handshake at once, from 1 to 65,536: the transport's handshake and
    /// the proof of the session. Each takes about 130 KiB. Default: 64.
    ///
    /// One more waits until another has passed or ended; until then no others are accepted, and they wait in the
    /// kernel. To make room, the handshake that has been silent for longest is dropped, once that is a second, so that
    /// silent strangers keep nobody out. Silence counts from the accept, from the end of the transport's handshake,
    /// which cannot be observed, or from the last byte, whichever is latest. If within a second none has been silent
    /// for that long, passed or ended, the oldest makes room. [`Event::CrowdedOut`](crate::Event::CrowdedOut) reports
    /// each.
    max_handshakes_in_flight: usize,
    /// How long streams in flight may take to finish when a session closes; at least 1 ms. Default: 10 s.
    drain_timeout: Duration,
    /// How long [`Session::open_stream`](crate::Session::open_stream) waits for room; at least 1 ms. Default: 75 s.
    open_timeout: Duration,
    /// How many inbound streams of a session may wait to be accepted, from 1 to 65,536 (1,024 where `usize` has 32
    /// bits); one more is reset. They come on top of the `max_concurrent_streams` that were accepted. Default: 256.
    ///
    /// Below 256 this sheds load: a peer opens up to 256 before it waits for the first to be acknowledged, and the
    /// excess of a burst is refused. A peer that does not wait, such as libp2p's JavaScript, hits the limit with any
    /// larger burst: raise it for such peers.
    accept_backlog: usize,
    /// How long an inbound stream waits to be accepted before it is reset. At least 1 ms. A peer that runs hashicorp's
    /// yamux (Go) ends the whole session after 75 s. Default: 60 s.
    accept_timeout: Duration,
    /// How many streams may be open in one session, in each direction: from 1 to 16,384 (1,024 where `usize` has 32
    /// bits). Inbound streams count once they are accepted. Default: 256.
    ///
    /// Many streams cost time: to open one, the yamux crate looks at every stream of the session, which takes 44 µs
    /// with 4,000 and 198 µs with 16,000.
    max_concurrent_streams: u32,
    /// How many streams this side opens on one session before the session closes cleanly and the next one is made. From
    /// 1 to 2,147,352,576, since ids are not reused. Default: the maximum.
    ///
    /// Choose it so that a busy session still lives for `stable_after`: of several in a row that lived shorter, only the
    /// first is followed at once, and the others after growing pauses, as after any session that closes young.
    max_streams_per_session: u32,
    /// Whether a closing session sends its GoAway before its streams have ended. An evermux peer always gets it early;
    /// this is for other peers. hashicorp's yamux and libp2p's go-yamux v4 then open no more streams, and keep those
    /// that are open. go-yamux v5, the yamux crate, tokio-yamux, and libp2p's JavaScript and Python drop them. Default:
    /// no.
    early_go_away: bool,
    /// How many bytes the receive windows of one session may grow by in total, on a path whose round trip is over one
    /// millisecond; at most 1 GiB. Default: 64 MiB.
    window_growth_budget: usize,
    /// How many events are kept for a slow reader of [`MuxManager::events`](crate::MuxManager::events), from 1 to
    /// 65,536; rounded up to a power of two. Default: 1,024.
    event_backlog: usize,
    /// Seed of all the manager's random choices. Default: drawn from the operating system at `start()`.
    seed: Option<u64>,
}

impl Config {
    /// Starts with the defaults.
    pub fn builder() -> ConfigBuilder {
        ConfigBuilder::default()
    }
}

/// Builds a [`Config`].
#[derive(Clone, Debug, Default)]
#[must_use = "a builder does nothing until `build` is called"]
pub struct ConfigBuilder(Config);

impl ConfigBuilder {
    /// Checks the settings.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] names the first setting that is out of bounds, its value, and the bounds.
    pub fn build(self) -> Result<Config, ConfigError> {
        let config = self.0;
        for (name, value) in [
            ("resolve_timeout", config.resolve_timeout),
            ("connect_timeout", config.connect_timeout),
            ("handshake_timeout", config.handshake_timeout),
            ("heartbeat_idle", config.heartbeat_idle),
            ("heartbeat_timeout", config.heartbeat_timeout),
            ("write_timeout", config.write_timeout),
            ("takeover_probe_timeout", config.takeover_probe_timeout),
            ("drain_timeout", config.drain_timeout),
            ("open_timeout", config.open_timeout),
            ("accept_timeout", config.accept_timeout),
        ] {
            check(name, value, value >= SHORTEST, || format!("must be at least {SHORTEST:?}"))?;
        }
        let initial = config.backoff_initial;
        check("backoff_initial", initial, !initial.is_zero(), || "must be longer than zero".into())?;
        check("backoff_max", config.backoff_max, config.backoff_max >= initial, || {
            format!("must not be below backoff_initial, which is {initial:?}")
        })?;
        within("backoff_factor", config.backoff_factor, 1.0..=100.0)?;
        within("backoff_jitter", config.backoff_jitter, 0.0..=1.0)?;
        if let Some(attempts) = config.max_attempts {
            check("max_attempts", attempts, attempts > 0, || "must be at least 1, or not set".into())?;
        }
        if let Some(elapsed) = config.max_elapsed {
            check("max_elapsed", elapsed, !elapsed.is_zero(), || "must be longer than zero, or not set".into())?;
        }
        within("max_handshakes_in_flight", config.max_handshakes_in_flight, 1..=MAX_HANDSHAKES_IN_FLIGHT)?;
        within("accept_backlog", config.accept_backlog, 1..=MAX_ACCEPT_BACKLOG)?;
        within("max_concurrent_streams", config.max_concurrent_streams, 1..=MAX_STREAMS)?;
        within("max_streams_per_session", config.max_streams_per_session, 1..=STREAM_IDS)?;
        within("window_growth_budget", config.window_growth_budget, 0..=MAX_WINDOW_GROWTH_BUDGET)?;
        within("event_backlog", config.event_backlog, 1..=MAX_EVENT_BACKLOG)?;
        Ok(config)
    }
}

fn check(
    setting: &'static str,
    given: impl fmt::Debug,
    holds: bool,
    bound: impl FnOnce() -> String,
) -> Result<(), ConfigError> {
    if holds { Ok(()) } else { Err(ConfigError { setting, given: format!("{given:?}"), bound: bound() }) }
}

/// NaN is in no range.
fn within<T: PartialOrd + fmt::Debug>(
    setting: &'static str,
    given: T,
    allowed: RangeInclusive<T>,
) -> Result<(), ConfigError> {
    let holds = allowed.contains(&given);
    check(setting, given, holds, || format!("must be from {:?} to {:?}", allowed.start(), allowed.end()))
}
