//! `sim merge`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::Value;
use sim::tally::Tally;

use crate::{BROKEN, NOT_DETERMINISTIC, USAGE};

pub(crate) fn merge(files: &[PathBuf], require_all: bool, json: bool) -> ExitCode {
    let mut all = Tally::default();
    for file in files {
        match read(file) {
            Ok(tally) => all.merge(&tally),
            Err(why) => {
                eprintln!("sim: {}: {why}", file.display());
                return ExitCode::from(USAGE);
            }
        }
    }
    let never = all.never();
    if json {
        say!("{}", serde_json::json!({ "merged": all, "files": files.len(), "never": never }));
    } else {
        say!(
            "{} runs in {} files, {} failed, {} diverged; {:.0} s simulated",
            all.runs,
            files.len(),
            all.failed,
            all.diverged,
            all.simulated().as_secs_f64()
        );
        all.lines().iter().for_each(|line| say!("{line}"));
        if require_all && !never.is_empty() {
            say!("never: {}", never.join("; "));
        }
    }
    match (all.diverged, all.failed, require_all && !never.is_empty()) {
        (0, 0, false) => ExitCode::SUCCESS,
        (0, ..) => ExitCode::from(BROKEN),
        _ => ExitCode::from(NOT_DETERMINISTIC),
    }
}

/// Reads what a sweep wrote last: the line that adds it up.
fn read(file: &Path) -> Result<Tally, String> {
    let text = fs::read_to_string(file).map_err(|error| error.to_string())?;
    let last = text.lines().last().ok_or("it is empty")?;
    let mut value: Value = serde_json::from_str(last).map_err(|error| format!("its last line is not JSON: {error}"))?;
    if value.get("sweep").is_none() {
        return Err("its last line adds nothing up: was the sweep stopped before its end?".into());
    }
    serde_json::from_value(value["sweep"].take())
        .map_err(|error| format!("its last line is not of this version: {error}"))
}
