//! Builds the copy in which every mutant waits for its switch, and those that need a build of their own.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::checkers::{Checker, Program};
use super::mutant::{Edit, Mutant, apply};
use super::switch::{Switched, switch};
use crate::scratch::Scratch;

/// How often the compiler is asked, at most: each time it names those that do not compile in its next phase.
const ROUNDS: usize = 25;

/// What `on` may be called from: `evermux` as the checkers build it.
const CHECK: [&str; 5] = ["--package", "evermux", "--features", "serde,__internals", "--lib"];
/// The tests of `tests/documents` read the sources, which are others in the copy.
const NOT_RUN: &str = "documents";

/// The mutants behind switches, and those of the others whose own text does not compile.
pub(crate) type Compiled = (Switched, BTreeSet<usize>);

/// Puts the mutants behind switches. What does not compile there is left out.
pub(crate) fn switch_all(
    scratch: &Scratch,
    workspace: &Path,
    mutants: &[Mutant],
    mut without: BTreeSet<usize>,
    mut tell: impl FnMut(&str),
) -> Result<Compiled, String> {
    let mut broken = BTreeSet::new();
    for round in 1..=ROUNDS {
        let switched = switch(workspace, mutants, &without)?;
        scratch.refresh_with(&switched.files)?;
        let left = switched.left.len();
        tell(&format!("compiling, round {round}: {} of {} behind switches", mutants.len() - left, mutants.len()));
        let errors = errors(scratch)?;
        if errors.is_empty() {
            return Ok((switched, broken));
        }
        let mut named = BTreeSet::new();
        for error in &errors {
            let (mutants, is_own) = switched_at(&switched, error);
            if is_own && !error.is_about_branches {
                broken.extend(&mutants);
            }
            named.extend(mutants);
        }
        if named.is_empty() {
            return Err(format!("the copy does not compile: {}", errors[0].what));
        }
        without = switched.left.union(&named).copied().collect();
    }
    Err(format!("the copy still does not compile after {ROUNDS} rounds"))
}

fn switched_at(switched: &Switched, error: &CompileError) -> (BTreeSet<usize>, bool) {
    let mut found = error.at.iter().map(|(file, line)| switched.at(file, *line));
    found.find(|(mutants, _)| !mutants.is_empty()).unwrap_or_default()
}

/// Whether a mutant compiles when it is alone.
pub(crate) fn compiles(scratch: &Scratch, workspace: &Path, mutant: &Mutant) -> Result<bool, String> {
    scratch.refresh_with(&files_with(workspace, mutant)?)?;
    Ok(errors(scratch)?.is_empty())
}

/// The files that a mutant changes.
pub(crate) fn files_with(workspace: &Path, mutant: &Mutant) -> Result<BTreeMap<PathBuf, Vec<u8>>, String> {
    let mut files: BTreeMap<&PathBuf, Vec<&Edit>> = BTreeMap::new();
    for edit in &mutant.edits {
        files.entry(&edit.file).or_default().push(edit);
    }
    let mut changed = BTreeMap::new();
    for (file, edits) in files {
        let text = fs::read_to_string(workspace.join(file)).map_err(|error| format!("{}: {error}", file.display()))?;
        changed.insert(file.clone(), apply(&text, 0, edits).into_bytes());
    }
    Ok(changed)
}

struct CompileError {
    what: String,
    /// The files and lines that it points at, the most important first.
    at: Vec<(PathBuf, usize)>,
    /// The branches of an `if` do not fit each other: it points at one, and another may be the cause.
    is_about_branches: bool,
}

fn errors(scratch: &Scratch) -> Result<Vec<CompileError>, String> {
    let mut cargo = scratch.cargo("check");
    cargo.args(CHECK).args(["--message-format", "json"]);
    let (messages, succeeded) = messages(cargo)?;
    let errors: Vec<_> = messages.iter().filter_map(error_of).collect();
    if errors.is_empty() && !succeeded {
        return Err("cargo check fails, and names no error".into());
    }
    Ok(errors)
}

