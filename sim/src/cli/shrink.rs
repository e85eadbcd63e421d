//! `sim shrink`.

use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;
use std::{env, fs, io};

use sim::plan::Plan;
use sim::run::plan_of;
use sim::scenarios::Scenario;
use sim::{faults, shrink};

use super::progress::Progress;
use crate::{BROKEN, USAGE};

pub(crate) fn shrink(scenario: &'static Scenario, seed: u64, plans: u64, capsules: &Path) -> ExitCode {
    let mut progress = Progress::new("plans tried", None);
    let shrunk = shrink::shrink(scenario, seed, &plan_of(scenario, seed), plans, |best| {
        progress
            .at(best.tried, || format!("{} faults, {} callers left", best.plan.faults.len(), best.plan.callers.len()));
    });
    progress.end();
    match shrunk {
        Ok(shrunk) => {
            say!("{}\n  {}", shrunk.outcome, tried(&shrunk));
            write(&super::capsule(capsules, scenario.name, seed), scenario, seed, &shrunk.plan);
            ExitCode::from(BROKEN)
        }
        Err(why) => {
            eprintln!("sim: {why}");
            ExitCode::from(USAGE)
        }
    }
}

/// How much was tried.
pub(super) fn tried(shrunk: &shrink::Shrunk) -> String {
    let how = if shrunk.complete {
        ""
    } else {
        ", which is all that may be: it may not be the smallest; see `shrink --plans`"
    };
    format!("{} plans tried{how}", shrunk.tried)
}

/// Writes a capsule, and says where, and what the plan is.
pub(super) fn write(directory: &Path, scenario: &'static Scenario, seed: u64, plan: &Plan) {
    for fault in &plan.faults {
        let (at, lasts) = (Duration::from_millis(fault.at_ms), Duration::from_millis(fault.lasts_ms));
        let about = faults::find(&fault.kind).map_or("", |kind| kind.about);
        say!("  at {at:?}, for {lasts:?}, {}: {about}", fault.kind);
    }
    match keep(directory, scenario, seed, plan) {
        Ok(told) => say!(
            "  {}\n  {} shows it; replay it with\n  cargo run --release -p sim -- replay {}",
            told.trim(),
            directory.join("timeline.html").display(),
            directory.display()
        ),
        Err(error) => say!("  its capsule cannot be written to {}: {error}", directory.display()),
    }
}

/// Lets a process of its own write the capsule, and gives what it says.
fn keep(directory: &Path, scenario: &Scenario, seed: u64, plan: &Plan) -> io::Result<String> {
    fs::create_dir_all(directory)?;
    let file = directory.join("plan.json");
    fs::write(&file, serde_json::to_vec(plan)?)?;
    let output = Command::new(env::current_exe()?)
        .args(["replay", &seed.to_string(), "--scenario", scenario.name, "--plan"])
        .arg(&file)
        .arg("--capsule")
        .arg(directory)
        .stderr(Stdio::inherit())
        .output()?;
    // The plan is in the capsule.
    fs::remove_file(&file)?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
