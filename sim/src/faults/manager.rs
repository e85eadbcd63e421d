//! What users do at the worst moment.

use std::rc::Rc;
use std::time::Duration;

use evermux::Session;
use futures_util::FutureExt;
use tokio::time::sleep;

use super::kind::{Blocks, Concerns, FaultState, Harm, Kind, begin_on, end_on, nothing};
use crate::context::ESTABLISHER;
use crate::history::{End, What, broken, note};
use crate::interpose::elapsed;
use crate::net::Condition;
use crate::plan::{CLOSES, Fault};
use crate::world::World;

pub(super) const FATAL: Kind = Kind {
    name: "fatal error",
    about: "What one side dials or listens with fails for good: its manager gives up, and another is started afterwards",
    concerns: Concerns::Side,
    harm: Harm::Any,
    blocks: Blocks::Longer,
    begin: |world, fault| begin_on(world, fault.side, Condition::Fatal),
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

pub(super) const ABORT: Kind = Kind {
    name: "abort",
    about: "Somebody aborts a session of one side: what was on its way is lost",
    concerns: Concerns::Side,
    harm: Harm::Any,
    blocks: Blocks::Meanwhile,
    begin: |world, fault| {
        if let Some(session) = session_of(world, fault) {
            leaves(world, fault, &session, "aborted");
            session.abort();
        }
        FaultState::default()
    },
    end: nothing,
};

pub(super) const CLOSE: Kind = Kind {
    name: CLOSES,
    about: "Somebody closes a session of one side: its streams may finish",
    begin: |world, fault| {
        let host = world.host_of(fault.side);
        if let Some(session) = session_of(world, fault) {
            leaves(world, fault, &session, "closed");
            // It is closed by the first poll of this.
            let mut closing = Box::pin({
                let session = session.clone();
                async move { session.close().await }
            });
            let _ = closing.as_mut().now_or_never();
            world.spawn_on(host, async move {
                let reason = closing.await;
                if !session.is_closed() {
                    broken(host, "G5", format!("session {} was closed ({reason}), and has not ended", session.id()));
                }
            });
        }
        FaultState::default()
    },
    ..ABORT
};

/// Notes that a session leaves its place.
fn leaves(world: &World<'_>, fault: &Fault, session: &Session, reason: &str) {
    let end = End { name: reason.to_owned(), text: String::new() };
    note(world.host_of(fault.side), What::Leaves(session.id().to_string(), end));
}

/// A session of the side that a fault concerns.
fn session_of(world: &World<'_>, fault: &Fault) -> Option<Session> {
    world.context.manager(world.host_of(fault.side))?.reader().session().cloned()
}
