//! From a plan that fails to the smallest one that still fails.
//!
//! What it takes away first is what a reader has to understand first: faults, then callers, both by halves; then what is not as
//! usual in the settings and the network; then the numbers of what is left, and the time after the failure. What is left out
//! at the end, one part after the other, may have been needed only by what is gone.
//!
//! It is bounded by plans, and not by time: the same failure shrinks to the same plan on every machine.

use crate::outcome::Outcome;
use crate::parts::PARTS;
use crate::plan::{Network, Plan, Settings, Yields};
use crate::scenarios::Scenario;
use crate::subprocess::Job;
use crate::usage::Usage;
use crate::verdict::Violation;

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

/// How many plans a shrinking may take, if nothing else is said.
pub const PLANS: u64 = 400;

/// A plan that comes to no end counts as so many: it takes seconds of processor time to find that out.
const COST_OF_A_HANG: u64 = 20;

/// When a caller is left out, all faults may come earlier, by so many steps of so many milliseconds: what it did may have
/// been going on when they struck.
const EARLIER_STEPS: u64 = 40;
const EARLIER_STEP_MS: u64 = 37;

/// Shrinks a plan while it breaks the same guarantee, by up to so many plans. `tell` hears of each that was tried.
///
/// # Errors
///
/// That the plan does not fail with this seed, or why its process cannot be run.
pub fn shrink(
    scenario: &'static Scenario,
    seed: u64,
    plan: &Plan,
    plans: u64,
    tell: impl FnMut(&Shrunk),
) -> Result<Shrunk, String> {
    let plan = plan.clone();
    let outcome = Job::new(scenario, seed).with_plan(&plan).run()?;
    let Err(broken) = outcome.result.clone() else {
        return Err(format!("{} with seed {seed} passes: there is nothing to shrink", scenario.name));
    };
    let best = Shrunk { plan, outcome, tried: 0, complete: true };
    let mut search = Search { scenario, seed, broken, left: plans, best, tell };
    search.all()?;
    Ok(search.best)
}

/// The smallest plan so far, and how to try another.
struct Search<F> {
    scenario: &'static Scenario,
    seed: u64,
    broken: Violation,
    /// How much may still be tried.
    left: u64,
    best: Shrunk,
    tell: F,
}

/// A number of a plan, and how small it may become. None where the plan has no such part any more.
type Number = (fn(&mut Plan, usize) -> Option<&mut u64>, u64);

const OF_FAULTS: [Number; 2] = [
    (|plan, fault| plan.faults.get_mut(fault).map(|fault| &mut fault.lasts_ms), 1),
    (|plan, fault| plan.faults.get_mut(fault).map(|fault| &mut fault.at_ms), 0),
];
const OF_CALLERS: [Number; 1] = [(|plan, caller| plan.callers.get_mut(caller).map(|caller| &mut caller.pause_ms), 1)];
const OF_ALL: [Number; 1] = [(|plan, _| Some(&mut plan.calm_ms), 0)];

impl<F: FnMut(&Shrunk)> Search<F> {
    fn all(&mut self) -> Result<(), String> {
        self.by_halves(|plan| &mut plan.faults, 0)?;
        // Somebody must want a session.
        self.by_halves(|plan| &mut plan.callers, 1)?;
        self.leave_out()?;
        self.cut_the_end()?;
        for index in 0..self.best.plan.faults.len() {
            for number in OF_FAULTS {
                self.lessen(number, index)?;
            }
            self.lessen_severity(index)?;
        }
        for index in 0..self.best.plan.callers.len() {
            for number in OF_CALLERS {
                self.lessen(number, index)?;
            }
            self.lessen_bytes(index)?;
        }
        for number in OF_ALL {
            self.lessen(number, 0)?;
        }
        self.leave_out()
    }

    /// Whether a plan fails as the first one did. One that does is the best so far. None does when all were tried that may
    /// be.
    fn fails(&mut self, plan: Plan) -> Result<bool, String> {
        if plan == self.best.plan {
            return Ok(true);
        }
        if self.left == 0 {
            self.best.complete = false;
            return Ok(false);
        }
        self.best.tried += 1;
        let outcome = Job::new(self.scenario, self.seed).with_plan(&plan).run()?;
        let broken = outcome.result.as_ref().err().map(|broken| broken.guarantee.clone());
        let hangs = broken.as_deref() == Some("hang");
        self.left = self.left.saturating_sub(if hangs { COST_OF_A_HANG } else { 1 });
        let fails = broken.as_deref() == Some(&*self.broken.guarantee);
        if fails {
            (self.best.plan, self.best.outcome) = (plan, outcome);
        }
        (self.tell)(&self.best);
        Ok(fails)
    }

    /// Whether the best plan fails with a change as well.
    fn fails_with(&mut self, change: impl FnOnce(&mut Plan)) -> Result<bool, String> {
        let mut plan = self.best.plan.clone();
        change(&mut plan);
        self.fails(plan)
    }

