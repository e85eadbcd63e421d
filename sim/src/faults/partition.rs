//! Links that lose or hold back what is sent.

use std::rc::Rc;
use std::time::Duration;

use tokio::time::sleep;

use super::kind::{Blocks, Concerns, FaultState, Harm, Kind, nothing};
use crate::context::ESTABLISHER;
use crate::interpose::elapsed;
use crate::net::Cut;
use crate::plan::Side;

pub(super) const BOTH_WAYS: Kind = Kind {
    name: "partition",
    about: "What both sides send each other is lost, and nobody is told",
    concerns: Concerns::Both,
    harm: Harm::Any,
    blocks: Blocks::Meanwhile,
    begin: |world, _| {
        let target = world.target();
        world.partition_oneway(ESTABLISHER, target);
        world.partition_oneway(target, ESTABLISHER);
        FaultState { hosts: vec![target] }
    },
    end: |world, _, state| {
        for target in &state.hosts {
            world.repair_oneway(ESTABLISHER, target);
            world.repair_oneway(target, ESTABLISHER);
        }
    },
};

pub(super) const ONE_WAY: Kind = Kind {
    name: "one-way partition",
    about: "What one side sends is lost; what the other side sends arrives",
    concerns: Concerns::Both,
    harm: Harm::Any,
    blocks: Blocks::Meanwhile,
    begin: |world, fault| {
        let target = world.target();
        let (from, to) = match fault.side {
            Side::Establisher => (ESTABLISHER, target),
            Side::Receiver => (target, ESTABLISHER),
        };
        world.partition_oneway(from, to);
        FaultState { hosts: vec![from, to] }
    },
    end: |world, _, state| {
        if let [from, to] = state.hosts[..] {
            world.repair_oneway(from, to);
        }
    },
};

pub(super) const FREEZE: Kind = Kind {
    name: "freeze",
    about: "What both sides send each other is held back, and arrives afterwards",
    concerns: Concerns::Both,
    harm: Harm::Delay,
    blocks: Blocks::Meanwhile,
    begin: |world, _| {
        let target = world.target();
        world.hold(ESTABLISHER, target);
        FaultState { hosts: vec![target] }
    },
    end: |world, _, state| {
        for target in &state.hosts {
            world.release(ESTABLISHER, target);
        }
    },
};

pub(super) const FLAPPING: Kind = Kind {
    name: "flapping",
    about: "Every connection is reset, again and again",
    concerns: Concerns::Both,
    harm: Harm::Any,
    blocks: Blocks::Meanwhile,
    begin: |world, fault| {
        let context = Rc::clone(&world.context);
        let pause = Duration::from_millis(fault.between(5_000, 50));
        let ends = fault.end();
        let target = world.target();
        world.spawn_on(ESTABLISHER, async move {
            while elapsed() < ends {
                context.conditions(ESTABLISHER).cut(Cut::Reset);
                context.conditions(target).cut(Cut::Reset);
                sleep(pause).await;
            }
        });
        FaultState::default()
    },
    end: nothing,
};
