//! Puts real mistakes back into evermux, one at a time, and sees whether the checkers find them.

#![expect(clippy::disallowed_methods, reason = "how long a checker takes is told by real time")]

mod hunt;
mod mutants;
mod patch;
mod report;
mod scratch;

use std::collections::BTreeSet;
use std::fs;
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};
use hunt::Found;
use patch::{CaughtBy, Patch};
use report::{Outcome, Report, Start};
use scratch::{Scratch, Unfit};

/// A bug was not caught, or a patch does not fit any more.
const NOT_CAUGHT: u8 = 1;
/// The command could not be carried out as given.
const USAGE: u8 = 2;

const STARTS: u64 = 5;
const STARTS_FULL: u64 = 20;
/// The seeds between two starts.
const SPACING: u64 = 1_000_000;
/// The seeds that the code without a bug must pass, at each start.
const CLEAN_SEEDS: u64 = 10;

/// Puts real mistakes back into evermux, one at a time, and sees whether the checkers find them.
///
/// A check that has never failed is not known to check anything. Each file NAME.patch in bugs/planted is our code with
/// one mistake that really happened. For each, the workspace (what git tracks, as it is now) is copied to
/// target/bugs/work, the patch is applied there, and the checker that it names is run until it fails: the simulation
/// from several starts, or a test. A bug is caught when it is found from every start, and the checker names the
/// guarantee that it should. Where time stands still, which takes minutes to find out, one start is enough.
///
/// The seed that finds a bug is also tried without the bug, and must pass there.
#[derive(Parser)]
#[command(
    name = "bugs",
    version,
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  cargo run --release -p bugs                                      every bug, from 5 starts
  cargo run --release -p bugs -- half_open_forever phantom_session --full
  cargo run --release -p bugs -- --some 3 --turn $RUN_NUMBER       three bugs; all of them over time
  cargo run --release -p bugs -- --json > bugs.jsonl

What a row says:
  breaks     the guarantee of ARCHITECTURE.md that the mistake breaks
  caught     yes, when every start found it
  seeds      for each start, how many seeds it took; - where nothing was found
  median     of these
  sweep      with --general, the seed with which the random sweep found it; - where it did not
  at last    what the checker named, and what it saw; or why the bug was not caught

A patch:
  scenario: half_open_forever
  guarantee: G10
  caught-by: sim                       arguments of `sim sweep`; or: test -p loom-tests NAME, arguments of `cargo test`
  expect: G10 G1                       optional: what a simulation must name, one of these; G1 to G19, liveness, panic,
                                       or scenario, and hang, lost, diverged, which count only where they are expected
  about: one sentence, what the mistake is and what a user would see.

  diff --git a/src/...                 the output of `git diff`; only files in src/ may be changed

To write one: make the mistake in src/, run `git diff src`, put the header in front, and undo it with `git restore src`.
One run of this program at a time: they share target/bugs, which can be deleted whenever none is running.

Exit status: 0 all caught; 1 a bug was not caught, or its patch does not apply or compile; 2 usage, or the code
without a bug does not build or pass."
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Job>,
    /// The bugs to try. Default: all.
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Try 20 starts instead of 5.
    #[arg(long)]
    full: bool,
    /// How many seeds each start has.
    #[arg(long, value_name = "SEEDS", default_value = "500")]
    seeds: NonZeroU64,
    /// How many seconds each start has; what takes longer is a `hang`.
    #[arg(long, value_name = "SECONDS", default_value = "600")]
    limit: NonZeroU64,
    /// Print one JSON object for each bug, and one for all.
    #[arg(long)]
    json: bool,
    /// Also see whether the random sweep finds each bug, whatever is written for it: this many seeds of every scenario
    /// that `sim sweep` takes by itself. It takes a build and some minutes for each bug.
    #[arg(long, value_name = "SEEDS", default_value = "0")]
    general: u64,
    /// Try N of the bugs: the K-th batch of N, see `--turn`.
    #[arg(long, value_name = "N", requires = "turn")]
    some: Option<NonZeroUsize>,
    /// Whose turn it is: each turn takes up where the one before it ended.
    #[arg(long, value_name = "K", requires = "some")]
    turn: Option<u64>,
    /// List the bugs, and do nothing else.
    #[arg(long)]
    list: bool,
}

