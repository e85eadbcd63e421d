//! Whether evermux gets on with yamux libraries that others wrote: one table of verdicts.

#![forbid(unsafe_code)]

mod behaviours;
mod cast;
mod peer;
mod peers;
mod report;
mod side;
mod verdict;

use std::{
    collections::BTreeMap,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use behaviours::{Acts, Behaviour, Controls, Outcome};
use cast::{By, Cast, Doing, Program};
use clap::{Parser, Subcommand};
use futures_util::{StreamExt, stream};
use peers::Peer;
use report::{Cell, Report, Row};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{Instant, timeout},
};
use verdict::{Control, Failure, Judgement, Kind, StandsFor, Verdict};

/// Something is wrong, or the quick form lacks what it must have.
const FAILED: u8 = 1;
/// The command could not be carried out as given.
const USAGE: u8 = 2;

/// Looks whether evermux gets on with yamux libraries that others wrote.
///
/// Each run is two programs of this package that a TCP connection over loopback joins: evermux, and a peer. Each behaviour
/// is run with each side as the yamux client, and with each side as who acts.
#[derive(Parser)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of the command line")]
#[command(
    name = "interop",
    version,
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  interop/run                                  everything; writes the table into interop/README.md
  interop/run --quick                          the Rust and Go peers, within three minutes after builds
  interop/run --peer go-yamux --behaviour echo the behaviours whose names begin so, with one peer
  interop/run --json > interop.jsonl

Verdicts:
  ok       it went as it must
  wrong    evermux is at fault, or it is not known who is
  peer     the peer is at fault: the same fails, in the same run, with the peer's own library in the place of evermux,
           or, in the same place, with a third one that has nothing to do with either
  n/a      the library has no such thing
  skipped  the peer is not here

Exit status: 0 when nothing is wrong; 1 when something is, or when the Go peer is missing with --quick; 2 usage."
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    /// The Rust and Go peers alone, and fewer streams in sequence.
    #[arg(long)]
    quick: bool,
    /// Print one JSON object for each peer, one for each row, and one for all.
    #[arg(long)]
    json: bool,
    /// Only the peer of this name, or the peers whose names begin with it. Can be given several times.
    #[arg(long, value_name = "NAME")]
    peer: Vec<String>,
    /// Only the behaviour of this name, or those whose names begin with it. Can be given several times.
    #[arg(long, value_name = "NAME")]
    behaviour: Vec<String>,
    /// How many rows are looked at at the same time: most of them wait.
    #[arg(long, value_name = "N", default_value = "8")]
    jobs: NonZeroUsize,
    /// List the behaviours and the peers, and do nothing else.
    #[arg(long)]
    list: bool,
    /// Only install and build the peers that a run with the other options needs; `interop/run` does it.
    #[arg(long, conflicts_with = "list")]
    prepare: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Be a peer program: make one connection, and take orders from standard input.
    Peer(peer::Arguments),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("interop: {error}");
            return ExitCode::from(USAGE);
        }
    };
    let done = match &cli.command {
        Some(Command::Peer(arguments)) => {
            let played = runtime.block_on(peer::run(arguments));
            // Its tasks may wait forever.
            runtime.shutdown_background();
            played.map(|()| true).map_err(|error| error.to_string())
        }
        None => runtime.block_on(async {
            tokio::select! {
                done = run(&cli) => done,
                // Dropping the run kills what it has started, also what is stopped.
                () = told_to_end() => Err("interrupted".into()),
            }
        }),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(FAILED),
        Err(error) => {
            eprintln!("interop: {error}");
            ExitCode::from(USAGE)
        }
    }
}

/// Waits for SIGINT or SIGTERM.
async fn told_to_end() {
    let Ok(mut terminated) = signal(SignalKind::terminate()) else { return std::future::pending().await };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminated.recv() => {}
    }
}

/// Returns whether nothing is wrong.
async fn run(cli: &Cli) -> Result<bool, String> {
    if cli.prepare {
        return Ok(true);
    }
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let installed = package.join("../target/interop/peers");
    let all = peers::all(&installed).map_err(|error| error.to_string())?;
    let peers: Vec<_> = chosen("peer", &all, &cli.peer, |peer| peer.name)?
        .into_iter()
        .filter(|peer| peer.is_quick || !cli.quick || !cli.peer.is_empty())
        .collect();
    let behaviours = chosen("behaviour", behaviours::ALL, &cli.behaviour, |behaviour| behaviour.name)?;
    if cli.list {
        report::list(&behaviours, &peers);
        return Ok(true);
    }
    let evermux = peers::evermux().map_err(|error| error.to_string())?;
    let report = Report::new(peers.len() * behaviours.len(), cli.json);
    let begun = Instant::now();
    report.heading(&peers);
    let wanted = peers.iter().flat_map(|peer| behaviours.iter().map(move |behaviour| (*peer, *behaviour)));
    let mut looks = stream::iter(wanted.enumerate())
        .map(async |(at, (peer, behaviour))| {
            let thirds = |by| peers::thirds(&all, peer, behaviour.controls, by);
            (at, look(peer, thirds, behaviour, &evermux, cli.quick, &report).await)
        })
        .buffer_unordered(cli.jobs.get());
    // They are done in any order, and told in that of the table.
    let mut early = BTreeMap::new();
    let mut rows = Vec::new();
    while let Some((at, row)) = looks.next().await {
        early.insert(at, row);
        while let Some(row) = early.remove(&rows.len()) {
            report.row(&row);
            rows.push(row);
        }
    }
    report.summary(&rows, begun.elapsed());
    if !cli.quick && cli.peer.is_empty() && cli.behaviour.is_empty() {
        let readme: PathBuf = package.join("README.md");
        report::write_readme(&readme, &peers, &behaviours, &rows).map_err(|error| error.to_string())?;
    }
    let has_go = |peer: &&Peer| peer.name != peers::GO || peer.program.is_ok();
    if cli.quick && !peers.iter().all(has_go) {
        eprintln!("interop: the Go peer is missing, and the quick form must have it");
        return Ok(false);
    }
    Ok(rows.iter().all(|row| row.verdict() != Verdict::Wrong))
}

