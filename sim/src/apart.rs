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
use std::time::Duration;
use std::{env, fs, hint, process};

use crate::plan::Plan;
use crate::run::{Broken, Outcome};
use crate::scenarios::Scenario;
use crate::trace;

/// How much processor time a run may take: simulated time does not pass while a task keeps waking itself. Real time would
/// tell a machine that is busy from one that is not.
const SPINS_AFTER: Duration = Duration::from_secs(60);

/// For how long, in real time, a run may use no processor time and not want any: nothing in it waits for real time.
const SLEEPS_AFTER: Duration = Duration::from_secs(20);

/// How often a run is looked at.
const LOOK: Duration = Duration::from_secs(1);

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
        let mut patience = Patience::new(child.id());
        // The output ends when the process does.
        let line = loop {
            match output.recv_timeout(LOOK) {
                Ok(line) => break line.map_err(io)?,
                Err(_) => {
                    let Some(stuck) = patience.look() else { continue };
                    child.kill().map_err(io)?;
                    child.wait().map_err(io)?;
                    return Ok(self.hang(&stuck));
                }
            }
        };
        let status = child.wait().map_err(io)?;
        Outcome::from_json(&line).ok_or_else(|| format!("its process ended with {status}, and without an outcome"))
    }

    fn hang(&self, stuck: &str) -> Outcome {
        Outcome {
            scenario: self.scenario.name,
            seed: self.seed,
            trace: trace::Summary { hash: 0, lines: 0 },
            simulated: Duration::ZERO,
            counters: std::collections::BTreeMap::default(),
            worst: std::collections::BTreeMap::default(),
            states: std::collections::BTreeSet::default(),
            result: Err(Broken::new("hang", stuck)),
        }
    }
}

/// Sees whether a process comes to no end.
struct Patience {
    process: u32,
    used: Duration,
    /// How often in a row it had used no processor time and wanted none.
    asleep: u32,
    looks: u32,
}

impl Patience {
    fn new(process: u32) -> Self {
        Self { process, used: Duration::ZERO, asleep: 0, looks: 0 }
    }

    /// Looks at the process, once in each [`LOOK`]. Gives the reason when it is stuck.
    fn look(&mut self) -> Option<String> {
        self.looks += 1;
        // Without procfs there is real time alone.
        let (wants, used) = usage(self.process).unwrap_or((true, LOOK * self.looks));
        self.asleep = if wants || used > self.used { 0 } else { self.asleep + 1 };
        self.used = used;
        if used >= SPINS_AFTER {
            let seconds = SPINS_AFTER.as_secs();
            return Some(format!("the run has taken {seconds} s of processor time: a task keeps waking itself"));
        }
        let seconds = SLEEPS_AFTER.as_secs();
        (LOOK * self.asleep >= SLEEPS_AFTER)
            .then(|| format!("the run has done nothing for {seconds} s of real time: a thread waits for ever"))
    }
}

/// Whether a process wants a processor, and how much time it has had of one.
fn usage(process: u32) -> Option<(bool, Duration)> {
    /// Linux counts in hundredths of a second here, whatever its own clock does.
    const TICK: Duration = Duration::from_millis(10);
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name before it may hold anything.
    let (_, fields) = stat.rsplit_once(") ")?;
    let fields = fields.split(' ').collect::<Vec<_>>();
    let ticks = |field: usize| fields.get(field)?.parse::<u32>().ok();
    Some((*fields.first()? == "R", TICK * (ticks(11)? + ticks(12)?)))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::disallowed_methods, reason = "it waits for a process, which no simulated clock drives")]
    fn stuck(script: &str) -> String {
        let mut child =
            Command::new("sh").args(["-c", script]).stdout(Stdio::null()).spawn().expect("there is a shell");
        let mut patience = Patience::new(child.id());
        let stuck = (0..10_000).find_map(|_| {
            thread::sleep(Duration::from_millis(1));
            patience.look()
        });
        child.kill().and_then(|()| child.wait()).expect("it runs");
        stuck.unwrap_or_default()
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_process_that_waits_for_ever_is_stuck_and_one_that_works_is_not() {
        assert!(stuck("exec sleep 1000").contains("done nothing"), "it sleeps");
        // Ten seconds of it are not sixty; it always wants more.
        assert_eq!(stuck("while :; do :; done"), "");
    }
}
