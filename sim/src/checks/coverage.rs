//! Rare states that a sweep must have reached, each with a counter.

use crate::faults;
use crate::history::{Entry, Still, What};
use crate::plan::{Plan, Transport};

/// How an ending of a session begins, as it is traced, and its counter.
const ENDINGS: [(&str, &str); 13] = [
    ("the session was closed by the peer", "a session ended: closed by the peer"),
    ("the session was closed on this side", "a session ended: closed on this side"),
    ("the session was closed, and", "a session ended: not closed in time"),
    ("every place of the receiver", "a session ended: no place for it"),
    ("the peer heard nothing", "a session ended: the peer heard nothing"),
    ("the connection was lost", "a session ended: connection lost"),
    ("the peer stayed silent after a ping", "a session ended: silent after a ping"),
    ("a write to the socket stayed pending", "a session ended: write stalled"),
    ("the peer did not answer in time", "a session ended: not proven"),
    ("more handshakes were in flight", "a session ended: crowded out of its handshake"),
    ("the peer broke the yamux protocol", "a session ended: not yamux"),
    ("the session was replaced by another one", "a session ended: replaced"),
    ("the runtime that drives", "a session ended: its runtime ended"),
];

/// What evermux traces in a rare state, and its counter.
const NOTES: [(&str, &str); 8] = [
    ("accept failed", "accept failed"),
    ("too many handshakes: accepting pauses", "accepting paused"),
    ("too many handshakes: one makes room", "a handshake made room for another"),
    ("handshake timed out", "a handshake timed out"),
    ("candidate not proven", "a candidate was not proven"),
    ("candidate lost while it waited for a place", "a candidate was lost while it waited for a place"),
    ("no place became free for the candidate", "no place became free for a candidate"),
    ("the next attempt is not made at once", "a session died young"),
];

/// What hosts and workloads count themselves.
const COUNTED: [&str; 25] = [
    "a caller was freed by a shutdown",
    "a piece of work was interrupted",
    "a piece of work took three sessions",
    "a reader waited when its own side closed the session",
    "a stream found no place in the queue of its acceptor",
    "a stream was opened on the next session",
    "pieces of work",
    "request dropped by its caller",
    "stream dropped in the middle of a reply",
    "stream dropped unread after a FIN",
    "wait dropped by its caller",
    "runs over the lossy TCP",
    "runs with a clock that is scaled",
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
pub fn of_plan(plan: &Plan) -> [(&'static str, bool); 7] {
    let (network, settings) = (&plan.network, &plan.settings);
    [
        ("runs over the lossy TCP", matches!(network.transport, Transport::Lossy { .. })),
        ("runs with a clock that is scaled", settings.receiver_clock_percent != settings.establisher_clock_percent),
        ("runs with an eager heartbeat", settings.heartbeat_percent < 100),
        ("runs with several sessions", settings.sessions > 1),
        ("runs with few places for streams", settings.max_concurrent_streams < 100),
        ("runs with short reads and writes", network.chunk > 0),
        ("runs with a handshake of the transport", network.handshake),
    ]
}

/// The counter of a rare state.
pub fn state(entry: &Entry) -> Option<&'static str> {
    let named = |names: &[(&str, &'static str)], text: &str| {
        names.iter().find(|(begins, _)| text.starts_with(begins)).map(|(_, counter)| *counter)
    };
    match &entry.what {
        What::Closed(_, reason) => named(&ENDINGS, reason),
        What::Noted(text) => named(&NOTES, text),
        What::GaveUp => Some("a manager gave up"),
        What::PauseCut => Some("a pause was cut short"),
        What::Draining(_) => Some("a session drained"),
        What::Live(_) => Some("sessions"),
        What::Connecting => Some("an attempt began"),
        What::AttemptFailed => Some("an attempt failed"),
        What::Still(_, Still { stalled: Some(_), .. }) => Some("a write of a live session waited"),
        What::Still(..) => Some("a live session heard nothing for a while"),
        _ => None,
    }
}

/// Every counter that a sweep of random plans must have raised. It also shows that evermux still traces what the checks
/// listen for: a message that has changed leaves its counter at zero.
pub fn sometimes() -> Vec<String> {
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
    faults.chain(counters.map(str::to_owned)).collect()
}
