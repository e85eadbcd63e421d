//! Links that lose or hold back what is sent.

use std::rc::Rc;
use std::time::Duration;

use tokio::time::sleep;

use super::kind::{Bars, Concerns, Harm, Kept, Kind, nothing};
use crate::board::ESTABLISHER;
use crate::interpose::elapsed;
use crate::net::Cut;
use crate::plan::Side;

pub(super) const BOTH_WAYS: Kind = Kind {
    name: "partition",
    about: "What both sides send each other is lost, and nobody is told",
    concerns: Concerns::Both,
    harm: Harm::Any,
    bars: Bars::Meanwhile,
    begin: |world, _| {
        let target = world.target();
        world.lose(ESTABLISHER, target);
        world.lose(target, ESTABLISHER);
        Kept { hosts: vec![target] }
    },
    end: |world, _, kept| {
        for target in &kept.hosts {
            world.carry(ESTABLISHER, target);
            world.carry(target, ESTABLISHER);
        }
    },
};

pub(super) const ONE_WAY: Kind = Kind {
    name: "one-way partition",
    about: "What one side sends is lost; what the other side sends arrives",
    concerns: Concerns::Both,
    harm: Harm::Any,
    bars: Bars::Meanwhile,
    begin: |world, fault| {
        let target = world.target();
        let (from, to) = match fault.side {
            Side::Establisher => (ESTABLISHER, target),
            Side::Receiver => (target, ESTABLISHER),
        };
        world.lose(from, to);
        Kept { hosts: vec![from, to] }
    },
    end: |world, _, kept| {
        if let [from, to] = kept.hosts[..] {
            world.carry(from, to);
        }
    },
};

pub(super) const FREEZE: Kind = Kind {
    name: "freeze",
    about: "What both sides send each other is held back, and arrives afterwards",
    concerns: Concerns::Both,
    harm: Harm::Delay,
    bars: Bars::Meanwhile,
    begin: |world, _| {
        let target = world.target();
        world.hold(ESTABLISHER, target);
        Kept { hosts: vec![target] }
    },
    end: |world, _, kept| {
        for target in &kept.hosts {
            world.release(ESTABLISHER, target);
        }
    },
};

pub(super) const FLAPPING: Kind = Kind {
    name: "flapping",
    about: "Every connection is reset, again and again",
    concerns: Concerns::Both,
    harm: Harm::Any,
    bars: Bars::Meanwhile,
    begin: |world, fault| {
        let board = Rc::clone(&world.board);
        let pause = Duration::from_millis(fault.between(5_000, 50));
        let ends = fault.end();
        let target = world.target();
        world.errand(ESTABLISHER, async move {
            while elapsed() < ends {
                board.conditions(ESTABLISHER).cut(Cut::Reset);
                board.conditions(target).cut(Cut::Reset);
                sleep(pause).await;
            }
        });
        Kept::default()
    },
    end: nothing,
};
