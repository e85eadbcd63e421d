//! How fast evermux is, beside others: one table of ratios.

#![expect(clippy::disallowed_methods, reason = "speed is measured by real time")]

mod cases;
mod measure;
mod mux;
mod report;
mod rig;
mod scale;
mod slow_path;
mod stats;
mod subprocess;

use std::{
    num::NonZeroUsize,
    process::ExitCode,
    time::{Duration, Instant},
};

use cases::{Case, Setup};
use clap::{Args, Parser, Subcommand};
use report::{Report, Row};
use scale::Scale;
use subprocess::OneSample;

/// A sample could not be made, or bytes came other than they were sent.
const FAILED: u8 = 1;
/// The command could not be carried out as given.
const USAGE: u8 = 2;

/// Measures how fast evermux is, beside the yamux crate, tokio-yamux, TCP itself, and what one would write by hand.
///
/// Each sample is a process of its own, in which both ends run: each end has a tokio runtime, and the bytes go over
/// loopback TCP. The contestants take turns, A B C A B C, and each is compared with the baseline of the same round: so
/// what the machine does besides hits all of them. Look at CPU first: wall time is noise on a machine that is not quiet.
#[derive(Parser)]
#[command(
    name = "benches",
    version,
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  benches/run                              the whole table
  benches/run --quick                      the whole table, in some seven minutes on two quiet cores
  benches/run --only open --only bulk-1    the cases whose names begin so
  benches/run --quick --json > speed.jsonl
  perf record -g target/release/benches one open-64 evermux

What a row says:
  wall, CPU     what one unit took: the median of all rounds; CPU is user and system time of both ends, in `flood` of the
                end that is flooded; in `restart`, wall is the longest shutdown of a round
  ratio         divided by the baseline of the same round: the median, and in brackets the quartiles
  goals         what is to be reached, and whether the median does
  more          p50 and p99 of single round trips, and how much moved beside them

Contestants:
  evermux       `Session::client` and `Session::server`; two managers where it is about managers; default configuration
  yamux         the yamux crate with its default configuration, and the least driver that it needs
  tokio-yamux   the tokio-yamux crate with its default configuration
  tcp           a TCP connection for each stream
  fresh, late-proof, takeover
                evermux whose proof was answered at once, 15 ms late, or when a ghost had lost its place to it
  redial-loop   a task that dials, drives the yamux crate, and dials again
  In `restart`, tcp is HTTP/2 over a connection of its own, whose server is told by hand to say goodbye.
  All sockets have TCP_NODELAY.

What is checked: in bulk all bytes are counted, and the first part (before what is measured) is compared with what was
sent; of echoes every byte is compared; in `restart` no call may be lost that the server had begun.

Exit status: 0 when all ran and what was checked is right, however slow; 1 when something went wrong; 2 usage."
)]
struct Cli {
    #[command(subcommand)]
    one: Option<Command>,
    #[command(flatten)]
    size: Size,
    /// Only the case of this name, or the cases whose names begin with it. Can be given several times.
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// How many rounds each case has. Default: as many as the size says.
    #[arg(long, value_name = "N")]
    rounds: Option<NonZeroUsize>,
    /// Print one JSON object for what was used, one for each row, and one for all.
    #[arg(long)]
    json: bool,
    /// List the cases, and do nothing else.
    #[arg(long)]
    list: bool,
}

#[derive(Args)]
struct Size {
    /// Fewer rounds of shorter samples.
    #[arg(long)]
    quick: bool,
    /// One round of tiny samples: shows that it works, and nothing else.
    #[arg(long, conflicts_with = "quick")]
    smoke: bool,
    /// How many threads the runtime of each end has.
    #[arg(long, value_name = "N", default_value = "2")]
    workers: NonZeroUsize,
}

#[derive(Subcommand)]
enum Command {
    /// Make one sample in this process and print it as JSON, for a profiler.
    One {
        #[arg(value_name = "CASE")]
        case: String,
        #[arg(value_name = "CONTESTANT")]
        contestant: String,
        #[command(flatten)]
        size: Size,
    },
}

impl Size {
    fn setup(&self) -> Setup {
        let scale = match (self.quick, self.smoke) {
            (_, true) => Scale::SMOKE,
            (true, false) => Scale::QUICK,
            (false, false) => Scale::FULL,
        };
        Setup { scale, workers: self.workers.get() }
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match &cli.one {
        Some(Command::One { case, contestant, size }) => subprocess::here(case, contestant, &size.setup()),
        None => run(&cli),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(FAILED),
        Err(error) => {
            eprintln!("benches: {error}");
            ExitCode::from(USAGE)
        }
    }
}

/// Returns whether every sample was made.
fn run(cli: &Cli) -> Result<bool, String> {
    let cases = cases::chosen(&cli.only)?;
    if cli.list {
        report::list(&cases, cli.json);
        return Ok(true);
    }
    let setup = cli.size.setup();
    let rounds = |case: &Case| {
        let usual = if case.is_slow { setup.scale.slow_rounds } else { setup.scale.rounds };
        cli.rounds.map_or(usual, NonZeroUsize::get)
    };
    let steps = cases.iter().map(|case| rounds(case) * case.contestants.len()).sum();
    let report = Report::new(&cases, steps, cli.json);
    let begun = Instant::now();
    report.heading(&setup);
    let mut rows = Vec::new();
    for case in cases {
        let measured = measure(case, rounds(case), &setup, &report)?;
        report.rows(case, &measured);
        rows.extend(measured);
    }
    Ok(report.summary(&rows, begun.elapsed()))
}

/// All contestants of a case, in turn. One that fails is not tried again.
fn measure(case: &'static Case, rounds: usize, setup: &Setup, report: &Report) -> Result<Vec<Row>, String> {
    let mut rows: Vec<_> = case.contestants.iter().map(|contestant| Row::new(case, contestant)).collect();
    for round in 1..=rounds {
        report.doing(&format!("{}: round {round} of {rounds}", case.name));
        for row in &mut rows {
            if row.failure.is_none() {
                match subprocess::sample(case, row.contestant, setup)? {
                    OneSample::Made(sample) => row.samples.push(sample),
                    OneSample::Failed(why) => row.failure = Some(why),
                }
            }
            report.advance();
        }
    }
    let baseline = rows.iter().find(|row| row.contestant == case.baseline).map(|row| row.samples.clone());
    for row in &mut rows {
        row.compare(baseline.as_deref().unwrap_or_default());
    }
    Ok(rows)
}

/// How long one sample may take.
const LIMIT: Duration = Duration::from_secs(120);

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
