//! A run in a process of its own.
//!
//! tokio numbers tasks by a counter of the whole process, and drops what is left of a crashed host in an order that depends
//! on these numbers: beside other runs, a run would not be the same as alone.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};
use std::{env, fs, hint, process};

use crate::outcome::Outcome;
use crate::plan::Plan;
use crate::scenarios::Scenario;
use crate::trace;
use crate::verdict::Violation;
use crate::watch::{LOOK, Patience};

/// How much processor time the process of a run may take. A run that comes to no end says so long before.
const LONGEST: Duration = Duration::from_secs(300);

/// A run to be done.
#[derive(Clone)]
pub struct Job<'a> {
    /// The scenario.
    pub scenario: &'static Scenario,
    /// The seed.
    pub seed: u64,
    /// The plan, when it is not the one that the seed draws.
    pub plan: Option<&'a Plan>,
    /// By how much the clock is wrong, in microseconds: see [`interpose::disturb`](crate::interpose::disturb).
    pub disturb_us: u64,
}

impl<'a> Job<'a> {
    /// A scenario with a seed, and with what the seed draws.
    pub fn new(scenario: &'static Scenario, seed: u64) -> Self {
        Self { scenario, seed, plan: None, disturb_us: 0 }
    }

    /// The same with another plan.
    #[must_use]
    pub fn with_plan(self, plan: &'a Plan) -> Self {
        Self { plan: Some(plan), ..self }
    }

    /// Runs it.
    ///
    /// # Errors
    ///
    /// Why its process gave no outcome. A run that does not come to its end has an outcome: a `hang`.
    pub fn run(&self) -> Result<Outcome, String> {
        let io = |error: io::Error| format!("its process cannot be run: {error}");
        let file = self.plan.map(PlanFile::write).transpose().map_err(io)?;
        let mut command = Command::new(env::current_exe().map_err(io)?);
        command
            .args(["replay", &self.seed.to_string(), "--scenario", self.scenario.name, "--json"])
            .args(["--disturb", &self.disturb_us.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        if let Some(file) = &file {
            command.arg("--plan").arg(file.path());
        }
        let mut child = command.spawn().map_err(io)?;
        let mut stdout = child.stdout.take().ok_or("its process has no output")?;
        let (send, output) = mpsc::channel();
        thread::spawn(move || {
            let mut line = String::new();
            // Nobody listens any more when the process had to be killed.
            let _ = send.send(stdout.read_to_string(&mut line).map(|_| line));
        });
        let mut patience = Patience::with_process(child.id(), LONGEST);
        // The output ends when the process does.
        let line = loop {
            match output.recv_timeout(LOOK) {
                Ok(line) => break line.map_err(io)?,
                Err(_) => {
                    let Some(stuck) = patience.look(0) else { continue };
                    child.kill().map_err(io)?;
                    child.wait().map_err(io)?;
                    return Ok(self.hang(&stuck));
                }
            }
        };
        let status = child.wait().map_err(io)?;
        Outcome::from_json(&line, self.scenario.name)
            .ok_or_else(|| format!("its process ended with {status}, and without an outcome"))
    }

    /// Runs it, and once more if it fails, so that what is told can be replayed; or twice anyway.
    #[expect(clippy::disallowed_methods, reason = "how long a run takes is real time")]
    pub fn run_once_or_twice(&self, twice: bool) -> Ran {
        let outcomes = || {
            let begun = Instant::now();
            let first = self.run()?;
            let took = begun.elapsed();
            // One that hangs is told by real time, and takes long.
            let hangs = first.result.as_ref().err().is_some_and(|broken| broken.guarantee == "hang");
            let repeats = twice || (first.result.is_err() && !hangs);
            let second = if repeats { Some(self.run()?) } else { None };
            Ok::<_, String>((first, second, took))
        };
        match outcomes() {
            Ok((first, Some(second), _)) if first != second => Ran::Diverged(first.into(), second.into()),
            Ok((first, _, took)) => Ran::Done(first.into(), took),
            Err(how) => Ran::Lost(how),
        }
    }

    fn hang(&self, stuck: &str) -> Outcome {
        Outcome {
            scenario: self.scenario.name,
            seed: self.seed,
            kind: self.plan.map_or_else(|| self.scenario.name.to_owned(), |plan| self.scenario.kind(plan)),
            trace: trace::Summary { hash: 0, lines: 0 },
            simulated: Duration::ZERO,
            counters: std::collections::BTreeMap::default(),
            worst: std::collections::BTreeMap::default(),
            states: std::collections::BTreeSet::default(),
            reached: Vec::new(),
            result: Err(Violation::new("hang", stuck)),
        }
    }
}

/// What came of a run that was repeated where it failed.
#[derive(Debug)]
pub enum Ran {
    /// It has ended. How long it took, the first time.
    Done(Box<Outcome>, Duration),
    /// Twice the same run was not the same.
    Diverged(Box<Outcome>, Box<Outcome>),
    /// It gave no outcome: what became of it.
    Lost(String),
}

/// A plan in a file, which is removed when this is dropped.
struct PlanFile(PathBuf);

impl PlanFile {
    fn write(plan: &Plan) -> io::Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("sim-plan-{}-{}.json", process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let file = Self(env::temp_dir().join(name));
        fs::write(&file.0, serde_json::to_vec(plan)?)?;
        Ok(file)
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for PlanFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Does some work while every core has something else to do as well: nothing that is simulated may notice.
pub fn with_every_core_busy<R>(work: impl FnOnce() -> R) -> R {
    /// Ends the busy threads, also when the work panics.
    struct Stop<'a>(&'a AtomicBool);

    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let _stop = Stop(&stop);
        for _ in 0..thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    hint::spin_loop();
                }
            });
        }
        work()
    })
}