    /// Takes away from a list, first halves of it and single entries at the end.
    fn by_halves<T>(&mut self, list: fn(&mut Plan) -> &mut Vec<T>, least: usize) -> Result<(), String> {
        let mut size = list(&mut self.best.plan).len().div_ceil(2);
        while size > 0 {
            let mut from = 0;
            loop {
                let len = list(&mut self.best.plan).len();
                let to = (from + size).min(len);
                if from >= to {
                    break;
                }
                let keeps_enough = len - (to - from) >= least;
                if !keeps_enough || !self.fails_with(|plan| drop(list(plan).drain(from..to)))? {
                    from = to;
                }
            }
            size /= 2;
        }
        Ok(())
    }

    /// Leaves out what can be left out, one part at a time.
    fn leave_out(&mut self) -> Result<(), String> {
        'anew: loop {
            for plan in without_a_part(&self.best.plan) {
                if self.fails(plan)? {
                    continue 'anew;
                }
                if self.left == 0 {
                    return Ok(());
                }
            }
            return Ok(());
        }
    }

    /// What comes after the failure is of no use.
    fn cut_the_end(&mut self) -> Result<(), String> {
        let failed_at = u64::try_from(self.best.outcome.simulated.as_millis()).unwrap_or(u64::MAX);
        if failed_at < self.best.plan.calm_ms {
            self.fails_with(|plan| plan.calm_ms = failed_at)?;
        }
        self.fails_with(|plan| plan.faults.retain(|fault| fault.at_ms <= failed_at))?;
        Ok(())
    }

    /// Makes a number as small as it may be: the smallest there is, or by halves.
    fn lessen(&mut self, (number, least): Number, index: usize) -> Result<(), String> {
        let Some(&mut mut high) = number(&mut self.best.plan, index) else { return Ok(()) };
        let set = |search: &mut Self, value: u64| {
            search.fails_with(|plan| {
                if let Some(number) = number(plan, index) {
                    *number = value;
                }
            })
        };
        if high <= least || set(self, least)? {
            return Ok(());
        }
        let mut low = least;
        while high - low > (high / 8).max(1) {
            let middle = low + (high - low) / 2;
            *(if set(self, middle)? { &mut high } else { &mut low }) = middle;
        }
        Ok(())
    }

    fn lessen_severity(&mut self, fault: usize) -> Result<(), String> {
        while self.best.plan.faults.get(fault).is_some_and(|fault| fault.severity > 0)
            && self.fails_with(|plan| plan.faults[fault].severity /= 2)?
        {}
        Ok(())
    }

    fn lessen_bytes(&mut self, caller: usize) -> Result<(), String> {
        while self.best.plan.callers.get(caller).is_some_and(|caller| caller.bytes > 1)
            && self.fails_with(|plan| plan.callers[caller].bytes /= 2)?
        {}
        Ok(())
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
        add(&|plan| plan.faults[fault].on = None);
    }
    add(&|plan| plan.settings = Settings::default());
    add(&|plan| plan.usage = Usage::default());
    add(&|plan| plan.network = Network { impairments: plan.network.impairments, ..Network::default() });
    add(&|plan| plan.network = Network::default());
    add(&|plan| plan.yields = Yields::default());
    add(&|plan| plan.yields.order = 0);
    add(&|plan| plan.foreign = None);
    add(&|plan| plan.fleet = 0);
    add(&|plan| plan.fleet /= 2);
    for part in PARTS {
        add(&|plan| part(plan, &Settings::default(), &Network::default(), &Usage::default()));
    }
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
    use crate::usage::Usage;

    #[test]
    fn each_part_is_left_out_and_the_last_caller_never() {
        let caller = Caller { work: "request".into(), side: Side::Establisher, pause_ms: 1, bytes: 1 };
        let fault =
            Fault { kind: "cut".into(), at_ms: 5_000, on: None, lasts_ms: 1, side: Side::Receiver, severity: 0 };
        let mut plan = Plan {
            network: Network { latency_ms: 77, ..Network::default() },
            settings: Settings { sessions: 3, ..Settings::default() },
            usage: Usage::default(),
            foreign: None,
            fleet: 0,
            callers: vec![caller.clone(), caller],
            faults: vec![fault.clone(), fault],
            calm_ms: 1_000,
            yields: Yields { percent: 20, order: 3 },
        };
        let plans = without_a_part(&plan);
        let some = |what: &dyn Fn(&Plan) -> bool| plans.iter().filter(|plan| what(plan)).count();
        assert_eq!(some(&|plan| plan.faults.len() == 1), 2);
        assert_eq!(some(&|plan| plan.settings == Settings::default()), 2);
        assert!(some(&|plan| plan.network == Network::default()) > 0);
        assert_eq!(some(&|plan| plan.yields == Yields::default()), 1);
        assert_eq!(some(&|plan| plan.yields == Yields { percent: 20, order: 0 }), 1);
        assert!(some(&|plan| plan.callers.len() == 1 && plan.faults[0].at_ms == 5_000) == 2);
        assert!(some(&|plan| plan.callers.len() == 1 && plan.faults[0].at_ms < 5_000) > 2);
        plan.callers.pop();
        assert!(without_a_part(&plan).iter().all(|plan| plan.callers.len() == 1));
    }
}
