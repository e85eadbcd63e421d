//! From a plan that fails to the smallest one that still fails.

#![expect(clippy::disallowed_methods, reason = "shrinking has a limit in real time")]

use std::time::{Duration, Instant};

use proptest::strategy::ValueTree;

use crate::apart::Job;
use crate::plan::{self, Network, Plan, Settings};
use crate::run::{Broken, Outcome};
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

/// When a caller is left out, all faults may come earlier, by so many steps of so many milliseconds: what it did may have
/// been going on when they struck.
const EARLIER_STEPS: u64 = 40;
const EARLIER_STEP_MS: u64 = 37;

/// Shrinks the plan of a seed while it breaks the same guarantee, for so long. `tell` hears of each plan that was tried.
///
/// First as proptest does, each part of the plan after the other. What a part needed then it may not need any more when
/// those after it have shrunk: so each caller, each fault and whatever is not as usual is left out once more at the end.
///
/// # Errors
///
/// That the seed does not fail, or why its process cannot be run.
pub fn shrink(
    scenario: &'static Scenario,
    seed: u64,
    limit: Duration,
    tell: impl FnMut(&Shrunk),
) -> Result<Shrunk, String> {
    let plans = (scenario.plans)();
    let tree = plan::tree(&plans, seed).map_err(|reason| format!("the plan cannot be drawn: {reason}"))?;
    let plan = tree.current();
    let outcome = Job::new(scenario, seed).with_plan(&plan).run()?;
    let Err(broken) = outcome.result.clone() else {
        return Err(format!("{} with seed {seed} passes: there is nothing to shrink", scenario.name));
    };
    let best = Shrunk { plan, outcome, tried: 0, complete: true };
    let mut search = Search { scenario, seed, broken, until: Instant::now() + limit, best, tell };
    search.simplify(tree)?;
    search.leave_out()?;
    Ok(search.best)
}

/// The smallest plan so far, and how to try another.
struct Search<F> {
    scenario: &'static Scenario,
    seed: u64,
    broken: Broken,
    until: Instant,
    best: Shrunk,
    tell: F,
}

impl<F: FnMut(&Shrunk)> Search<F> {
    /// Whether the time is over.
    fn is_over(&mut self) -> bool {
        self.best.complete = Instant::now() < self.until;
        !self.best.complete
    }

    /// Whether a plan fails as the first one did. One that does is the best so far.
    fn fails(&mut self, plan: Plan) -> Result<bool, String> {
        self.best.tried += 1;
        let mut fails = plan == self.best.plan;
        if !fails {
            let outcome = Job::new(self.scenario, self.seed).with_plan(&plan).run()?;
            fails = outcome.result.as_ref().err().is_some_and(|now| now.guarantee == self.broken.guarantee);
            if fails {
                (self.best.plan, self.best.outcome) = (plan, outcome);
            }
        }
        (self.tell)(&self.best);
        Ok(fails)
    }

    /// Goes down the tree of a drawn plan.
    fn simplify(&mut self, mut tree: impl ValueTree<Value = Plan>) -> Result<(), String> {
        let mut goes_on = tree.simplify();
        while goes_on && !self.is_over() {
            goes_on = if self.fails(tree.current())? { tree.simplify() } else { tree.complicate() };
        }
        Ok(())
    }

    /// Leaves out what can be left out.
    fn leave_out(&mut self) -> Result<(), String> {
        'anew: loop {
            for plan in without_a_part(&self.best.plan) {
                if self.is_over() {
                    return Ok(());
                }
                if self.fails(plan)? {
                    continue 'anew;
                }
            }
            return Ok(());
        }
    }
}

/// Every plan that has one part less.
fn without_a_part(plan: &Plan) -> Vec<Plan> {
    let mut plans = Vec::new();
    let mut add = |change: &dyn Fn(&mut Plan)| {
        let mut smaller = plan.clone();
        change(&mut smaller);
        if smaller != *plan {
            plans.push(smaller);
        }
    };
    for fault in 0..plan.faults.len() {
        add(&|plan| drop(plan.faults.remove(fault)));
    }
    add(&|plan| plan.settings = Settings::default());
    add(&|plan| plan.network = Network { transport: plan.network.transport, ..Network::default() });
    add(&|plan| plan.network = Network::default());
    // Somebody must want a session.
    let callers = if plan.callers.len() > 1 { plan.callers.len() } else { 0 };
    let steps = if plan.faults.is_empty() { 0 } else { EARLIER_STEPS };
    for caller in 0..callers {
        for step in 0..=steps {
            add(&|plan| {
                plan.callers.remove(caller);
                for fault in &mut plan.faults {
                    fault.at_ms = fault.at_ms.saturating_sub(step * EARLIER_STEP_MS);
                }
            });
        }
    }
    plans
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Caller, Fault, Side};

    #[test]
    fn each_part_is_left_out_and_the_last_caller_never() {
        let caller = Caller { work: "request".into(), side: Side::Establisher, pause_ms: 1, bytes: 1 };
        let fault = Fault { kind: "cut".into(), at_ms: 5_000, lasts_ms: 1, side: Side::Receiver, degree: 0 };
        let mut plan = Plan {
            network: Network { latency_ms: 77, ..Network::default() },
            settings: Settings { sessions: 3, ..Settings::default() },
            callers: vec![caller.clone(), caller],
            faults: vec![fault.clone(), fault],
            calm_ms: 1_000,
        };
        let plans = without_a_part(&plan);
        let some = |what: &dyn Fn(&Plan) -> bool| plans.iter().filter(|plan| what(plan)).count();
        assert_eq!(some(&|plan| plan.faults.len() == 1), 2);
        assert_eq!(some(&|plan| plan.settings == Settings::default()), 1);
        assert!(some(&|plan| plan.network == Network::default()) > 0);
        assert!(some(&|plan| plan.callers.len() == 1 && plan.faults[0].at_ms == 5_000) == 2);
        assert!(some(&|plan| plan.callers.len() == 1 && plan.faults[0].at_ms < 5_000) > 2);
        plan.callers.pop();
        assert!(without_a_part(&plan).iter().all(|plan| plan.callers.len() == 1));
    }
}
