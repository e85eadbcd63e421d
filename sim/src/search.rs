//! A search: plans that came to something new are kept, and changed a little to come to more.
//!
//! It begins with plans as they are drawn. What a run has come to is a set of numbers ([`reached`](crate::reached), and how
//! often it counted what, to the power of two). A plan whose run came to a number that none before it had is kept, and from then
//! on most plans are [changes](crate::mutate) of one that is kept; the others are drawn as before, so that the search is not
//! caught among those it has.
//!
//! What is kept has a bound. Each plan is worth what its run came to, where a number counts the less the more runs came to it,
//! and less where the run was long. When there are too many, those go that are worth the least.
//!
//! Its seed decides all of it. Plans are made in their order, and so is looked at what came of them, whichever run ended first:
//! a plan is made when so many runs are still to be looked at before it ([`AHEAD`]), and never sooner.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;

use rand::{Rng, RngExt};
use twox_hash::XxHash3_64;

use crate::mutate::mutate;
use crate::outcome::Outcome;
use crate::plan::Plan;
use crate::random::rng;
use crate::run::plan_of;
use crate::scenarios::Scenario;
use crate::subprocess::{Job, Ran};

/// How many plans are kept.
pub const KEPT_MAX: usize = 256;
/// When there are more, so many go at once: to find out which takes a while.
const FORGOTTEN: usize = 16;
/// How many plans are made before it is known what came of the first of them. More processors than that are of no use.
pub const AHEAD: u64 = 32;
/// So many are drawn before one is changed.
const DRAWN_FIRST: u64 = 48;
/// Of those after them, one in so many.
const DRAWN_ONE_IN: u32 = 4;
/// Of the changed ones one in so many has another seed too: callers do something else at other moments.
const RESEEDED_ONE_IN: u32 = 4;
/// Of so many that are kept the best is changed.
const CANDIDATES: usize = 3;
/// What a number is worth that one run came to.
const WORTH: u64 = 1 << 16;
/// A run of so many events is worth half as much as a short one.
const LONG_EVENTS: u64 = 100_000;

/// A search.
#[derive(Clone, Copy)]
pub struct Search {
    /// What can run any plan.
    pub scenario: &'static Scenario,
    /// What decides all of it. The drawn plans are those of this seed and the next ones.
    pub seed: u64,
    /// How many runs.
    pub runs: u64,
    /// How many of them at once.
    pub jobs: NonZeroUsize,
}

/// A plan that was run.
pub struct Tried {
    /// Which run it is, from 0.
    pub number: u64,
    /// The seed of the run.
    pub seed: u64,
    /// Its plan.
    pub plan: Plan,
    /// Of which run its plan is a change. None if it was drawn.
    pub from: Option<u64>,
    /// What was changed.
    pub changes: Vec<&'static str>,
    /// What came of it.
    pub ran: Ran,
    /// How much it came to that no run before it had.
    pub new: usize,
    /// How many plans are kept after it.
    pub kept: usize,
    /// How much all runs so far have come to.
    pub reached: usize,
}

/// Whether a search goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// It does.
    Continue,
    /// It does not.
    Stop,
}

/// What is to be run next.
#[derive(Clone)]
struct Next {
    seed: u64,
    plan: Plan,
    from: Option<u64>,
    changes: Vec<&'static str>,
}

/// A plan that is kept.
struct Kept {
    number: u64,
    seed: u64,
    plan: Plan,
    reached: Vec<u64>,
    events: u64,
    /// How often it was changed.
    chosen: u64,
}

/// What is kept, and what it came to.
#[derive(Default)]
struct Corpus {
    kept: Vec<Kept>,
    /// To which number how many runs came.
    seen: BTreeMap<u64, u64>,
}

impl Search {
    /// Runs all, and tells of each in order.
    pub fn run(self, tell: impl FnMut(Tried) -> Then) {
        let scenario = self.scenario;
        self.run_by(move |seed, plan| Job::new(scenario, seed).with_plan(plan).run_once_or_twice(false), tell);
    }

