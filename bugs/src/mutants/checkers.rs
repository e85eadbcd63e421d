//! Who looks for mutants: programs of tests, and the random sweep.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::switch::{ACTIVE, REACHED};
use crate::hunt::{self, Ended, Found};

/// A column of the matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Checker {
    /// The tests in `src`.
    Unit,
    /// The properties in `proptests`.
    Properties,
    /// The models in `loom-tests`.
    Loom,
    /// The random sweep.
    Sweep,
    /// The tests in `tests`, with real sockets and clocks.
    Tests,
    /// For a planted bug, the sweep that has to find it.
    Scenario,
}

impl Checker {
    /// Those that are asked about every mutant, the cheap ones first.
    pub(crate) const ALL: [Self; 5] = [Self::Unit, Self::Properties, Self::Loom, Self::Sweep, Self::Tests];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Unit => "unit",
            Self::Properties => "properties",
            Self::Loom => "loom",
            Self::Sweep => "sweep",
            Self::Tests => "tests",
            Self::Scenario => "scenario",
        }
    }

    /// What it is made of, beside `src`: what it found is out of date when one of these has changed.
    pub(crate) fn folders(self) -> &'static [&'static str] {
        match self {
            Self::Unit => &[],
            Self::Properties => &["proptests"],
            Self::Loom => &["loom-tests"],
            Self::Sweep | Self::Scenario => &["sim", "proptests/src", "testkit"],
            Self::Tests => &["tests", "testkit", "examples/tunnel"],
        }
    }
}

/// What a checker came to with a mutant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub(crate) enum Outcome {
    Killed {
        /// The test, or the guarantee.
        by: String,
        /// For the sweep.
        seed: Option<u64>,
    },
    Survived {
        /// For the sweep, how many seeds: a later run with more goes on there.
        seeds: Option<u64>,
    },
    /// None of its runs comes by the mutant.
    NotReached,
    /// With the mutant it does not compile. That tells nothing of the checker: nobody could have run such code.
    NotViable {
        /// What the compiler says.
        why: String,
    },
}

/// A program of tests.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Program {
    pub(crate) checker: Checker,
    pub(crate) path: PathBuf,
    /// Where cargo would run it.
    pub(crate) folder: PathBuf,
}

/// What a checker needs without a mutant.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Clean {
    pub(crate) seconds: f64,
    /// The numbers of the mutants that it comes by.
    pub(crate) reached: BTreeSet<usize>,
}

/// Takes at least so long until a program that does not end counts as killed, however short it is.
const LEAST: Duration = Duration::from_secs(20);

impl Program {
    fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        command.current_dir(&self.folder).env_remove(ACTIVE).env_remove(REACHED);
        command.env("CARGO_MANIFEST_DIR", &self.folder).env("RUST_BACKTRACE", "0");
        command
    }

    /// Runs it without a mutant.
    pub(crate) fn clean(&self, notes: &Path) -> Result<Clean, String> {
        let (folder, begun) = (fresh(notes)?, Instant::now());
        let mut command = self.command();
        command.env(REACHED, &folder);
        let ended = hunt::follow(command, Duration::from_secs(900), |_| {}, |_| false)?;
        if let (_, Some(failure)) | (Some(failure), _) = (broken(&ended), failed(&ended).map(str::to_owned)) {
            return Err(format!("without a mutant {} fails: {failure}", self.path.display()));
        }
        let reached = by_process(&folder)?.into_values().flatten().collect();
        Ok(Clean { seconds: begun.elapsed().as_secs_f64(), reached })
    }

    /// Runs it with a mutant. A failure counts when it comes again: clocks of tests are real.
    pub(crate) fn check(&self, mutant: Option<usize>, clean: &Clean) -> Result<Outcome, String> {
        let limit = LEAST + Duration::from_secs_f64(clean.seconds * 3.0);
        let run = |arguments: &[&str]| {
            let mut command = self.command();
            if let Some(mutant) = mutant {
                command.env(ACTIVE, mutant.to_string());
            }
            command.args(arguments);
            hunt::follow(command, limit, |_| {}, |line| failure_of(line).is_some())
        };
        for _ in 0..2 {
            let ended = run(&[])?;
            let Some(name) = failed(&ended) else {
                let Some(by) = broken(&ended) else { return Ok(Outcome::Survived { seeds: None }) };
                let again = run(&[])?;
                if failed(&again).is_some() || broken(&again).is_some() {
                    return Ok(Outcome::Killed { by, seed: None });
                }
                continue;
            };
            let again = run(&["--exact", name])?;
            if failed(&again).is_some() || broken(&again).is_some() {
                return Ok(Outcome::Killed { by: name.to_owned(), seed: None });
            }
        }
        // Twice another failure, or twice one that is not seen alone.
        let ended = run(&["--test-threads=1"])?;
        Ok(match failed(&ended).map(str::to_owned).or_else(|| broken(&ended)) {
            Some(by) => Outcome::Killed { by, seed: None },
            None => Outcome::Survived { seeds: None },
        })
    }
}

/// The test that failed, if this line says so.
fn failure_of(line: &str) -> Option<&str> {
    let name = line.strip_prefix("test ")?.strip_suffix(" ... FAILED")?;
    Some(name.strip_suffix(" - should panic").unwrap_or(name))
}

