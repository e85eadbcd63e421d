//! Builds what counts its lines, runs it, and reads what was counted.
//!
//! Everything lies in `target/coverage`: the builds, so that those of every day stay as they are, the counts, and what
//! llvm-cov made of them, which `--last` reads again.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::SystemTime;

use serde_json::Value;

use crate::Failure;
use crate::lines::{self, Lines};
use crate::progress::Progress;
use crate::rustc;
use crate::tools::Tools;

/// How many files of counts each program has at most. Every run adds to one of them; if another is adding to it, it
/// waits.
const FILES_OF_COUNTS: usize = 4;
/// How many of the last lines of a command are told if it fails.
const LINES_TOLD: usize = 30;

/// What a sweep is told.
pub(crate) struct Sweep {
    pub(crate) seeds: u64,
    pub(crate) from: u64,
    pub(crate) scenario: Option<String>,
}

/// Where it is built and measured.
pub(crate) struct Measure<'a> {
    workspace: &'a Path,
    tools: Tools,
    progress: &'a Progress,
}

/// The programs that were built. Each has the lines of all the library, of what it never calls as well.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Built(BTreeSet<PathBuf>);

/// What a command came to.
struct Ended {
    status: ExitStatus,
    output: String,
    /// What it said, in the order in which it was heard.
    said: Vec<String>,
}

impl<'a> Measure<'a> {
    /// Nothing is built yet.
    pub(crate) fn new(workspace: &'a Path, tools: Tools, progress: &'a Progress) -> Self {
        Self { workspace, tools, progress }
    }

    /// Sweeps, and gives the lines that it has reached.
    pub(crate) fn sweep(&self, sweep: &Sweep) -> Result<(Lines, Built), Failure> {
        let counts = self.empty_folder("sweep-counts")?;
        let built = self.build("building the simulation", &["build", "--release", "-p", "sim"])?;
        let sim = built.0.iter().find(|program| program.file_stem().is_some_and(|name| name == "sim"));
        let sim = sim.ok_or_else(|| Failure::Usage("cargo has told of no program `sim`".into()))?;
        let mut command = Command::new(sim);
        command.args([
            "sweep",
            "--no-capsules",
            "--seeds",
            &sweep.seeds.to_string(),
            "--from",
            &sweep.from.to_string(),
        ]);
        if let Some(scenario) = &sweep.scenario {
            command.args(["--scenario", scenario]);
        }
        count_in(&mut command, &counts);
        let ended = self.follow("sweeping", command.current_dir(self.workspace))?;
        match ended.status.code() {
            Some(0) => {}
            // The simulation says what is wrong with a name.
            Some(2) => return Err(Failure::Usage(format!("the simulation refuses: {}", ended.last_lines()))),
            _ => {
                let text = format!("the sweep failed ({}), so what it reached means nothing", ended.status);
                return Err(Failure::Failed(format!("{}\n{text}", ended.last_lines())));
            }
        }
        Ok((self.read("sweep", &[&counts], &built)?, built))
    }

    /// Tests, and gives the lines that they and the sweep, for which this was built, have reached; with the tests that
    /// failed.
    pub(crate) fn together(&self, mut built: Built) -> Result<(Lines, Vec<String>), Failure> {
        let counts = self.empty_folder("test-counts")?;
        let tests = self.build("building all tests", &["test", "--workspace", "--no-run"])?;
        built.0.extend(tests.0);
        let mut command = self.cargo();
        command.args(["test", "--workspace", "--no-fail-fast"]);
        count_in(&mut command, &counts);
        let ended = self.follow("testing", &mut command)?;
        let failed = ended.said.iter().filter_map(|line| line.strip_prefix("test ")?.strip_suffix(" ... FAILED"));
        let mut failed: Vec<_> = failed.map(str::to_owned).collect();
        if failed.is_empty() && !ended.status.success() {
            failed.push(format!("cargo test ({})", ended.status));
        }
        let lines = self.read("together", &[&self.folder().join("sweep-counts"), &counts], &built)?;
        Ok((lines, failed))
    }

    /// Builds with cargo, and gives what was built.
    fn build(&self, what: &str, arguments: &[&str]) -> Result<Built, Failure> {
        let mut command = self.cargo();
        command.args(arguments).args(["--message-format", "json-render-diagnostics"]);
        let ended = self.follow(what, &mut command)?;
        if !ended.status.success() {
            return Err(Failure::Usage(format!("{}\n{what} failed", ended.last_lines())));
        }
        Ok(Built::read(&ended.output))
    }

    fn cargo(&self) -> Command {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo
            .current_dir(self.workspace)
            .env("CARGO_TARGET_DIR", self.folder())
            .env("CARGO_INCREMENTAL", "0")
            .env(rustc::MARK, "1");
        if let Ok(this) = std::env::current_exe() {
            cargo.env("RUSTC_WORKSPACE_WRAPPER", this);
        }
        cargo
    }

