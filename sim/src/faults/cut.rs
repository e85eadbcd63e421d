//! Connections that are cut.

use super::kind::{Blocks, Concerns, FaultState, Harm, Kind, nothing};
use crate::context::{ESTABLISHER, OTHER, RECEIVER};
use crate::net::Cut;
use crate::world::World;

pub(super) const FIN: Kind = Kind {
    name: "cut",
    about: "A proxy on the way closes every connection, and loses what it held: both ends see an end of file",
    concerns: Concerns::Both,
    harm: Harm::Any,
    blocks: Blocks::Meanwhile,
    begin: |world, _| cut(world, Cut::Fin),
    end: nothing,
};

pub(super) const RESET: Kind = Kind {
    name: "reset",
    about: "Every connection is reset: both ends see ECONNRESET",
    concerns: Concerns::Both,
    harm: Harm::Any,
    blocks: Blocks::Meanwhile,
    begin: |world, _| cut(world, Cut::Reset),
    end: nothing,
};

pub(super) const ONE: Kind = Kind {
    name: "one reset",
    about: "One connection of the establisher is reset at both ends; those beside it notice nothing",
    concerns: Concerns::Both,
    harm: Harm::One,
    blocks: Blocks::Meanwhile,
    begin: |world, fault| {
        let which = usize::try_from(fault.severity).unwrap_or(usize::MAX);
        if let Some((near, far)) = world.context.conditions(ESTABLISHER).cut_one(which, Cut::Reset) {
            for host in [RECEIVER, OTHER] {
                world.context.conditions(host).cut_between((far, near), Cut::Reset);
            }
        }
        FaultState::default()
    },
    end: nothing,
};

pub(super) const FORGOTTEN: Kind = Kind {
    name: "forgotten by a NAT",
    about: "A NAT on the way has forgotten what the establisher has dialled: that carries nothing any more, what is new does",
    concerns: Concerns::Both,
    harm: Harm::Any,
    blocks: Blocks::Meanwhile,
    begin: |world, _| {
        for (near, far) in world.context.conditions(ESTABLISHER).forget() {
            for host in [RECEIVER, OTHER] {
                world.context.conditions(host).forget_between((far, near));
            }
        }
        FaultState::default()
    },
    end: nothing,
};

fn cut(world: &mut World<'_>, how: Cut) -> FaultState {
    for host in [RECEIVER, ESTABLISHER, OTHER] {
        world.context.conditions(host).cut(how);
    }
    FaultState::default()
}
