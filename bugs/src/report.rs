//! What is told: progress while it runs, a row for each bug, and the whole.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};

use crate::hunt::{Failure, Found};
use crate::patch::{CaughtBy, Patch};

/// What became of one bug.
pub(crate) struct Outcome<'a> {
    pub(crate) patch: &'a Patch,
    pub(crate) build: Duration,
    pub(crate) hunt: Duration,
    /// What each start came to; one for tests.
    pub(crate) starts: Vec<Start>,
    /// What the random sweep came to, where it was asked.
    pub(crate) general: Option<Found>,
    /// Why nothing, or not everything, could be tried.
    pub(crate) problem: Option<String>,
}

/// Sweeps begin at different seeds.
pub(crate) struct Start {
    pub(crate) from: u64,
    pub(crate) found: Found,
}

impl Start {
    /// How many seeds it took.
    fn seeds(&self, patch: &Patch) -> Option<u64> {
        self.caught(patch).map(|failure| failure.seed.saturating_sub(self.from) + 1)
    }

    /// The failure, if it is what was to be found.
    fn caught(&self, patch: &Patch) -> Option<&Failure> {
        match &self.found {
            Found::Failure(failure) if patch.expects(&failure.named) => Some(failure),
            _ => None,
        }
    }
}

impl Outcome<'_> {
    /// Found at every start.
    pub(crate) fn is_caught(&self) -> bool {
        self.problem.is_none() && self.starts.iter().all(|start| start.caught(self.patch).is_some())
    }

    /// For each start, how many seeds it took.
    pub(crate) fn seeds(&self) -> Vec<Option<u64>> {
        match self.patch.caught_by {
            CaughtBy::Sim(_) => self.starts.iter().map(|start| start.seeds(self.patch)).collect(),
            CaughtBy::Test(_) => Vec::new(),
        }
    }

    /// The seed with which the random sweep found it, if it did.
    fn general_seed(&self) -> Option<u64> {
        match &self.general {
            Some(Found::Failure(failure)) => Some(failure.seed),
            _ => None,
        }
    }

    /// One sentence: what was found, or why it counts as not caught.
    fn what(&self) -> String {
        if let Some(problem) = &self.problem {
            return problem.clone();
        }
        let missed = self.starts.iter().find(|start| start.caught(self.patch).is_none());
        match missed.map(|start| &start.found) {
            Some(Found::Nothing { runs }) => {
                let missed = self.starts.iter().filter(|start| start.caught(self.patch).is_none()).count();
                let all = self.starts.len();
                format!("SURVIVED {runs} runs at {missed} of {all} starts ({})", self.patch.caught_by)
            }
            Some(Found::Failure(failure)) => {
                let expected = self.patch.expect.join(" or ");
                let expected = if expected.is_empty() { "a guarantee" } else { &expected };
                format!("NOT NAMED: {expected} was expected, and {} named: {}", failure.named, failure.what)
            }
            None => self.names(),
        }
    }

    /// What was named, each once, and what was seen first.
    fn names(&self) -> String {
        let failures: Vec<_> = self.starts.iter().filter_map(|start| start.caught(self.patch)).collect();
        let mut names: Vec<_> = failures.iter().map(|failure| failure.named.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        let first = failures.first().map_or("", |failure| failure.what.lines().next().unwrap_or_default());
        format!("{}: {first}", names.join(" "))
    }

    fn to_json(&self) -> Value {
        let starts = self.starts.iter().map(|start| match &start.found {
            Found::Nothing { runs } => json!({ "from": start.from, "seeds": null, "runs": runs }),
            Found::Failure(failure) => json!({
                "from": start.from,
                "seeds": start.seeds(self.patch),
                "seed": failure.seed,
                "named": failure.named,
                "what": failure.what,
            }),
        });
        json!({
            "bug": self.patch.name,
            "scenario": self.patch.scenario,
            "guarantee": self.patch.guarantee,
            "caught_by": self.patch.caught_by.to_string(),
            "expect": self.patch.expect,
            "caught": self.is_caught(),
            "what": self.what(),
            "problem": self.problem,
            "starts": starts.collect::<Vec<_>>(),
            "median_seeds": median(&self.seeds()),
            "general": self.general.as_ref().map(|general| match general {
                Found::Nothing { runs } => json!({ "runs": runs, "seed": null }),
                Found::Failure(failure) => json!({ "seed": failure.seed, "named": failure.named, "what": failure.what }),
            }),
            "build_seconds": self.build.as_secs_f64(),
            "hunt_seconds": self.hunt.as_secs_f64(),
        })
    }
}

/// The value in the middle; of two in the middle, what lies between them. None where nothing was found there.
#[expect(clippy::cast_precision_loss, reason = "seeds are few")]
pub(crate) fn median(seeds: &[Option<u64>]) -> Option<f64> {
    let mut sorted: Vec<_> = seeds.iter().map(|seeds| seeds.unwrap_or(u64::MAX)).collect();
    sorted.sort_unstable();
    let (low, high) = (sorted.get(sorted.len().checked_sub(1)? / 2)?, sorted.get(sorted.len() / 2)?);
    (*high != u64::MAX).then(|| f64::midpoint(*low as f64, *high as f64))
}

