//! The command line of the simulation.

#![expect(clippy::disallowed_methods, reason = "progress is told in real time")]

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::process::{self, ExitCode};
use std::time::{Duration, Instant};
use std::{env, thread};

use clap::{Parser, Subcommand};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};
use sim::interpose;
use sim::run::{Outcome, TICK, run};
use sim::scenarios::{self, Scenario};
use sim::sweep::{Event, Sweep, Then};

/// A guarantee was broken.
const BROKEN: u8 = 1;
/// The command could not be carried out as given.
const USAGE: u8 = 2;
/// The same seed gave two different runs, or this program cannot simulate time.
const NOT_DETERMINISTIC: u8 = 3;

/// How often progress is told where there is no terminal.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// Runs evermux on a simulated network. A scenario and a seed decide a whole run: what fails once fails every time.
#[derive(Parser)]
#[command(
    name = "sim",
    version,
    after_help = "Exit status: 0 all passed; 1 a guarantee was broken; 2 usage; 3 not deterministic.\n\n\
        A run moves its clock in steps of 5 ms. It uses no real time, no real network and no real randomness, so that it\n\
        can be repeated on any machine with the same source and the same Cargo.lock."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run many seeds. Stops at the first failure, and prints the command that repeats it.
    #[command(
        after_help = "Examples:\n  sim sweep --seeds 1000\n  sim sweep --from 5000 --seeds 1000 --scenario echo --json out.jsonl"
    )]
    Sweep {
        /// How many seeds. Every scenario runs with every seed.
        #[arg(long, value_name = "N", default_value = "100")]
        seeds: NonZeroU64,
        /// The first seed.
        #[arg(long, value_name = "S", default_value_t = 0)]
        from: u64,
        /// Run this scenario alone (see `list`).
        #[arg(long, value_name = "NAME", value_parser = scenario)]
        scenario: Option<&'static Scenario>,
        /// How many runs at once. Default: one for each core.
        #[arg(long, value_name = "J")]
        jobs: Option<NonZeroUsize>,
        /// Write one JSON object for each run to this file, in the order in which runs end, and one for the sweep.
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
        /// Go on after a failure, and report all of them.
        #[arg(long)]
        keep_going: bool,
        /// Do each run twice, and compare. (A run that fails is always done twice.)
        #[arg(long)]
        twice: bool,
    },
    /// Run one seed again. What is printed is the same to the last byte every time.
    #[command(after_help = "Examples:\n  sim replay 17\n  sim replay 17 --scenario echo --trace | less")]
    Replay {
        /// The seed.
        seed: u64,
        /// Run this scenario alone. Default: all of them, one after the other.
        #[arg(long, value_name = "NAME", value_parser = scenario)]
        scenario: Option<&'static Scenario>,
        /// Print every event, with its simulated time in seconds.
        #[arg(long)]
        trace: bool,
        /// Print one JSON object for each run, and nothing else.
        #[arg(long, conflicts_with = "trace")]
        json: bool,
    },
    /// List the scenarios.
    List,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Err(error) = interpose::check() {
        eprintln!("sim: {error}");
        return ExitCode::from(NOT_DETERMINISTIC);
    }
    match cli.command {
        Command::Sweep { seeds, from, scenario, jobs, json, keep_going, twice } => {
            let jobs = jobs.or(thread::available_parallelism().ok()).map_or(1, NonZeroUsize::get);
            let sweep = Sweep { scenarios: chosen(scenario), from, seeds: seeds.get(), jobs, twice };
            match Report::new(&sweep, json.as_deref(), keep_going) {
                Ok(report) => report.follow(sweep),
                Err(error) => {
                    eprintln!("sim: cannot write {}: {error}", json.unwrap_or_default().display());
                    ExitCode::from(USAGE)
                }
            }
        }
        Command::Replay { seed, scenario: Some(scenario), trace, json } => replay(scenario, seed, trace, json),
        Command::Replay { seed, scenario: None, trace, json } => replay_all(seed, trace, json),
        Command::List => {
            for scenario in scenarios::ALL {
                println!("{:<12} {}", scenario.name, scenario.about);
            }
            ExitCode::SUCCESS
        }
    }
}

fn scenario(name: &str) -> Result<&'static Scenario, String> {
    scenarios::find(name).ok_or_else(|| {
        let known = scenarios::ALL.iter().map(|scenario| scenario.name).collect::<Vec<_>>();
        format!("there are: {}", known.join(", "))
    })
}

