//! `bugs mutants`: how many small mistakes the checkers find.

mod blocks;
mod build;
mod checkers;
mod drawn;
mod enemy;
mod lists;
mod matrix;
mod mutant;
mod planted;
mod prepare;
mod score;
mod store;
mod switch;

use std::collections::BTreeSet;
use std::fs;
use std::num::NonZeroU64;
use std::path::Path;

use clap::Args;

use self::checkers::Checker;
use self::lists::Lists;
use self::matrix::Matrix;
use self::mutant::{Area, Kind, Mutant};
use self::prepare::Preparing;
use self::score::Score;
use self::store::Store;
use crate::patch;
use crate::scratch::Scratch;

/// Of the drawn mutants, how many may be excluded: one in so many.
const EXCLUDED_ONE_IN: usize = 10;

/// The checks were made with the mutants that this seed draws in sight.
const SEEN: u64 = 1;

/// Counts how many small mistakes the checkers find.
///
/// Mutants are drawn by seed from the list of cargo-mutants, chosen by hand (bugs/mutants/enemy), or real mistakes
/// (bugs/planted). All are written into one copy of the code (target/bugs/mutants), each behind a switch that the
/// environment turns on; what cannot be switched has a build of its own. Each mutant is tried with the tests in src,
/// the properties, the models of loom, the random sweep, and the tests with real sockets; a checker that never comes by
/// a mutant is not asked. What was found is kept, so a run that was stopped goes on where it was.
#[derive(Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
#[command(after_help = "\
Examples:
  cargo run --release -p bugs -- mutants                    all; some hours on two cores
  cargo run --release -p bugs -- mutants --prepare          only the builds, and what each checker comes by
  cargo run --release -p bugs -- mutants --shard 1/2        half of the mutants, when all is prepared
  cargo run --release -p bugs -- mutants --report           what was found so far
  cargo run --release -p bugs -- mutants --seed 2 --kind drawn
                                                            mutants that nobody has seen: 90 % killed by all together
  cargo run --release -p bugs -- mutants --checker sweep --area session,provider,manager --seeds 60
  cargo run --release -p bugs -- mutants --only NAME --whole

Lists, with a reason for each entry; one that fits no mutant is an error:
  bugs/mutants/excluded.toml   mutants that change nothing that anybody could notice: at most one in ten of those drawn
  bugs/mutants/survivors.toml  mutants that are known to survive

A mutant that does not compile, alone either, does not count. As long as not every checker was asked, what is decided is
more often killed than not: each share is told with one that holds whatever becomes of the others, and that one counts.

The goal: of all mutants 95 % killed by all checkers together, and of those in session, provider and manager 70 % by the
random sweep alone.

Exit status: 0 the goal is reached; 1 it is not, or not every mutant was tried; 2 usage, or the code without a mutant
does not build or pass.")]
pub(crate) struct MutantsArgs {
    /// Decides which mutants are drawn. Those of any seed but 1 were seen by nobody who wrote a check.
    #[arg(long, default_value_t = SEEN)]
    seed: u64,
    /// How many mutants are drawn.
    #[arg(long, value_name = "N", default_value = "160")]
    draw: usize,
    /// How many seeds the random sweep has for each mutant.
    #[arg(long, value_name = "SEEDS", default_value = "300")]
    seeds: NonZeroU64,
    /// Try these kinds alone.
    #[arg(long, value_enum, value_name = "KIND", value_delimiter = ',')]
    kind: Vec<Kind>,
    /// Try the mutants of these parts of src alone.
    #[arg(long, value_enum, value_name = "AREA", value_delimiter = ',')]
    area: Vec<Area>,
    /// Ask these checkers alone.
    #[arg(long, value_enum, value_name = "CHECKER", value_delimiter = ',')]
    checker: Vec<Checker>,
    /// Try the mutants alone whose name contains this. May be given several times.
    #[arg(long, value_name = "TEXT")]
    only: Vec<String>,
    /// Ask every checker, also when one has killed the mutant.
    #[arg(long)]
    whole: bool,
    /// Try the K-th of N shares.
    #[arg(long, value_name = "K/N", value_parser = share)]
    shard: Option<(usize, usize)>,
    /// How many runs of the simulation at once. Default: as many as there are cores.
    #[arg(long, value_name = "N")]
    jobs: Option<u64>,
    /// Build, and see what each checker comes by, and do nothing else.
    #[arg(long, conflicts_with_all = ["report", "list"])]
    prepare: bool,
    /// Print what was found so far, and do nothing else.
    #[arg(long, conflicts_with = "list")]
    report: bool,
    /// List the mutants, and do nothing else.
    #[arg(long)]
    list: bool,
    /// Print one JSON object for each mutant, and one for all.
    #[arg(long)]
    json: bool,
}

fn share(text: &str) -> Result<(usize, usize), String> {
    let parts = text.split_once('/').and_then(|(share, of)| Some((share.parse().ok()?, of.parse().ok()?)));
    match parts {
        Some((share, of)) if (1..=of).contains(&share) => Ok((share, of)),
        _ => Err("it is K/N, with K from 1 to N".into()),
    }
}

