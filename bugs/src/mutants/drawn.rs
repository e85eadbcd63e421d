//! Mutants drawn from the list of cargo-mutants.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Deserialize;

use super::mutant::{Edit, Kind, Mutant, offset};

/// What it lists changes from version to version, and with it what a seed draws.
const VERSION: &str = "27.1.0";

#[derive(Deserialize)]
struct Listed {
    file: PathBuf,
    name: String,
    replacement: String,
    span: Span,
}

#[derive(Deserialize)]
struct Span {
    start: Position,
    end: Position,
}

#[derive(Deserialize)]
struct Position {
    line: usize,
    column: usize,
}

/// All that cargo-mutants would try, in the order of its list. It is installed if it is not there.
pub(crate) fn list(workspace: &Path) -> Result<Vec<Mutant>, String> {
    let cargo = || {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.current_dir(workspace).stdin(Stdio::null());
        cargo
    };
    let version = cargo().args(["mutants", "--version"]).stderr(Stdio::null()).output();
    let version = version.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default();
    if version != format!("cargo-mutants {VERSION}") {
        eprintln!("installing cargo-mutants {VERSION} …");
        let mut install = cargo();
        install.args(["install", "--quiet", "--debug", "--locked", "--version", VERSION, "cargo-mutants"]);
        match install.env("CARGO_PROFILE_DEV_DEBUG", "0").status() {
            Ok(status) if status.success() => {}
            Ok(status) => {
                return Err(format!("cargo-mutants {VERSION} cannot be installed: cargo ended with {status}"));
            }
            Err(error) => return Err(format!("cargo cannot be run: {error}")),
        }
    }
    let output = cargo()
        .args(["mutants", "--list", "--json", "--package", "evermux", "--no-config"])
        .output()
        .map_err(|error| format!("cargo cannot be run: {error}"))?;
    if !output.status.success() {
        return Err(format!("cargo mutants gives no list: {}", String::from_utf8_lossy(&output.stderr).trim()));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    parse(&text, |file| {
        fs::read_to_string(workspace.join(file)).map_err(|error| format!("{}: {error}", file.display()))
    })
}

fn parse(json: &str, mut read: impl FnMut(&Path) -> Result<String, String>) -> Result<Vec<Mutant>, String> {
    let unread = |why: String| format!("the list of cargo-mutants {VERSION} cannot be read: {why}");
    let listed: Vec<Listed> = serde_json::from_str(json).map_err(|error| unread(error.to_string()))?;
    let (mut texts, mut counts) = (BTreeMap::new(), BTreeMap::new());
    let mut mutants = Vec::new();
    for Listed { file, name, replacement, span } in listed {
        if !texts.contains_key(&file) {
            texts.insert(file.clone(), read(&file)?);
        }
        let at = |position: &Position| {
            offset(&texts[&file], position.line, position.column)
                .ok_or_else(|| unread(format!("{name} is past the end of its line")))
        };
        let range = at(&span.start)?..at(&span.end)?;
        let stable = stable(&name);
        let count = counts.entry(stable.clone()).or_insert(0_usize);
        *count += 1;
        let stable = if *count == 1 { stable } else { format!("{stable} #{count}") };
        let edits = vec![Edit { file, range, text: replacement }];
        mutants.push(Mutant { name: stable, kind: Kind::Drawn, about: name, edits, scenario: None });
    }
    Ok(mutants)
}

/// The name without its line and column: those change whenever something above them does.
fn stable(name: &str) -> String {
    let mut parts = name.splitn(4, ':');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(file), Some(_), Some(_), Some(what)) => format!("{file}:{what}"),
        _ => name.to_owned(),
    }
}