fn error_of(message: &Value) -> Option<CompileError> {
    let message = message.get("message").filter(|message| message["level"] == "error")?;
    let spans = message["spans"].as_array()?;
    let place = |span: &Value| {
        let line = usize::try_from(span["line_start"].as_u64()?).ok()?;
        Some((PathBuf::from(span["file_name"].as_str()?), line))
    };
    let mut spans: Vec<_> = spans.iter().collect();
    spans.sort_by_key(|span| span["is_primary"] != true);
    let at: Vec<_> = spans.into_iter().filter_map(place).collect();
    // The last one only counts the others.
    let what = message["message"].as_str().unwrap_or_default().to_owned();
    let is_about_branches = what.contains("`if` and `else`");
    (!at.is_empty()).then_some(CompileError { what, at, is_about_branches })
}

fn messages(mut cargo: Command) -> Result<(Vec<Value>, bool), String> {
    let output = cargo.output().map_err(|error| format!("cargo cannot be run: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let messages = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    Ok((messages, output.status.success()))
}

/// Builds the programs of tests of these checkers.
pub(crate) fn programs(scratch: &Scratch, checkers: &[Checker]) -> Result<Vec<Program>, String> {
    let mut programs = Vec::new();
    for (package, of) in [
        ("evermux", &[Checker::Unit, Checker::Tests][..]),
        ("proptests", &[Checker::Properties][..]),
        ("loom-tests", &[Checker::Loom][..]),
    ] {
        if !checkers.iter().any(|checker| of.contains(checker)) {
            continue;
        }
        let mut cargo = scratch.cargo("test");
        cargo.args(["--no-run", "--lib", "--tests", "--message-format", "json", "--package", package]);
        if package == "evermux" {
            cargo.args(["--features", "serde,__internals"]);
        }
        let (messages, succeeded) = messages(cargo)?;
        if !succeeded {
            let error = messages.iter().find_map(error_of).map_or("cargo names no error".into(), |error| error.what);
            return Err(format!("the tests of {package} do not build: {error}"));
        }
        let found = messages.iter().filter_map(|message| program_of(message, package));
        programs.extend(found.filter(|program| checkers.contains(&program.checker)));
    }
    Ok(programs)
}

fn program_of(message: &Value, package: &str) -> Option<Program> {
    let path = PathBuf::from(message["executable"].as_str()?);
    let folder = Path::new(message["manifest_path"].as_str()?).parent()?.to_owned();
    let target = &message["target"];
    let is_library = target["kind"].as_array()?.iter().any(|kind| kind == "lib");
    if message["profile"]["test"] != true || target["name"] == NOT_RUN {
        return None;
    }
    let checker = match (package, is_library) {
        ("evermux", true) => Checker::Unit,
        ("evermux", false) => Checker::Tests,
        ("proptests", _) => Checker::Properties,
        _ => Checker::Loom,
    };
    Some(Program { checker, path, folder })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_error_points_first_at_what_is_primary() {
        let span =
            |line: u64, is_primary: bool| json!({"file_name": "a.rs", "line_start": line, "is_primary": is_primary});
        let message = json!({"reason": "compiler-message", "message": {
            "level": "error", "message": "no", "spans": [span(3, false), span(7, true)],
        }});
        let error = error_of(&message).unwrap();
        assert_eq!(error.at, [(PathBuf::from("a.rs"), 7), (PathBuf::from("a.rs"), 3)]);
        assert!(error_of(&json!({"message": {"level": "warning", "spans": [span(1, true)]}})).is_none());
    }

    #[test]
    fn programs_are_known_by_their_package() {
        let message = |name: &str, kind: &str| {
            json!({"executable": "/x", "manifest_path": "/w/Cargo.toml", "profile": {"test": true},
                "target": {"name": name, "kind": [kind]}})
        };
        let checker = |name, kind, package| program_of(&message(name, kind), package).map(|program| program.checker);
        assert_eq!(checker("evermux", "lib", "evermux"), Some(Checker::Unit));
        assert_eq!(checker("managers", "test", "evermux"), Some(Checker::Tests));
        assert_eq!(checker("documents", "test", "evermux"), None);
        assert_eq!(checker("slot", "test", "proptests"), Some(Checker::Properties));
        assert_eq!(checker("loom_tests", "lib", "loom-tests"), Some(Checker::Loom));
    }
}
