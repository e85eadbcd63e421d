//! Hosts that go away.

use super::kind::{Bars, Concerns, Harm, Kept, Kind};
use crate::board::{ESTABLISHER, OTHER, RECEIVER};

pub(super) const CRASH: Kind = Kind {
    name: "crash",
    about: "A process ends, and its host says so for it; another one is started",
    concerns: Concerns::Side,
    harm: Harm::Any,
    bars: Bars::Meanwhile,
    begin: |world, fault| {
        let host = world.host_of(fault.side);
        world.crash(host);
        Kept { hosts: vec![host] }
    },
    end: |world, _, kept| kept.hosts.iter().for_each(|host| world.bounce(host)),
};

pub(super) const POWER_LOSS: Kind = Kind {
    name: "power loss",
    about: "A host is gone without a word, and comes back knowing nothing: the other side is half open",
    concerns: Concerns::Side,
    harm: Harm::Any,
    bars: Bars::Meanwhile,
    begin: |world, fault| {
        let (host, target) = (world.host_of(fault.side), world.target());
        // What the dying host would still say is lost.
        world.lose(ESTABLISHER, target);
        world.lose(target, ESTABLISHER);
        world.crash(host);
        Kept { hosts: vec![host, target] }
    },
    end: |world, _, kept| {
        if let [host, target] = kept.hosts[..] {
            world.carry(ESTABLISHER, target);
            world.carry(target, ESTABLISHER);
            world.bounce(host);
        }
    },
};

pub(super) const ADDRESS_CHANGE: Kind = Kind {
    name: "address change",
    about: "The receiver's name stands for another host from now on; the old address answers no more",
    concerns: Concerns::Both,
    harm: Harm::Any,
    bars: Bars::Longer,
    begin: |world, _| {
        let old = world.target();
        let new = if old == RECEIVER { OTHER } else { RECEIVER };
        world.board.move_to(new);
        world.lose(ESTABLISHER, old);
        world.lose(old, ESTABLISHER);
        Kept { hosts: vec![old] }
    },
    // By then nobody remembers the old address, but a host that comes back there hurts nobody.
    end: |world, _, kept| {
        for old in &kept.hosts {
            world.carry(ESTABLISHER, old);
            world.carry(old, ESTABLISHER);
        }
    },
};