/// Returns whether the goal is reached.
pub(crate) fn run(args: &MutantsArgs, workspace: &Path) -> Result<bool, String> {
    let lists = Lists::read(&workspace.join("bugs").join("mutants"))?;
    let pool = Pool::new(args, workspace, &lists)?;
    if args.list {
        for mutant in &pool.mutants {
            println!(
                "{:<8} {:<8} {mutant}: {}",
                format!("{:?}", mutant.kind).to_lowercase(),
                mutant.area().name(),
                mutant.about
            );
        }
        return Ok(true);
    }
    let scratch = Scratch::named(workspace, "mutants", false)?;
    let name = args.shard.map_or("all.jsonl".into(), |(share, of)| format!("shard-{share}-of-{of}.jsonl"));
    let results = workspace.join("target").join("bugs").join("mutants").join("results");
    let mut store = Store::open(&results, &name, &scratch, workspace, args.seeds.get())?;
    let checkers =
        if args.checker.is_empty() { [&Checker::ALL[..], &[Checker::Scenario]].concat() } else { args.checker.clone() };
    let (seeds, jobs) = (args.seeds.get(), args.jobs);
    let preparing = Preparing { scratch: &scratch, workspace, mutants: &pool.mutants, seeds, jobs };
    let prepared = if args.report { preparing.known()? } else { preparing.prepare(&checkers)? };
    if args.prepare {
        return Ok(true);
    }
    let chosen = pool.chosen(args, &lists, &prepared.switches.unviable)?;
    if chosen.is_empty() {
        return Err("no mutant is of this kind and area, and has this name: `--list` shows all".into());
    }
    if !args.report {
        let mine = |index: &usize| args.shard.is_none_or(|(share, of)| index % of == share - 1);
        let mine: Vec<_> = (0..chosen.len()).filter(mine).map(|index| chosen[index]).collect();
        let mut matrix = Matrix::new(&prepared, &preparing, checkers, args.whole);
        matrix.fill(&mine, &mut store)?;
    }
    let told = Score::new(&pool.mutants, &chosen, &store, &lists, args.seed == SEEN);
    Ok(told.tell(args.json))
}

/// All mutants that may be tried.
struct Pool {
    /// The drawn ones first, in the order of the draw; some may not compile.
    mutants: Vec<Mutant>,
}

impl Pool {
    fn new(args: &MutantsArgs, workspace: &Path, lists: &Lists) -> Result<Self, String> {
        let read = |file: &Path| {
            fs::read_to_string(workspace.join(file)).map_err(|error| format!("{}: {error}", file.display()))
        };
        let listed = drawn::list(workspace)?;
        let enemies = enemy::read_all(&workspace.join("bugs").join("mutants").join("enemy"), workspace)?;
        let patches = patch::read_all(&workspace.join("bugs").join("planted"))?;
        let planted = patches.iter().map(|patch| planted::mutant(patch, read)).collect::<Result<Vec<_>, _>>()?;
        let all: Vec<_> = listed.iter().chain(&enemies).chain(&planted).cloned().collect();
        drawn::unique(&all)?;
        lists.fit(&all)?;
        let lines = |file: &Path| read(file).map_or(0, |text| text.lines().count());
        let drawn = drawn::draw(listed, lines, args.seed);
        // Some of them do not compile, and the next ones take their places.
        let drawn: Vec<_> = drawn.into_iter().take(args.draw + args.draw / 2 + 10).collect();
        Ok(Self { mutants: drawn.into_iter().chain(enemies).chain(planted).collect() })
    }

    /// Those that are tried, by their index. Those that are excluded, or do not compile, are drawn in vain.
    fn chosen(&self, args: &MutantsArgs, lists: &Lists, unviable: &BTreeSet<String>) -> Result<Vec<usize>, String> {
        let (mut drawn, mut excluded) = (0, 0);
        let mut chosen = Vec::new();
        for (index, mutant) in self.mutants.iter().enumerate() {
            let is_drawn = mutant.kind == Kind::Drawn;
            if unviable.contains(&mutant.name) || is_drawn && drawn == args.draw {
                continue;
            }
            if lists.excludes(&mutant.name) {
                excluded += usize::from(is_drawn);
                continue;
            }
            drawn += usize::from(is_drawn);
            let is_wanted = (args.kind.is_empty() || args.kind.contains(&mutant.kind))
                && (args.area.is_empty() || args.area.contains(&mutant.area()))
                && (args.only.is_empty() || args.only.iter().any(|text| mutant.name.contains(text)));
            if is_wanted {
                chosen.push(index);
            }
        }
        if excluded * EXCLUDED_ONE_IN > drawn + excluded {
            let all = drawn + excluded;
            return Err(format!("{excluded} of {all} drawn mutants are excluded; one in {EXCLUDED_ONE_IN} may be"));
        }
        Ok(chosen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mutants_of_the_workspace_fit() {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let read = |file: &Path| fs::read_to_string(workspace.join(file)).map_err(|error| error.to_string());
        let enemies = enemy::read_all(&workspace.join("bugs/mutants/enemy"), workspace).unwrap();
        assert!(enemies.len() >= 150, "{}", enemies.len());
        drawn::unique(&enemies).unwrap();
        let patches = patch::read_all(&workspace.join("bugs/planted")).unwrap();
        let planted = patches.iter().map(|patch| planted::mutant(patch, read).unwrap());
        for mutant in enemies.iter().cloned().chain(planted) {
            for edit in &mutant.edits {
                let file = edit.file.clone();
                let of_file = mutant.edits.iter().filter(|edit| edit.file == file);
                let text = mutant::apply(&read(&file).unwrap(), 0, of_file);
                assert!(syn::parse_file(&text).is_ok(), "{mutant}: {}", file.display());
            }
        }
    }

    #[test]
    fn a_share_is_one_of_several() {
        assert_eq!(share("2/3"), Ok((2, 3)));
        assert!(share("0/3").is_err() && share("4/3").is_err() && share("3").is_err());
    }
}