/// Those whose names begin with one of `wanted`; all, if none is.
fn chosen<'a, T>(
    what: &str,
    all: &'a [T],
    wanted: &[String],
    name: impl Fn(&'a T) -> &'static str,
) -> Result<Vec<&'a T>, String> {
    for wanted in wanted {
        if !all.iter().any(|one| name(one).starts_with(wanted.as_str())) {
            return Err(format!("there is no {what} `{wanted}`; `--list` names all"));
        }
    }
    let is_wanted =
        |one: &&'a T| wanted.is_empty() || wanted.iter().any(|wanted| name(one).starts_with(wanted.as_str()));
    Ok(all.iter().filter(is_wanted).collect())
}

/// One behaviour of one peer, in all roles.
async fn look(
    peer: &Peer,
    thirds: impl Fn(By) -> Vec<Program>,
    behaviour: &'static Behaviour,
    evermux: &Program,
    is_quick: bool,
    report: &Report,
) -> Row {
    let mut cells = Vec::new();
    for peer_dials in [false, true] {
        for by in [By::Us, By::It] {
            if behaviour.acts == Acts::Us && by == By::It {
                continue;
            }
            let begun = Instant::now();
            let judgement = match &peer.program {
                Err(why) => Judgement::skipped(why),
                Ok(program) => {
                    let (ours, program) = (evermux.clone(), program.clone());
                    let cast = Cast { ours, peer: program, peer_dials, by, is_quick, doing: Doing::default() };
                    judged(behaviour, &cast, peer.own_control(), &thirds(by)).await
                }
            };
            cells.push(Cell { peer_dials, by, judgement, took: begun.elapsed() });
        }
    }
    let row = Row { peer: peer.name, behaviour, cells };
    report.progress(peer.name, behaviour, row.verdict());
    row
}

/// How often a control is run that excuses nothing: what happens to the peer in some runs alone is its own as well.
const CONTROL_RUNS: usize = 20;

/// After how long a control is not run once more.
const CONTROL_TIME: Duration = Duration::from_secs(40);

/// Runs a behaviour, and its controls when it fails.
async fn judged(behaviour: &Behaviour, cast: &Cast, own: Option<Program>, thirds: &[Program]) -> Judgement {
    let failure = match play(behaviour, cast).await {
        Ok(fact) => return Judgement::went_well(fact),
        Err(failure) => failure,
    };
    let own = own.filter(|_| behaviour.controls != Controls::None).into_iter().map(|own| (StandsFor::Itself, own));
    let thirds = thirds.iter().map(|third| (StandsFor::Another, third.clone()));
    let mut controls = Vec::new();
    for (stands_for, program) in own.chain(thirds) {
        if verdict::wants_control(&failure, &controls) {
            controls.push(control(behaviour, cast, &failure, stands_for, program).await);
        }
    }
    verdict::judge(&failure, &controls)
}

/// The same with another library in our place.
async fn control(
    behaviour: &Behaviour,
    cast: &Cast,
    failure: &Failure,
    stands_for: StandsFor,
    program: Program,
) -> Control {
    let name = if stands_for == StandsFor::Itself { "itself".into() } else { program.name.clone() };
    let cast = Cast { ours: program, ..cast.clone() };
    let begun = Instant::now();
    let mut runs = 0;
    loop {
        let outcome = play(behaviour, &cast).await;
        let lacks_it = outcome.as_ref().is_err_and(|failure| failure.kind == Kind::NotAvailable);
        let control = Control { name: name.clone(), stands_for, outcome };
        runs += 1;
        let is_over = lacks_it || runs == CONTROL_RUNS || begun.elapsed() >= CONTROL_TIME;
        if is_over || control.excuses(failure).is_some() {
            return control;
        }
    }
}

/// Runs a behaviour once. What it has started is dead when it returns.
async fn play(behaviour: &Behaviour, cast: &Cast) -> Outcome {
    let within = side::START + behaviour.deadline;
    timeout(within, (behaviour.run)(cast)).await.unwrap_or_else(|_| {
        let within = within.as_secs();
        Err(Failure::new(format!("no end within {within} s; the last order was `{}`", cast.doing.last())))
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_name_that_nothing_begins_with_is_refused() {
        let names = ["echo-1", "echo-1k", "ping"];
        let all = |wanted: &[&str]| {
            let wanted: Vec<_> = wanted.iter().map(ToString::to_string).collect();
            chosen("behaviour", &names, &wanted, |name| name)
        };
        assert_eq!(all(&["echo"]).unwrap().len(), 2);
        assert_eq!(all(&[]).unwrap().len(), 3);
        assert!(all(&["echo", "nothing"]).is_err());
    }
}