#[derive(Subcommand)]
enum Job {
    Mutants(mutants::MutantsArgs),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(NOT_CAUGHT),
        Err(error) => {
            eprintln!("bugs: {error}");
            ExitCode::from(USAGE)
        }
    }
}

/// Returns whether every bug was caught, or the goal of the mutants is reached.
fn run(cli: &Cli) -> Result<bool, String> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().ok_or("this program was built in no workspace")?;
    if let Some(Job::Mutants(args)) = &cli.command {
        return mutants::run(args, workspace);
    }
    let all = patch::read_all(&workspace.join("bugs").join("planted"))?;
    let mut patches = chosen(&all, &cli.names)?;
    if let (Some(some), Some(turn)) = (cli.some, cli.turn) {
        patches = turn_of(&patches, some.get(), turn);
    }
    if cli.list {
        list(&patches, cli.json);
        return Ok(true);
    }
    let starts = if cli.full { STARTS_FULL } else { STARTS };
    let hunter = Hunter {
        scratch: Scratch::new(workspace)?,
        report: Report::new(&patches, patches.iter().map(|patch| steps(patch, starts) as u64).sum(), cli.json),
        starts: (0..starts).map(|start| start * SPACING).collect(),
        seeds: cli.seeds.get(),
        limit: Duration::from_secs(cli.limit.get()),
        general: cli.general,
    };
    let begun = Instant::now();
    hunter.clean(&patches)?;
    hunter.report.heading();
    let mut outcomes = Vec::new();
    for patch in patches {
        let outcome = hunter.hunt(patch)?;
        hunter.report.row(&outcome);
        hunter.report.advance(steps(patch, starts) - outcome.starts.len());
        outcomes.push(outcome);
    }
    hunter.scratch.refresh()?;
    Ok(hunter.report.summary(&outcomes, begun.elapsed()))
}

/// How many times a checker is run for a bug.
fn steps(patch: &Patch, starts: u64) -> usize {
    match patch.caught_by {
        CaughtBy::Sim(_) => usize::try_from(starts).unwrap_or(usize::MAX),
        CaughtBy::Test(_) => 1,
    }
}

/// The bugs of these names, or all.
fn chosen<'a>(all: &'a [Patch], names: &[String]) -> Result<Vec<&'a Patch>, String> {
    if names.is_empty() {
        return Ok(all.iter().collect());
    }
    let wanted: BTreeSet<_> = names.iter().collect();
    let find = |name: &String| {
        all.iter().find(|patch| patch.name == *name).ok_or_else(|| {
            let near: Vec<_> = near(name, all.iter().map(|patch| patch.name.as_str()));
            let hint =
                if near.is_empty() { "`--list` names all".into() } else { format!("near it: {}", near.join(", ")) };
            format!("there is no planted bug `{name}`; {hint}")
        })
    };
    wanted.into_iter().map(find).collect()
}

/// The names that share a word with this one, or begin alike.
fn near<'a>(name: &str, all: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let words: Vec<_> = name.split(['_', '-']).filter(|word| word.len() > 2).collect();
    let alike = |other: &str| {
        words.iter().any(|word| {
            other.split('_').any(|part| part.starts_with(word) || (part.len() > 3 && word.starts_with(part)))
        })
    };
    all.filter(|other| alike(other)).collect()
}

/// This many of the bugs, from where the turn before ended.
fn turn_of<T: Copy>(all: &[T], some: usize, turn: u64) -> Vec<T> {
    let Ok(len) = u64::try_from(all.len()) else { return all.to_vec() };
    if some >= all.len() {
        return all.to_vec();
    }
    let first = (u128::from(turn) * some as u128 % u128::from(len)).try_into().unwrap_or(0);
    all.iter().cycle().skip(first).take(some).copied().collect()
}

