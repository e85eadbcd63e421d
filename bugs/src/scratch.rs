//! The scratch copy of the workspace, in which patches are applied, built and run.
//!
//! It is made equal to the workspace before each patch. A file that is the same already keeps its time, so that cargo
//! builds only what has changed; one that is not is written anew, so that cargo never takes it for an older one.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::patch::Patch;

/// The scratch copy, and the directories beside it.
pub(crate) struct Scratch {
    workspace: PathBuf,
    work: PathBuf,
    target: PathBuf,
    files: BTreeSet<PathBuf>,
    /// Mistakes are tried one after the other, each with a build of its own.
    incremental: bool,
}

/// Why something could not be built.
#[derive(Debug)]
pub(crate) enum Unfit {
    /// The patch does not apply any more: what git says.
    DoesNotApply(String),
    /// It does not compile: the compiler's first error.
    DoesNotCompile(String),
}

impl Scratch {
    /// For this workspace. Nothing is written yet.
    pub(crate) fn new(workspace: &Path) -> Result<Self, String> {
        let base = workspace.join("target").join("bugs");
        let files = files_of(workspace)?;
        let (work, target) = (base.join("work"), base.join("target"));
        Ok(Self { workspace: workspace.into(), work, target, files, incremental: true })
    }

    /// Another copy for this workspace, beneath a directory of this name.
    pub(crate) fn named(workspace: &Path, name: &str, incremental: bool) -> Result<Self, String> {
        let base = workspace.join("target").join("bugs").join(name);
        let files = files_of(workspace)?;
        let (work, target) = (base.join("work"), base.join("target"));
        Ok(Self { workspace: workspace.into(), work, target, files, incremental })
    }

    /// The same with a copy of its own, which is built with what was built of other crates.
    pub(crate) fn sibling(&self, name: &str, incremental: bool) -> Self {
        let Self { workspace, target, files, .. } = self;
        let (workspace, target, files) = (workspace.clone(), target.clone(), files.clone());
        Self { workspace, work: self.beside(name), target, files, incremental }
    }

    /// Makes the copy equal to the workspace.
    pub(crate) fn refresh(&self) -> Result<(), String> {
        self.refresh_with(&BTreeMap::new())
    }

    /// Makes the copy equal to the workspace, but for these files.
    pub(crate) fn refresh_with(&self, other: &BTreeMap<PathBuf, Vec<u8>>) -> Result<(), String> {
        let told =
            |path: &Path, error: &io::Error| format!("the scratch copy cannot be made: {}: {error}", path.display());
        fs::create_dir_all(&self.work).map_err(|error| told(&self.work, &error))?;
        for file in walk(&self.work, Path::new(""), &[]).map_err(|error| told(&self.work, &error))? {
            if !self.files.contains(&file) && !other.contains_key(&file) {
                let file = self.work.join(file);
                fs::remove_file(&file).map_err(|error| told(&file, &error))?;
            }
        }
        for file in self.files.iter().chain(other.keys().filter(|file| !self.files.contains(*file))) {
            let (from, to) = (self.workspace.join(file), self.work.join(file));
            let bytes = match other.get(file) {
                Some(bytes) => bytes.clone(),
                None => fs::read(&from).map_err(|error| told(&from, &error))?,
            };
            if fs::read(&to).is_ok_and(|there| there == bytes) {
                continue;
            }
            if let Some(parent) = to.parent() {
                fs::create_dir_all(parent).map_err(|error| told(parent, &error))?;
            }
            fs::write(&to, bytes).map_err(|error| told(&to, &error))?;
        }
        Ok(())
    }

    /// Makes the copy equal to the workspace with this mistake in it.
    pub(crate) fn plant(&self, patch: &Patch) -> Result<Result<(), Unfit>, String> {
        self.refresh()?;
        let told = |error: io::Error| format!("git, which applies patches, cannot be run: {error}");
        let mut git = Command::new("git")
            .args(["apply", "--whitespace=nowarn", "-"])
            .current_dir(&self.work)
            // The copy lies within a repository, where git would leave alone what is not beneath it, and say nothing.
            .env("GIT_CEILING_DIRECTORIES", self.work.parent().unwrap_or(&self.work))
            .env_remove("GIT_DIR")
            .env_remove("GIT_WORK_TREE")
            .env_remove("GIT_INDEX_FILE")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(told)?;
        if let Some(mut stdin) = git.stdin.take() {
            // What git does not read to its end, it refuses below.
            let _ = stdin.write_all(patch.diff.as_bytes());
        }
        let output = git.wait_with_output().map_err(told)?;
        if output.status.success() {
            return Ok(Ok(()));
        }
        let what = String::from_utf8_lossy(&output.stderr);
        let what = what.lines().next().unwrap_or("git gives no reason").trim_start_matches("error: ").to_owned();
        Ok(Err(Unfit::DoesNotApply(what)))
    }

