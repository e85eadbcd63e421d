//! The command line of the simulation.

#![expect(clippy::disallowed_methods, reason = "progress is told in real time")]

use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use sim::interpose;
use sim::scenarios::{self, Group, Scenario};
use sim::sweep::Sweep;

mod cli;

/// A guarantee was broken.
const BROKEN: u8 = 1;
/// The command could not be carried out as given.
const USAGE: u8 = 2;
/// The same seed gave two different runs, or this program cannot simulate time.
const NOT_DETERMINISTIC: u8 = 3;

/// Runs evermux on a simulated network. A scenario and a seed decide a whole run: what fails once fails every time.
#[derive(Parser)]
#[command(
    name = "sim",
    version,
    after_help = "Exit status: 0 passed; 1 a guarantee was broken, or a counter was never raised; 2 usage; 3 not deterministic.\n\n\
        A run moves its clock in steps of 5 ms (20 ms in `soak`, 50 ms in `idle`). It uses no real time, no real network and no real\n\
        randomness, so that it can be repeated on any machine with the same source and the same Cargo.lock."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run many seeds. A failure is shrunk and written down as a capsule, which `replay` takes.
    #[command(after_help = "Examples:\n  sim sweep --seeds 1000\n  sim sweep --until-stable --minutes 30\n  \
            sim sweep --from 5000 --seeds 1000 --scenario harmless --json out.jsonl\n  \
            sim sweep --seeds 9000 --shard 2/3 --json slice-2.jsonl   (one of three machines; see `merge`)")]
    Sweep(SweepArgs),
    /// Search: keep the plans whose runs came to something new, and change them a little. The plans are those of `random`, and
    /// the seed decides the whole search. A failure is shrunk and written down as one of a sweep is.
    #[command(
        after_help = "Examples:\n  sim search --runs 2000\n  sim search --seed 7 --minutes 30 --keep-going --json out.jsonl"
    )]
    Search(SearchArgs),
    /// Run one seed, or the plan of a capsule, again. What is printed is the same to the last byte every time.
    #[command(after_help = "Examples:\n  sim replay 17\n  sim replay 17 --scenario harmless --trace | less\n  \
            sim replay target/sim-failures/random-17")]
    Replay(ReplayArgs),
    /// Find the smallest plan of a seed that still breaks the same guarantee, and write it down as a capsule.
    #[command(after_help = "Example:\n  sim shrink 17 --scenario random")]
    Shrink {
        /// The seed.
        seed: u64,
        /// The scenario (see `list`).
        #[arg(long, value_name = "NAME", value_parser = scenario, default_value = "random")]
        scenario: &'static Scenario,
        /// Try at most this many plans. One that comes to no end counts as 20.
        #[arg(long, value_name = "N", default_value_t = sim::shrink::PLANS)]
        plans: u64,
        /// Where capsules are written.
        #[arg(long, value_name = "DIR", default_value = CAPSULES)]
        capsules: PathBuf,
    },
    /// Prove that runs are deterministic: each seed in three processes, idle and with every core busy. And that the proof
    /// would find it: with a clock that is wrong, as a real one would be, no two runs of a seed may be the same.
    Prove {
        /// How many seeds.
        #[arg(long, value_name = "N", default_value = "10")]
        seeds: NonZeroU64,
        /// The first seed.
        #[arg(long, value_name = "S", default_value_t = 0)]
        from: u64,
        /// Prove it of this scenario alone. Default: those that a sweep has, and `control`.
        #[arg(long, value_name = "NAME", value_parser = scenario)]
        scenario: Option<&'static Scenario>,
    },
    /// Add up what sweeps of several machines wrote with `--json`.
    #[command(after_help = "Example:\n  sim merge slice-*.jsonl --require-all")]
    Merge {
        /// The files.
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Fail when a counter was never raised.
        #[arg(long)]
        require_all: bool,
        /// Print one JSON object, and nothing else.
        #[arg(long)]
        json: bool,
    },
    /// List the scenarios, the kinds of faults and of work, and the counters that a sweep must raise.
    List,
}

