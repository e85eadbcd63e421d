//! Hosts that go away.

use super::kind::{Blocks, Concerns, FaultState, Harm, Kind};
use crate::context::{ESTABLISHER, OTHER, RECEIVER};
use crate::process::Stop;

pub(super) const CRASH: Kind = Kind {
    name: "crash",
    about: "A process ends, and its kernel says so for it; another one is started",
    concerns: Concerns::Side,
    harm: Harm::Any,
    blocks: Blocks::Meanwhile,
    begin: |world, fault| {
        let host = world.host_of(fault.side);
        world.crash(host);
        FaultState { hosts: vec![host] }
    },
    end: |world, _, state| state.hosts.iter().for_each(|host| world.restart(host)),
};

pub(super) const POWER_LOSS: Kind = Kind {
    name: "power loss",
    about: "A host is gone without a word, and comes back knowing nothing: the other side is half open",
    concerns: Concerns::Side,
    harm: Harm::Any,
    blocks: Blocks::Meanwhile,
    begin: |world, fault| {
        let host = world.host_of(fault.side);
        world.lose_power(host);
        FaultState { hosts: vec![host] }
    },
    end: |world, _, state| state.hosts.iter().for_each(|host| world.restore_power(host)),
};

pub(super) const STOPPED: Kind = Kind {
    name: "stopped process",
    about: "A process stands still, and its kernel goes on; then all that it has missed is there at once",
    concerns: Concerns::Side,
    harm: Harm::Delay,
    blocks: Blocks::Meanwhile,
    begin: |world, fault| {
        let host = world.host_of(fault.side);
        world.stop(host, Stop::Process);
        FaultState { hosts: vec![host] }
    },
    end: |world, _, state| state.hosts.iter().for_each(|host| world.go_on(host)),
};

pub(super) const BLOCKED: Kind = Kind {
    name: "blocked executor",
    about: "A task keeps its thread: others run late, before anything is known of what has come meanwhile",
    begin: |world, fault| {
        let host = world.host_of(fault.side);
        world.stop(host, Stop::Executor);
        FaultState { hosts: vec![host] }
    },
    ..STOPPED
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
