//! `sim sweep`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Value, json};
use sim::capsule;
use sim::checks;
use sim::outcome::Outcome;
use sim::run::plan_of;
use sim::scenarios;
use sim::shrink::{PLANS, shrink};
use sim::sweep::{Event, Then};
use sim::totals::Totals;

use super::again;
use super::progress::Progress;
use crate::{BROKEN, NOT_DETERMINISTIC, SweepArgs, USAGE};

/// How many failures of a sweep get a capsule.
const CAPSULES_MAX: usize = 3;

pub(crate) fn sweep(args: &SweepArgs) -> ExitCode {
    let json = match args.json.as_deref().map(File::create).transpose() {
        Ok(json) => json.map(BufWriter::new),
        Err(error) => {
            eprintln!("sim: cannot write {}: {error}", args.json.clone().unwrap_or_default().display());
            return ExitCode::from(USAGE);
        }
    };
    let sweep = args.sweep();
    let of = args.seeds.map(|_| sweep.runs()).or((args.limit().is_none() && !args.until_stable).then(|| sweep.runs()));
    let mut report = Report {
        args,
        progress: Progress::new("runs", of),
        totals: Totals::default(),
        failures: Vec::new(),
        json,
        scenarios: BTreeMap::new(),
    };
    sweep.run(|event| report.hear(event));
    report.end()
}

/// What is told of a sweep, while it runs and at its end.
struct Report<'a> {
    args: &'a SweepArgs,
    progress: Progress,
    totals: Totals,
    failures: Vec<Outcome>,
    json: Option<BufWriter<File>>,
    /// Runs of each scenario.
    scenarios: BTreeMap<&'static str, u64>,
}

impl Report<'_> {
    fn hear(&mut self, event: Event) -> Then {
        let bad = match event {
            Event::Done(outcome, took) => self.done(*outcome, took),
            Event::Diverged(first, second) => {
                self.totals.runs += 1;
                self.totals.diverged += 1;
                self.write(&json!({ "scenario": first.scenario, "seed": first.seed, "outcome": "diverged" }));
                let again = again(first.scenario, first.seed);
                self.progress.say(&format!("NOT DETERMINISTIC\n  {first}\n  {second}\n  {again}"));
                true
            }
            Event::Lost { scenario, seed, how } => {
                self.totals.runs += 1;
                self.totals.failed += 1;
                self.write(&json!({ "scenario": scenario, "seed": seed, "outcome": "lost", "what": how }));
                self.progress.say(&format!("{scenario}, seed {seed}: FAILED, {how}\n  {}", again(scenario, seed)));
                true
            }
            Event::Quiet => false,
        };
        let (runs, failed, states) = (self.totals.runs, self.totals.failed, self.totals.states.len());
        let (rate, never) = (self.progress.rate(runs), self.totals.never().len());
        let all = checks::coverage::sometimes().len();
        self.progress.at(runs, || {
            format!("{rate:.0} a minute, {failed} failed; {} of {all} counters raised, {states} states", all - never)
        });
        let over = self.args.limit().is_some_and(|limit| self.progress.elapsed() >= limit)
            || self.args.until_stable && self.totals.is_stable();
        if bad && !self.args.keep_going || over { Then::Stop } else { Then::Continue }
    }

    fn done(&mut self, outcome: Outcome, took: Duration) -> bool {
        *self.scenarios.entry(outcome.scenario).or_default() += 1;
        let states = self.totals.states.len();
        self.totals.add(&outcome, took);
        let mut line = outcome.to_json();
        // What the states are is in the line of the sweep.
        line["states"] = outcome.states.len().into();
        line["reached"] = outcome.reached.len().into();
        line["new_states"] = (self.totals.states.len() - states).into();
        self.write(&line);
        if outcome.result.is_ok() {
            return false;
        }
        self.progress.say(&format!("{outcome}\n  {}", again(outcome.scenario, outcome.seed)));
        self.failures.push(outcome);
        true
    }

    fn end(mut self) -> ExitCode {
        self.progress.end();
        let (share, of) = self.args.shard;
        self.write(&json!({
            "sweep": self.totals,
            "revision": capsule::revision(),
            "scenarios": self.scenarios.keys().collect::<Vec<_>>(),
            "from": self.args.from,
            "seeds": self.args.seeds,
            "shard": [share + 1, of],
        }));
        if let Some(Err(error)) = self.json.as_mut().map(Write::flush) {
            self.not_complete(&error);
        }
        let (runs, failed, diverged) = (self.totals.runs, self.totals.failed, self.totals.diverged);
        say!(
            "{runs} runs, {failed} failed, {diverged} diverged; {:.1} s at {:.0} runs a minute, {:.0} s simulated",
            self.progress.elapsed().as_secs_f64(),
            self.progress.rate(runs),
            self.totals.simulated().as_secs_f64(),
        );
        let scenarios = self.scenarios.iter().map(|(name, runs)| format!("{name} {runs}")).collect::<Vec<_>>();
        say!("  runs of each scenario: {}", scenarios.join(", "));
        // Of one scenario most counters are none of its business.
        let is_all = self.scenarios.len() > 1;
        self.totals.lines(is_all).iter().for_each(|line| say!("{line}"));
        if !self.args.no_capsules {
            self.write_capsules();
        }
        let never = self.totals.never();
        if self.args.require_all && !never.is_empty() {
            say!("never: {}", never.join("; "));
        }
        match (diverged, failed, self.args.require_all && !never.is_empty()) {
            (0, 0, false) => ExitCode::SUCCESS,
            (0, ..) => ExitCode::from(BROKEN),
            _ => ExitCode::from(NOT_DETERMINISTIC),
        }
    }

    fn write_capsules(&self) {
        for failure in self.failures.iter().take(CAPSULES_MAX) {
            let Some(scenario) = scenarios::find(failure.scenario) else { continue };
            say!("shrinking {} with seed {} …", failure.scenario, failure.seed);
            let drawn = plan_of(scenario, failure.seed);
            let plan = match shrink(scenario, failure.seed, &drawn, PLANS, |_| {}) {
                Ok(shrunk) => {
                    say!("  {}", super::shrink::tried(&shrunk));
                    shrunk.plan
                }
                Err(why) => {
                    say!("  it is not shrunk: {why}");
                    drawn
                }
            };
            let directory = super::capsule(&self.args.capsules, failure.scenario, failure.seed);
            super::shrink::write(&directory, scenario, failure.seed, &plan);
        }
        let more = self.failures.len().saturating_sub(CAPSULES_MAX);
        if more > 0 {
            say!("{more} more failures have no capsule: `sim shrink SEED --scenario NAME` writes one");
        }
    }

    fn write(&mut self, value: &Value) {
        if let Some(json) = &mut self.json
            && let Err(error) = writeln!(json, "{value}")
        {
            self.json = None;
            self.not_complete(&error);
        }
    }

    fn not_complete(&self, error: &io::Error) {
        self.progress.say(&format!("sim: the JSON file is not complete: {error}"));
    }
}