/// What stands for all scripted scenarios.
const SCRIPTED: &str = "scripted";

/// Where capsules are written, if nothing else is said.
const CAPSULES: &str = "target/sim-failures";

#[derive(Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
struct SweepArgs {
    /// How many seeds. Every scenario runs with every seed. Default: 100, or no end with --minutes or --until-stable.
    #[arg(long, value_name = "N")]
    seeds: Option<NonZeroU64>,
    /// The first seed.
    #[arg(long, value_name = "S", default_value_t = 0)]
    from: u64,
    /// Run this scenario alone (see `list`), or all that are `scripted`.
    #[arg(long, value_name = "NAME", value_parser = choice)]
    scenario: Option<Choice>,
    /// Run the K-th of N shares of the seeds: every N-th one.
    #[arg(long, value_name = "K/N", value_parser = shard, default_value = "1/1")]
    shard: (u64, u64),
    /// How many runs at once. Default: one for each core.
    #[arg(long, value_name = "J")]
    jobs: Option<NonZeroUsize>,
    /// Stop after this many minutes.
    #[arg(long, value_name = "M")]
    minutes: Option<NonZeroU64>,
    /// Stop when every counter was raised, and the last third of the runs found less than one new state in 50 runs.
    #[arg(long)]
    until_stable: bool,
    /// Fail when a counter of `list` was never raised.
    #[arg(long)]
    require_all: bool,
    /// Write one JSON object for each run to this file, in the order in which runs end, and one for the sweep.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Go on after a failure, and report all of them.
    #[arg(long)]
    keep_going: bool,
    /// Do each run twice, and compare. (A run that fails is always done twice.)
    #[arg(long)]
    twice: bool,
    /// Write no capsules.
    #[arg(long)]
    no_capsules: bool,
    /// Where capsules are written.
    #[arg(long, value_name = "DIR", default_value = CAPSULES)]
    capsules: PathBuf,
}

impl SweepArgs {
    fn sweep(&self) -> Sweep {
        let jobs = jobs(self.jobs).get();
        let endless = self.minutes.is_some() || self.until_stable;
        let seeds = self.seeds.map_or(if endless { u64::MAX >> 16 } else { 100 }, NonZeroU64::get);
        let scenarios = chosen(self.scenario.as_ref());
        Sweep { scenarios, from: self.from, seeds, shard: self.shard, jobs, twice: self.twice }
    }

    fn limit(&self) -> Option<Duration> {
        limit(self.minutes)
    }
}

#[derive(Args)]
struct SearchArgs {
    /// What decides the whole search. Its first plans are those that a sweep has from this seed on.
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
    /// How many runs. Default: 500, or no end with --minutes.
    #[arg(long, value_name = "N")]
    runs: Option<NonZeroU64>,
    /// How many runs at once, which changes nothing else. Default: one for each core.
    #[arg(long, value_name = "J")]
    jobs: Option<NonZeroUsize>,
    /// Stop after this many minutes.
    #[arg(long, value_name = "M")]
    minutes: Option<NonZeroU64>,
    /// Write one JSON object for each run to this file, in order, and one for the search.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Go on after a failure, and report all of them.
    #[arg(long)]
    keep_going: bool,
    /// Write no capsules.
    #[arg(long)]
    no_capsules: bool,
    /// Where capsules are written.
    #[arg(long, value_name = "DIR", default_value = CAPSULES)]
    capsules: PathBuf,
}

impl SearchArgs {
    fn runs(&self) -> u64 {
        let default = if self.minutes.is_some() { u64::MAX >> 16 } else { 500 };
        self.runs.map_or(default, NonZeroU64::get)
    }

    fn jobs(&self) -> NonZeroUsize {
        jobs(self.jobs)
    }

    fn limit(&self) -> Option<Duration> {
        limit(self.minutes)
    }
}

