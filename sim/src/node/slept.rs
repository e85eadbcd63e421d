//! For how long a manager says that it has paused between attempts: for as long as it has (G11, G12).

use std::collections::BTreeMap;
use std::time::Duration;

use crate::history::{self, What};
use crate::interpose::elapsed;

/// How exact it is. A manager that stops learns of it a moment after it was told.
const GRAIN: Duration = Duration::from_millis(500);

/// What is wrong with what the establisher on a host says, which started at a place in the history.
pub(super) fn wrong(host: &str, first: usize, says: Duration) -> Option<String> {
    let mut slept = Duration::ZERO;
    let mut since = BTreeMap::new();
    for entry in history::since(first).into_iter().filter(|entry| entry.who == host) {
        match entry.what {
            What::AttemptFailed => drop(since.insert(entry.place, entry.at)),
            What::Noted(text) if text == "short_lived" => drop(since.insert(entry.place, entry.at)),
            What::Connecting => {
                if let Some(since) = since.remove(&entry.place) {
                    slept += entry.at.saturating_sub(since);
                }
            }
            What::Stops => {
                slept += since.values().map(|since| entry.at.saturating_sub(*since)).sum::<Duration>();
                since.clear();
                break;
            }
            _ => {}
        }
    }
    slept += since.into_values().map(|since| elapsed().saturating_sub(since)).sum::<Duration>();
    (says.abs_diff(slept) > GRAIN).then(|| format!("it says that it has paused for {says:?}, and it was {slept:?}"))
}
