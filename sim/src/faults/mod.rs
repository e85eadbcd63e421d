//! What goes wrong: one file for each family of faults, and one line in [`ALL`] for each kind.

use crate::net::Condition;
use crate::plan::{Fault, Side};
use crate::world::{Kept, World};

mod cut;
mod host;
mod listener;
mod manager;
mod partition;
mod peer;
mod slow;
mod strangers;

/// A kind of fault.
pub struct Kind {
    /// What it is called in a plan.
    pub name: &'static str,
    /// What goes wrong, in one sentence.
    pub about: &'static str,
    /// Whom it concerns.
    pub concerns: Concerns,
    /// What it does to the live sessions of the establisher.
    pub harm: Harm,
    /// Which attempts of the establisher may fail for it.
    pub bars: Bars,
    /// Begins it, and gives what its end must know.
    pub begin: fn(&mut World<'_>, &Fault) -> Kept,
    /// Ends it.
    pub end: fn(&mut World<'_>, &Fault, &Kept),
}

/// The fault by which a manager is shut down.
pub const SHUTDOWN: &str = manager::SHUTDOWN.name;

/// Whom a fault concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Concerns {
    /// The side that the plan names.
    Side,
    /// Who dials.
    Establisher,
    /// Who listens.
    Receiver,
    /// Both, or what is between them.
    Both,
    /// Who listens, and others who come.
    Others,
}

/// What a fault does to the live sessions of the establisher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Harm {
    /// They do not notice it, however long it lasts.
    None,
    /// They outlive it when it is over soon.
    Delay,
    /// One of them may end, within a second.
    One,
    /// They may end.
    Any,
}

/// Which attempts of the establisher may fail for a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bars {
    /// None, however long it lasts.
    Never,
    /// Those that are under way while it lasts.
    Meanwhile,
    /// Later ones too.
    Longer,
}

/// The fault after which another host is the receiver.
pub const ADDRESS_CHANGE: &str = host::ADDRESS_CHANGE.name;

/// Every kind of fault.
pub static ALL: &[Kind] = &[
    cut::FIN,
    cut::RESET,
    cut::ONE,
    partition::BOTH_WAYS,
    partition::ONE_WAY,
    partition::FREEZE,
    partition::FLAPPING,
    slow::LATENCY,
    slow::BANDWIDTH,
    host::CRASH,
    host::POWER_LOSS,
    host::ADDRESS_CHANGE,
    listener::REFUSE,
    listener::ACCEPT_ERRORS,
    listener::SILENT,
    peer::BLACK_HOLE,
    peer::STOPS_READING,
    peer::STOPS_ACCEPTING,
    strangers::RIVAL,
    strangers::STRANGERS,
    manager::FATAL,
    manager::SHUTDOWN,
    manager::RECONNECT_NOW,
    manager::CANCEL,
];

/// The kind of that name.
pub fn find(name: &str) -> Option<&'static Kind> {
    ALL.iter().find(|kind| kind.name == name)
}

/// Begins a condition on the host of a side.
fn begin_on(world: &World<'_>, side: Side, condition: Condition) -> Kept {
    let host = world.host_of(side);
    world.board.conditions(host).begin(condition);
    Kept { hosts: vec![host] }
}

/// Ends what [`begin_on`] began.
fn end_on(world: &World<'_>, kept: &Kept, condition: Condition) {
    for host in &kept.hosts {
        world.board.conditions(host).end(condition);
    }
}

/// For what is over at once.
fn nothing(_: &mut World<'_>, _: &Fault, _: &Kept) {}
