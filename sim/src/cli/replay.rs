//! `sim replay`.

use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::process::{self, ExitCode};
use std::{env, fs};

use sim::capsule::{self, Capsule};
use sim::draw;
use sim::outcome::Outcome;
use sim::plan::Plan;
use sim::run::{Options, plan_of, run};
use sim::scenarios::Scenario;

use crate::{BROKEN, NOT_DETERMINISTIC, ReplayArgs, USAGE, chosen};

pub(crate) fn replay(args: &ReplayArgs) -> ExitCode {
    match what(args) {
        Ok(What::Seed(seed, scenarios)) if scenarios.len() > 1 && !args.show_plan => replay_all(args, seed, &scenarios),
        Ok(What::Seed(seed, scenarios)) => {
            for scenario in scenarios {
                let plan = match plan(args, scenario, seed) {
                    Ok(plan) => plan,
                    Err(why) => return usage(&why),
                };
                if args.show_plan {
                    show(&plan);
                } else if let Some(directory) = &args.capsule {
                    return keep(directory, scenario, seed, &plan);
                } else {
                    return status(&replay_one(args, scenario, seed, plan));
                }
            }
            ExitCode::SUCCESS
        }
        Ok(What::Capsule(capsule)) => replay_capsule(args, &capsule),
        Err(why) => usage(&why),
    }
}

enum What {
    Seed(u64, Vec<&'static Scenario>),
    Capsule(Box<Capsule>),
}

fn what(args: &ReplayArgs) -> Result<What, String> {
    if let Ok(seed) = args.what.parse() {
        let scenarios = chosen(args.scenario.as_ref());
        if scenarios.len() > 1 && (args.plan.is_some() || args.capsule.is_some()) {
            return Err("a plan is of one scenario: name it".into());
        }
        return Ok(What::Seed(seed, scenarios));
    }
    let path = Path::new(&args.what);
    if !path.exists() {
        return Err(format!("{:?} is neither a seed, which is a number, nor the directory of a capsule", args.what));
    }
    Capsule::read(path).map(|capsule| What::Capsule(capsule.into())).map_err(|error| error.to_string())
}

fn plan(args: &ReplayArgs, scenario: &'static Scenario, seed: u64) -> Result<Plan, String> {
    let Some(file) = &args.plan else { return Ok(plan_of(scenario, seed)) };
    let text = fs::read(file).map_err(|error| format!("cannot read {}: {error}", file.display()))?;
    let plan: Plan =
        serde_json::from_slice(&text).map_err(|error| format!("{} is not a plan: {error}", file.display()))?;
    draw::check(&plan).map_err(|why| format!("{} is not a plan: {why}", file.display()))?;
    Ok(plan)
}

fn show(plan: &Plan) {
    let text = serde_json::to_string_pretty(plan).unwrap_or_default();
    // Whoever reads may have seen enough.
    let _ = writeln!(io::stdout(), "{text}");
}

fn replay_one(args: &ReplayArgs, scenario: &'static Scenario, seed: u64, plan: Plan) -> Outcome {
    let output = args.trace.then(|| Box::new(BufWriter::new(io::stdout())) as Box<dyn Write + Send>);
    let outcome = run(scenario, seed, plan, Options { output, until: args.until, disturb_us: args.disturb }).outcome;
    let mut lines = match args.until {
        _ if args.json => outcome.to_json().to_string(),
        // It may have failed later.
        Some(until) if outcome.result.is_ok() && outcome.simulated >= until => {
            outcome.to_string().replacen(": passed", ": nothing was broken until then", 1)
        }
        _ => outcome.to_string(),
    };
    if !args.json {
        lines.extend(outcome.counters.iter().map(|(name, count)| format!("\n  {name}: {count}")));
    }
    let _ = writeln!(io::stdout(), "{lines}");
    outcome
}

/// Writes a capsule, by a process that has done nothing else: so a replay, which is one too, has the same trace.
fn keep(directory: &Path, scenario: &'static Scenario, seed: u64, plan: &Plan) -> ExitCode {
    match capsule::write(directory, scenario, seed, plan, &plan_of(scenario, seed)) {
        Ok(outcome) => {
            say!("{outcome}");
            status(&outcome)
        }
        Err(error) => usage(&format!("the capsule cannot be written to {}: {error}", directory.display())),
    }
}

fn status(outcome: &Outcome) -> ExitCode {
    if outcome.result.is_ok() { ExitCode::SUCCESS } else { ExitCode::from(BROKEN) }
}

fn replay_capsule(args: &ReplayArgs, capsule: &Capsule) -> ExitCode {
    let Some(scenario) = capsule.scenario() else { return usage("the capsule's scenario is gone") };
    if args.show_plan {
        show(&capsule.plan);
        return ExitCode::SUCCESS;
    }
    let outcome = replay_one(args, scenario, capsule.seed, capsule.plan.clone());
    let same = format!("{:032x}", outcome.trace.hash) == capsule.trace;
    if !args.json && args.until.is_none() {
        let (by, at) = (capsule.what.as_deref().unwrap_or("nothing"), capsule.revision.as_deref().unwrap_or("unknown"));
        if same {
            say!("the trace is the one in the capsule, to the last byte");
        } else {
            say!(
                "the trace is not the one in the capsule, which is of revision {at}, and in which this was broken: {by}"
            );
        }
    }
    match (same || args.until.is_some(), outcome.result.is_ok()) {
        (_, false) => ExitCode::from(BROKEN),
        (true, true) => ExitCode::SUCCESS,
        // It may have been mended, or the program is another one.
        (false, true) if capsule.guarantee.is_some() => ExitCode::SUCCESS,
        (false, true) => ExitCode::from(NOT_DETERMINISTIC),
    }
}

/// Runs each scenario in a process of its own, as a sweep does: beside others it would not be the same run.
fn replay_all(args: &ReplayArgs, seed: u64, scenarios: &[&Scenario]) -> ExitCode {
    let mut status = ExitCode::SUCCESS;
    for scenario in scenarios {
        let mut command = process::Command::new(env::current_exe().unwrap_or_else(|_| "sim".into()));
        command.args(["replay", &seed.to_string(), "--scenario", scenario.name]);
        command.args(args.trace.then_some("--trace")).args(args.json.then_some("--json"));
        if let Some(until) = args.until {
            command.args(["--until", &until.as_secs_f64().to_string()]);
        }
        match command.status() {
            Ok(ended) if ended.success() => {}
            Ok(ended) => status = ended.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(BROKEN).into(),
            Err(error) => {
                eprintln!("sim: {}, seed {seed}: its process cannot be run: {error}", scenario.name);
                status = BROKEN.into();
            }
        }
    }
    status
}

fn usage(why: &str) -> ExitCode {
    eprintln!("sim: {why}");
    ExitCode::from(USAGE)
}
