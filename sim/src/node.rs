//! The software of a host: a manager after the other, and what serves its streams.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use evermux::{MuxManager, Stopped};
use lossy::Stack;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tracing::info;

use crate::bounds;
use crate::caller::Calling;
use crate::context::{OTHER, PORT, RunContext};
use crate::foreign::Foreign;
use crate::history::{What, broken, note};
use crate::interpose::elapsed;
use crate::net::{Condition, Listener};
use crate::plan::Side;
use crate::process::Ended;
use crate::random::rng;
use crate::verdict::Violation;
use crate::work::{Failed, protocol};

/// How soon a step follows the change that it shows: what was woken at the end of one step runs in the next.
const SETTLES_WITHIN: Duration = Duration::from_millis(20);

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
        tokio::task::spawn_local(run_tasks(Rc::clone(&context), self.host));
        if let Some(library) = context.plan.foreign(self.side).filter(|_| self.has_manager) {
            return Foreign { host: self.host, side: self.side, library, context }.run().await;
        }
        let (managers, watched) = watch::channel(None);
        let mut end = context.end.subscribe();
        if !self.has_manager {
            let _ = end.wait_for(|end| *end).await;
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
            tokio::task::spawn_local(caller.work());
        }
        let mut restart = context.host(self.host).restart.subscribe();
        restart.mark_unchanged();
        loop {
            let tasks = alive_tasks();
            let manager = self.start(&context).await?;
            note(self.host, What::Starts);
            context.host(self.host).manager.replace(Some(manager.clone()));
            tokio::task::spawn_local(serve(manager.clone(), Rc::clone(&context), self.host));
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
            self.shut_down(&context, &manager, tasks).await?;
            drop(manager);
            context.conditions(self.host).until(Condition::Fatal, false).await;
            if ends || *end.borrow() {
                context.ended.borrow_mut().insert(self.host);
                return Ok(());
            }
        }
    }

    /// A manager gives up when its connector fails for good, and for nothing else that happens here (G12, G13).
    fn may_give_up(self, context: &RunContext, manager: &MuxManager) -> Result<(), Violation> {
        if context.conditions(self.host).is(Condition::Fatal) {
            return Ok(());
        }
        let why = manager.status().stopped.map_or(String::new(), |stopped| format!(": {stopped}"));
        let guarantee = if self.side == Side::Receiver { "G13" } else { "G12" };
        Err(Violation::new(guarantee, format!("the manager of {} gave up, and should have gone on{why}", self.host)))
    }

    async fn start(self, context: &Rc<RunContext>) -> Result<MuxManager, Box<dyn std::error::Error>> {
        let host = context.host(self.host);
        // Each manager of a host draws other jitter.
        let seed = context.seed.wrapping_add(host.starts.replace(host.starts.get() + 1) << 32);
        let config = context.plan.config(self.side, seed);
        let sessions = context.plan.settings.sessions;
        let conditions = host.conditions.clone();
        Ok(match self.side {
            Side::Establisher => {
                let connector = context.connector(self.host, Arc::clone(&context.target), conditions);
                MuxManager::establish_with(connector).name(self.host).config(config).sessions(sessions).start().await?
            }
            Side::Receiver => {
                // Taken by the manager before this one, were its shutdown not complete.
                let listener =
                    Listener::bind(context.kernel(self.host).clone(), PORT, conditions, context.plan.network.handshake)
                        .map_err(|error| {
                            Violation::new(
                                "G5",
                                format!("the port of {} is not free after a shutdown: {error}", self.host),
                            )
                        })?;
                MuxManager::receive_with(listener).name(self.host).config(config).sessions(sessions).start().await?
            }
        })
    }

    /// Shuts a manager down, and looks at what it leaves (G4, G5).
    async fn shut_down(self, context: &Rc<RunContext>, manager: &MuxManager, tasks: usize) -> Result<(), Violation> {
        note(self.host, What::ShutsDown);
        context.shutting_down.borrow_mut().insert(self.host);
        let bound = if context.has_nothing_to_drain(self.host) {
            bounds::idle_shutdown(&context.plan)
        } else {
            bounds::shutdown(&context.plan, self.side)
        };
        let begun = Instant::now();
        // Twice at once: every caller of it is told when it is complete.
        let (first, second) = tokio::join!(timeout(bound, manager.shutdown()), timeout(bound, manager.shutdown()));
        if first.is_err() || second.is_err() {
            return Err(Violation::new("G5", format!("the shutdown of {} took longer than {bound:?}", self.host)));
        }
        let name = if bound < Duration::from_secs(1) { "an idle shutdown took" } else { "a shutdown took" };
        context.counters.worst(name, begun.elapsed(), bound);
        if !matches!(manager.session().await, Err(Stopped::ShutDown | Stopped::GaveUp(_))) {
            return Err(Violation::new(
                "G4",
                format!("a caller of {} was given a session after its shutdown", self.host),
            ));
        }
        match host_leaves(context, self.host, tasks) {
            None => {}
            Some(left) => return Err(Violation::new("G5", format!("after the shutdown of {} {left}", self.host))),
        }
        note(self.host, What::HasShutDown);
        context.host(self.host).manager.replace(None);
        // Whoever waited is freed at once, before there is another manager to ask.
        sleep(SETTLES_WITHIN).await;
        Ok(())
    }
}

/// The TCP of a host, started anew.
pub async fn tcp(context: Rc<RunContext>, name: &'static str) -> io::Result<Stack> {
    let rng = rng(context.seed, &format!("TCP of {name} at {:?}", elapsed()));
    let impairments = context.host(name).impairments.clone();
    Stack::start(impairments, rng, Arc::new(context.counters.clone())).await
}

fn host_leaves(context: &RunContext, host: &str, tasks: usize) -> Option<String> {
    let open = context.conditions(host).open_sockets();
    if open > 0 {
        return Some(format!("{open} sockets were still open"));
    }
    // A rival runs on the host of everybody else, and has tasks of its own.
    if host == OTHER {
        return None;
    }
    let more = alive_tasks().saturating_sub(tasks);
    (more > 0).then(|| format!("{more} tasks still ran"))
}

/// The tasks of this host's runtime. What this crate runs on a host are local tasks, which are not among them.
fn alive_tasks() -> usize {
    Handle::current().metrics().num_alive_tasks()
}

async fn run_tasks(context: Rc<RunContext>, host: &'static str) {
    loop {
        let tasks = context.host(host).tasks.take();
        for task in tasks {
            tokio::task::spawn_local(task);
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

/// Serves the streams of every session of a manager.
async fn serve(manager: MuxManager, context: Rc<RunContext>, host: &'static str) {
    let mut incoming = manager.incoming();
    loop {
        context.conditions(host).until(Condition::AcceptingStopped, false).await;
        let accepted = tokio::select! {
            biased;
            () = context.conditions(host).until(Condition::AcceptingStopped, true) => continue,
            accepted = incoming.next() => accepted,
        };
        let Some(stream) = accepted else { return };
        let context = Rc::clone(&context);
        tokio::task::spawn_local(async move {
            let (reader, writer) = stream.into_split();
            if let Err(Failed::Violation(what)) =
                protocol::serve(reader, writer, context.conditions(host), &context.counters).await
            {
                note(host, What::Violation(what));
            }
        });
    }
}
