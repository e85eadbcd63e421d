//! Runs every model, and reports what was explored.

mod report;

use std::{num::NonZeroU32, process::ExitCode};

use clap::{Parser, Subcommand};

/// A model failed.
const FAILED: u8 = 1;
/// The report could not be made, or would not be true.
const UNFIT: u8 = 2;

/// The models of evermux's synchronization core.
///
/// Each is a test of this package, so `cargo test -p loom-tests` runs them all, with fewer schedules of those that are
/// sampled.
#[derive(Parser)]
#[command(name = "loom-tests", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run every model, one after another, and print what was explored.
    ///
    /// The models are the tests of this package, as they list themselves: none can be left out. What a row says was
    /// counted as the model ran, except for the guarantee, which stands above the test or at the top of its file, and
    /// the planted bugs, which name the test that catches them.
    #[command(after_help = "\
Examples:
  cargo run --release -p loom-tests -- report
  cargo run --release -p loom-tests -- report waiters:: --schedules 1000000
  cargo run --release -p loom-tests -- report --json > models.jsonl

What a row says:
  model       the test, after the file that it stands in
  by          loom explores executions, shuttle draws them at random; `+` if threads also wake for no reason, and
              deadlines pass
  proves      the guarantees of ARCHITECTURE.md
  threads     the most that used the core in one execution
  bound       exhaustive: every execution; <= N: every one with at most N preemptions; sampled: some
  executions  how many were run to their end; of those that were sampled, how many were different
  kills       the planted bugs that name it, and that it catches (cargo run --release -p bugs -- NAME)

A failure of a sampled model prints its schedule, which runs again, alone, with
  LOOM_TESTS_REPLAY=SCHEDULE cargo test -p loom-tests --test crowds MODEL

Exit status: 0 all passed; 1 a model failed; 2 usage, or the models do not build, or one explores nothing or proves
nothing, or a planted bug names a model that is not there.")]
    Report(Options),
}

#[derive(clap::Args)]
struct Options {
    /// Run only the models whose names contain this.
    #[arg(value_name = "NAME")]
    name: Option<String>,
    /// How many schedules of each of two kinds a sampled model draws.
    #[arg(long, value_name = "N", default_value = "100000")]
    schedules: NonZeroU32,
    /// From what they are drawn.
    #[arg(long, value_name = "SEED", default_value = "0")]
    seed: u64,
    /// Print one JSON object for each model, and one for all.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let Command::Report(options) = Cli::parse().command;
    match report::run(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(FAILED),
        Err(error) => {
            eprintln!("loom-tests: {error}");
            ExitCode::from(UNFIT)
        }
    }
}
