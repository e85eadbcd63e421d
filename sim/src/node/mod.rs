//! The software of a host: a manager after the other, and what serves its streams.

mod provide;
mod slept;
mod start;
mod stop;
mod told;

use std::io;
use std::rc::Rc;
use std::sync::Arc;

use evermux::{MuxManager, Stopped};
use lossy::Stack;
use tokio::sync::watch;
use tracing::info;

use crate::caller::Calling;
use crate::context::RunContext;
use crate::foreign::Foreign;
use crate::history::{self, What, broken, note};
use crate::interpose::elapsed;
use crate::net::Condition;
use crate::plan::Side;
use crate::process::Ended;
use crate::random::rng;
use crate::serve::serve;
use crate::usage::{Dials, Takes};
use crate::verdict::Violation;
use crate::yields;

use start::start;
use stop::{alive_tasks, shut_down};
use told::listen;

/// What a host does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub host: &'static str,
    /// What its manager is.
    pub side: Side,
    /// Whether a manager runs on it, and callers; else it is there for tasks alone.
    pub has_manager: bool,
}

impl Node {
    /// Runs the host until the run ends: a manager after the other, callers, and tasks.
    pub async fn run(self, context: Rc<RunContext>) -> Ended {
        note(self.host, What::Up);
        yields::spawn(run_tasks(Rc::clone(&context), self.host));
        if let Some(library) = context.plan.foreign(self.side).filter(|_| self.has_manager) {
            return Foreign { host: self.host, side: self.side, library, context }.run().await;
        }
        let (managers, watched) = watch::channel(None);
        let mut end = context.end.subscribe();
        if !self.has_manager {
            let _ = end.wait_for(|end| *end).await;
            // The fleet runs here.
            let _ = context.fleet_runs.subscribe().wait_for(|runs| *runs == 0).await;
            context.ended.borrow_mut().insert(self.host);
            return Ok(());
        }
        for (index, spec) in context.callers(self.side) {
            let caller = Calling {
                index,
                spec: spec.clone(),
                host: self.host,
                side: self.side,
                context: Rc::clone(&context),
                managers: watched.clone(),
                rng: rng(context.seed, &format!("caller {index} on {}", self.host)),
            };
            yields::spawn(caller.work());
        }
        let mut restart = context.host(self.host).restart.subscribe();
        restart.mark_unchanged();
        loop {
            let (tasks, first) = (alive_tasks(), history::len());
            let places = context.plan.places(self.side);
            let started = start(&context, self.host, self.side).await?;
            let manager = started.manager.clone();
            note(self.host, What::Starts);
            context.host(self.host).manager.replace(Some(manager.clone()));
            if context.plan.usage.takes != Takes::Sessions {
                yields::spawn(serve(manager.clone(), Rc::clone(&context), self.host, self.side));
            }
            let rng = rng(context.seed, &format!("events of {} at {:?}", self.host, elapsed()));
            if !context.is_long.get() {
                yields::spawn(listen(manager.events(), context.counters.clone(), rng, self.host, (first, places)));
            }
            managers.send_replace(Some(manager.clone()));
            context.shutting_down.borrow_mut().remove(self.host);
            let ends = tokio::select! {
                biased;
                _ = end.wait_for(|end| *end) => true,
                _ = restart.changed() => false,
                () = gives_up(&manager, self.host) => {
                    self.may_give_up(&context, &manager)?;
                    note(self.host, What::GaveUp);
                    context.shutting_down.borrow_mut().insert(self.host);
                    false
                }
            };
            shut_down(&context, self.host, self.side, &started, tasks).await?;
            if self.side == Side::Establisher && context.plan.usage.dials != Dials::Provider {
                let wrong = slept::wrong(self.host, first, manager.status().backoff_slept);
                if let Some(wrong) = wrong {
                    return Err(Violation::new("G12", format!("the status of {} is not so: {wrong}", self.host)).into());
                }
            }
            drop((manager, started));
            context.conditions(self.host).until(Condition::Fatal, false).await;
            if ends || *end.borrow() {
                context.ended.borrow_mut().insert(self.host);
                return Ok(());
            }
        }
    }

    /// A manager gives up when its connector fails for good, or at the limits that were set, and for nothing else that
    /// happens here (G12, G13).
    fn may_give_up(self, context: &RunContext, manager: &MuxManager) -> Result<(), Violation> {
        let stopped = manager.status().stopped;
        if stopped.as_ref().is_some_and(|stopped| context.may_stop(self.host, stopped)) {
            return Ok(());
        }
        let why = stopped.map_or(String::new(), |stopped| format!(": {stopped}"));
        let guarantee = if self.side == Side::Receiver { "G13" } else { "G12" };
        Err(Violation::new(guarantee, format!("the manager of {} gave up, and should have gone on{why}", self.host)))
    }
}

/// The TCP of a host, started anew.
pub async fn tcp(context: Rc<RunContext>, name: &'static str) -> io::Result<Stack> {
    let rng = rng(context.seed, &format!("TCP of {name} at {:?}", elapsed()));
    let impairments = context.host(name).impairments.clone();
    Stack::start(impairments, rng, Arc::new(context.counters.clone())).await
}

async fn run_tasks(context: Rc<RunContext>, host: &'static str) {
    loop {
        let tasks = context.host(host).tasks.take();
        for task in tasks {
            yields::spawn(task);
        }
        context.host(host).task_added.notified().await;
    }
}

/// Waits until a manager has stopped by itself. Whoever learns of the end of a session does not find it in the slot (G3).
async fn gives_up(manager: &MuxManager, host: &'static str) {
    while let Ok(session) = manager.session().await {
        let closed = session.closed().await;
        info!(session = %session.id(), reason = %closed, "its end was told");
        if manager.status().sessions.iter().any(|live| live.id == session.id()) {
            broken(host, "G3", format!("session {} is in the slot after its end was told", session.id()));
        }
        // A slot that still has it would keep this loop from ever waiting.
        tokio::task::yield_now().await;
    }
    if !matches!(manager.status().stopped, Some(Stopped::GaveUp(_))) {
        std::future::pending::<()>().await;
    }
}
