//! What users do at the worst moment.

use std::rc::Rc;
use std::time::Duration;

use tokio::time::sleep;

use super::kind::{Blocks, Concerns, FaultState, Harm, Kind, begin_on, end_on, nothing};
use crate::context::ESTABLISHER;
use crate::history::{What, note};
use crate::interpose::elapsed;
use crate::net::Condition;
use crate::plan::Side;

pub(super) const FATAL: Kind = Kind {
    name: "fatal error",
    about: "The establisher's connector fails for good: its manager gives up, and another one is started afterwards",
    concerns: Concerns::Establisher,
    harm: Harm::Any,
    blocks: Blocks::Longer,
    begin: |world, _| begin_on(world, Side::Establisher, Condition::Fatal),
    end: |world, _, state| end_on(world, state, Condition::Fatal),
};

pub(super) const SHUTDOWN: Kind = Kind {
    name: "shutdown",
    about: "The manager of one side is shut down, and another one is started on the same host",
    concerns: Concerns::Side,
    harm: Harm::Any,
    blocks: Blocks::Longer,
    begin: |world, fault| {
        let host = world.host_of(fault.side);
        world.context.restart(host);
        FaultState::default()
    },
    end: nothing,
};

/// How often somebody asks for the next attempt.
const ASK_EVERY: Duration = Duration::from_millis(700);

pub(super) const RECONNECT_NOW: Kind = Kind {
    name: "reconnect_now",
    about: "Somebody asks for the next attempt at once, again and again, whatever the establisher is doing",
    concerns: Concerns::Establisher,
    harm: Harm::None,
    blocks: Blocks::Never,
    begin: |world, fault| {
        let context = Rc::clone(&world.context);
        let ends = fault.end();
        world.spawn_on(ESTABLISHER, async move {
            loop {
                if let Some(manager) = context.manager(ESTABLISHER) {
                    note(ESTABLISHER, What::ReconnectNow);
                    manager.reconnect_now();
                }
                if elapsed() >= ends {
                    return;
                }
                sleep(ASK_EVERY).await;
            }
        });
        FaultState::default()
    },
    end: nothing,
};

pub(super) const CANCEL: Kind = Kind {
    name: "cancelled callers",
    about: "Every caller drops what it is doing, wherever it is",
    concerns: Concerns::Both,
    harm: Harm::None,
    blocks: Blocks::Never,
    begin: |world, _| {
        world.context.cancel.send_modify(|times| *times += 1);
        FaultState::default()
    },
    end: nothing,
};
