//! Links that carry everything, slowly.

use super::kind::{Bars, Concerns, Harm, Kept, Kind};
use crate::board::ESTABLISHER;

pub(super) const LATENCY: Kind = Kind {
    name: "latency spike",
    about: "Every message travels up to three seconds longer",
    concerns: Concerns::Both,
    harm: Harm::Delay,
    bars: Bars::Longer,
    begin: |world, fault| {
        let target = world.target();
        world.delay(ESTABLISHER, target, fault.between(100, 3_000));
        Kept { hosts: vec![target] }
    },
    end: |world, fault, kept| {
        for target in &kept.hosts {
            world.hurry(ESTABLISHER, target, fault.between(100, 3_000));
        }
    },
};

pub(super) const BANDWIDTH: Kind = Kind {
    name: "slow link",
    about: "Each socket of one side sends no more than 4 to 200 KiB a second",
    concerns: Concerns::Side,
    harm: Harm::None,
    bars: Bars::Never,
    begin: |world, fault| {
        let host = world.host_of(fault.side);
        world.board.conditions(host).slow_down(fault.between(200 << 10, 4 << 10));
        Kept { hosts: vec![host] }
    },
    end: |world, fault, kept| {
        for host in &kept.hosts {
            world.board.conditions(host).speed_up(fault.between(200 << 10, 4 << 10));
        }
    },
};