fn chosen(scenario: Option<&'static Scenario>) -> Vec<&'static Scenario> {
    scenario.map_or_else(|| scenarios::ALL.iter().collect(), |scenario| vec![scenario])
}

/// Runs each scenario in a process of its own, as a sweep does: beside others it would not be the same run.
fn replay_all(seed: u64, trace: bool, json: bool) -> ExitCode {
    let mut status = ExitCode::SUCCESS;
    for scenario in scenarios::ALL {
        let mut command = process::Command::new(env::current_exe().unwrap_or_else(|_| "sim".into()));
        command.args(["replay", &seed.to_string(), "--scenario", scenario.name]);
        command.args(trace.then_some("--trace")).args(json.then_some("--json"));
        match command.status() {
            Ok(ended) if ended.success() => {}
            Ok(ended) => status = ended.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(BROKEN).into(),
            Err(error) => {
                eprintln!("sim: {}, seed {seed}: its process cannot be run: {error}", scenario.name);
                status = BROKEN.into();
            }
        }
    }
    status
}

fn replay(scenario: &'static Scenario, seed: u64, trace: bool, json: bool) -> ExitCode {
    let output = trace.then(|| Box::new(BufWriter::new(io::stdout())) as Box<dyn Write + Send>);
    let outcome = run(scenario, seed, output);
    let line = if json { outcome.to_json().to_string() } else { outcome.to_string() };
    // Whoever reads may have seen enough.
    let _ = writeln!(io::stdout(), "{line}");
    if outcome.result.is_ok() { ExitCode::SUCCESS } else { BROKEN.into() }
}

/// What is told of a sweep, while it runs and at its end.
struct Report {
    begun: Instant,
    told: Instant,
    runs: u64,
    done: u64,
    failed: u64,
    diverged: u64,
    simulated: Duration,
    counters: std::collections::BTreeMap<String, u64>,
    bar: Option<ProgressBar>,
    json: Option<BufWriter<File>>,
    keep_going: bool,
}

impl Report {
    fn new(sweep: &Sweep, json: Option<&Path>, keep_going: bool) -> io::Result<Self> {
        let bar = io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{bar:30} {pos}/{len}  {elapsed}, {eta} left  {msg}");
            let bar = ProgressBar::with_draw_target(Some(sweep.runs()), ProgressDrawTarget::stderr());
            bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        Ok(Self {
            begun: Instant::now(),
            told: Instant::now(),
            runs: sweep.runs(),
            done: 0,
            failed: 0,
            diverged: 0,
            simulated: Duration::ZERO,
            counters: std::collections::BTreeMap::new(),
            bar,
            json: json.map(File::create).transpose()?.map(BufWriter::new),
            keep_going,
        })
    }

    fn follow(mut self, sweep: Sweep) -> ExitCode {
        sweep.run(|event| self.hear(event));
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        let totals = json!({
            "sweep": { "runs": self.done, "failed": self.failed, "diverged": self.diverged, "counters": self.counters },
        });
        self.write(&totals);
        if let Some(Err(error)) = self.json.as_mut().map(Write::flush) {
            self.say(&format!("sim: the JSON file is not complete: {error}"));
        }
        println!(
            "{} of {} runs done, {} failed, {} diverged; {:.1} s at {:.0} runs a minute; tick {} ms, {:.0} s simulated",
            self.done,
            self.runs,
            self.failed,
            self.diverged,
            self.begun.elapsed().as_secs_f64(),
            self.rate(),
            TICK.as_millis(),
            self.simulated.as_secs_f64(),
        );
        for (name, count) in &self.counters {
            println!("  {name}: {count}");
        }
        match (self.diverged, self.failed) {
            (0, 0) => ExitCode::SUCCESS,
            (0, _) => ExitCode::from(BROKEN),
            _ => ExitCode::from(NOT_DETERMINISTIC),
        }
    }

    fn hear(&mut self, event: Event) -> Then {
        let bad = match event {
            Event::Done(outcome) => self.done(&outcome),
            Event::Diverged(first, second) => {
                self.done += 1;
                self.diverged += 1;
                self.write(&json!({ "scenario": first.scenario, "seed": first.seed, "outcome": "diverged" }));
                self.say(&format!("NOT DETERMINISTIC\n  {first}\n  {second}\n  {}", again(first.scenario, first.seed)));
                true
            }
            Event::Lost { scenario, seed, how } => {
                self.failed += 1;
                self.write(&json!({ "scenario": scenario, "seed": seed, "outcome": "lost", "what": how }));
                self.say(&format!("{scenario}, seed {seed}: FAILED, {how}\n  {}", again(scenario, seed)));
                true
            }
            Event::Quiet => false,
        };
        self.tell_progress();
        if bad && !self.keep_going { Then::Stop } else { Then::Continue }
    }

    fn done(&mut self, outcome: &Outcome) -> bool {
        self.done += 1;
        self.simulated += outcome.simulated;
        for (name, count) in &outcome.counters {
            *self.counters.entry(name.to_string()).or_default() += count;
        }
        self.write(&outcome.to_json());
        if outcome.result.is_ok() {
            return false;
        }
        self.failed += 1;
        self.say(&format!("{outcome}\n  {}", again(outcome.scenario, outcome.seed)));
        true
    }

    fn write(&mut self, value: &Value) {
        if let Some(json) = &mut self.json
            && let Err(error) = writeln!(json, "{value}")
        {
            self.json = None;
            self.say(&format!("sim: the JSON file is not complete: {error}"));
        }
    }

    fn say(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| println!("{text}")),
            None => println!("{text}"),
        }
    }

    fn tell_progress(&mut self) {
        if let Some(bar) = &self.bar {
            bar.set_position(self.done);
            bar.set_message(format!("{:.0} a minute, {} failed", self.rate(), self.failed));
        } else if self.told.elapsed() >= TELL_EVERY {
            self.told = Instant::now();
            eprintln!("{} of {} runs, {:.0} a minute, {} failed", self.done, self.runs, self.rate(), self.failed);
        }
    }

    /// Runs a minute, in real time.
    #[allow(clippy::cast_precision_loss)]
    fn rate(&self) -> f64 {
        self.done as f64 * 60.0 / self.begun.elapsed().as_secs_f64().max(f64::MIN_POSITIVE)
    }
}

/// The command that repeats a run.
fn again(scenario: &str, seed: u64) -> String {
    format!("cargo run --release -p sim -- replay {seed} --scenario {scenario} --trace")
}
