//! `sim merge`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::Deserialize;
use serde_json::Value;
use sim::totals::Totals;

use crate::{BROKEN, NOT_DETERMINISTIC, USAGE};

pub(crate) fn merge(files: &[PathBuf], require_all: bool, json: bool) -> ExitCode {
    let mut all = Totals::default();
    let mut slices: Vec<(&Path, Slice)> = Vec::new();
    for file in files {
        let slice =
            read(file).and_then(|slice| match slices.iter().find_map(|(other, known)| slice.clash(other, known)) {
                Some(why) => Err(why),
                None => Ok(slice),
            });
        match slice {
            Ok(slice) => slices.push((file, slice)),
            Err(why) => {
                eprintln!("sim: {}: {why}", file.display());
                return ExitCode::from(USAGE);
            }
        }
    }
    if let Some(why) = missing(&slices) {
        eprintln!("sim: {why}");
        return ExitCode::from(USAGE);
    }
    for (_, slice) in &slices {
        all.merge(&slice.totals);
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
        all.lines(true).iter().for_each(|line| say!("{line}"));
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

/// What one sweep was, and what it added up to.
#[derive(Deserialize)]
struct Slice {
    #[serde(rename = "sweep")]
    totals: Totals,
    revision: Option<String>,
    scenarios: Vec<String>,
    from: u64,
    seeds: Option<u64>,
    /// Which share of the seeds, of how many.
    shard: (u64, u64),
}

impl Slice {
    /// Why it cannot be added to another.
    fn clash(&self, file: &Path, other: &Self) -> Option<String> {
        let file = file.display();
        let told = |revision: &Option<String>| revision.clone().unwrap_or_else(|| "an unknown revision".to_owned());
        if self.revision != other.revision {
            return Some(format!("it is of {}, and {file} of {}", told(&self.revision), told(&other.revision)));
        }
        let is_same = (self.scenarios == other.scenarios)
            && (self.from, self.seeds, self.shard) == (other.from, other.seeds, other.shard);
        is_same.then(|| format!("it is of the same seeds as {file}, which would count twice"))
    }
}

/// Which share of a sweep is not there, if one is not.
fn missing(slices: &[(&Path, Slice)]) -> Option<String> {
    slices.iter().find_map(|(file, slice)| {
        let of = slice.shard.1;
        let is_share = |other: &Slice, share| {
            (other.shard, &other.scenarios, other.from) == ((share, of), &slice.scenarios, slice.from)
        };
        let share = (1..=of).find(|share| !slices.iter().any(|(_, other)| is_share(other, *share)))?;
        Some(format!("share {share} of {of} is missing, of which {} is share {}", file.display(), slice.shard.0))
    })
}

/// Reads what a sweep wrote last: the line that adds it up.
fn read(file: &Path) -> Result<Slice, String> {
    let text = fs::read_to_string(file).map_err(|error| error.to_string())?;
    let last = text.lines().last().ok_or("it is empty")?;
    let value: Value = serde_json::from_str(last).map_err(|error| format!("its last line is not JSON: {error}"))?;
    if value.get("sweep").is_none() {
        return Err("its last line adds nothing up: was the sweep stopped before its end?".into());
    }
    serde_json::from_value(value).map_err(|error| format!("its last line is not of this version: {error}"))
}