/// Tells what happens.
pub(crate) struct Report {
    bar: Option<ProgressBar>,
    json: bool,
    name_width: usize,
}

impl Report {
    /// Of these bugs. `steps` is how many starts there are, all together.
    pub(crate) fn new(patches: &[&Patch], steps: u64, json: bool) -> Self {
        let bar = io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{bar:30} {pos}/{len}  {elapsed}, {eta} left  {wide_msg}");
            let bar = ProgressBar::with_draw_target(Some(steps), ProgressDrawTarget::stderr());
            bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        let name_width = patches.iter().map(|patch| patch.name.len()).max().unwrap_or_default();
        Self { bar, json, name_width }
    }

    /// A step has begun.
    pub(crate) fn doing(&self, what: &str) {
        match &self.bar {
            Some(bar) => bar.set_message(what.to_owned()),
            None => eprintln!("{what}"),
        }
    }

    /// How far a step is. Told on a terminal alone.
    pub(crate) fn hears(&self, step: &str, line: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(format!("{step}: {line}"));
        }
    }

    /// A start is done, or will not be tried.
    pub(crate) fn advance(&self, steps: usize) {
        if let Some(bar) = &self.bar {
            bar.inc(steps as u64);
        }
    }

    pub(crate) fn heading(&self) {
        if !self.json {
            let width = self.name_width;
            self.say(&format!(
                "{:<width$}  breaks    caught  seeds to the first failure   median  sweep  named",
                "bug"
            ));
        }
    }

    pub(crate) fn row(&self, outcome: &Outcome<'_>) {
        if self.json {
            return self.say(&outcome.to_json().to_string());
        }
        let seeds = outcome.seeds();
        let told = |seeds: &Option<u64>| seeds.map_or("-".into(), |seeds| seeds.to_string());
        self.say(&format!(
            "{:<width$}  {:<8}  {:<6}  {:<27}  {:>6}  {:>5}  {}",
            outcome.patch.name,
            outcome.patch.guarantee,
            if outcome.is_caught() { "yes" } else { "NO" },
            seeds.iter().map(told).collect::<Vec<_>>().join(" "),
            median(&seeds).map_or("-".into(), |median| median.to_string()),
            outcome.general_seed().map_or("-".into(), |seed| seed.to_string()),
            outcome.what(),
            width = self.name_width,
        ));
    }

    /// The whole. Gives whether every bug was caught.
    pub(crate) fn summary(&self, outcomes: &[Outcome<'_>], took: Duration) -> bool {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        let not_caught: Vec<_> =
            outcomes.iter().filter(|outcome| !outcome.is_caught()).map(|outcome| outcome.patch.name.as_str()).collect();
        let caught = outcomes.len() - not_caught.len();
        let all: Vec<_> = outcomes.iter().flat_map(Outcome::seeds).collect();
        let median = median(&all);
        let swept = outcomes.iter().filter(|outcome| outcome.general.is_some()).count();
        let by_sweep = outcomes.iter().filter(|outcome| outcome.general_seed().is_some()).count();
        if self.json {
            let summary = json!({
                "bugs": outcomes.len(),
                "caught": caught,
                "not_caught": not_caught,
                "median_seeds": median,
                "swept": swept,
                "found_by_sweep": by_sweep,
                "seconds": took.as_secs_f64(),
            });
            self.say(&json!({ "summary": summary }).to_string());
        } else {
            let median = median.map_or("-".into(), |median| median.to_string());
            let (bugs, seconds) = (outcomes.len(), took.as_secs());
            self.say(&format!("\n{caught} of {bugs} caught, median seeds to the first failure {median}; {seconds} s"));
            if swept > 0 {
                self.say(&format!("{by_sweep} of {swept} are found by the random sweep as well"));
            }
            if !not_caught.is_empty() {
                self.say(&format!("not caught: {}", not_caught.join(" ")));
            }
        }
        not_caught.is_empty()
    }

    fn say(&self, text: &str) {
        // Whoever reads may have seen enough.
        let print = || drop(writeln!(io::stdout(), "{text}"));
        match &self.bar {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[Some(7)]), Some(7.0));
        assert_eq!(median(&[Some(9), Some(1), Some(2)]), Some(2.0));
        assert_eq!(median(&[Some(9), Some(1), Some(2), Some(3)]), Some(2.5));
    }

    #[test]
    fn a_start_that_found_nothing_is_longer_than_all() {
        assert_eq!(median(&[None, Some(1), Some(2)]), Some(2.0));
        assert_eq!(median(&[None, Some(1), None]), None);
        assert_eq!(median(&[None, Some(1)]), None);
    }
}
