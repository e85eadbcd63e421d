//! Which lines of evermux a sweep reaches, and which it and the tests reach together.

mod exceptions;
mod gate;
mod items;
mod lines;
mod measure;
mod progress;
mod report;
mod rustc;
mod tools;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::SystemTime;

use clap::Parser;
use gate::Measured;
use items::Source;
use lines::Lines;
use measure::{Measure, Sweep};
use progress::Progress;
use report::Report;
use tools::Tools;

/// What is reached is below the floor, or an exception should go, or what was run has failed.
const BELOW: u8 = 1;
/// The command could not be carried out as given.
const USAGE: u8 = 2;
/// This machine cannot measure.
const CANNOT_RUN: u8 = 3;

/// The list of exceptions, in the workspace.
const EXCEPTIONS: &str = "coverage/exceptions.toml";

/// Says which lines of evermux a sweep of the simulation reaches, and fails if they are too few.
///
/// What no run reaches, no check has judged. The simulation is built so that it counts how often each line of src runs,
/// and sweeps. What it reaches of session, provider and manager is compared with a floor. coverage/exceptions.toml
/// lists what it need not reach, such as what blocks threads, each with a reason. An exception that is reached after
/// all, or is about no code, has to go. Tests within src do not count.
///
/// What is built lies in target/coverage, apart from the builds of every day. It needs the tools of LLVM that rustup
/// calls llvm-tools, and installs them if they are missing. The same seeds of the same code reach the same lines.
#[derive(Parser)]
#[command(
    name = "coverage",
    version,
    after_help = "\
Examples:
  cargo run --release -p coverage                                      a sweep, the table, the verdict
  cargo run --release -p coverage -- --missed src/session provider/net/dial.rs
  cargo run --release -p coverage -- --last --missed                   the same of every file, without a new sweep
  cargo run --release -p coverage -- --seeds 1000 --from 5000
  cargo run --release -p coverage -- --all                             the sweep and all tests; this takes long
  cargo run --release -p coverage -- --json > coverage.jsonl

What a row says:
  lines      the lines that have code
  excepted   of these, the lines that coverage/exceptions.toml is about
  reached    of the others, the lines that ran
  %          how many percent these are; rounded down, so that 97.0 is never less than that
With --all, of the sweep and the tests together:
  all        the lines that have code, with all features
  reached    of these, excepted or not, the lines that ran
  %          how many percent these are

An exception:
  [[exception]]
  file = \"src/session/mod.rs\"              the path in the workspace
  item = \"fn open_stream_blocking\"         the item as it is written, without visibility; without it, the whole file
  within = \"impl Session\"                  optional: the item that it stands in, where several have its name
  reason = \"Threads wait: tests/blocking.rs\"

One run of this program at a time: they share target/coverage, which can be deleted whenever none is running. The
examples of the documentation run as tests, but what only they call is not seen.

Exit status: 0 enough is reached; 1 it is not, or an exception should go, or the sweep or a test failed; 2 usage, or an
exception names nothing or several, or something does not build; 3 it cannot be measured on this machine."
)]
struct Cli {
    /// How many seeds the sweep has. By default it takes a minute or two.
    #[arg(long, value_name = "N", default_value_t = 200)]
    seeds: u64,
    /// The first seed.
    #[arg(long, value_name = "SEED", default_value_t = 0)]
    from: u64,
    /// Sweep with this scenario alone: see `sim list`. The floor is for a sweep of all.
    #[arg(long, value_name = "NAME")]
    scenario: Option<String>,
    /// Also run `cargo test --workspace`, and tell what it and the sweep reach together. The floor is for the sweep.
    #[arg(long)]
    all: bool,
    /// How many percent of session, provider and manager the sweep has to reach.
    #[arg(long, value_name = "PERCENT", default_value_t = 97.0, value_parser = percent)]
    floor: f64,
    /// Instead of the table, print the lines that were not reached and are not excepted: of these files and folders of
    /// src, or of all. With --all, the lines that nothing has reached, excepted or not.
    #[arg(long, value_name = "FILE", num_args = 0..)]
    missed: Option<Vec<String>>,
    /// Run nothing: tell what the last run has measured.
    #[arg(long, conflicts_with_all = ["seeds", "from", "scenario"])]
    last: bool,
    /// Print one JSON object for each file, or each line with --missed, and one for all.
    #[arg(long)]
    json: bool,
}

/// Why there is no verdict.
#[derive(Debug)]
enum Failure {
    /// What was run has failed.
    Failed(String),
    /// The command could not be carried out as given.
    Usage(String),
    /// This machine cannot measure.
    CannotRun(String),
}

fn main() -> ExitCode {
    if let Some(status) = rustc::compile() {
        return status;
    }
    let (status, what) = match run(&Cli::parse()) {
        Ok(true) => return ExitCode::SUCCESS,
        Ok(false) => return ExitCode::from(BELOW),
        Err(Failure::Failed(what)) => (BELOW, what),
        Err(Failure::Usage(what)) => (USAGE, what),
        Err(Failure::CannotRun(what)) => (CANNOT_RUN, what),
    };
    eprintln!("coverage: {what}");
    ExitCode::from(status)
}

