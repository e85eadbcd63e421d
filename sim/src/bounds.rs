//! How long things may take, computed from the settings of a plan.

use std::time::Duration;

use evermux::Config;

use crate::plan::{Plan, Side, travels};
use crate::usage::Stops;

/// What work takes where nothing is slow: bulk beside other bulk, with the longest pauses that workloads make, and the
/// time that a peer discards what it is sent for a stream that it has left.
const WORK_TIME: Duration = Duration::from_secs(30);

/// What a piece of work takes at most while nothing fails, after the one that was under way. All callers share what the path
/// carries.
fn work_time(plan: &Plan, moves: u64) -> Duration {
    WORK_TIME + bulk(plan, moves)
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

/// How long after the last fault, and after it was begun, a piece of work is done, when the callers together move so many
/// bytes with a piece each.
///
/// In the worst case a silent loss is found by the heartbeats, of one side or of the other, whose ghost holds the place
/// meanwhile; an attempt was under way and fails; then comes the longest pause, an attempt whose candidate waits in vain for
/// the ghost's place, and the longest pause once more.
pub fn service(plan: &Plan, moves: u64) -> Duration {
    if plan.is_calm() {
        return SLACK + work_time(plan, moves);
    }
    let ours = plan.config(Side::Establisher, 0);
    let theirs = plan.config(Side::Receiver, 0);
    let detection = [&ours, &theirs]
        .map(|config| (config.heartbeat_idle() + config.heartbeat_timeout()).max(config.write_timeout()));
    let attempt = ours.resolve_timeout() + ours.connect_timeout() + ours.handshake_timeout();
    let pause = ours.backoff_max().mul_f32(1.0 + ours.backoff_jitter()) + ours.first_retry_jitter();
    let candidate = ours.handshake_timeout().max(theirs.handshake_timeout());
    detection[0].max(detection[1]) + attempt + pause + candidate + pause + work_time(plan, moves) + SLACK
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