fn list(patches: &[&Patch], json: bool) {
    let width = patches.iter().map(|patch| patch.name.len()).max().unwrap_or_default();
    for Patch { name, scenario, guarantee, caught_by, about, .. } in patches {
        if json {
            let caught_by = caught_by.to_string();
            let about = serde_json::json!({
                "bug": name, "scenario": scenario, "guarantee": guarantee, "caught_by": caught_by, "about": about,
            });
            println!("{about}");
        } else {
            println!("{name:<width$}  {guarantee:<8}  {about}");
        }
    }
}

struct Hunter {
    scratch: Scratch,
    report: Report,
    starts: Vec<u64>,
    seeds: u64,
    limit: Duration,
    /// How many seeds the random sweep has for each bug.
    general: u64,
}

impl Hunter {
    /// Sees that the checkers pass without a bug: otherwise what they find with one means nothing.
    fn clean(&self, patches: &[&Patch]) -> Result<(), String> {
        let checkers: BTreeSet<_> = patches.iter().map(|patch| &patch.caught_by).collect();
        self.scratch.refresh()?;
        if checkers.iter().any(|checker| matches!(checker, CaughtBy::Sim(_))) {
            self.report.doing("without a bug: building");
            let sim = self.scratch.build_sim()?.map_err(|unfit| format!("without a bug, {}", told(&unfit)))?;
            let clean = self.clean_sim();
            fs::copy(&sim, &clean).map_err(|error| format!("{}: {error}", clean.display()))?;
        }
        for checker in checkers {
            let step = format!("without a bug: {checker}");
            self.report.doing(&step);
            match checker {
                CaughtBy::Sim(arguments) => {
                    for from in &self.starts {
                        let seeds = (*from, CLEAN_SEEDS.min(self.seeds));
                        let found = hunt::sweep(&self.clean_sim(), arguments, seeds, self.limit, |line| {
                            self.report.hears(&step, line);
                        })?;
                        passes(checker, &found)?;
                    }
                }
                CaughtBy::Test(arguments) => {
                    let built = self.scratch.build_tests(arguments)?;
                    built.map_err(|unfit| format!("without a bug, {}", told(&unfit)))?;
                    let found =
                        hunt::test(self.scratch.tests(arguments), self.limit, |line| self.report.hears(&step, line))?;
                    passes(checker, &found)?;
                }
            }
        }
        Ok(())
    }

