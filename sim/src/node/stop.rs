//! How a manager is shut down, and what must hold then.

use std::rc::Rc;
use std::time::Duration;

use evermux::Stopped;
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep, timeout};

use super::start::Started;
use crate::bounds;
use crate::context::{OTHER, RunContext};
use crate::history::{What, note};
use crate::plan::Side;
use crate::usage::Stops;
use crate::verdict::Violation;

/// How soon a step follows the change that it shows: what was woken at the end of one step runs in the next.
const SETTLES_WITHIN: Duration = Duration::from_millis(20);

/// Shuts a manager down, and looks at what it leaves (G4, G5).
pub(super) async fn shut_down(
    context: &Rc<RunContext>,
    host: &'static str,
    side: Side,
    started: &Started,
    tasks: usize,
) -> Result<(), Violation> {
    let manager = &started.manager;
    if manager.is_shutting_down() {
        return Err(Violation::new("G12", format!("{host} says that it was told to stop, and was not")));
    }
    note(host, What::ShutsDown);
    context.shutting_down.borrow_mut().insert(host);
    let at_once = context.has_nothing_to_drain(host);
    let stopping = if at_once { Stops::Shutdown } else { context.plan.usage.stops };
    let bound = if at_once { bounds::idle_shutdown(&context.plan) } else { bounds::shutdown(&context.plan, side) };
    let begun = Instant::now();
    let stops = async {
        match stopping {
            Stops::Shutdown => {}
            Stops::Within(ms) => manager.shutdown_within(Duration::from_millis(ms)).await,
            Stops::Token => {
                if let Some(token) = &started.token {
                    token.cancel();
                }
            }
            Stops::StopAccepting(ms) => {
                manager.stop_accepting();
                sleep(Duration::from_millis(ms)).await;
            }
        }
        if stopping != Stops::Shutdown && !manager.is_shutting_down() {
            return Err(Violation::new("G5", format!("{host} was told to stop, and does not say so")));
        }
        // Twice at once: every caller of it is told when it is complete.
        tokio::join!(manager.shutdown(), manager.shutdown());
        Ok(())
    };
    match timeout(bound, stops).await {
        Ok(stopped) => stopped?,
        Err(_) => return Err(Violation::new("G5", format!("the shutdown of {host} took longer than {bound:?}"))),
    }
    let name = if bound < Duration::from_secs(1) { "an idle shutdown took" } else { "a shutdown took" };
    // One whose process stood still meanwhile finds its deadline over, and itself done.
    if begun.elapsed() <= bound {
        context.counters.worst(name, begun.elapsed(), bound);
    }
    if !matches!(manager.session().await, Err(Stopped::ShutDown | Stopped::GaveUp(_))) {
        return Err(Violation::new("G4", format!("a caller of {host} was given a session after its shutdown")));
    }
    if !manager.is_shutting_down() {
        return Err(Violation::new("G12", format!("{host} has forgotten that it was told to stop")));
    }
    if manager.events().next().await.is_some() {
        return Err(Violation::new("G5", format!("{host} has events after its shutdown")));
    }
    if let Some(left) = host_leaves(context, host, tasks) {
        return Err(Violation::new("G5", format!("after the shutdown of {host} {left}")));
    }
    note(host, What::HasShutDown);
    context.host(host).manager.replace(None);
    // Whoever waited is freed at once, before there is another manager to ask.
    sleep(SETTLES_WITHIN).await;
    Ok(())
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
pub(super) fn alive_tasks() -> usize {
    Handle::current().metrics().num_alive_tasks()
}
