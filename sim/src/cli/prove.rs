//! `sim prove`.

use std::process::ExitCode;

use sim::outcome::Outcome;
use sim::scenarios::{self, Scenario};
use sim::subprocess::{Job, with_every_core_busy};

use super::again;
use super::progress::Progress;
use crate::{BROKEN, NOT_DETERMINISTIC, chosen};

/// How wrong the clock of the negative control may be: as much as a process waits for its turn.
const DISTURBED_US: u64 = 2_000;

pub(crate) fn prove(scenario: Option<&'static Scenario>, from: u64, seeds: u64) -> ExitCode {
    let control = scenarios::CONTROL;
    let mut scenarios = scenario.map_or_else(|| chosen(None), |scenario| vec![scenario]);
    if scenario.is_none() {
        scenarios.push(control);
    }
    let runs = (seeds * scenarios.len() as u64 + seeds) * 3;
    let mut progress = Progress::new("runs", Some(runs));
    let (mut done, mut diverged, mut undetected, mut lost) = (0, 0, 0, 0);
    for seed in from..from.saturating_add(seeds) {
        for scenario in &scenarios {
            match same_three_times(&Job::new(scenario, seed)) {
                Ok(Ok(())) => {}
                Ok(Err(differs)) => {
                    diverged += 1;
                    progress.say(&format!("NOT DETERMINISTIC: {differs}\n  {}", again(scenario.name, seed)));
                }
                Err(why) => {
                    lost += 1;
                    progress.say(&format!("{}, seed {seed}: {why}", scenario.name));
                }
            }
            done += 3;
            progress.at(done, || format!("{diverged} diverged"));
        }
        // The negative control: it must be found out, each time.
        match same_three_times(&Job { disturb_us: DISTURBED_US, ..Job::new(control, seed) }) {
            Ok(Err(_)) => {}
            Ok(Ok(())) => {
                undetected += 1;
                progress.say(&format!("seed {seed}: a wrong clock was not found out: the proof proves nothing"));
            }
            Err(why) => {
                lost += 1;
                progress.say(&format!("the negative control, seed {seed}: {why}"));
            }
        }
        done += 3;
        progress.at(done, || format!("{diverged} diverged"));
    }
    progress.end();
    let names = scenarios.iter().map(|scenario| scenario.name).collect::<Vec<_>>().join(", ");
    say!(
        "{seeds} seeds of each of {names}: each in three processes, once with every core busy; {diverged} diverged.\n\
         Negative control: with a clock that is wrong by up to {DISTURBED_US} us, {} of {seeds} seeds of {} diverged, as \
         all must.",
        seeds - undetected,
        control.name,
    );
    match (diverged + undetected, lost) {
        (0, 0) => ExitCode::SUCCESS,
        (0, _) => ExitCode::from(BROKEN),
        _ => ExitCode::from(NOT_DETERMINISTIC),
    }
}

/// Runs a job twice while the machine is as it is, and once with every core busy.
fn same_three_times(job: &Job<'_>) -> Result<Result<(), String>, String> {
    let first = job.run()?;
    let second = job.run()?;
    if first != second {
        return Ok(Err(format!("{first}\n  {second}")));
    }
    let loaded: Outcome = with_every_core_busy(|| job.run())?;
    Ok(if first == loaded { Ok(()) } else { Err(format!("{first}\n  with every core busy: {loaded}")) })
}