    /// Tries one bug.
    fn hunt<'a>(&self, patch: &'a Patch) -> Result<Outcome<'a>, String> {
        let mut outcome = Outcome {
            patch,
            build: Duration::ZERO,
            hunt: Duration::ZERO,
            starts: Vec::new(),
            general: None,
            problem: None,
        };
        if let Err(unfit) = self.scratch.plant(patch)? {
            outcome.problem = Some(format!("{}: {}", patch.file.display(), told(&unfit)));
            return Ok(outcome);
        }
        let begun = Instant::now();
        self.report.doing(&format!("{}: building", patch.name));
        let built = match &patch.caught_by {
            CaughtBy::Sim(_) => self.scratch.build_sim()?.map(Some),
            CaughtBy::Test(arguments) => self.scratch.build_tests(arguments)?.map(|()| None),
        };
        outcome.build = begun.elapsed();
        match built {
            Err(unfit) => outcome.problem = Some(format!("{}: {}", patch.file.display(), told(&unfit))),
            Ok(sim) => outcome.problem = self.search(patch, sim.as_deref(), &mut outcome.starts).err(),
        }
        outcome.hunt = begun.elapsed().saturating_sub(outcome.build);
        if self.general > 0 && outcome.problem.is_none() {
            outcome.general = Some(self.sweep_at_random(patch)?);
        }
        Ok(outcome)
    }

    /// Whether the random sweep finds the bug that is planted now.
    fn sweep_at_random(&self, patch: &Patch) -> Result<Found, String> {
        let step = format!("{}: the random sweep", patch.name);
        self.report.doing(&step);
        let sim = self.scratch.build_sim()?.map_err(|unfit| format!("{}, {}", patch.name, told(&unfit)))?;
        hunt::sweep(&sim, &[], (0, self.general), self.limit, |line| self.report.hears(&step, line))
    }

    fn search(&self, patch: &Patch, sim: Option<&Path>, starts: &mut Vec<Start>) -> Result<(), String> {
        match (&patch.caught_by, sim) {
            (CaughtBy::Sim(arguments), Some(sim)) => {
                for (index, from) in self.starts.iter().copied().enumerate() {
                    let step = format!("{}: start {} of {}", patch.name, index + 1, self.starts.len());
                    self.report.doing(&step);
                    let found = hunt::sweep(sim, arguments, (from, self.seeds), self.limit, |line| {
                        self.report.hears(&step, line);
                    })?;
                    self.report.advance(1);
                    let seed = match &found {
                        Found::Failure(failure) if patch.expects(&failure.named) => Some(failure.seed),
                        _ => None,
                    };
                    let stuck = matches!(&found, Found::Failure(failure) if failure.stuck);
                    starts.push(Start { from, found });
                    if let Some(seed) = seed {
                        let without = hunt::sweep(&self.clean_sim(), arguments, (seed, 1), self.limit, |_| {})?;
                        if let Found::Failure(failure) = without {
                            return Err(format!(
                                "seed {seed} fails without the bug too: {}: {}",
                                failure.named, failure.what
                            ));
                        }
                    }
                    if stuck {
                        // It takes minutes each time, and the next start would tell nothing new.
                        break;
                    }
                }
            }
            (CaughtBy::Sim(_), None) => return Err("there is no simulation to run".into()),
            (CaughtBy::Test(arguments), _) => {
                let step = format!("{}: {}", patch.name, patch.caught_by);
                self.report.doing(&step);
                let found =
                    hunt::test(self.scratch.tests(arguments), self.limit, |line| self.report.hears(&step, line))?;
                self.report.advance(1);
                starts.push(Start { from: 0, found });
            }
        }
        Ok(())
    }

    /// The simulation without a bug.
    fn clean_sim(&self) -> PathBuf {
        self.scratch.beside(&format!("clean-sim{}", std::env::consts::EXE_SUFFIX))
    }
}

fn passes(checker: &CaughtBy, found: &Found) -> Result<(), String> {
    match found {
        Found::Nothing { .. } => Ok(()),
        Found::Failure(failure) => Err(format!(
            "without a bug, `{checker}` fails with seed {}: {}: {}\n  what it finds with a bug means nothing",
            failure.seed, failure.named, failure.what
        )),
    }
}

fn told(unfit: &Unfit) -> String {
    match unfit {
        Unfit::DoesNotApply(what) => format!("the patch does not apply any more: {what}"),
        Unfit::DoesNotCompile(what) => format!("it does not compile: {what}"),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_bug_has_its_turn() {
        let all = [0, 1, 2, 3, 4];
        assert_eq!(turn_of(&all, 2, 0), [0, 1]);
        assert_eq!(turn_of(&all, 2, 1), [2, 3]);
        assert_eq!(turn_of(&all, 2, 2), [4, 0]);
        assert_eq!(turn_of(&all, 9, 3), all);
        assert!(turn_of::<u8>(&[], 2, 3).is_empty());
        let seen: BTreeSet<_> = (7..12).flat_map(|turn| turn_of(&all, 1, turn)).collect();
        assert_eq!(seen.len(), all.len());
        assert_eq!(turn_of(&all, 2, u64::MAX).len(), 2);
    }

    #[test]
    fn near_names_are_found() {
        let all = ["half_open_forever", "phantom_session", "stale_dns"];
        assert_eq!(near("half_opened", all.into_iter()), ["half_open_forever"]);
        assert_eq!(near("phantom", all.into_iter()), ["phantom_session"]);
        assert!(near("xyz", all.into_iter()).is_empty());
    }

    #[test]
    fn the_planted_bugs_can_be_read() {
        let planted = Path::new(env!("CARGO_MANIFEST_DIR")).join("planted");
        assert!(!patch::read_all(&planted).unwrap().is_empty());
    }

    #[test]
    fn planted_bugs_that_are_not_there_are_missed() {
        let error = patch::read_all(Path::new("no such directory")).unwrap_err();
        assert!(error.starts_with("the planted bugs cannot be read: no such directory"), "{error}");
    }
}
