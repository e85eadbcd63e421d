//! Hosts that go away.

use super::kind::{Blocks, Concerns, FaultState, Harm, Kind};
use crate::context::{ESTABLISHER, OTHER, RECEIVER};

pub(super) const CRASH: Kind = Kind {
    name: "crash",
    about: "A process ends, and its host says so for it; another one is started",
    concerns: Concerns::Side,
    harm: Harm::Any,
    blocks: Blocks::Meanwhile,
    begin: |world, fault| {
        let host = world.host_of(fault.side);
        world.crash(host);
        FaultState { hosts: vec![host] }
    },
    end: |world, _, state| state.hosts.iter().for_each(|host| world.bounce(host)),
};

pub(super) const POWER_LOSS: Kind = Kind {
    name: "power loss",
    about: "A host is gone without a word, and comes back knowing nothing: the other side is half open",
    concerns: Concerns::Side,
    harm: Harm::Any,
    blocks: Blocks::Meanwhile,
    begin: |world, fault| {
        let (host, target) = (world.host_of(fault.side), world.target());
        // What the dying host would still say is lost.
        world.partition_oneway(ESTABLISHER, target);
        world.partition_oneway(target, ESTABLISHER);
        world.crash(host);
        FaultState { hosts: vec![host, target] }
    },
    end: |world, _, state| {
        if let [host, target] = state.hosts[..] {
            world.repair_oneway(ESTABLISHER, target);
            world.repair_oneway(target, ESTABLISHER);
            world.bounce(host);
        }
    },
};

pub(super) const ADDRESS_CHANGE: Kind = Kind {
    name: "address change",
    about: "The receiver's name stands for another host from now on; the old address answers no more",
    concerns: Concerns::Both,
    harm: Harm::Any,
    blocks: Blocks::Longer,
    begin: |world, _| {
        let old = world.target();
        let new = if old == RECEIVER { OTHER } else { RECEIVER };
        world.context.move_to(new);
        world.partition_oneway(ESTABLISHER, old);
        world.partition_oneway(old, ESTABLISHER);
        FaultState { hosts: vec![old] }
    },
    // By then nobody remembers the old address, but a host that comes back there hurts nobody.
    end: |world, _, state| {
        for old in &state.hosts {
            world.repair_oneway(ESTABLISHER, old);
            world.repair_oneway(old, ESTABLISHER);
        }
    },
};
