//! The test programs of this package, and the models in them.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use loom_tests::{RECORDS, REPLAY, Record, SCHEDULES, SEED};
use serde_json::Value;

use crate::Options;

/// A test of this package.
pub(super) struct Model {
    program: PathBuf,
    /// The name of the program, as `cargo test --test` takes it.
    pub(super) target: String,
    pub(super) name: String,
    /// The guarantees that it proves.
    pub(super) proves: Vec<String>,
}

/// What became of a run.
pub(super) enum Ran {
    Passed(Vec<Record>),
    /// With what it printed.
    Failed(String),
}

/// Builds the test programs, as this one was built, and asks each for its tests.
pub(super) fn models(workspace: &Path, package: &Path) -> Result<Vec<Model>, String> {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(workspace).args(["test", "-p", "loom-tests", "--tests", "--no-run"]);
    cargo.args(["--message-format", "json-render-diagnostics"]);
    if !cfg!(debug_assertions) {
        cargo.arg("--release");
    }
    // What cargo has to say of its progress goes to the standard error.
    let built = cargo.stderr(std::process::Stdio::inherit()).output();
    let built = built.map_err(|error| format!("cargo: {error}"))?;
    if !built.status.success() {
        return Err("the models do not build".to_owned());
    }
    let mut models = Vec::new();
    for line in String::from_utf8_lossy(&built.stdout).lines() {
        let Ok(message) = serde_json::from_str::<Value>(line) else { continue };
        let is_test = message["target"]["kind"].as_array().is_some_and(|kinds| kinds.iter().any(|kind| kind == "test"));
        let (true, Some(program), Some(target)) =
            (is_test, message["executable"].as_str(), message["target"]["name"].as_str())
        else {
            continue;
        };
        models.extend(tests_of(package, Path::new(program), target)?);
    }
    models.sort_by(|a, b| (&a.target, &a.name).cmp(&(&b.target, &b.name)));
    Ok(models)
}

fn tests_of(package: &Path, program: &Path, target: &str) -> Result<Vec<Model>, String> {
    let list = Command::new(program).args(["--list", "--format", "terse"]).output();
    let list = list.map_err(|error| format!("{}: {error}", program.display()))?;
    if !list.status.success() {
        return Err(format!("{} does not list its models: {}", program.display(), list.status));
    }
    let list = String::from_utf8_lossy(&list.stdout).into_owned();
    let names = list.lines().filter_map(|line| line.strip_suffix(": test"));
    let model = |name: &str| {
        let proves = guarantees(package, target, name)?;
        Ok(Model { program: program.to_owned(), target: target.to_owned(), name: name.to_owned(), proves })
    };
    names.map(model).collect()
}

/// The guarantees that stand above a test, or else at the top of its file.
fn guarantees(package: &Path, target: &str, name: &str) -> Result<Vec<String>, String> {
    let (module, function) = name.rsplit_once("::").unwrap_or(("", name));
    let single = package.join("tests").join(target).with_extension("rs");
    let folder = package.join("tests").join(target);
    let file = match (single.exists(), module) {
        (true, _) => single,
        (false, "") => folder.join("main.rs"),
        (false, module) => folder.join(module.replace("::", "/")).with_extension("rs"),
    };
    let text = fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
    let (above, _) = text
        .split_once(&format!("fn {function}()"))
        .ok_or_else(|| format!("{}: there is no `{function}`", file.display()))?;
    let own = above.lines().rev().skip(1).take_while(|line| line.starts_with("///") || line.starts_with("#["));
    let mut cited = cites(own);
    if cited.is_empty() {
        cited = cites(text.lines().take_while(|line| line.starts_with("//!")));
    }
    if cited.is_empty() {
        return Err(format!("{}: `{function}` cites no guarantee, nor does its file", file.display()));
    }
    Ok(cited)
}

/// The guarantees in these lines, in order.
fn cites<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<String> {
    let words = lines.flat_map(|line| line.split(|c: char| !c.is_alphanumeric()));
    let number = |word: &str| word.strip_prefix('G').and_then(|number| number.parse().ok());
    let mut numbers: Vec<u8> = words.filter_map(number).collect();
    numbers.sort_unstable();
    numbers.dedup();
    numbers.into_iter().map(|number| format!("G{number}")).collect()
}

impl Model {
    pub(super) fn full_name(&self) -> String {
        format!("{}::{}", self.target, self.name)
    }

    /// Runs it, alone in a process of its own.
    pub(super) fn run(&self, options: &Options) -> Result<Ran, String> {
        let records = self.program.with_extension("records");
        // What an earlier run has left.
        let _ = fs::remove_file(&records);
        let mut test = Command::new(&self.program);
        test.args(["--exact", &self.name, "--nocapture"]).env(RECORDS, &records);
        test.env(SCHEDULES, options.schedules.to_string()).env(SEED, options.seed.to_string()).env_remove(REPLAY);
        let ran = test.output().map_err(|error| format!("{}: {error}", self.program.display()))?;
        let told = fs::read_to_string(&records).unwrap_or_default();
        let _ = fs::remove_file(&records);
        if !ran.status.success() {
            let output = [ran.stdout, ran.stderr].concat();
            return Ok(Ran::Failed(String::from_utf8_lossy(&output).into_owned()));
        }
        let record = |line: &str| serde_json::from_str(line).map_err(|error| format!("{}: {error}", self.full_name()));
        told.lines().map(record).collect::<Result<_, _>>().map(Ran::Passed)
    }
}