    /// Builds the simulation, and gives its program.
    pub(crate) fn build_sim(&self) -> Result<Result<PathBuf, Unfit>, String> {
        let mut cargo = self.cargo("build");
        cargo.args(["--release", "-p", "sim", "--message-format", "short"]);
        let program = self.target.join("release").join(format!("sim{}", std::env::consts::EXE_SUFFIX));
        Ok(build(cargo)?.map(|()| program))
    }

    /// Builds tests.
    pub(crate) fn build_tests(&self, arguments: &[String]) -> Result<Result<(), Unfit>, String> {
        let mut cargo = self.cargo("test");
        cargo.args(["--no-run", "--message-format", "short"]);
        cargo.args(arguments.iter().take_while(|argument| *argument != "--"));
        build(cargo)
    }

    /// Runs tests that were built.
    pub(crate) fn tests(&self, arguments: &[String]) -> Command {
        let mut cargo = self.cargo("test");
        cargo.args(arguments);
        cargo
    }

    /// A place for a file that outlives the copy.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.target.with_file_name(name)
    }

    /// The files of the workspace.
    pub(crate) fn files(&self) -> &BTreeSet<PathBuf> {
        &self.files
    }

    /// A command of cargo in the copy.
    pub(crate) fn cargo(&self, command: &str) -> Command {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo
            .arg(command)
            .arg("--target-dir")
            .arg(&self.target)
            .current_dir(&self.work)
            // Each mistake is a few lines: a release build takes a quarter of the time.
            .env("CARGO_INCREMENTAL", if self.incremental { "1" } else { "0" })
            // A mistake may leave something unused: that is no reason not to try it.
            .env("RUSTFLAGS", "--cap-lints warn")
            .env_remove("CARGO_ENCODED_RUSTFLAGS")
            .stdin(Stdio::null());
        cargo
    }
}

fn build(mut cargo: Command) -> Result<Result<(), Unfit>, String> {
    let output = cargo.output().map_err(|error| format!("cargo cannot be run: {error}"))?;
    if output.status.success() {
        return Ok(Ok(()));
    }
    Ok(Err(Unfit::DoesNotCompile(first_error(&String::from_utf8_lossy(&output.stderr)))))
}

/// The first error among what cargo says in its short form.
fn first_error(text: &str) -> String {
    let error = text.lines().find(|line| line.starts_with("error") || line.contains(": error"));
    error.or_else(|| text.lines().last()).unwrap_or("cargo gives no reason").to_owned()
}

/// The files that git keeps, as they are now; without git, all but what is built.
fn files_of(workspace: &Path) -> Result<BTreeSet<PathBuf>, String> {
    let git = Command::new("git")
        .args(["ls-files", "-z"])
        .current_dir(workspace)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()
        .filter(|output| output.status.success() && !output.stdout.is_empty());
    let Some(git) = git else {
        let files = walk(workspace, Path::new(""), &["target", ".git"]);
        return files.map_err(|error| format!("the workspace cannot be read: {}: {error}", workspace.display()));
    };
    let names = String::from_utf8_lossy(&git.stdout);
    // One that was deleted and not committed is not there.
    Ok(names
        .split('\0')
        .filter(|name| !name.is_empty())
        .map(PathBuf::from)
        .filter(|file| workspace.join(file).is_file())
        .collect())
}

/// The files beneath a directory, by their paths in it.
fn walk(root: &Path, directory: &Path, without: &[&str]) -> io::Result<BTreeSet<PathBuf>> {
    let mut files = BTreeSet::new();
    for entry in fs::read_dir(root.join(directory))? {
        let entry = entry?;
        let path = directory.join(entry.file_name());
        if directory == Path::new("") && without.iter().any(|name| entry.file_name() == OsStr::new(name)) {
            continue;
        }
        if entry.file_type()?.is_dir() {
            files.extend(walk(root, &path, without)?);
        } else {
            files.insert(path);
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_error_of_the_compiler_is_told() {
        let text = "   Compiling evermux v0.1.0\nsrc/a.rs:1:5: warning: unused\nsrc/a.rs:2:5: error[E0425]: no `x`\n\
            src/a.rs:3:5: error: more\nerror: could not compile `evermux`";
        assert_eq!(first_error(text), "src/a.rs:2:5: error[E0425]: no `x`");
        assert_eq!(first_error("error: no such package"), "error: no such package");
    }
}
