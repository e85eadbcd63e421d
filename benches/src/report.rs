//! What the user sees: progress, the table, JSON.

use std::{
    io::{self, IsTerminal, Write},
    thread::available_parallelism,
    time::Duration,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};

use crate::{
    cases::{Case, Figure, Goal, Setup},
    measure::Sample,
    stats::Spread,
};

/// One contestant of one case.
pub(crate) struct Row {
    case: &'static Case,
    pub(crate) contestant: &'static str,
    pub(crate) samples: Vec<Sample>,
    pub(crate) failure: Option<String>,
    /// To the baseline of the same round.
    wall_ratio: Option<Spread>,
    cpu_ratio: Option<Spread>,
    p50_ratio: Option<Spread>,
    p99_ratio: Option<Spread>,
}

impl Row {
    pub(crate) fn new(case: &'static Case, contestant: &'static str) -> Self {
        Self {
            case,
            contestant,
            samples: Vec::new(),
            failure: None,
            wall_ratio: None,
            cpu_ratio: None,
            p50_ratio: None,
            p99_ratio: None,
        }
    }

    /// Divides what was measured by the baseline of the same round.
    pub(crate) fn compare(&mut self, baseline: &[Sample]) {
        let ratio = |of: fn(&Sample) -> Option<f64>| {
            // Where no time has passed there is nothing to divide by.
            Spread::of(
                self.samples
                    .iter()
                    .zip(baseline)
                    .filter_map(|(sample, baseline)| Some(of(sample)? / of(baseline).filter(|figure| *figure > 0.0)?)),
            )
        };
        let (wall, cpu) = (ratio(|sample| Some(sample.wall_ns)), ratio(|sample| Some(sample.cpu_ns)));
        let (p50, p99) = (ratio(|sample| sample.p50_ns), ratio(|sample| sample.p99_ns));
        (self.wall_ratio, self.cpu_ratio, self.p50_ratio, self.p99_ratio) = (wall, cpu, p50, p99);
    }

    fn spread(&self, of: fn(&Sample) -> Option<f64>) -> Option<Spread> {
        Spread::of(self.samples.iter().filter_map(of))
    }

    fn wall(&self) -> Option<Spread> {
        self.spread(|sample| Some(sample.wall_ns))
    }

    fn cpu(&self) -> Option<Spread> {
        self.spread(|sample| Some(sample.cpu_ns))
    }

    fn goals(&self) -> impl Iterator<Item = &'static Goal> {
        self.case.goals.iter().filter(|goal| goal.contestant == self.contestant)
    }

    /// Whether a goal is met; None where nothing was measured.
    fn meets(&self, goal: &Goal) -> Option<bool> {
        let reached = match goal.figure {
            Figure::WallRatio => self.wall_ratio,
            Figure::CpuRatio => self.cpu_ratio,
            Figure::WallNanos => self.wall(),
        };
        reached.map(|reached| reached.median <= goal.most)
    }

    fn goals_told(&self) -> String {
        let told = |goal: &Goal| {
            let met = match self.meets(goal) {
                Some(true) => "met",
                Some(false) => "NOT MET",
                None => "unknown",
            };
            format!("{} {met}", told(goal))
        };
        self.goals().map(told).collect::<Vec<_>>().join(", ")
    }

    fn more_told(&self) -> String {
        let latency = |name: &str, spread: Option<Spread>, ratio: Option<Spread>| {
            let ratio = ratio.map(|ratio| format!(" ({})", hundredths(ratio.median))).unwrap_or_default();
            spread.map(|spread| format!("{name} {}{ratio}", time(spread.median)))
        };
        let beside = self.spread(|sample| sample.bulk_mib_per_s);
        let retried = self.spread(|sample| sample.retried);
        [
            latency("p50", self.spread(|sample| sample.p50_ns), self.p50_ratio),
            latency("p99", self.spread(|sample| sample.p99_ns), self.p99_ratio),
            beside.map(|spread| format!("beside {:.0} MiB/s", spread.median)),
            retried.map(|spread| format!("{:.1} calls retried, none lost", spread.median)),
        ]
        .into_iter()
        .flatten()
        .collect::<Vec<_>>()
        .join(", ")
    }

    fn to_json(&self) -> Value {
        let goals = self.goals().map(|goal| {
            let figure = match goal.figure {
                Figure::WallRatio => "wall_ratio",
                Figure::CpuRatio => "cpu_ratio",
                Figure::WallNanos => "wall_ns",
            };
            json!({ "figure": figure, "most": goal.most, "met": self.meets(goal) })
        });
        json!({
            "case": self.case.name,
            "contestant": self.contestant,
            "unit": self.case.unit,
            "baseline": self.case.baseline,
            "rounds": self.samples.len(),
            "wall_ns": self.wall(),
            "cpu_ns": self.cpu(),
            "wall_ratio": self.wall_ratio,
            "cpu_ratio": self.cpu_ratio,
            "switches": self.spread(|sample| Some(sample.switches)),
            "p50_ns": self.spread(|sample| sample.p50_ns),
            "p99_ns": self.spread(|sample| sample.p99_ns),
            "p50_ratio": self.p50_ratio,
            "p99_ratio": self.p99_ratio,
            "bulk_mib_per_s": self.spread(|sample| sample.bulk_mib_per_s),
            "retried": self.spread(|sample| sample.retried),
            "goals": goals.collect::<Vec<_>>(),
            "failure": self.failure,
        })
    }
}

