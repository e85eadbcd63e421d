//! Attempts that come to nothing before they have reached a host.

use super::kind::{Blocks, Concerns, Harm, Kind, begin_on, end_on};
use crate::net::Condition;
use crate::plan::Side;

pub(super) const ERRORS: Kind = Kind {
    name: "dial errors",
    about: "What the establisher dials fails at once: no route, no port, not allowed, too many open files",
    concerns: Concerns::Establisher,
    harm: Harm::None,
    blocks: Blocks::Meanwhile,
    begin: |world, _| begin_on(world, Side::Establisher, Condition::DialErrors),
    end: |world, _, state| end_on(world, state, Condition::DialErrors),
};

pub(super) const NAME_LOST: Kind = Kind {
    name: "name lost",
    about: "The receiver's name is not known to the establisher's resolver",
    begin: |world, _| begin_on(world, Side::Establisher, Condition::NamesLost),
    end: |world, _, state| end_on(world, state, Condition::NamesLost),
    ..ERRORS
};

pub(super) const SLOW_RESOLVER: Kind = Kind {
    name: "slow resolver",
    about: "The establisher's resolver gives no answer before the end of this",
    begin: |world, _| begin_on(world, Side::Establisher, Condition::NamesSlow),
    end: |world, _, state| end_on(world, state, Condition::NamesSlow),
    ..ERRORS
};
