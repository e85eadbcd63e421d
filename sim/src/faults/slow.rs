//! Links that carry everything, slowly.

use super::kind::{Blocks, Concerns, FaultState, Harm, Kind};
use crate::context::ESTABLISHER;

pub(super) const LATENCY: Kind = Kind {
    name: "latency spike",
    about: "Every message travels up to three seconds longer",
    concerns: Concerns::Both,
    harm: Harm::Delay,
    blocks: Blocks::Longer,
    begin: |world, fault| {
        let target = world.target();
        world.delay(ESTABLISHER, target, fault.between(100, 3_000));
        FaultState { hosts: vec![target] }
    },
    end: |world, fault, state| {
        for target in &state.hosts {
            world.undelay(ESTABLISHER, target, fault.between(100, 3_000));
        }
    },
};

pub(super) const BANDWIDTH: Kind = Kind {
    name: "slow link",
    about: "Each socket of one side sends no more than 4 to 200 KiB a second",
    concerns: Concerns::Side,
    harm: Harm::None,
    blocks: Blocks::Never,
    begin: |world, fault| {
        let host = world.host_of(fault.side);
        world.context.conditions(host).slow_down(fault.between(200 << 10, 4 << 10));
        FaultState { hosts: vec![host] }
    },
    end: |world, fault, state| {
        for host in &state.hosts {
            world.context.conditions(host).speed_up(fault.between(200 << 10, 4 << 10));
        }
    },
};
