//! Plans that are nearly as others: what a [search](crate::search) makes of those that came to something new.
//!
//! What is put in is drawn from what all plans are drawn from, and callers are let do what they can as in a plan that was
//! drawn, so that what the checks compute from a plan holds for what comes out.

use proptest::strategy::{BoxedStrategy, Strategy as _, ValueTree as _};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use rand::{Rng, RngExt};

use crate::draw::{
    FAULT_BEGINS_BEFORE_MS, FAULT_LASTS_MS, any_caller_of, any_fault_of, any_network, any_on, any_settings, any_usage,
    any_yields, check, suited,
};
use crate::faults;
use crate::parts::PARTS;
use crate::plan::{Fault, Plan};
use crate::work;

/// A plan has at most so many faults and callers: what all the plans of a search may come to.
pub const FAULTS_MAX: usize = 10;
/// See [`FAULTS_MAX`].
pub const CALLERS_MAX: usize = 8;

/// At most so many changes at once.
const CHANGES_MAX: u32 = 6;
/// A fault that is moved a little is moved by at most so much.
const LITTLE_MS: u64 = 400;

/// A way to change a plan. What it needs of another plan it takes from that.
struct Change {
    name: &'static str,
    /// False where it does not fit the plan, which is left as it was.
    make: fn(&mut Plan, &Plan, &mut dyn Rng) -> bool,
    /// How often it is drawn, beside the others.
    weight: u32,
}

/// Every way to change a plan.
const CHANGES: [Change; 13] = [
    Change { name: "a fault comes a little sooner or later", make: nudge_fault, weight: 4 },
    Change { name: "a fault comes at another time", make: move_fault, weight: 2 },
    Change { name: "a fault waits for another event", make: tie_fault, weight: 4 },
    Change { name: "a fault lasts otherwise", make: stretch_fault, weight: 2 },
    Change { name: "one fault more", make: add_fault, weight: 4 },
    Change { name: "a fault twice", make: repeat_fault, weight: 3 },
    Change { name: "one fault less", make: remove_fault, weight: 2 },
    Change { name: "one caller more", make: add_caller, weight: 2 },
    Change { name: "a caller does something else", make: replace_caller, weight: 2 },
    Change { name: "one caller less", make: remove_caller, weight: 1 },
    Change { name: "a setting is another one", make: redraw_part, weight: 4 },
    Change { name: "the faults of another plan", make: splice, weight: 3 },
    Change { name: "another order of tasks", make: reorder, weight: 3 },
];

/// Another plan than this, with what the other one has where two are spliced; and what was changed.
pub fn mutate(plan: &Plan, other: &Plan, rng: &mut impl Rng) -> (Plan, Vec<&'static str>) {
    let weights: u32 = CHANGES.iter().map(|change| change.weight).sum();
    let mut changed = plan.clone();
    let mut made = Vec::new();
    for _ in 0..CHANGES_MAX {
        let mut drawn = rng.random_range(0..weights);
        let change = CHANGES.iter().find(|change| {
            let is_it = drawn < change.weight;
            drawn = drawn.saturating_sub(change.weight);
            is_it
        });
        let Some(change) = change else { continue };
        let mut next = changed.clone();
        if !(change.make)(&mut next, other, rng) {
            continue;
        }
        let next = suited(next);
        if next == changed || check(&next).is_err() {
            continue;
        }
        changed = next;
        made.push(change.name);
        // Half of the time that is all.
        if rng.random() {
            break;
        }
    }
    // One change may have undone another.
    if changed == *plan {
        made.clear();
    }
    (changed, made)
}

/// A value of its own randomness.
fn draw<T: std::fmt::Debug>(from: &BoxedStrategy<T>, rng: &mut dyn Rng) -> Option<T> {
    let mut key = [0; 32];
    rng.fill_bytes(&mut key);
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &key);
    Some(from.new_tree(&mut TestRunner::new_with_rng(Config::default(), rng)).ok()?.current())
}

fn index(len: usize, rng: &mut dyn Rng) -> Option<usize> {
    (len > 0).then(|| rng.random_range(0..len))
}

fn a_fault<'a>(plan: &'a mut Plan, rng: &mut dyn Rng) -> Option<&'a mut Fault> {
    let index = index(plan.faults.len(), rng)?;
    plan.faults.get_mut(index)
}

fn any_fault() -> BoxedStrategy<Fault> {
    let kinds = faults::ALL.iter().map(|kind| kind.name).collect();
    any_fault_of(kinds, FAULT_BEGINS_BEFORE_MS, FAULT_LASTS_MS)
}

fn any_caller() -> BoxedStrategy<crate::plan::Caller> {
    any_caller_of(work::ALL.iter().filter(|work| work.drawn).map(|work| work.name).collect())
}

fn nudge_fault(plan: &mut Plan, _: &Plan, rng: &mut dyn Rng) -> bool {
    let Some(fault) = a_fault(plan, rng) else { return false };
    let by = rng.random_range(1..=LITTLE_MS);
    match &mut fault.on {
        Some(on) => on.after_ms = rng.random_range(0..=LITTLE_MS),
        None if rng.random() => fault.at_ms = (fault.at_ms + by).min(FAULT_BEGINS_BEFORE_MS),
        None => fault.at_ms = fault.at_ms.saturating_sub(by),
    }
    true
}

