//! What goes wrong: one file for each family of faults, and one line in [`ALL`] for each kind.

mod cut;
mod dial;
mod host;
mod hostile;
mod kind;
mod listener;
mod manager;
mod partition;
mod peer;
mod slow;
mod strangers;

pub use kind::{Blocks, Concerns, FaultState, Harm, Kind};

/// The fault by which a connector fails for good.
pub const FATAL: &str = manager::FATAL.name;

/// The fault by which a manager is shut down.
pub const SHUTDOWN: &str = manager::SHUTDOWN.name;

/// The fault after which another host is the receiver.
pub const ADDRESS_CHANGE: &str = host::ADDRESS_CHANGE.name;

/// The fault by which another client wants the place.
pub const RIVAL: &str = strangers::RIVAL.name;

/// The fault by which connections end as if the other side had closed them.
pub const END_OF_FILE: &str = cut::FIN.name;

/// Every kind of fault.
pub static ALL: &[Kind] = &[
    cut::FIN,
    cut::RESET,
    cut::ONE,
    cut::FORGOTTEN,
    partition::BOTH_WAYS,
    partition::ONE_WAY,
    partition::FREEZE,
    partition::FLAPPING,
    slow::LATENCY,
    slow::BANDWIDTH,
    host::CRASH,
    host::POWER_LOSS,
    host::STOPPED,
    host::BLOCKED,
    host::ADDRESS_CHANGE,
    dial::ERRORS,
    dial::NAME_LOST,
    dial::SLOW_RESOLVER,
    listener::REFUSE,
    listener::ACCEPT_ERRORS,
    listener::SILENT,
    peer::BLACK_HOLE,
    peer::STOPS_READING,
    peer::STOPS_ACCEPTING,
    strangers::RIVAL,
    strangers::STRANGERS,
    hostile::CLIENTS,
    manager::FATAL,
    manager::SHUTDOWN,
    manager::RECONNECT_NOW,
    manager::CANCEL,
    manager::ABORT,
    manager::CLOSE,
];

/// The kind of that name.
pub fn find(name: &str) -> Option<&'static Kind> {
    ALL.iter().find(|kind| kind.name == name)
}