fn failed(ended: &Ended) -> Option<&str> {
    ended.lines.iter().find_map(|line| failure_of(line))
}

/// How a program ended that did not say which test failed.
fn broken(ended: &Ended) -> Option<String> {
    match ended.code {
        _ if ended.timed_out => Some("it does not end".into()),
        Some(0) => None,
        Some(code) => Some(format!("it ended with status {code}")),
        None => Some("it ended with a signal".into()),
    }
}

/// What the random sweep is for the simulation.
pub(crate) const RANDOM: [&str; 2] = ["--scenario", "random"];

/// A sweep.
pub(crate) struct Sweep {
    pub(crate) sim: PathBuf,
    pub(crate) arguments: Vec<String>,
    pub(crate) jobs: Option<u64>,
}

impl Sweep {
    /// Runs these seeds without a mutant: the seconds, and the seeds that come by each mutant.
    pub(crate) fn clean(
        &self,
        seeds: Range<u64>,
        notes: &Path,
    ) -> Result<(f64, BTreeMap<usize, BTreeSet<u64>>), String> {
        let (folder, begun) = (fresh(notes)?, Instant::now());
        match self.run((seeds.start, seeds.end - seeds.start), (REACHED, folder.as_os_str().into()))? {
            Found::Nothing { .. } => {}
            Found::Failure(failure) => {
                return Err(format!("without a mutant seed {} fails: {}", failure.seed, failure.what));
            }
        }
        let mut seeds: BTreeMap<usize, BTreeSet<u64>> = BTreeMap::new();
        for (name, mutants) in by_process(&folder)? {
            // The sweep itself is no run.
            let Some(seed) = name.split('-').next().and_then(|seed| seed.parse().ok()) else { continue };
            for mutant in mutants {
                seeds.entry(mutant).or_default().insert(seed);
            }
        }
        Ok((begun.elapsed().as_secs_f64(), seeds))
    }

    /// Runs the seeds that come by a mutant, until one fails.
    pub(crate) fn check(&self, mutant: Option<usize>, seeds: &BTreeSet<u64>) -> Result<Outcome, String> {
        if !self.sim.is_file() {
            return Err(format!("{} is gone; it was built before", self.sim.display()));
        }
        for range in ranges(seeds) {
            let number = mutant.unwrap_or_default().to_string();
            let found = match self.run(range, (ACTIVE, number.into())) {
                Ok(found) => found,
                // Not even a run that failed: what it does to the checker is a kill as well, if the checker works.
                Err(why) => {
                    self.run((range.0, 1), (REACHED, std::ffi::OsString::new()))?;
                    return Ok(Outcome::Killed { by: why, seed: Some(range.0) });
                }
            };
            if let Found::Failure(failure) = found {
                let what = failure.what.lines().next().unwrap_or_default();
                let by = format!("{}: {what}", failure.named);
                return Ok(Outcome::Killed { by, seed: Some(failure.seed) });
            }
        }
        Ok(Outcome::Survived { seeds: None })
    }

    fn run(&self, range: (u64, u64), (key, value): (&str, std::ffi::OsString)) -> Result<Found, String> {
        let mut arguments = self.arguments.clone();
        if let Some(jobs) = self.jobs {
            arguments.extend(["--jobs".to_owned(), jobs.to_string()]);
        }
        let other = if key == ACTIVE { REACHED } else { ACTIVE };
        let mut command = Command::new(&self.sim);
        command.env(key, value).env_remove(other);
        hunt::sweep_by(command, &arguments, range, Duration::from_secs(1800), |_| {})
    }
}

/// The seeds as ranges: where they begin, and how many they are. A short gap is not worth another process.
fn ranges(seeds: &BTreeSet<u64>) -> Vec<(u64, u64)> {
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for seed in seeds {
        match ranges.last_mut() {
            Some((from, count)) if seed - *from < *count + 3 => *count = seed - *from + 1,
            _ => ranges.push((*seed, 1)),
        }
    }
    ranges
}

/// An empty folder.
fn fresh(folder: &Path) -> Result<PathBuf, String> {
    let _ = fs::remove_dir_all(folder);
    fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    Ok(folder.to_owned())
}

/// What each process has noted, by the name of its file.
fn by_process(folder: &Path) -> Result<BTreeMap<String, BTreeSet<usize>>, String> {
    let unread = |error: std::io::Error| format!("{}: {error}", folder.display());
    let mut noted = BTreeMap::new();
    for entry in fs::read_dir(folder).map_err(unread)? {
        let entry = entry.map_err(unread)?;
        let text = fs::read_to_string(entry.path()).map_err(unread)?;
        let numbers = text.lines().filter_map(|line| line.parse().ok()).collect();
        noted.insert(entry.file_name().to_string_lossy().into_owned(), numbers);
    }
    Ok(noted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_that_lie_close_are_one_range() {
        assert_eq!(ranges(&[1, 2, 3, 5, 8, 20].into()), [(1, 8), (20, 1)]);
        assert!(ranges(&BTreeSet::new()).is_empty());
    }

    #[test]
    fn a_failed_test_is_known_by_its_line() {
        assert_eq!(failure_of("test a::b ... FAILED"), Some("a::b"));
        assert_eq!(failure_of("test a::b - should panic ... FAILED"), Some("a::b"));
        assert_eq!(failure_of("test a::b ... ok"), None);
    }
}
