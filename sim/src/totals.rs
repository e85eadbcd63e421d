//! What many runs add up to.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::checks::coverage::{LOOKED_UNDER, sometimes};
use crate::counters::Worst;
use crate::outcome::Outcome;

/// What many runs add up to. Two of them can be [merged](Self::merge), when they come from different machines.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Runs that came to an outcome.
    pub runs: u64,
    /// Runs in which a guarantee was broken, or which gave no outcome.
    pub failed: u64,
    /// Seeds that gave two different runs.
    pub diverged: u64,
    /// How much time passed in the simulations, in milliseconds.
    pub simulated_ms: u64,
    /// How often each rare thing happened.
    pub counters: BTreeMap<String, u64>,
    /// The same runs, each kind by itself.
    pub kinds: BTreeMap<String, OfKind>,
    /// The states that the runs were in.
    pub states: BTreeSet<u64>,
    /// How many states were known after how many runs.
    pub curve: Vec<(u64, u64)>,
}

/// What the runs of one kind add up to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfKind {
    /// Runs that came to an outcome.
    pub runs: u64,
    /// How much real time they took, one after the other, in milliseconds.
    pub took_ms: u64,
    /// The longest that each thing with a bound took, as a share of it.
    pub worst: BTreeMap<String, Worst>,
}

impl OfKind {
    fn worst<N: ToString>(&mut self, worst: &BTreeMap<N, Worst>) {
        for (name, worst) in worst {
            self.worst.entry(name.to_string()).and_modify(|known| *known = known.or(*worst)).or_insert(*worst);
        }
    }

    /// How many runs one process after the other does in a minute.
    #[expect(clippy::cast_precision_loss, reason = "a rate is told roughly")]
    fn rate(&self) -> f64 {
        self.runs as f64 * 60_000.0 / self.took_ms.max(1) as f64
    }
}

/// The share of the last runs that must have found nothing new: fewer than one new state in so many runs.
const RUNS_FOR_A_NEW_STATE: u64 = 50;
/// The least number of runs after which a sweep counts as stable.
const RUNS_MIN: u64 = 400;

impl Totals {
    /// Adds a run, which took so long in real time.
    pub fn add(&mut self, outcome: &Outcome, took: Duration) {
        self.runs += 1;
        self.failed += u64::from(outcome.result.is_err());
        self.simulated_ms += u64::try_from(outcome.simulated.as_millis()).unwrap_or(u64::MAX);
        for (name, count) in &outcome.counters {
            *self.counters.entry(name.to_string()).or_default() += count;
        }
        let kind = self.kinds.entry(outcome.kind.clone()).or_default();
        kind.runs += 1;
        kind.took_ms += u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        kind.worst(&outcome.worst);
        self.states.extend(&outcome.states);
        // A point for each doubling, and some between.
        if self.runs.is_multiple_of((self.runs.next_power_of_two() / 8).max(1)) {
            self.mark();
        }
    }

    /// Adds what other runs add up to.
    pub fn merge(&mut self, other: &Self) {
        self.runs += other.runs;
        self.failed += other.failed;
        self.diverged += other.diverged;
        self.simulated_ms += other.simulated_ms;
        for (name, count) in &other.counters {
            *self.counters.entry(name.clone()).or_default() += count;
        }
        for (name, other) in &other.kinds {
            let kind = self.kinds.entry(name.clone()).or_default();
            kind.runs += other.runs;
            kind.took_ms += other.took_ms;
            kind.worst(&other.worst);
        }
        self.states.extend(&other.states);
        if self.curve.is_empty() {
            self.curve.clone_from(&other.curve);
        }
        self.mark();
    }

    fn mark(&mut self) {
        let point = (self.runs, self.states.len() as u64);
        if self.curve.last() != Some(&point) {
            self.curve.push(point);
        }
    }

    /// The counters that were never raised, of those that [`sometimes`] are.
    pub fn never(&self) -> Vec<String> {
        sometimes().into_iter().filter(|name| self.counters.get(name).is_none_or(|count| *count == 0)).collect()
    }

    /// Whether every rare thing has happened, and new states have become rare too.
    pub fn is_stable(&self) -> bool {
        if self.runs < RUNS_MIN || !self.never().is_empty() {
            return false;
        }
        // The last third at least.
        let Some((runs, states)) = self.curve.iter().rev().find(|(runs, _)| runs * 3 <= self.runs * 2) else {
            return false;
        };
        let (more, new) = (self.runs - runs, self.states.len() as u64 - states);
        new * RUNS_FOR_A_NEW_STATE < more
    }

    /// How much time passed in the simulations.
    pub fn simulated(&self) -> Duration {
        Duration::from_millis(self.simulated_ms)
    }

    /// The counters, what came nearest to its bound, and the curve, as lines for a reader. With `all`, also the counters that
    /// were never raised.
    pub fn lines(&self, all: bool) -> Vec<String> {
        let mut lines = Vec::new();
        let mut counters = self.counters.clone();
        for name in sometimes().into_iter().filter(|_| all) {
            counters.entry(name).or_default();
        }
        let (faults, states): (Vec<_>, Vec<_>) = counters.into_iter().partition(|(name, _)| name.starts_with("fault "));
        for (name, fired) in faults {
            let kind = name.trim_start_matches("fault ");
            let survived = self.counters.get(&format!("survived {kind}")).copied().unwrap_or_default();
            lines.push(format!("  fault {kind}: {fired}, survived with something at stake: {survived}"));
        }
        for (name, count) in &states {
            if name.starts_with("survived ") || name.contains(LOOKED_UNDER) {
                continue;
            }
            let under = states.iter().filter_map(|(other, count)| {
                let kind = other.strip_prefix(name.as_str())?.strip_prefix(LOOKED_UNDER)?;
                Some(format!("{kind} {count}"))
            });
            let under = under.collect::<Vec<_>>();
            let under = if under.is_empty() { String::new() } else { format!("; under {}", under.join(", ")) };
            lines.push(format!("  {name}: {count}{under}"));
        }
        for (name, kind) in &self.kinds {
            lines.push(format!("  {name}: {} runs, {:.0} a minute by one process", kind.runs, kind.rate()));
            for (name, worst) in &kind.worst {
                lines.push(format!("    {name}: {worst}"));
            }
        }
        let curve = self.curve.iter().map(|(runs, states)| format!("{states} after {runs}")).collect::<Vec<_>>();
        lines.push(format!("  states seen: {}; {}", self.states.len(), curve.join(", ")));
        lines
    }
}
