//! Listeners that do not do their work.

use super::{Concerns, Harm, Kind};
use crate::net::Condition;
use crate::plan::{Fault, Side};
use crate::world::{Kept, World};

pub(super) const REFUSE: Kind = Kind {
    name: "refuse",
    about: "Nothing listens on the receiver's port: connections are refused",
    concerns: Concerns::Receiver,
    harm: Harm::None,
    begin: |world, _| begin(world, Condition::Refuse),
    end: |world, _, kept| end(world, kept, Condition::Refuse),
};

pub(super) const ACCEPT_ERRORS: Kind = Kind {
    name: "accept errors",
    about: "The receiver has too many open files: accept fails with EMFILE",
    concerns: Concerns::Receiver,
    harm: Harm::None,
    begin: |world, _| begin(world, Condition::AcceptErrors),
    end: |world, _, kept| end(world, kept, Condition::AcceptErrors),
};

pub(super) const SILENT: Kind = Kind {
    name: "silent acceptor",
    about: "Connections are accepted by something that never says a word, as a load balancer with nothing behind it",
    concerns: Concerns::Receiver,
    harm: Harm::None,
    begin: |world, _| begin(world, Condition::Silent),
    end: |world, _, kept| end(world, kept, Condition::Silent),
};

fn begin(world: &mut World<'_>, condition: Condition) -> Kept {
    let host = world.host_of(Side::Receiver);
    world.board.conditions(host).begin(condition);
    Kept { hosts: vec![host] }
}

fn end(world: &mut World<'_>, kept: &Kept, condition: Condition) {
    for host in &kept.hosts {
        world.board.conditions(host).end(condition);
    }
}

/// As [`begin`], on the side of the fault.
pub(super) fn begin_on_side(world: &mut World<'_>, fault: &Fault, condition: Condition) -> Kept {
    let host = world.host_of(fault.side);
    world.board.conditions(host).begin(condition);
    Kept { hosts: vec![host] }
}

pub(super) fn end_on_side(world: &mut World<'_>, kept: &Kept, condition: Condition) {
    end(world, kept, condition);
}
