//! What a run has come to, as numbers: what a [search](crate::search) wants more of.
//!
//! A number stands for one of these, and never for a session, a port or a moment, so that two runs which do the same have the
//! same: two things that happened to one host, one after the other, and about how long after; something that happened while a
//! fault lasted. What a manager says of itself is something that happened.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use twox_hash::XxHash3_64;

use crate::history::{Entry, What};

/// How the managers of a fleet are called, which are one here.
const MEMBER: &str = "member";
/// What is longer is another thing: in the same step, within some round trips, after a timeout.
const GAPS_MS: [u128; 2] = [10, 1_000];
/// More than so many are as many.
const SESSIONS: usize = 3;
const ATTEMPTS: u32 = 4;

/// What a run has come to so far.
#[derive(Debug, Default)]
pub struct Reached {
    all: BTreeSet<u64>,
    /// What happened to each host last, and when.
    last: BTreeMap<String, (u64, Duration)>,
}

impl Reached {
    /// Something happened while faults of these kinds lasted.
    pub fn on(&mut self, entry: &Entry, faults: &[&str]) {
        let Some(what) = kind_of(&entry.what) else { return };
        let who = if entry.who.starts_with(MEMBER) { MEMBER } else { &*entry.who };
        let what = number(&format!("{who} {what}"));
        self.all.insert(what);
        for fault in faults {
            self.all.insert(number(&format!("{what} under {fault}")));
        }
        let before = self.last.insert(who.to_owned(), (what, entry.at));
        if let Some((before, at)) = before {
            let gap = entry.at.saturating_sub(at).as_millis();
            let gap = GAPS_MS.iter().take_while(|longest| gap > **longest).count();
            self.all.insert(number(&format!("{before} {gap} {what}")));
        }
    }

    /// The numbers, in order.
    pub fn into_numbers(self) -> Vec<u64> {
        let mut numbers = Vec::with_capacity(self.all.len());
        numbers.extend(self.all);
        numbers
    }
}

/// 32 bits are enough to tell some ten thousand things apart.
fn number(text: &str) -> u64 {
    XxHash3_64::oneshot(text.as_bytes()) >> 32
}

/// What of something that happened makes it another thing. None for what is seen elsewhere.
fn kind_of(what: &What) -> Option<String> {
    let kind = match what {
        What::Up => "up",
        What::Down => "down",
        What::StandsStill => "stands still",
        What::GoesOn { .. } => "goes on",
        What::Pings => "pings",
        What::Starts => "starts",
        What::ShutsDown => "shuts down",
        What::HasShutDown => "has shut down",
        What::Connecting => "connecting",
        What::AttemptFailed => "attempt failed",
        What::PauseCut => "pause cut",
        What::Live(_) => "live",
        What::Replaced(_) => "replaced",
        What::Draining(_) => "draining",
        What::Leaves(_, end) => return Some(format!("leaves, {}", end.name)),
        What::Closed(_, end) => return Some(format!("closed, {}", end.name)),
        What::Noted(text) => return Some(format!("noted, {text}")),
        What::Asks(_) => "asks",
        What::Given(..) => "given",
        What::Freed(_) => "freed",
        What::GivesUp(_) => "gives up",
        What::Served(_) => "served",
        What::Interrupted(..) => "interrupted",
        What::Stops => "stops",
        What::GaveUp => "gave up",
        What::ReconnectNow => "reconnect now",
        What::Holds(sessions, _) => return Some(format!("holds {}", sessions.len().min(SESSIONS))),
        What::Says(report) => {
            let (sessions, attempts) = (report.sessions.min(SESSIONS), report.attempts.min(ATTEMPTS));
            return Some(format!("says {} {sessions} {attempts}", report.activity));
        }
        What::Mute(_) => "mute",
        What::Silence(_, silence) if silence.stalled.is_some() => "stalled",
        What::Silence(..) => "silent",
        What::Runs(..) | What::FaultBegins(_) | What::FaultEnds(_) | What::Violation(_) => return None,
    };
    Some(kind.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::End;

    fn numbers(happened: &[(u64, &str, What)], faults: &[&str]) -> Vec<u64> {
        let mut reached = Reached::default();
        for (ms, who, what) in happened {
            let entry = Entry { at: Duration::from_millis(*ms), who: (*who).into(), place: 0, what: what.clone() };
            reached.on(&entry, faults);
        }
        reached.into_numbers()
    }

    fn closed(session: &str, why: &str) -> What {
        What::Closed(session.into(), End { name: why.into(), text: session.into() })
    }

    #[test]
    fn who_it_was_and_when_is_the_same_and_what_and_in_which_order_is_not() {
        let run = |first: u64, gap: u64, session: &str, why: &str| {
            numbers(&[(first, "a", What::Live(session.into())), (first + gap, "a", closed(session, why))], &[])
        };
        assert_eq!(run(5, 20, "1", "lost"), run(5_000, 30, "7", "lost"));
        assert_ne!(run(5, 20, "1", "lost"), run(5, 20, "1", "silent"));
        assert_ne!(run(5, 20, "1", "lost"), run(5, 2_000, "1", "lost"));
        let turned = numbers(&[(5, "a", closed("1", "lost")), (25, "a", What::Live("2".into()))], &[]);
        assert_ne!(run(5, 20, "1", "lost"), turned);
    }

    #[test]
    fn a_fault_makes_it_another_thing_and_one_member_of_a_fleet_is_as_another() {
        let run = |who: &str, faults: &[&str]| numbers(&[(5, who, What::Connecting)], faults);
        assert!(run("a", &["cut"]).len() > run("a", &[]).len());
        assert_ne!(run("a", &["cut"]), run("a", &["refuse"]));
        assert_eq!(run("member 3", &[]), run("member 4", &[]));
        assert_ne!(run("member 3", &[]), run("a", &[]));
    }
}