/// Lists the cases.
pub(crate) fn list(cases: &[&Case], json: bool) {
    let width = cases.iter().map(|case| case.name.len()).max().unwrap_or_default();
    for case in cases {
        let Case { name, about, unit, contestants, baseline, .. } = case;
        let goals = case.goals.iter().map(|goal| format!("{}: {}", goal.contestant, told(goal)));
        let goals: Vec<_> = goals.collect();
        if json {
            let case = json!({
                "case": name, "about": about, "unit": unit, "contestants": contestants, "baseline": baseline, "goals": goals,
            });
            say(None, &case.to_string());
        } else {
            let goals = if goals.is_empty() { String::new() } else { format!("; {}", goals.join(", ")) };
            say(None, &format!("{name:<width$}  {about}: {}{goals}", contestants.join(", ")));
        }
    }
}

/// Tells what happens.
pub(crate) struct Report {
    bar: Option<ProgressBar>,
    json: bool,
    case_width: usize,
    contestant_width: usize,
}

const FIGURE_WIDTH: usize = 8;
const RATIO_WIDTH: usize = 16;

impl Report {
    /// Of these cases. `steps` is how many samples there are, all together.
    pub(crate) fn new(cases: &[&Case], steps: usize, json: bool) -> Self {
        let bar = io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{bar:30} {pos}/{len}  {elapsed}, {eta} left  {wide_msg}");
            let bar = ProgressBar::with_draw_target(Some(steps as u64), ProgressDrawTarget::stderr());
            bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        let widest = |lens: &mut dyn Iterator<Item = usize>| lens.max().unwrap_or_default();
        let case_width = widest(&mut cases.iter().map(|case| case.name.len()));
        let contestants = cases.iter().flat_map(|case| case.contestants);
        Self { bar, json, case_width, contestant_width: widest(&mut contestants.map(|name| name.len())) }
    }

    /// A step has begun.
    pub(crate) fn doing(&self, what: &str) {
        match &self.bar {
            Some(bar) => bar.set_message(what.to_owned()),
            None => eprintln!("{what}"),
        }
    }

    /// A sample is made, or will not be.
    pub(crate) fn advance(&self) {
        if let Some(bar) = &self.bar {
            bar.inc(1);
        }
    }

    /// What was used, and what the columns are.
    pub(crate) fn heading(&self, setup: &Setup) {
        let cores = available_parallelism().map_or(0, usize::from);
        let Setup { scale, workers } = setup;
        let used = ["evermux", "yamux", "tokio-yamux", "tokio", "arc-swap"].map(|name| (name, version(name)));
        if self.json {
            let versions: serde_json::Map<_, _> =
                used.iter().map(|(name, version)| ((*name).to_owned(), json!(version))).collect();
            let settings = json!({
                "size": scale.name, "workers_per_end": workers, "cores": cores, "versions": versions,
                "transport": "loopback TCP, TCP_NODELAY",
            });
            return say(None, &json!({ "settings": settings }).to_string());
        }
        let versions = used.map(|(name, version)| format!("{name} {version}")).join(", ");
        self.say(&format!(
            "{versions}\n{} samples; {cores} cores; loopback TCP, TCP_NODELAY; each end a multi-thread tokio runtime with \
             {workers} workers, both in one process\n",
            scale.name,
        ));
        self.say(&format!(
            "{:<case$}  {:<contestant$}  {:>FIGURE_WIDTH$} {:>RATIO_WIDTH$}  {:>FIGURE_WIDTH$} {:>RATIO_WIDTH$}  {}",
            "case",
            "contestant",
            "wall",
            "ratio",
            "CPU",
            "ratio",
            "goals; more",
            case = self.case_width,
            contestant = self.contestant_width,
        ));
    }

