//! Peers, and paths to them, that are there and of no use.

use super::kind::{Blocks, Concerns, Harm, Kind, begin_on, end_on};
use crate::net::Condition;

pub(super) const BLACK_HOLE: Kind = Kind {
    name: "black hole",
    about: "One side's connections swallow what is written and carry nothing; what it dials is never answered",
    concerns: Concerns::Side,
    harm: Harm::Any,
    blocks: Blocks::Meanwhile,
    begin: |world, fault| begin_on(world, fault.side, Condition::BlackHole),
    end: |world, _, state| end_on(world, state, Condition::BlackHole),
};

pub(super) const STOPS_READING: Kind = Kind {
    name: "stops reading",
    about: "One side reads nothing from its sockets, while it goes on writing",
    concerns: Concerns::Side,
    harm: Harm::Delay,
    blocks: Blocks::Meanwhile,
    begin: |world, fault| begin_on(world, fault.side, Condition::ReadingStopped),
    end: |world, _, state| end_on(world, state, Condition::ReadingStopped),
};

pub(super) const STOPS_ACCEPTING: Kind = Kind {
    name: "stops accepting streams",
    about: "One side accepts no inbound streams: they queue up, and are reset past the limit",
    concerns: Concerns::Side,
    harm: Harm::None,
    blocks: Blocks::Never,
    begin: |world, fault| begin_on(world, fault.side, Condition::AcceptingStopped),
    end: |world, _, state| end_on(world, state, Condition::AcceptingStopped),
};
