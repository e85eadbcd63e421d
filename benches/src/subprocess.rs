//! Samples, each in a process of its own: no contestant works in the heap that another has left, or beside its threads.

use std::{env, process, process::Stdio, sync::mpsc, thread};

use crate::{
    LIMIT,
    cases::{self, Setup},
    measure::Sample,
    report,
    scale::Scale,
};

pub(crate) enum OneSample {
    Made(Sample),
    Failed(String),
}

/// Makes a sample in a process of its own.
pub(crate) fn sample(case: &cases::Case, contestant: &str, setup: &Setup) -> Result<OneSample, String> {
    let program = env::current_exe().map_err(|error| format!("this program cannot be found: {error}"))?;
    let mut command = process::Command::new(program);
    command.args(["one", case.name, contestant, "--workers", &setup.workers.to_string()]);
    if setup.scale.name != Scale::FULL.name {
        command.arg(format!("--{}", setup.scale.name));
    }
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("the process for a sample cannot be started: {error}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.trim().lines().last().unwrap_or("it said nothing").to_owned();
        return Ok(OneSample::Failed(format!("{last} ({})", output.status)));
    }
    Ok(match serde_json::from_slice(&output.stdout) {
        Ok(sample) => OneSample::Made(sample),
        Err(error) => OneSample::Failed(format!("what it says is no sample: {error}")),
    })
}

/// Makes a sample in this process and prints it. Gives whether it was made.
pub(crate) fn here(case: &str, contestant: &str, setup: &Setup) -> Result<bool, String> {
    let case = cases::ALL
        .iter()
        .find(|known| known.name == case)
        .ok_or_else(|| format!("there is no case `{case}`; `--list` names all"))?;
    if !case.contestants.contains(&contestant) {
        return Err(format!("there is no contestant `{contestant}`; there are {}", case.contestants.join(", ")));
    }
    let _watch = Watch::start();
    match (case.run)(contestant, setup) {
        Ok(sample) => {
            report::say(None, &serde_json::to_string(&sample).map_err(|error| error.to_string())?);
            Ok(true)
        }
        Err(error) => {
            eprintln!("{error}");
            Ok(false)
        }
    }
}

/// Ends a process that hangs.
struct Watch(#[expect(dead_code, reason = "its drop ends the watch")] mpsc::Sender<()>);

impl Watch {
    fn start() -> Self {
        let (alive, ended) = mpsc::channel();
        thread::spawn(move || {
            if ended.recv_timeout(LIMIT) == Err(mpsc::RecvTimeoutError::Timeout) {
                eprintln!("it has not ended within {} s", LIMIT.as_secs());
                process::exit(1);
            }
        });
        Self(alive)
    }
}