    fn run_by(self, run: impl Fn(u64, &Plan) -> Ran + Send + Clone + 'static, mut tell: impl FnMut(Tried) -> Then) {
        let (send, plans) = mpsc::channel::<(u64, Next)>();
        let plans = Arc::new(Mutex::new(plans));
        let (ends, ended) = mpsc::channel();
        for _ in 0..self.jobs.get() {
            let (plans, ends, run) = (Arc::clone(&plans), ends.clone(), run.clone());
            thread::spawn(move || {
                loop {
                    let taken = plans.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    let Ok((number, next)) = taken else { return };
                    let ran = run(next.seed, &next.plan);
                    if ends.send((number, next, ran)).is_err() {
                        return;
                    }
                }
            });
        }
        let (mut corpus, mut waits) = (Corpus::default(), BTreeMap::new());
        let (mut made, mut drawn) = (0, 0);
        for number in 0..self.runs {
            while made < self.runs.min(number + AHEAD) {
                let next = self.next(made, &mut corpus, &mut drawn);
                if send.send((made, next)).is_err() {
                    return;
                }
                made += 1;
            }
            let (next, ran) = loop {
                if let Some(ran) = waits.remove(&number) {
                    break ran;
                }
                let Ok((number, next, ran)) = ended.recv() else { return };
                waits.insert(number, (next, ran));
            };
            let Next { seed, plan, from, changes } = next;
            let new = match &ran {
                Ran::Done(outcome, _) => corpus.add(number, seed, &plan, outcome),
                Ran::Diverged(..) | Ran::Lost(_) => 0,
            };
            let (kept, reached) = (corpus.kept.len(), corpus.seen.len());
            if tell(Tried { number, seed, plan, from, changes, ran, new, kept, reached }) == Then::Stop {
                return;
            }
        }
    }

    fn next(&self, number: u64, corpus: &mut Corpus, drawn: &mut u64) -> Next {
        let mut rng = rng(self.seed, &format!("plan {number} of a search"));
        let changes = number >= DRAWN_FIRST && !rng.random_ratio(1, DRAWN_ONE_IN);
        if let Some(next) = changes.then(|| corpus.change(&mut rng)).flatten() {
            return next;
        }
        let seed = self.seed.wrapping_add(*drawn);
        *drawn += 1;
        Next { seed, plan: plan_of(self.scenario, seed), from: None, changes: Vec::new() }
    }
}

impl Corpus {
    /// Looks at what a run came to, and keeps its plan if it is new. Gives how much of it is.
    fn add(&mut self, number: u64, seed: u64, plan: &Plan, outcome: &Outcome) -> usize {
        let reached = reached(outcome);
        let before = self.seen.len();
        for one in &reached {
            *self.seen.entry(*one).or_default() += 1;
        }
        let new = self.seen.len() - before;
        // What fails is told, and what is like it fails as well.
        if new > 0 && outcome.result.is_ok() {
            let events = outcome.trace.lines;
            self.kept.push(Kept { number, seed, plan: plan.clone(), reached, events, chosen: 0 });
            if self.kept.len() > KEPT_MAX {
                self.forget();
            }
        }
        new
    }

    /// Lets those go that are worth the least, the older ones of equals.
    fn forget(&mut self) {
        let mut worths = self.kept.iter().map(|kept| (self.worth(kept), kept.number)).collect::<Vec<_>>();
        worths.sort_unstable();
        worths.truncate(FORGOTTEN);
        self.kept.retain(|kept| !worths.iter().any(|(_, number)| *number == kept.number));
    }

    fn worth(&self, kept: &Kept) -> u64 {
        let seen = kept.reached.iter().filter_map(|one| self.seen.get(one));
        let worth: u64 = seen.map(|runs| WORTH / runs.max(&1)).sum();
        worth.saturating_mul(LONG_EVENTS) / (LONG_EVENTS + kept.events)
    }

    /// A change of one that is kept. None where there is none that is another plan.
    fn change(&mut self, rng: &mut impl Rng) -> Option<Next> {
        if self.kept.is_empty() {
            return None;
        }
        let any = |rng: &mut dyn Rng| rng.random_range(0..self.kept.len());
        let candidates: Vec<_> = (0..CANDIDATES).map(|_| any(rng)).collect();
        // What was changed often is worth less.
        let worth = |index: &usize| self.worth(&self.kept[*index]) / (1 + self.kept[*index].chosen);
        let chosen = candidates.into_iter().max_by_key(worth)?;
        let (parent, other) = (&self.kept[chosen], &self.kept[any(rng)]);
        let (plan, changes) = mutate(&parent.plan, &other.plan, rng);
        let seed = if rng.random_ratio(1, RESEEDED_ONE_IN) { rng.random_range(0..1 << 32) } else { parent.seed };
        let next = Next { seed, plan, from: Some(parent.number), changes };
        self.kept[chosen].chosen += 1;
        (!next.changes.is_empty()).then_some(next)
    }
}

