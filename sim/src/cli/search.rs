//! `sim search`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

use serde_json::{Value, json};
use sim::capsule;
use sim::outcome::Outcome;
use sim::plan::Plan;
use sim::scenarios::RANDOM;
use sim::search::{KEPT_MAX, Search, Then, Tried};
use sim::shrink::{PLANS, shrink};
use sim::subprocess::Ran;
use sim::totals::Totals;

use super::progress::Progress;
use crate::{BROKEN, NOT_DETERMINISTIC, SearchArgs, USAGE};

/// How many failures of a search get a capsule.
const CAPSULES_MAX: usize = 3;

pub(crate) fn search(args: &SearchArgs) -> ExitCode {
    let json = match args.json.as_deref().map(File::create).transpose() {
        Ok(json) => json.map(BufWriter::new),
        Err(error) => {
            eprintln!("sim: cannot write {}: {error}", args.json.clone().unwrap_or_default().display());
            return ExitCode::from(USAGE);
        }
    };
    let search = Search { scenario: RANDOM, seed: args.seed, runs: args.runs(), jobs: args.jobs() };
    let of = args.limit().is_none().then_some(search.runs);
    let mut report = Report {
        args,
        progress: Progress::new("runs", of),
        totals: Totals::default(),
        failures: Vec::new(),
        changes: BTreeMap::new(),
        kept: 0,
        reached: 0,
        json,
    };
    search.run(|tried| report.hear(tried));
    report.end()
}

/// What is told of a search, while it runs and at its end.
struct Report<'a> {
    args: &'a SearchArgs,
    progress: Progress,
    totals: Totals,
    /// Which runs failed, with which seed and plan.
    failures: Vec<(u64, u64, Plan)>,
    /// How often each change was made, and how often its run came to something new.
    changes: BTreeMap<&'static str, (u64, u64)>,
    kept: usize,
    reached: usize,
    json: Option<BufWriter<File>>,
}

impl Report<'_> {
    fn hear(&mut self, tried: Tried) -> Then {
        (self.kept, self.reached) = (tried.kept, tried.reached);
        for change in if tried.from.is_none() { &["drawn"][..] } else { &tried.changes } {
            let (made, new) = self.changes.entry(change).or_default();
            *made += 1;
            *new += u64::from(tried.new > 0);
        }
        let bad = match &tried.ran {
            Ran::Done(outcome, took) => {
                self.totals.add(outcome, *took);
                self.write(&line(&tried, outcome));
                outcome.result.is_err().then(|| outcome.to_string())
            }
            Ran::Diverged(first, second) => {
                self.totals.runs += 1;
                self.totals.diverged += 1;
                self.write(&json!({ "run": tried.number, "seed": tried.seed, "outcome": "diverged" }));
                Some(format!("NOT DETERMINISTIC\n  {first}\n  {second}"))
            }
            Ran::Lost(how) => {
                self.totals.runs += 1;
                self.totals.failed += 1;
                self.write(&json!({ "run": tried.number, "seed": tried.seed, "outcome": "lost", "what": how }));
                Some(format!("FAILED, {how}"))
            }
        };
        let runs = self.totals.runs;
        let (rate, failed, kept, reached) = (self.progress.rate(runs), self.totals.failed, self.kept, self.reached);
        self.progress.at(runs, || format!("{rate:.0} a minute, {failed} failed; {kept} plans kept, {reached} reached"));
        let over = self.args.limit().is_some_and(|limit| self.progress.elapsed() >= limit);
        let Some(bad) = bad else { return if over { Then::Stop } else { Then::Continue } };
        let how = match tried.from {
            Some(from) => format!("its plan is that of run {from}, but: {}", tried.changes.join("; ")),
            None => "its plan was drawn".to_owned(),
        };
        self.progress.say(&format!("run {}: {bad}\n  {how}", tried.number));
        self.failures.push((tried.number, tried.seed, tried.plan));
        if over || !self.args.keep_going { Then::Stop } else { Then::Continue }
    }

    fn end(mut self) -> ExitCode {
        self.progress.end();
        self.write(&json!({
            "search": self.totals,
            "revision": capsule::revision(),
            "search_seed": self.args.seed,
            "kept": self.kept,
            "reached": self.reached,
            "changes": self.changes,
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
        say!("  {} things reached; {} plans kept, of {KEPT_MAX} at most", self.reached, self.kept);
        for (change, (made, new)) in &self.changes {
            say!("  {change}: {made}, something new with {new}");
        }
        self.totals.lines(true).iter().for_each(|line| say!("{line}"));
        if !self.args.no_capsules {
            self.write_capsules();
        }
        match (diverged, failed) {
            (0, 0) => ExitCode::SUCCESS,
            (0, _) => ExitCode::from(BROKEN),
            _ => ExitCode::from(NOT_DETERMINISTIC),
        }
    }

    fn write_capsules(&self) {
        for (number, seed, plan) in self.failures.iter().take(CAPSULES_MAX) {
            say!("shrinking the plan of run {number} …");
            let shrunk = shrink(RANDOM, *seed, plan, PLANS, |_| {});
            let plan = match &shrunk {
                Ok(shrunk) => {
                    say!("  {}", super::shrink::tried(shrunk));
                    &shrunk.plan
                }
                Err(why) => {
                    say!("  it is not shrunk: {why}");
                    plan
                }
            };
            let directory = self.args.capsules.join(format!("search-{}-{number}", self.args.seed));
            super::shrink::write(&directory, RANDOM, *seed, plan);
        }
        let more = self.failures.len().saturating_sub(CAPSULES_MAX);
        if more > 0 {
            say!("{more} more failures have no capsule");
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

/// What is written of a run.
fn line(tried: &Tried, outcome: &Outcome) -> Value {
    let mut line = outcome.to_json();
    line["states"] = outcome.states.len().into();
    line["reached"] = outcome.reached.len().into();
    line["new"] = tried.new.into();
    line["run"] = tried.number.into();
    line["from"] = tried.from.into();
    line["changes"] = json!(tried.changes);
    line
}
