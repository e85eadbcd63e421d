//! Tries mutants, checker by checker.

#![expect(clippy::disallowed_methods, reason = "how long a checker takes is told by real time")]

use std::collections::BTreeSet;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::time::Instant;

use indicatif::{ProgressBar, ProgressStyle};

use super::build;
use super::checkers::{Checker, Clean, Outcome, Program, RANDOM, Sweep};
use super::mutant::{Kind, Mutant};
use super::prepare::{Prepared, Preparing};
use super::store::Store;
use crate::scratch::{Scratch, Unfit};

/// The mutants and who looks for them.
pub(crate) struct Matrix<'a> {
    prepared: &'a Prepared,
    workspace: &'a Path,
    mutants: &'a [Mutant],
    /// How many the sweep has.
    seeds: u64,
    jobs: Option<u64>,
    checkers: Vec<Checker>,
    whole: bool,
    /// For those that have a build of their own.
    scratch: Scratch,
    bar: Option<ProgressBar>,
}

impl<'a> Matrix<'a> {
    pub(crate) fn new(prepared: &'a Prepared, of: &Preparing<'a>, checkers: Vec<Checker>, whole: bool) -> Self {
        let Preparing { scratch, workspace, mutants, seeds, jobs } = *of;
        let scratch = scratch.sibling("alone", true);
        Self { prepared, workspace, mutants, seeds, jobs, checkers, whole, scratch, bar: None }
    }

