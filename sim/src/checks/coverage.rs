//! Rare states that a sweep must have reached, each with a counter.

use crate::faults;
use crate::history::{Entry, Silence, What};
use crate::plan::{Library, Plan, Settings};
use crate::usage::{Dials, Listens, Stops, Takes};

/// How a session has ended, by the name of the reason, and its counter.
const ENDINGS: [(&str, &str); 18] = [
    ("peer_closed", "a session ended: closed by the peer"),
    ("closed", "a session ended: closed on this side"),
    ("drain_timed_out", "a session ended: not closed in time"),
    ("held_out", "a session ended: no place for it"),
    ("peer_timed_out", "a session ended: the peer heard nothing"),
    ("lost", "a session ended: connection lost"),
    ("heartbeat_timeout", "a session ended: silent after a ping"),
    ("write_stalled", "a session ended: write stalled"),
    ("not_proven", "a session ended: not proven"),
    ("crowded_out", "a session ended: crowded out of its handshake"),
    ("protocol", "a session ended: not yamux"),
    ("replaced", "a session ended: replaced"),
    ("runtime_ended", "a session ended: its runtime ended"),
    ("aborted", "a session ended: aborted"),
    ("not_admitted", "a session ended: not admitted"),
    ("ping_flood", "a session ended: too many pings"),
    ("control_flood", "a session ended: too many control frames"),
    ("peer_error", "a session ended: the peer told an error"),
];

/// The event that evermux traces in a rare state, and its counter.
const NOTES: [(&str, &str); 8] = [
    ("accept_failed", "accept failed"),
    ("accept_paused", "accepting paused"),
    ("crowded_out", "a handshake made room for another"),
    ("handshake_timed_out", "a handshake timed out"),
    ("candidate_not_proven", "a candidate was not proven"),
    ("candidate_lost", "a candidate was lost while it waited for a place"),
    ("candidate_held_out", "no place became free for a candidate"),
    ("short_lived", "a session died young"),
];

/// The checks, by their names. Each must have looked.
pub(super) const CHECKS: [&str; 15] = [
    "the slot beside its model",
    "lives",
    "waiting",
    "pauses",
    "graceful shutdown",
    "no end without a reason",
    "errors of the protocol",
    "proof",
    "detection",
    "accepting",
    "candidates",
    "admission",
    "giving up",
    "status",
    "ends on both sides",
];

/// What hosts and workloads count themselves.
const COUNTED: [&str; 51] = [
    "a caller was freed by a shutdown",
    "a burst of streams was served",
    "a fault came at an event",
    "a hostile client was shut out",
    "a piece of work was interrupted",
    "a piece of work took three sessions",
    "a reader waited when its session was closed",
    "a stream of 70,000 frames arrived whole",
    "a stream was dropped by its opener before its end",
    "more than 1 MiB was sent in one write",
    "a stream found no place in the queue of its acceptor",
    "a stream was opened on the next session",
    "a member of a fleet was served",
    "a session was told to its end",
    "a slow reader missed events",
    "a stream was taken from its session",
    "a task let others run first",
    "a task of evermux had spent its budget",
    "pieces of work",
    "request dropped by its caller",
    "stream dropped in the middle of a reply",
    "stream dropped unread after a FIN",
    "wait dropped by its caller",
    "runs over a network that loses segments",
    "runs over a link of little bandwidth",
    "runs over paths that differ by direction",
    "runs with a clock that is scaled",
    "runs with a peer on hashicorp's library",
    "runs with a peer on the yamux crate",
    "runs with a peer on a session without a manager",
    "runs with a limit of attempts",
    "runs with a limit of streams per session",
    "runs with a dialer that looks names up",
    "runs with a provider that dials",
    "runs with a provider that listens",
    "runs with a receiver that asks whom to admit",
    "runs with an establisher that takes no streams",
    "runs with shutdowns that are told otherwise",
    "runs with streams that wait for a short time",
    "runs with an eager heartbeat",
    "runs with few places for streams",
    "runs with several sessions",
    "runs with short reads and writes",
    "runs with a handshake of the transport",
    "challenge ACKs",
    "duplicate segments",
    "fast retransmits",
    "out of order segments",
    "resets sent",
    "retransmitted segments",
    "zero window probes",
];

