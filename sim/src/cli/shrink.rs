//! `sim shrink`.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use sim::plan::Plan;
use sim::run::plan_of;
use sim::scenarios::Scenario;
use sim::{capsule, faults, shrink};

use super::progress::Progress;
use crate::{BROKEN, USAGE};

pub(crate) fn shrink(scenario: &'static Scenario, seed: u64, limit: Duration, capsules: &Path) -> ExitCode {
    let mut progress = Progress::new("plans tried", None);
    let shrunk = shrink::shrink(scenario, seed, limit, |best| {
        progress
            .at(best.tried, || format!("{} faults, {} callers left", best.plan.faults.len(), best.plan.callers.len()));
    });
    progress.end();
    match shrunk {
        Ok(shrunk) => {
            let how = if shrunk.complete { "" } else { "; the time is over, so it may not be the smallest" };
            say!("{}\n  {} plans tried{how}", shrunk.outcome, shrunk.tried);
            write(capsules, scenario, seed, &shrunk.plan, &plan_of(scenario, seed));
            ExitCode::from(BROKEN)
        }
        Err(why) => {
            eprintln!("sim: {why}");
            ExitCode::from(USAGE)
        }
    }
}

/// Writes a capsule, and says where, and what the plan is.
pub(super) fn write(capsules: &Path, scenario: &'static Scenario, seed: u64, plan: &Plan, drawn: &Plan) {
    let directory = super::capsule(capsules, scenario.name, seed);
    for fault in &plan.faults {
        let (at, lasts) = (Duration::from_millis(fault.at_ms), Duration::from_millis(fault.lasts_ms));
        let about = faults::find(&fault.kind).map_or("", |kind| kind.about);
        say!("  at {at:?}, for {lasts:?}, {}: {about}", fault.kind);
    }
    match capsule::write(&directory, scenario, seed, plan, drawn) {
        Ok(outcome) => say!(
            "  {outcome}\n  {} shows it; replay it with\n  cargo run --release -p sim -- replay {}",
            directory.join("timeline.html").display(),
            directory.display()
        ),
        Err(error) => say!("  its capsule cannot be written to {}: {error}", directory.display()),
    }
}