    /// Merges counts, and reads the lines of these programs from them.
    fn read(&self, name: &str, counts: &[&Path], built: &Built) -> Result<Lines, Failure> {
        let failed = |ended: Ended| Failure::Usage(format!("{}\nthe counts cannot be read", ended.last_lines()));
        let merged = self.folder().join(format!("{name}.profdata"));
        let mut merge = Command::new(&self.tools.profdata);
        merge.args(["merge", "--sparse", "-o"]).arg(&merged).args(counts);
        let ended = self.follow("reading the counts", &mut merge)?;
        if !ended.status.success() {
            return Err(failed(ended));
        }
        let mut export = Command::new(&self.tools.cov);
        export.args(["export", "--format=lcov", "--skip-functions", "--skip-branches", "--instr-profile"]).arg(&merged);
        for (index, program) in built.0.iter().enumerate() {
            if index > 0 {
                export.arg("--object");
            }
            export.arg(program);
        }
        // Of other files nothing is wanted.
        export.arg("--sources").arg(self.workspace.join("src"));
        let ended = self.follow("reading the counts", &mut export)?;
        if !ended.status.success() {
            return Err(failed(ended));
        }
        let lines = lines::read(&ended.output, self.workspace).map_err(Failure::Usage)?;
        let file = last(self.workspace, name);
        fs::write(&file, ended.output).map_err(|error| Failure::Usage(format!("{}: {error}", file.display())))?;
        Ok(lines)
    }

    fn folder(&self) -> PathBuf {
        folder(self.workspace)
    }

    /// A folder for counts. Those of an earlier run are no part of this one.
    fn empty_folder(&self, name: &str) -> Result<PathBuf, Failure> {
        let folder = self.folder().join(name);
        let told = |error| Failure::Usage(format!("{}: {error}", folder.display()));
        if folder.exists() {
            fs::remove_dir_all(&folder).map_err(told)?;
        }
        fs::create_dir_all(&folder).map_err(told)?;
        Ok(folder)
    }

    /// Runs a command to its end, and tells what it says.
    fn follow(&self, what: &str, command: &mut Command) -> Result<Ended, Failure> {
        self.progress.begins(what);
        let name = command.get_program().to_string_lossy().into_owned();
        let told = |error: std::io::Error| Failure::CannotRun(format!("{name} cannot be run: {error}"));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(told)?;
        let (send, heard) = mpsc::channel();
        let listen = |from: Option<Box<dyn Read + Send>>, is_output: bool| {
            let send = send.clone();
            from.map(|from| {
                thread::spawn(move || {
                    for line in BufReader::new(from).split(b'\n').map_while(Result::ok) {
                        // Heard as long as somebody listens.
                        let _ = send.send((is_output, String::from_utf8_lossy(&line).into_owned()));
                    }
                })
            })
        };
        listen(child.stdout.take().map(|from| Box::new(from) as _), true);
        listen(child.stderr.take().map(|from| Box::new(from) as _), false);
        drop(send);
        let (mut output, mut said) = (String::new(), Vec::new());
        for (is_output, line) in heard {
            self.progress.hears(what, &line);
            if is_output {
                output.push_str(&line);
                output.push('\n');
            }
            said.push(line);
        }
        Ok(Ended { status: child.wait().map_err(told)?, output, said })
    }
}

impl Built {
    /// Reads what cargo tells of a build.
    fn read(messages: &str) -> Self {
        // What a build script or a compiler prints is no message of cargo.
        let messages = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let program = |message: Value| Some(message.get("executable")?.as_str()?.into());
        Self(messages.filter_map(program).collect())
    }
}

impl Ended {
    fn last_lines(&self) -> String {
        self.said[self.said.len().saturating_sub(LINES_TOLD)..].join("\n")
    }
}

/// What the last run has left, `sweep` or `together`, and when it did.
pub(crate) fn read_last(workspace: &Path, name: &str) -> Result<(Lines, SystemTime), Failure> {
    let file = last(workspace, name);
    let text = fs::read_to_string(&file).and_then(|text| Ok((text, file.metadata()?.modified()?)));
    let (text, written) =
        text.map_err(|error| Failure::Usage(format!("{}: {error}; without `--last` it is measured", file.display())))?;
    Ok((lines::read(&text, workspace).map_err(Failure::Usage)?, written))
}

fn last(workspace: &Path, name: &str) -> PathBuf {
    folder(workspace).join(format!("{name}.lcov"))
}

fn folder(workspace: &Path) -> PathBuf {
    workspace.join("target").join("coverage")
}

/// Has a command, and what it starts, leave its counts in this folder.
fn count_in(command: &mut Command, folder: &Path) {
    command.env("LLVM_PROFILE_FILE", folder.join(format!("%{FILES_OF_COUNTS}m.profraw")));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_taken_from_what_cargo_tells() {
        let messages = r#"
{"reason":"compiler-artifact","target":{"name":"evermux"},"filenames":["/t/libevermux-1.rlib"],"executable":null}
warning: not a message
{"reason":"compiler-artifact","target":{"name":"sim"},"filenames":["/t/sim"],"executable":"/t/sim"}
{"reason":"build-finished","success":true}"#;
        assert_eq!(Built::read(messages), Built(BTreeSet::from(["/t/sim".into()])));
    }
}
