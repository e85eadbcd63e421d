//! Listeners that do not do their work.

use super::kind::{Blocks, Concerns, Harm, Kind, begin_on, end_on};
use crate::net::Condition;
use crate::plan::Side;

pub(super) const REFUSE: Kind = Kind {
    name: "refuse",
    about: "Nothing listens on the receiver's port: connections are refused",
    concerns: Concerns::Receiver,
    harm: Harm::None,
    blocks: Blocks::Meanwhile,
    begin: |world, _| begin_on(world, Side::Receiver, Condition::Refuse),
    end: |world, _, state| end_on(world, state, Condition::Refuse),
};

pub(super) const ACCEPT_ERRORS: Kind = Kind {
    name: "accept errors",
    about: "Accept fails at the receiver: too many open files, no memory, connections that were aborted",
    concerns: Concerns::Receiver,
    harm: Harm::None,
    blocks: Blocks::Meanwhile,
    begin: |world, _| begin_on(world, Side::Receiver, Condition::AcceptErrors),
    end: |world, _, state| end_on(world, state, Condition::AcceptErrors),
};

pub(super) const SILENT: Kind = Kind {
    name: "silent acceptor",
    about: "Connections are accepted by something that never says a word, as a load balancer with nothing behind it",
    concerns: Concerns::Receiver,
    harm: Harm::None,
    blocks: Blocks::Meanwhile,
    begin: |world, _| begin_on(world, Side::Receiver, Condition::Silent),
    end: |world, _, state| end_on(world, state, Condition::Silent),
};