/// So many runs at once, or one for each core.
fn jobs(jobs: Option<NonZeroUsize>) -> NonZeroUsize {
    jobs.or(thread::available_parallelism().ok()).unwrap_or(NonZeroUsize::MIN)
}

/// So many minutes.
fn limit(minutes: Option<NonZeroU64>) -> Option<Duration> {
    minutes.map(|minutes| Duration::from_secs(minutes.get().saturating_mul(60)))
}

#[derive(Args)]
struct ReplayArgs {
    /// The seed, or the directory of a capsule.
    #[arg(value_name = "SEED|CAPSULE")]
    what: String,
    /// Run this scenario alone, or all that are `scripted`. Default: all that a sweep has, one after the other.
    #[arg(long, value_name = "NAME", value_parser = choice)]
    scenario: Option<Choice>,
    /// Print every event, with its simulated time in seconds.
    #[arg(long)]
    trace: bool,
    /// Stop at this simulated time, in seconds.
    #[arg(long, value_name = "S", value_parser = seconds)]
    until: Option<Duration>,
    /// Print one JSON object for each run, and nothing else.
    #[arg(long, conflicts_with = "trace")]
    json: bool,
    /// Print the plan of the run, and run nothing.
    #[arg(long)]
    show_plan: bool,
    /// Run this plan, a file as --show-plan prints it, in place of the one that the seed draws.
    #[arg(long, value_name = "FILE", requires = "scenario")]
    plan: Option<PathBuf>,
    /// Write a capsule of the run to this directory.
    #[arg(long, value_name = "DIR", requires = "scenario", hide = true)]
    capsule: Option<PathBuf>,
    /// Let the clock be wrong by up to this many microseconds, drawn from the process id.
    #[arg(long, value_name = "US", default_value_t = 0, hide = true)]
    disturb: u64,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Err(error) = interpose::check() {
        eprintln!("sim: {error}");
        return ExitCode::from(NOT_DETERMINISTIC);
    }
    match cli.command {
        Command::Sweep(args) => cli::sweep::sweep(&args),
        Command::Search(args) => cli::search::search(&args),
        Command::Replay(args) => cli::replay::replay(&args),
        Command::Shrink { seed, scenario, plans, capsules } => cli::shrink::shrink(scenario, seed, plans, &capsules),
        Command::Prove { seeds, from, scenario } => cli::prove::prove(scenario, from, seeds.get()),
        Command::Merge { files, require_all, json } => cli::merge::merge(&files, require_all, json),
        Command::List => cli::list::list(),
    }
}

fn scenario(name: &str) -> Result<&'static Scenario, String> {
    scenarios::find(name).ok_or_else(|| {
        let known = scenarios::all().map(|scenario| scenario.name).collect::<Vec<_>>();
        format!("there are: {}", known.join(", "))
    })
}

fn shard(text: &str) -> Result<(u64, u64), String> {
    let parse = || {
        let (share, of) = text.split_once('/')?;
        let (share, of) = (share.parse::<u64>().ok()?, of.parse::<u64>().ok()?);
        (1 <= share && share <= of).then_some((share - 1, of))
    };
    parse().ok_or_else(|| "it is K/N with K from 1 to N, as 2/3".to_owned())
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().map_err(|error| error.to_string())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

/// The scenarios that were asked for, or those of every sweep.
fn chosen(choice: Option<&Choice>) -> Vec<&'static Scenario> {
    match choice {
        None => of_group(Group::Swept),
        Some(Choice(scenarios)) => scenarios.clone(),
    }
}

fn of_group(group: Group) -> Vec<&'static Scenario> {
    scenarios::all().filter(|scenario| scenario.group == group).collect()
}

/// One scenario, or those that are scripted.
#[derive(Clone)]
struct Choice(Vec<&'static Scenario>);

fn choice(name: &str) -> Result<Choice, String> {
    if name == SCRIPTED { Ok(Choice(of_group(Group::Scripted))) } else { scenario(name).map(|one| Choice(vec![one])) }
}