/// All of them in the order in which this seed draws: first a file, by its share of the lines, then one of its mutants.
pub(crate) fn draw(mutants: Vec<Mutant>, lines: impl Fn(&Path) -> usize, seed: u64) -> Vec<Mutant> {
    let mut files: BTreeMap<PathBuf, (usize, Vec<Mutant>)> = BTreeMap::new();
    for mutant in mutants {
        let file = mutant.edits[0].file.clone();
        let weight = lines(&file).max(1);
        files.entry(file).or_insert_with(|| (weight, Vec::new())).1.push(mutant);
    }
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut drawn = Vec::new();
    while !files.is_empty() {
        let all: usize = files.values().map(|(weight, _)| weight).sum();
        let mut at = random.random_range(0..all);
        let mut chosen = None;
        for (file, (weight, _)) in &files {
            if at < *weight {
                chosen = Some(file.clone());
                break;
            }
            at -= weight;
        }
        let Some((file, (_, of_file))) =
            chosen.and_then(|file| files.get_key_value(&file)).map(|(f, m)| (f.clone(), m))
        else {
            break;
        };
        let index = random.random_range(0..of_file.len());
        if let Some((_, of_file)) = files.get_mut(&file) {
            drawn.push(of_file.swap_remove(index));
            if of_file.is_empty() {
                files.remove(&file);
            }
        }
    }
    drawn
}

/// Names that occur twice would be one.
pub(crate) fn unique(mutants: &[Mutant]) -> Result<(), String> {
    let mut names = BTreeSet::new();
    match mutants.iter().find(|mutant| !names.insert(&mutant.name)) {
        Some(twice) => Err(format!("two mutants are called `{twice}`")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JSON: &str = r#"[{"file": "src/a.rs", "name": "src/a.rs:2:5: replace + with -", "replacement": "-",
        "genre": "BinaryOperator", "package": "evermux", "function": null,
        "span": {"start": {"line": 2, "column": 5}, "end": {"line": 2, "column": 6}}}]"#;

    #[test]
    fn the_list_is_read() {
        let mutants = parse(JSON, |_| Ok("fn f() {\nä = b + c }\n".replace("b ", "b"))).unwrap();
        assert_eq!(mutants.len(), 1);
        let edit = &mutants[0].edits[0];
        assert_eq!(mutants[0].name, "src/a.rs: replace + with -");
        assert_eq!((edit.file.as_path(), edit.range.clone(), edit.text.as_str()), (Path::new("src/a.rs"), 14..15, "-"));
    }

    #[test]
    fn a_list_that_does_not_fit_is_refused() {
        let error = parse(JSON, |_| Ok("\n".into())).unwrap_err();
        assert!(error.contains("past the end of its line"), "{error}");
        assert!(parse("{}", |_| Ok(String::new())).is_err());
    }

    fn of(file: &str, count: usize) -> impl Iterator<Item = Mutant> {
        (0..count).map(move |index| Mutant {
            name: format!("{file}:{index}"),
            kind: Kind::Drawn,
            about: String::new(),
            edits: vec![Edit { file: file.into(), range: 0..1, text: String::new() }],
            scenario: None,
        })
    }

    #[test]
    fn a_seed_draws_the_same_again_and_another_seed_something_else() {
        let names = |seed| {
            let drawn = draw(of("a", 20).chain(of("b", 20)).collect(), |_| 1, seed);
            drawn.into_iter().map(|mutant| mutant.name).collect::<Vec<_>>()
        };
        assert_eq!(names(1), names(1));
        assert_ne!(names(1), names(2));
        assert_eq!(names(1).into_iter().collect::<BTreeSet<_>>().len(), 40);
    }

    #[test]
    fn files_have_their_share_of_the_lines() {
        let lines = |file: &Path| if file == Path::new("long") { 300 } else { 100 };
        let drawn = draw(of("long", 1000).chain(of("short", 1000)).collect(), lines, 7);
        let of_long = drawn[..400].iter().filter(|mutant| mutant.name.starts_with("long")).count();
        assert!((260..340).contains(&of_long), "{of_long}");
    }
}