/// Returns whether enough is reached, and nothing has failed.
fn run(cli: &Cli) -> Result<bool, Failure> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    let workspace = workspace.ok_or_else(|| Failure::Usage("this program was built in no workspace".into()))?;
    let texts = read_sources(workspace).map_err(Failure::Usage)?;
    let sources = texts.iter().map(|(name, text)| match Source::read(text) {
        Ok(source) => Ok((name.clone(), source)),
        Err(error) => Err(Failure::Usage(format!("{name}: {error}"))),
    });
    let sources = sources.collect::<Result<BTreeMap<_, _>, _>>()?;
    // Whatever is wrong with the command is told before anything is measured.
    let wanted = wanted(cli.missed.as_deref().unwrap_or_default(), &texts).map_err(Failure::Usage)?;
    let told = |error: String| Failure::Usage(format!("{EXCEPTIONS}: {error}"));
    let list = fs::read_to_string(workspace.join(EXCEPTIONS)).map_err(|error| told(error.to_string()))?;
    let exceptions = exceptions::read(&list).and_then(|list| exceptions::resolve(list, &sources)).map_err(told)?;

    let (sweep, together, failed_tests) = if cli.last { read_last(cli, workspace)? } else { measure(cli, workspace)? };
    let measured = Measured::new(sweep, together, &sources, &exceptions);
    let report = Report { json: cli.json, measured: &measured };
    if cli.missed.is_some() {
        report.missed(|name| wanted.is_empty() || wanted.iter().any(|wanted| is_in(name, wanted)), &texts);
    } else {
        report.table();
    }
    let objections = measured.objections(cli.floor);
    report.verdict(cli.floor, &objections, &failed_tests);
    Ok(objections.is_empty() && failed_tests.is_empty())
}

/// What the sweep reaches; what it and the tests reach, where that was asked; and the tests that failed.
type Reached = (Lines, Option<Lines>, Vec<String>);

fn measure(cli: &Cli, workspace: &Path) -> Result<Reached, Failure> {
    if !cfg!(target_os = "linux") {
        return Err(Failure::CannotRun("the simulation needs Linux".into()));
    }
    let tools = Tools::find(workspace)?;
    let progress = Progress::new();
    let measure = Measure::new(workspace, tools, &progress);
    let sweep = Sweep { seeds: cli.seeds, from: cli.from, scenario: cli.scenario.clone() };
    let reached = measure.sweep(&sweep).and_then(|(sweep, built)| {
        if !cli.all {
            return Ok((sweep, None, Vec::new()));
        }
        let (together, failed) = measure.together(built)?;
        Ok((sweep, Some(together), failed))
    });
    progress.end();
    reached
}

fn read_last(cli: &Cli, workspace: &Path) -> Result<Reached, Failure> {
    let (sweep, written) = measure::read_last(workspace, "sweep")?;
    let together = if cli.all { Some(measure::read_last(workspace, "together")?.0) } else { None };
    if is_newer(&workspace.join("src"), written) {
        eprintln!("src has changed since this was measured: lines may be others now");
    }
    Ok((sweep, together, Vec::new()))
}

/// The files of `src`, by their paths in the workspace.
fn read_sources(workspace: &Path) -> Result<BTreeMap<String, String>, String> {
    let mut texts = BTreeMap::new();
    for path in files(&workspace.join("src")).map_err(|error| format!("src: {error}"))? {
        if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(workspace).unwrap_or(&path).to_string_lossy().replace('\\', "/");
            let text = fs::read_to_string(&path).map_err(|error| format!("{name}: {error}"))?;
            texts.insert(name, text);
        }
    }
    Ok(texts)
}

/// The files beneath a folder.
fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.extend(files(&entry.path())?);
        } else {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// Whether a file beneath a folder was written after this.
fn is_newer(folder: &Path, written: SystemTime) -> bool {
    let is_newer = |path: &PathBuf| path.metadata().and_then(|file| file.modified()).is_ok_and(|time| time > written);
    files(folder).is_ok_and(|files| files.iter().any(is_newer))
}

/// The files and folders that were asked for, by their paths in the workspace.
fn wanted(names: &[String], texts: &BTreeMap<String, String>) -> Result<Vec<String>, String> {
    let find = |name: &String| {
        let name = name.trim_start_matches("./").trim_end_matches('/');
        let name = if name == "src" || name.starts_with("src/") { name.to_owned() } else { format!("src/{name}") };
        let is_there = texts.keys().any(|file| is_in(file, &name));
        if is_there { Ok(name) } else { Err(format!("there is no {name}")) }
    };
    names.iter().map(find).collect()
}

/// Whether a file is this one, or lies in this folder.
fn is_in(file: &str, wanted: &str) -> bool {
    file.strip_prefix(wanted).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn percent(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(percent) if (0.0..=100.0).contains(&percent) => Ok(percent),
        _ => Err("it is a number from 0 to 100".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_folders_are_found_with_or_without_src() {
        let texts = ["src/session/mod.rs", "src/session.rs", "src/lib.rs"];
        let texts = texts.map(|name| (name.to_owned(), String::new())).into();
        let wanted = |name: &str| wanted(&[name.to_owned()], &texts);
        assert_eq!(wanted("session/"), Ok(vec!["src/session".into()]));
        assert_eq!(wanted("./src/lib.rs"), Ok(vec!["src/lib.rs".into()]));
        assert_eq!(wanted("src"), Ok(vec!["src".into()]));
        assert!(wanted("ses").is_err());
        assert!(is_in("src/session/mod.rs", "src/session") && !is_in("src/session.rs", "src/session"));
    }

    #[test]
    fn a_floor_is_a_percentage() {
        assert_eq!(percent("97.5"), Ok(97.5));
        assert!(percent("101").is_err() && percent("-1").is_err() && percent("NaN").is_err());
    }

    /// The list is checked here as well, since the sweep that it is for takes minutes.
    #[test]
    fn every_exception_is_about_one_item() {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let sources = read_sources(workspace).unwrap();
        let sources = sources.into_iter().map(|(name, text)| (name, Source::read(&text).unwrap())).collect();
        let list = exceptions::read(&fs::read_to_string(workspace.join(EXCEPTIONS)).unwrap()).unwrap();
        exceptions::resolve(list, &sources).unwrap();
    }
}
