//! How long things may take, computed from the settings of a plan, what goes wrong in it, and for how long.
//!
//! A bound that is far above what is ever seen finds nothing: a sweep prints for each kind of runs how much of its bound
//! the longest wait took.

use std::time::Duration;

use evermux::Config;

use crate::plan::{Plan, Side, travels};
use crate::usage::{Dials, Listens, Stops};

/// What work takes beside its own pauses and the way of its bytes: other work that it shares everything with.
const WORK_TIME: Duration = Duration::from_secs(6);

/// The work that keeps streams of others from being accepted, and for how long.
const UNACCEPTED: &str = "unaccepted";
const UNACCEPTED_FOR: Duration = Duration::from_secs(4);

/// What another library costs, where streams wait until others are acknowledged.
const FOREIGN: Duration = Duration::from_secs(6);

/// How many round trips a piece of work has: those of the streams that it opens one after the other.
const ROUND_TRIPS: u32 = 24;

/// What segments that are lost cost: a TCP sends them again after a second, two, four.
const LOST: Duration = Duration::from_secs(8);

/// How long work is refused for lack of room, at most.
const REFUSED: Duration = Duration::from_secs(15);

/// What an address costs on which nobody answers.
const HEAD_START: Duration = Duration::from_millis(250);

/// The faults that end sessions and attempts with a word to both ends, and at once.
const TOLD: [&str; 9] = ["cut", "reset", "one reset", "flapping", "crash", "shutdown", "fatal error", "abort", "close"];

/// The faults after which a manager or a session drains.
const DRAINS: [&str; 3] = ["shutdown", "fatal error", "close"];

/// A program over another library dials before its peer listens: its first segment is lost, and sent again after 1 s and 2 s.
const FOREIGN_DIALS: Duration = Duration::from_secs(3);

/// After so long a program over another library dials again, which has not got what it wants.
const FOREIGN_PATIENCE: Duration = Duration::from_secs(24);

/// The faults that do nothing to the sessions and attempts of anybody.
const HARMLESS: [&str; 4] = ["reconnect_now", "cancelled callers", "stops accepting streams", "dial errors"];

/// What travels when a spike of the latency ends is late, and what was measured until then is wrong for a while.
const SPIKE: &str = "latency spike";
const AFTER_A_SPIKE: Duration = Duration::from_secs(10);

/// Work whose stream was accepted late gives up by itself, and begins again.
const UNACCEPTING: &str = "stops accepting streams";
const GIVES_UP_WITHIN: Duration = Duration::from_secs(20);

fn has(plan: &Plan, kind: &str) -> bool {
    plan.faults.iter().any(|fault| fault.kind == kind)
}

/// How long a piece of work takes on a session that lives, with pauses of its own, when the callers together move so many
/// bytes with a piece each.
pub fn work(plan: &Plan, pauses: Duration, moves: u64) -> Duration {
    let only = |applies: bool, time: Duration| if applies { time } else { Duration::ZERO };
    let (lost, foreign) = (only(!plan.is_lossless(), LOST), only(plan.foreign.is_some(), FOREIGN));
    let unaccepted = plan.callers.iter().filter(|caller| caller.work == UNACCEPTED).count();
    let unaccepted = UNACCEPTED_FOR * u32::try_from(unaccepted).unwrap_or(u32::MAX);
    // Windows open in turns, so a path is not always full.
    let bulk = bulk(plan, moves) * 3 / 2;
    let spike = only(has(plan, SPIKE), AFTER_A_SPIKE);
    WORK_TIME + pauses + unaccepted + spike + bulk + ROUND_TRIPS * plan.path() + lost + foreign
}

/// How long so much takes on its way for every caller.
pub(crate) fn bulk(plan: &Plan, moves: u64) -> Duration {
    // Beside each piece the other callers do theirs again and again, and take as much of the link.
    let pieces = plan.callers.len() as u64 + 1;
    plan.rate().map_or(Duration::ZERO, |rate| travels(moves * pieces, rate))
}

/// How long a step takes to show, and a simulated connection to be set up.
const SLACK: Duration = Duration::from_secs(1);

/// What is cut off at the end of a drain is gone at once; a manager that has to be killed takes half a second more.
const SHUTDOWN_SLACK: Duration = Duration::from_millis(100);

/// How things stand when nothing goes wrong any more.
#[derive(Clone, Copy, Debug)]
pub struct Standing {
    /// Somebody has a session, which may be half open.
    pub is_live: bool,
    /// Who dials has one.
    pub dialler_is_live: bool,
    /// For how long who dials has had no session that was stable.
    pub trouble: Duration,
}

impl Standing {
    /// The worst that a plan may lead to.
    fn worst(plan: &Plan) -> Self {
        let trouble = plan.faults_end().saturating_sub(plan.trouble_begins());
        Self { is_live: true, dialler_is_live: false, trouble }
    }
}