    /// The rows of a case.
    pub(crate) fn rows(&self, case: &Case, rows: &[Row]) {
        for (index, row) in rows.iter().enumerate() {
            if self.json {
                self.say(&row.to_json().to_string());
                continue;
            }
            let told = match &row.failure {
                Some(why) => format!("FAILED: {why}"),
                None => {
                    let parts = [row.goals_told(), row.more_told()];
                    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("; ")
                }
            };
            let name = if index == 0 { case.name } else { "" };
            let is_baseline = row.contestant == case.baseline;
            let ratio = |ratio: Option<Spread>| match ratio {
                Some(_) if is_baseline => format!("1{:13}", ""),
                Some(Spread { low, median, high }) => {
                    format!("{} ({}–{})", hundredths(median), hundredths(low), hundredths(high))
                }
                None => "-".into(),
            };
            let figure = |figure: Option<Spread>| figure.map_or("-".into(), |figure| time(figure.median));
            let line = format!(
                "{name:<case_width$}  {:<contestant_width$}  {:>FIGURE_WIDTH$} {:>RATIO_WIDTH$}  {:>FIGURE_WIDTH$} \
                 {:>RATIO_WIDTH$}  {told}",
                row.contestant,
                figure(row.wall()),
                ratio(row.wall_ratio),
                figure(row.cpu()),
                ratio(row.cpu_ratio),
                case_width = self.case_width,
                contestant_width = self.contestant_width,
            );
            self.say(line.trim_end());
        }
    }

    /// The whole. Gives whether every sample was made.
    pub(crate) fn summary(&self, rows: &[Row], took: Duration) -> bool {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        let goals: Vec<_> = rows.iter().flat_map(|row| row.goals().map(move |goal| (row, goal))).collect();
        let missed: Vec<_> = goals
            .iter()
            .filter(|(row, goal)| row.meets(goal) != Some(true))
            .map(|(row, goal)| format!("{} {}", row.case.name, told(goal)))
            .collect();
        let failed: Vec<_> = rows
            .iter()
            .filter_map(|row| Some(format!("{} {}: {}", row.case.name, row.contestant, row.failure.as_ref()?)))
            .collect();
        if self.json {
            let summary = json!({
                "rows": rows.len(), "goals": goals.len(), "not_met": missed, "failed": failed,
                "seconds": took.as_secs_f64(),
            });
            self.say(&json!({ "summary": summary }).to_string());
        } else {
            let mut units = Vec::<(&str, Vec<&str>)>::new();
            for Case { name, unit, .. } in rows.iter().map(|row| row.case) {
                match units.iter_mut().find(|(known, _)| known == unit) {
                    Some((_, names)) if names.contains(name) => {}
                    Some((_, names)) => names.push(name),
                    None => units.push((unit, vec![name])),
                }
            }
            let units: Vec<_> =
                units.iter().map(|(unit, names)| format!("one {unit} ({})", names.join(", "))).collect();
            self.say(&format!("\nFigures are for {}", units.join("; ")));
            let (met, seconds) = (goals.len() - missed.len(), took.as_secs());
            self.say(&format!("{met} of {} goals met; {seconds} s", goals.len()));
            for goal in missed {
                self.say(&format!("not met: {goal}"));
            }
            for failure in &failed {
                self.say(&format!("failed: {failure}"));
            }
        }
        failed.is_empty()
    }

    fn say(&self, text: &str) {
        say(self.bar.as_ref(), text);
    }
}

pub(crate) fn say(bar: Option<&ProgressBar>, text: &str) {
    // Whoever reads may have seen enough.
    let print = || drop(writeln!(io::stdout(), "{text}"));
    match bar {
        Some(bar) => bar.suspend(print),
        None => print(),
    }
}

fn told(goal: &Goal) -> String {
    match goal.figure {
        Figure::WallRatio => format!("wall ≤ {}", hundredths(goal.most)),
        Figure::CpuRatio => format!("CPU ≤ {}", hundredths(goal.most)),
        Figure::WallNanos => format!("wall ≤ {}", time(goal.most)),
    }
}

fn hundredths(ratio: f64) -> String {
    format!("{ratio:.2}")
}

/// Nanoseconds in the unit that suits them.
fn time(nanos: f64) -> String {
    let (figure, unit) = match nanos {
        ..1e3 => (nanos, "ns"),
        ..1e6 => (nanos / 1e3, "µs"),
        ..1e9 => (nanos / 1e6, "ms"),
        _ => (nanos / 1e9, "s"),
    };
    let decimals = if figure < 10.0 { 2 } else { usize::from(figure < 100.0) };
    format!("{figure:.decimals$} {unit}")
}

/// The version of a crate that this program was built with.
fn version(name: &str) -> &'static str {
    let lock = include_str!("../../Cargo.lock");
    let entry = lock.split("[[package]]").find(|entry| entry.contains(&format!("\nname = \"{name}\"\n")));
    let version = entry.and_then(|entry| entry.lines().find_map(|line| line.strip_prefix("version = ")));
    version.map_or("?", |version| version.trim_matches('"'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_in_three_figures() {
        for (nanos, told) in [(2.6, "2.60 ns"), (12.34, "12.3 ns"), (9_400.0, "9.40 µs"), (123_456_789.0, "123 ms")] {
            assert_eq!(time(nanos), told);
        }
    }

    #[test]
    fn versions_are_known() {
        assert_eq!(version("yamux").split('.').count(), 3);
        assert_eq!(version("no such crate"), "?");
    }
}
