//! What a kind of fault is, and what those have in common that are a condition of a host.

use crate::net::Condition;
use crate::plan::{Fault, Side};
use crate::world::World;

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
    pub blocks: Blocks,
    /// Begins it, and gives what its end must know.
    pub begin: fn(&mut World<'_>, &Fault) -> FaultState,
    /// Ends it.
    pub end: fn(&mut World<'_>, &Fault, &FaultState),
}

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
pub enum Blocks {
    /// None, however long it lasts.
    Never,
    /// Those that are under way while it lasts.
    Meanwhile,
    /// Later ones too.
    Longer,
}

/// What a fault keeps of its begin until its end.
#[derive(Clone, Debug, Default)]
pub struct FaultState {
    /// The hosts that it concerned.
    pub hosts: Vec<&'static str>,
}

/// Begins a condition on the host of a side.
pub(super) fn begin_on(world: &World<'_>, side: Side, condition: Condition) -> FaultState {
    let host = world.host_of(side);
    world.context.conditions(host).begin(condition);
    FaultState { hosts: vec![host] }
}

/// Ends what [`begin_on`] began.
pub(super) fn end_on(world: &World<'_>, state: &FaultState, condition: Condition) {
    for host in &state.hosts {
        world.context.conditions(host).end(condition);
    }
}

/// For what is over at once.
pub(super) fn nothing(_: &mut World<'_>, _: &Fault, _: &FaultState) {}