/// What a run came to, as numbers.
fn reached(outcome: &Outcome) -> Vec<u64> {
    let counted = outcome.counters.iter().filter(|(_, count)| **count > 0);
    let counted = counted.map(|(name, count)| XxHash3_64::oneshot(format!("{name} {}", count.ilog2()).as_bytes()));
    outcome.reached.iter().copied().chain(counted).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use super::*;
    use crate::scenarios::RANDOM;
    use crate::trace::Summary;
    use crate::verdict::Violation;

    /// A run that comes to these numbers.
    fn outcome(reached: &[u64], result: Result<(), Violation>) -> Outcome {
        Outcome {
            scenario: RANDOM.name,
            seed: 0,
            kind: String::new(),
            trace: Summary { hash: 0, lines: 1_000 },
            simulated: Duration::ZERO,
            counters: BTreeMap::new(),
            worst: BTreeMap::new(),
            states: BTreeSet::new(),
            reached: reached.to_vec(),
            result,
        }
    }

    /// As many things as a plan has faults and callers of different kinds.
    fn runs(_: u64, plan: &Plan) -> Ran {
        let names = plan.faults.iter().map(|fault| &fault.kind).chain(plan.callers.iter().map(|caller| &caller.work));
        let numbers = names.map(|name| XxHash3_64::oneshot(name.as_bytes())).collect::<BTreeSet<_>>();
        let mut numbers = numbers.into_iter().collect::<Vec<_>>();
        // What two have in common is another thing.
        numbers.extend(numbers.clone().windows(2).map(|pair| pair[0] ^ pair[1]));
        Ran::Done(outcome(&numbers, Ok(())).into(), Duration::ZERO)
    }

    fn told(jobs: usize, seed: u64, late: bool) -> Vec<(u64, Plan, Option<u64>, usize, usize)> {
        let search = Search { scenario: RANDOM, seed, runs: 160, jobs: NonZeroUsize::new(jobs).unwrap() };
        let mut told = Vec::new();
        let run = move |seed: u64, plan: &Plan| {
            // The first of each few ends last.
            let turns = if late && seed.is_multiple_of(3) { 2_000 } else { 0 };
            (0..turns).for_each(|_| thread::yield_now());
            runs(seed, plan)
        };
        search.run_by(run, |tried| {
            assert_eq!(tried.number, told.len() as u64);
            told.push((tried.seed, tried.plan, tried.from, tried.new, tried.kept));
            Then::Continue
        });
        told
    }

    #[test]
    fn a_search_is_the_same_with_any_number_of_jobs_and_another_with_another_seed() {
        let alone = told(1, 3, false);
        assert_eq!(alone, told(4, 3, true));
        assert_ne!(alone, told(1, 4, false));
        assert!(alone[..48].iter().all(|(_, _, from, ..)| from.is_none()));
        let changed = alone.iter().filter(|(_, _, from, ..)| from.is_some()).count();
        assert!(changed > 50, "{changed}");
    }

    #[test]
    fn what_is_new_is_kept_and_what_fails_or_is_known_is_not() {
        let mut corpus = Corpus::default();
        let plan = plan_of(RANDOM, 0);
        assert_eq!(corpus.add(0, 0, &plan, &outcome(&[1, 2], Ok(()))), 2);
        assert_eq!(corpus.add(1, 0, &plan, &outcome(&[2, 1], Ok(()))), 0);
        assert_eq!(corpus.add(2, 0, &plan, &outcome(&[2, 3], Ok(()))), 1);
        assert_eq!(corpus.add(3, 0, &plan, &outcome(&[4], Err(Violation::new("G1", "")))), 1);
        assert_eq!(corpus.kept.iter().map(|kept| kept.number).collect::<Vec<_>>(), [0, 2]);
    }

    #[test]
    fn what_is_kept_has_a_bound_and_what_is_common_or_long_goes_first() {
        let mut corpus = Corpus::default();
        let plan = plan_of(RANDOM, 0);
        let mut long = outcome(&[0, 1], Ok(()));
        long.trace.lines = 900_000;
        corpus.add(0, 0, &plan, &long);
        for number in 1..1_000 {
            // Some came to more than others.
            let mut reached = vec![0, number];
            if number % 2 == 0 {
                reached.push(10_000 + number);
            }
            corpus.add(number, 0, &plan, &outcome(&reached, Ok(())));
            assert!(corpus.kept.len() <= KEPT_MAX);
        }
        assert!(corpus.kept.len() > KEPT_MAX - FORGOTTEN);
        assert!(corpus.kept.iter().all(|kept| kept.number != 0));
        let more = corpus.kept.iter().filter(|kept| kept.number % 2 == 0).count();
        assert!(more > 200, "{more}");
    }
}