/// What is rare in a plan as a whole, and whether this one has it.
pub fn of_plan(plan: &Plan) -> [(&'static str, bool); 21] {
    let (network, settings, usage) = (&plan.network, &plan.settings, &plan.usage);
    let library = plan.foreign.map(|foreign| foreign.library);
    [
        ("runs over a network that loses segments", network.impairments.loss > 0),
        ("runs over a link of little bandwidth", network.bandwidth.least().is_some()),
        (
            "runs over paths that differ by direction",
            network.return_ms > 0 || network.bandwidth.up != network.bandwidth.down,
        ),
        ("runs with a clock that is scaled", settings.receiver_clock_percent != settings.establisher_clock_percent),
        ("runs with a peer on hashicorp's library", library == Some(Library::Hashicorp)),
        ("runs with a peer on the yamux crate", library == Some(Library::Yamux)),
        ("runs with a peer on a session without a manager", library == Some(Library::Session)),
        ("runs with a limit of attempts", settings.gives_up()),
        ("runs with a limit of streams per session", settings.max_streams_per_session > 0),
        ("runs with a dialer that looks names up", usage.dials == Dials::Names),
        ("runs with a provider that dials", usage.dials == Dials::Provider),
        ("runs with a provider that listens", usage.listens != Listens::Acceptor),
        ("runs with a receiver that asks whom to admit", usage.admits),
        ("runs with an establisher that takes no streams", usage.takes == Takes::None),
        ("runs with shutdowns that are told otherwise", usage.stops != Stops::Shutdown),
        (
            "runs with streams that wait for a short time",
            settings.accept_timeout_ms < Settings::default().accept_timeout_ms,
        ),
        ("runs with an eager heartbeat", settings.heartbeat_percent < 100),
        ("runs with several sessions", settings.sessions > 1),
        ("runs with few places for streams", settings.max_concurrent_streams < 100),
        ("runs with short reads and writes", network.chunk > 0),
        ("runs with a handshake of the transport", network.handshake),
    ]
}

/// Between the counter of how often a check has looked, and the fault under which it has.
pub const LOOKED_UNDER: &str = ", under ";

/// The counter of how often a check has looked at something that could have been wrong.
pub fn looked(check: &str) -> String {
    format!("the check of {check} has looked")
}

/// The counter of a rare state.
pub fn state(entry: &Entry) -> Option<&'static str> {
    let named = |names: &[(&str, &'static str)], text: &str| {
        names.iter().find(|(name, _)| text == *name).map(|(_, counter)| *counter)
    };
    match &entry.what {
        What::Closed(_, end) => named(&ENDINGS, &end.name),
        What::Noted(text) => named(&NOTES, text),
        What::GaveUp => Some("a manager gave up"),
        What::PauseCut => Some("a pause was cut short"),
        What::Draining(_) => Some("a session drained"),
        What::Live(_) => Some("sessions"),
        What::Connecting => Some("an attempt began"),
        What::AttemptFailed => Some("an attempt failed"),
        What::Silence(_, Silence { stalled: Some(_), .. }) => Some("a write of a live session waited"),
        What::Silence(..) => Some("a live session heard nothing for a while"),
        _ => None,
    }
}

/// Every counter that a sweep of random plans must have raised. It also shows that evermux still traces what the checks
/// listen for: an event whose name has changed leaves its counter at zero.
pub fn sometimes() -> Vec<String> {
    let looked = CHECKS.map(looked);
    let faults =
        faults::ALL.iter().flat_map(|kind| [format!("fault {}", kind.name), format!("survived {}", kind.name)]);
    let states = [
        "a manager gave up",
        "a pause was cut short",
        "a session drained",
        "sessions",
        "an attempt began",
        "an attempt failed",
        "a write of a live session waited",
        "a live session heard nothing for a while",
    ];
    let counters = ENDINGS.iter().chain(&NOTES).map(|(_, counter)| *counter).chain(COUNTED).chain(states);
    faults.chain(counters.map(str::to_owned)).chain(looked).collect()
}