fn move_fault(plan: &mut Plan, _: &Plan, rng: &mut dyn Rng) -> bool {
    // Beside another one, or anywhere.
    let beside = a_fault(plan, rng).map(|fault| fault.at_ms).filter(|_| rng.random());
    let Some(fault) = a_fault(plan, rng) else { return false };
    fault.at_ms = match beside {
        Some(at_ms) => (at_ms + rng.random_range(0..LITTLE_MS)).min(FAULT_BEGINS_BEFORE_MS),
        None => rng.random_range(0..FAULT_BEGINS_BEFORE_MS),
    };
    true
}

fn tie_fault(plan: &mut Plan, _: &Plan, rng: &mut dyn Rng) -> bool {
    let on = draw(&any_on(), rng);
    let (Some(fault), Some(on)) = (a_fault(plan, rng), on) else { return false };
    fault.on = on;
    true
}

fn stretch_fault(plan: &mut Plan, _: &Plan, rng: &mut dyn Rng) -> bool {
    let Some(fault) = a_fault(plan, rng) else { return false };
    if rng.random() {
        fault.severity = rng.random_range(0..=100);
    } else {
        let longest = if rng.random() { 1_000 } else { FAULT_LASTS_MS };
        fault.lasts_ms = rng.random_range(1..longest);
    }
    true
}

fn add_fault(plan: &mut Plan, _: &Plan, rng: &mut dyn Rng) -> bool {
    match draw(&any_fault(), rng).filter(|_| plan.faults.len() < FAULTS_MAX) {
        Some(fault) => plan.faults.push(fault),
        None => return false,
    }
    true
}

fn repeat_fault(plan: &mut Plan, _: &Plan, rng: &mut dyn Rng) -> bool {
    let Some(mut fault) = a_fault(plan, rng).map(|fault| fault.clone()) else { return false };
    if plan.faults.len() >= FAULTS_MAX {
        return false;
    }
    fault.at_ms = (fault.at_ms + rng.random_range(1..5_000)).min(FAULT_BEGINS_BEFORE_MS);
    plan.faults.push(fault);
    true
}

fn remove_fault(plan: &mut Plan, _: &Plan, rng: &mut dyn Rng) -> bool {
    let Some(index) = index(plan.faults.len(), rng) else { return false };
    plan.faults.remove(index);
    true
}

fn add_caller(plan: &mut Plan, _: &Plan, rng: &mut dyn Rng) -> bool {
    match draw(&any_caller(), rng).filter(|_| plan.callers.len() < CALLERS_MAX) {
        Some(caller) => plan.callers.push(caller),
        None => return false,
    }
    true
}

fn replace_caller(plan: &mut Plan, _: &Plan, rng: &mut dyn Rng) -> bool {
    let (Some(index), Some(caller)) = (index(plan.callers.len(), rng), draw(&any_caller(), rng)) else {
        return false;
    };
    plan.callers[index] = caller;
    true
}

fn remove_caller(plan: &mut Plan, _: &Plan, rng: &mut dyn Rng) -> bool {
    // Somebody must want a session.
    let Some(index) = index(plan.callers.len(), rng).filter(|_| plan.callers.len() > 1) else { return false };
    plan.callers.remove(index);
    true
}

fn redraw_part(plan: &mut Plan, _: &Plan, rng: &mut dyn Rng) -> bool {
    let drawn = (draw(&any_settings(), rng), draw(&any_network(), rng), draw(&any_usage(), rng));
    let (Some(settings), Some(network), Some(usage)) = drawn else { return false };
    PARTS[rng.random_range(0..PARTS.len())](plan, &settings, &network, &usage);
    true
}

fn splice(plan: &mut Plan, other: &Plan, rng: &mut dyn Rng) -> bool {
    // Some of the other's, and of one's own as many as there is room for.
    let Some(from) = index(other.faults.len(), rng) else { return false };
    let own = index(plan.faults.len() + 1, rng).unwrap_or(0);
    plan.faults.truncate(own);
    plan.faults.extend(other.faults[from..].iter().cloned());
    plan.faults.truncate(FAULTS_MAX);
    true
}

fn reorder(plan: &mut Plan, _: &Plan, rng: &mut dyn Rng) -> bool {
    match draw(&any_yields(), rng) {
        // The same often another order.
        Some(yields) if plan.yields.percent > 0 && rng.random() => plan.yields.order = yields.order,
        Some(yields) => plan.yields = yields,
        None => return false,
    }
    true
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::draw::{any_plan, draw as draw_plan};
    use crate::random::rng;

    #[test]
    fn what_comes_of_a_plan_is_another_valid_one_each_change_occurs_and_the_seed_decides() {
        let plans = any_plan(1..=6, 0..=8);
        let plan_of = |seed| draw_plan(&plans, seed).unwrap();
        let mut all = BTreeSet::new();
        for seed in 0..400 {
            let (plan, other) = (plan_of(seed), plan_of(seed + 1));
            let (mut changed, made) = mutate(&plan, &other, &mut rng(seed, "mutation"));
            assert_eq!(mutate(&plan, &other, &mut rng(seed, "mutation")), (changed.clone(), made.clone()));
            assert_eq!(made.is_empty(), changed == plan);
            all.extend(made);
            for _ in 0..5 {
                changed = mutate(&changed, &other, &mut rng(seed, "again")).0;
            }
            check(&changed).unwrap();
            assert!(changed.faults.len() <= FAULTS_MAX && (1..=CALLERS_MAX).contains(&changed.callers.len()));
            assert!(changed.faults.iter().all(|fault| fault.at_ms <= FAULT_BEGINS_BEFORE_MS));
        }
        assert_eq!(all, CHANGES.iter().map(|change| change.name).collect());
    }
}
