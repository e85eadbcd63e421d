//! Runs that fail on purpose: to see what a failure looks like, and to check that failures are found, shrunk and kept.

use std::time::Duration;

use tokio::task::yield_now;
use tokio::time::sleep;
use tracing::trace;

use super::scenario::{Group, Scenario, world};
use crate::draw::any_plan;
use crate::history::{self, What};
use crate::stage::Run;
use crate::verdict::Violation;

pub(super) static RED: Scenario = Scenario {
    name: "red",
    about: "As `random`, and fails when a caller loses its session, which is no guarantee: shows what a failure looks like",
    group: Group::Alone,
    plans: || any_plan(1..=6, 0..=8),
    run,
};

fn run(run: &mut Run) -> Result<(), Violation> {
    world(run)?;
    let interrupted = history::since(0).into_iter().find_map(|entry| match entry.what {
        What::Interrupted(caller, error) if error.contains("lost") => {
            Some(format!("caller {caller} was interrupted: {error}"))
        }
        _ => None,
    });
    match interrupted {
        None => Ok(()),
        Some(what) => Err(Violation::new("scenario", what)),
    }
}

pub(super) static SPINS: Scenario = Scenario {
    name: "spins",
    about: "As `random`, and after two seconds a task keeps waking itself: shows what a run looks like that comes to no end",
    group: Group::Alone,
    plans: || any_plan(1..=6, 0..=8),
    run: |run| {
        let kernel = run.kernel();
        run.client("spinner", &kernel, async {
            sleep(Duration::from_secs(2)).await;
            loop {
                trace!("spins");
                yield_now().await;
            }
        });
        world(run)
    },
};
