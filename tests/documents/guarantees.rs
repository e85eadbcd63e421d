//! The table of guarantees in ARCHITECTURE.md is true: what keeps each is there, and what proves it.

use std::{
    fs,
    path::{Path, PathBuf},
};

const GUARANTEES: usize = 19;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A row of the table.
struct Row {
    number: String,
    /// A file of `src`, and the items in it.
    kept_by: Vec<(String, Vec<String>)>,
    proven_by: Vec<String>,
    scenarios: Vec<String>,
    planted_bugs: usize,
}

/// What stands in backticks.
fn quoted(cell: &str) -> impl Iterator<Item = String> {
    cell.split('`').skip(1).step_by(2).map(ToOwned::to_owned)
}

fn rows() -> Vec<Row> {
    let text = read(&root().join("ARCHITECTURE.md"));
    let (_, section) = text.split_once("\n## Guarantees\n").expect("there is a section on guarantees");
    let (section, _) = section.split_once("\n## ").expect("another section follows");
    let rows: Vec<_> = section.lines().filter(|line| line.starts_with("| G")).map(row).collect();
    let numbers: Vec<_> = rows.iter().map(|row| row.number.clone()).collect();
    let expected: Vec<_> = (1..=GUARANTEES).map(|number| format!("G{number}")).collect();
    assert_eq!(numbers, expected, "each guarantee has one row");
    rows
}

fn row(line: &str) -> Row {
    let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
    let [number, _says, kept_by, proven_by, scenarios, planted_bugs] = cells[..] else {
        panic!("a row has other columns: {cells:?}")
    };
    let mut keepers = Vec::<(String, Vec<String>)>::new();
    for name in quoted(kept_by) {
        match keepers.last_mut() {
            _ if Path::new(&name).extension().is_some_and(|extension| extension == "rs") => {
                keepers.push((name, Vec::new()));
            }
            Some((_, items)) => items.push(name),
            None => panic!("{number}: `{name}` stands in no file"),
        }
    }
    Row {
        number: number.to_owned(),
        kept_by: keepers,
        proven_by: quoted(proven_by).collect(),
        scenarios: quoted(scenarios).collect(),
        planted_bugs: planted_bugs.parse().expect("it is a number"),
    }
}

/// Whether a text has this word.
fn cites(text: &str, word: &str) -> bool {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').any(|other| other == word)
}

/// All files of these folders with this extension.
fn files(folders: &[&str], extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders: Vec<_> = folders.iter().map(|folder| root().join(folder)).collect();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|other| other == extension) {
                found.push(path);
            }
        }
    }
    found
}

#[test]
fn what_keeps_a_guarantee_is_there_and_says_so() {
    for Row { number, kept_by, .. } in rows() {
        assert!(!kept_by.is_empty(), "{number} is kept by nothing");
        for (file, items) in kept_by {
            let text = read(&root().join("src").join(&file));
            assert!(cites(&text, &number), "src/{file} does not cite {number}");
            for item in items {
                let is_defined = ["fn", "struct", "enum", "trait", "const", "type"].iter().any(|kind| {
                    text.match_indices(&format!("{kind} {item}")).any(|(at, found)| {
                        !text[at + found.len()..].starts_with(|c: char| c.is_alphanumeric() || c == '_')
                    })
                });
                assert!(is_defined, "{number}: src/{file} has no `{item}`");
            }
        }
    }
}

#[test]
fn what_proves_a_guarantee_says_so() {
    for Row { number, proven_by, .. } in rows() {
        assert!(!proven_by.is_empty(), "{number} is proven by nothing");
        for file in proven_by {
            assert!(cites(&read(&root().join(&file)), &number), "{file} does not cite {number}");
        }
    }
}

#[test]
fn each_scenario_has_a_test_of_its_name() {
    let folders =
        ["src", "tests", "loom-tests/tests", "proptests/tests", "sim/src/scenarios", "sim/tests", "testkit/src"];
    let code: String = files(&folders, "rs").iter().map(|path| read(path)).collect();
    let mut count = 0;
    for Row { number, scenarios, .. } in rows() {
        for scenario in scenarios {
            count += 1;
            // A function, or a line of the simulation's list.
            let is_there = code.contains(&format!("fn {scenario}(")) || code.contains(&format!("    {scenario}: \""));
            assert!(is_there, "{number}: no test is called `{scenario}`");
        }
    }
    assert!(count > 70, "{count}");
}

#[test]
fn planted_bugs_are_counted() {
    let patches: Vec<_> = files(&["bugs/planted"], "patch").iter().map(|path| read(path)).collect();
    let breaks = |patch: &String, number: &str| {
        patch.lines().any(|line| line.strip_prefix("guarantee: ").is_some_and(|broken| cites(broken, number)))
    };
    for Row { number, planted_bugs, .. } in rows() {
        let count = patches.iter().filter(|patch| breaks(patch, &number)).count();
        assert_eq!(planted_bugs, count, "{number}: planted bugs");
    }
}
