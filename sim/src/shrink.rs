//! From a plan that fails to the smallest one that still fails.

#![expect(clippy::disallowed_methods, reason = "shrinking has a limit in real time")]

use std::time::{Duration, Instant};

use proptest::strategy::ValueTree;

use crate::apart::Job;
use crate::plan::{self, Plan};
use crate::run::Outcome;
use crate::scenarios::Scenario;

/// A plan that fails, as small as it was made.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// The plan.
    pub plan: Plan,
    /// What comes of it.
    pub outcome: Outcome,
    /// How many plans were tried.
    pub tried: u64,
    /// Whether nothing smaller was left to try.
    pub complete: bool,
}

/// Shrinks the plan of a seed while it breaks the same guarantee, for so long. `tell` hears of each plan that was tried.
///
/// # Errors
///
/// That the seed does not fail, or why its process cannot be run.
pub fn shrink(
    scenario: &'static Scenario,
    seed: u64,
    limit: Duration,
    mut tell: impl FnMut(&Shrunk),
) -> Result<Shrunk, String> {
    let begun = Instant::now();
    let plans = (scenario.plans)();
    let mut tree = plan::tree(&plans, seed).map_err(|reason| format!("the plan cannot be drawn: {reason}"))?;
    let plan = tree.current();
    let outcome = Job::new(scenario, seed).with_plan(&plan).run()?;
    let Err(broken) = outcome.result.clone() else {
        return Err(format!("{} with seed {seed} passes: there is nothing to shrink", scenario.name));
    };
    let mut best = Shrunk { plan, outcome, tried: 0, complete: true };
    if !tree.simplify() {
        return Ok(best);
    }
    loop {
        if begun.elapsed() > limit {
            best.complete = false;
            return Ok(best);
        }
        let plan = tree.current();
        best.tried += 1;
        let fails = if plan == best.plan {
            true
        } else {
            let outcome = Job::new(scenario, seed).with_plan(&plan).run()?;
            let fails = outcome.result.as_ref().err().is_some_and(|now| now.guarantee == broken.guarantee);
            if fails {
                (best.plan, best.outcome) = (plan, outcome);
            }
            fails
        };
        tell(&best);
        let goes_on = if fails { tree.simplify() } else { tree.complicate() };
        if !goes_on {
            return Ok(best);
        }
    }
}