    /// Tries these mutants, by their index.
    pub(crate) fn fill(&mut self, chosen: &[usize], store: &mut Store) -> Result<(), String> {
        if io::stderr().is_terminal() {
            let style = ProgressStyle::with_template("{bar:30} {pos}/{len}  {elapsed}, {eta} left  {wide_msg}");
            let bar = ProgressBar::new(chosen.len() as u64);
            self.bar = Some(bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar())));
        }
        // Those with a build of their own come last: they are slow.
        let is_alone = |index: &usize| self.prepared.switches.alone.contains(&self.mutants[*index].name);
        let mut chosen = chosen.to_vec();
        chosen.sort_by_key(is_alone);
        for (done, index) in chosen.iter().enumerate() {
            self.try_one(*index, &format!("{} of {}", done + 1, chosen.len()), store)?;
            if let Some(bar) = &self.bar {
                bar.inc(1);
            }
        }
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        Ok(())
    }

    /// The checkers in the order in which they are asked.
    fn order(&self, mutant: &Mutant) -> Vec<Checker> {
        let mut order = self.checkers.clone();
        order.retain(|checker| *checker != Checker::Scenario || mutant.scenario.is_some());
        order.sort();
        if must_be_swept(mutant) {
            order.sort_by_key(|checker| *checker != Checker::Sweep);
        }
        order
    }

    fn try_one(&self, index: usize, count: &str, store: &mut Store) -> Result<(), String> {
        let mutant = &self.mutants[index];
        let mut is_killed = self.checkers_of(mutant, store).any(|outcome| matches!(outcome, Outcome::Killed { .. }));
        let is_alone = self.prepared.switches.alone.contains(&mutant.name);
        let mut programs = None;
        for checker in self.order(mutant) {
            let must = match checker {
                Checker::Sweep => must_be_swept(mutant),
                Checker::Scenario => true,
                _ => false,
            };
            let known = store.find(mutant, checker).map(|cell| (&cell.outcome, cell.seconds));
            let (from, before) = match known {
                Some((Outcome::Survived { seeds: Some(seeds) }, seconds)) if *seeds < self.seeds => (*seeds, seconds),
                // With more seeds one may come by it.
                Some((Outcome::NotReached, _)) if checker == Checker::Sweep && self.reaches(index) => (0, 0.0),
                Some(_) => continue,
                None => (0, 0.0),
            };
            if is_killed && !must && !self.whole {
                continue;
            }
            let begun = Instant::now();
            let outcome = match (checker, is_alone) {
                (Checker::Sweep, false) => self.sweep(index, from)?,
                (Checker::Sweep, true) => self.sweep_alone(mutant, &RANDOM.map(str::to_owned), from)?,
                (Checker::Scenario, _) => {
                    let arguments = mutant.scenario.clone().unwrap_or_default();
                    if is_alone {
                        self.sweep_alone(mutant, &arguments, from)?
                    } else {
                        let seeds = (from..self.seeds).collect();
                        self.sweep_of(self.prepared.sweep.sim.clone(), &arguments).check(Some(index + 1), &seeds)?
                    }
                }
                (_, false) => self.test(checker, index)?,
                (_, true) => {
                    if programs.is_none() {
                        self.scratch.refresh_with(&build::files_with(self.workspace, mutant)?)?;
                        programs = Some(build::programs(&self.scratch, &Checker::ALL));
                    }
                    match &programs {
                        Some(Ok(programs)) => self.test_alone(checker, programs)?,
                        // What the tests need is not there any more.
                        Some(Err(why)) => Outcome::NotViable { why: why.clone() },
                        None => continue,
                    }
                }
            };
            let outcome = match outcome {
                Outcome::Survived { .. } if matches!(checker, Checker::Sweep | Checker::Scenario) => {
                    Outcome::Survived { seeds: Some(self.seeds) }
                }
                outcome => outcome,
            };
            let seconds = before + begun.elapsed().as_secs_f64();
            is_killed |= matches!(outcome, Outcome::Killed { .. });
            self.say(&format!("{count}  {mutant}  {}: {} ({seconds:.1} s)", checker.name(), told(&outcome)));
            store.add(mutant, checker, outcome, seconds)?;
        }
        Ok(())
    }

    fn checkers_of<'s>(&self, mutant: &'s Mutant, store: &'s Store) -> impl Iterator<Item = Outcome> + use<'s> {
        let cells = self.checkers.clone().into_iter().filter_map(|checker| store.find(mutant, checker));
        cells.map(|cell| cell.outcome.clone())
    }

    fn sweep_of(&self, sim: PathBuf, arguments: &[String]) -> Sweep {
        Sweep { sim, arguments: arguments.to_vec(), jobs: self.jobs }
    }

    fn reaches(&self, index: usize) -> bool {
        let is_alone = self.prepared.switches.alone.contains(&self.mutants[index].name);
        !is_alone && self.prepared.sweep.seeds.contains_key(&(index + 1))
    }

    /// The sweep with the seeds from this one on.
    fn sweep(&self, index: usize, from: u64) -> Result<Outcome, String> {
        let Some(seeds) = self.prepared.sweep.seeds.get(&(index + 1)) else { return Ok(Outcome::NotReached) };
        let seeds = seeds.range(from..self.seeds).copied().collect();
        let random = RANDOM.map(str::to_owned);
        self.sweep_of(self.prepared.sweep.sim.clone(), &random).check(Some(index + 1), &seeds)
    }

    fn sweep_alone(&self, mutant: &Mutant, arguments: &[String], from: u64) -> Result<Outcome, String> {
        self.scratch.refresh_with(&build::files_with(self.workspace, mutant)?)?;
        let all: BTreeSet<_> = (from..self.seeds).collect();
        match self.scratch.build_sim()? {
            Ok(sim) => self.sweep_of(sim, arguments).check(None, &all),
            Err(Unfit::DoesNotApply(why) | Unfit::DoesNotCompile(why)) => Ok(Outcome::NotViable { why }),
        }
    }

    fn test(&self, checker: Checker, index: usize) -> Result<Outcome, String> {
        let mut programs: Vec<_> =
            self.prepared.tests.programs.iter().filter(|(program, _)| program.checker == checker).collect();
        programs.sort_by(|(_, a), (_, b)| a.seconds.total_cmp(&b.seconds));
        let mut outcome = Outcome::NotReached;
        for (program, clean) in programs {
            if clean.reached.contains(&(index + 1)) {
                outcome = program.check(Some(index + 1), clean)?;
                if matches!(outcome, Outcome::Killed { .. }) {
                    break;
                }
            }
        }
        Ok(outcome)
    }

    fn test_alone(&self, checker: Checker, programs: &[Program]) -> Result<Outcome, String> {
        // Which of the known programs one is cannot be told by its name.
        let seconds = self.prepared.tests.programs.iter().filter(|(program, _)| program.checker == checker);
        let seconds = seconds.map(|(_, clean)| clean.seconds).fold(0.0, f64::max);
        let clean = Clean { seconds, reached: BTreeSet::new() };
        for program in programs.iter().filter(|program| program.checker == checker) {
            let outcome = program.check(None, &clean)?;
            if matches!(outcome, Outcome::Killed { .. }) {
                return Ok(outcome);
            }
        }
        Ok(Outcome::Survived { seeds: None })
    }

    fn say(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.println(line),
            None => eprintln!("{line}"),
        }
    }
}

/// Where the sweep has a goal of its own; and the planted bugs, whose seeds there are part of the matrix.
fn must_be_swept(mutant: &Mutant) -> bool {
    mutant.area().is_swept() || mutant.kind == Kind::Planted
}

fn told(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Killed { by, seed: Some(seed) } => format!("killed by seed {seed}, {by}"),
        Outcome::Killed { by, seed: None } => format!("killed by {by}"),
        Outcome::Survived { .. } => "SURVIVED".into(),
        Outcome::NotReached => "not reached".into(),
        Outcome::NotViable { why } => format!("does not compile: {why}"),
    }
}