/// How long it takes, from there on, until there is a session that lives.
///
/// A silent loss is found by the heartbeats, of one side or of the other, whose ghost holds the place meanwhile; where there
/// is no session, an attempt that is under way comes to its end. Then comes the pause to which the trouble has led, and one
/// more attempt, which has to find a ghost. What a run cannot have is left out.
pub fn recovery(plan: &Plan, standing: Standing) -> Duration {
    let [ours, theirs] = [Side::Establisher, Side::Receiver].map(|side| plan.config(side, 0));
    let path = ROUND_TRIPS * plan.path() + HEAD_START * u32::from(plan.network.dead_addresses);
    let only = |applies: bool, time: Duration| if applies { time } else { Duration::ZERO };
    // Where a stream may be refused, work is begun again and again on a session that lives.
    let refused = only(!plan.settings.has_room(), REFUSED) + only(has(plan, UNACCEPTING), GIVES_UP_WITHIN);
    if plan.is_calm() {
        return SLACK + path + refused + only(plan.foreign.is_some(), FOREIGN_DIALS);
    }
    // A program over another library closes a session for one stream that took too long.
    let is_told = |kind: &str| TOLD.contains(&kind) || HARMLESS.contains(&kind);
    let is_silent =
        plan.faults.iter().any(|fault| !is_told(&fault.kind)) || !plan.is_lossless() || plan.foreign.is_some();
    let detection =
        |config: &Config| (config.heartbeat_idle() + config.heartbeat_timeout()).max(config.write_timeout());
    let detection = detection(&ours).max(detection(&theirs)).max(only(plan.foreign.is_some(), FOREIGN_PATIENCE));
    let detection = only(standing.is_live && is_silent, detection);
    let candidate = ours.handshake_timeout().max(theirs.handshake_timeout());
    let resolves = only(plan.usage.dials == Dials::Names, ours.resolve_timeout());
    let attempt = only(!standing.dialler_is_live, resolves + only(is_silent, ours.connect_timeout() + candidate));
    // A manager that was told to stop lets its sessions drain first.
    let has_shut_down = DRAINS.iter().any(|kind| has(plan, kind)) || plan.settings.gives_up() || plan.ends_sessions();
    let drain = only(has_shut_down, shutdown(plan, Side::Establisher).max(shutdown(plan, Side::Receiver)));
    let ghost = if plan.usage.listens == Listens::Acceptor { 2 * theirs.takeover_probe_timeout() } else { candidate };
    let ghost = only(is_silent, ghost);
    let lost = only(!plan.is_lossless(), LOST);
    let crowd = plan.settings.handshakes.max(1);
    let crowd = SLACK * u32::try_from(usize::from(plan.fleet) / crowd).unwrap_or(u32::MAX);
    // Whoever ends sessions again and again keeps them from being stable, and others from being done before the next end.
    let pause = if plan.ends_sessions() { 2 * pause(&ours, Duration::MAX) } else { pause(&ours, standing.trouble) };
    let sum = detection.max(drain).max(attempt) + pause + ghost + path + lost + refused + crowd + SLACK;
    // What comes one after the other here may begin a little later than it could.
    sum * 5 / 4
}

/// The longest pause to which so much trouble leads. Each is longer than the one before it, and all of them together are
/// no longer than the trouble.
fn pause(config: &Config, trouble: Duration) -> Duration {
    let jitter = config.backoff_jitter();
    let shortest = (1.0 - jitter).max(0.1);
    let factor = f64::from((config.backoff_factor() - 1.0) / shortest);
    let growth = Duration::try_from_secs_f64(trouble.as_secs_f64() * factor).unwrap_or(Duration::MAX);
    let grown = config.backoff_initial().saturating_add(growth);
    grown.min(config.backoff_max()).mul_f32(1.0 + jitter) + config.first_retry_jitter()
}

/// How long after the last fault, and after it was begun, a piece of work is done, with pauses of its own, when the
/// callers together move so many bytes with a piece each.
pub fn service(plan: &Plan, pauses: Duration, moves: u64) -> Duration {
    recovery(plan, Standing::worst(plan)) + work(plan, pauses, moves)
}

/// How long a shutdown takes when there is no session to drain: dials, handshakes and pauses end at once.
pub fn idle_shutdown(plan: &Plan) -> Duration {
    Duration::from_millis(4 * plan.network.tick_ms)
}

/// How long a plain shutdown with these settings takes.
pub(crate) fn drain(config: &Config) -> Duration {
    config.drain_timeout() + SHUTDOWN_SLACK + SLACK
}

/// How long a shutdown takes: the drain, in which everything is cut off at the end.
pub fn shutdown(plan: &Plan, side: Side) -> Duration {
    let drain = match plan.usage.stops {
        Stops::Shutdown | Stops::Token => plan.config(side, 0).drain_timeout(),
        Stops::Within(ms) => Duration::from_millis(ms),
        Stops::StopAccepting(ms) => Duration::from_millis(ms) + plan.config(side, 0).drain_timeout(),
    };
    drain + SHUTDOWN_SLACK + Duration::from_millis(4 * plan.network.tick_ms)
}
