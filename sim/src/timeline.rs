//! A run as one page: which guarantee was broken, what went wrong with the network before that, and what the hosts did.
//!
//! The page is for someone who has never seen this project. It is one file without scripts and without anything from
//! elsewhere, so that it can be mailed, archived and printed.

use serde::{Deserialize, Serialize};

mod guarantees;
mod layout;
mod page;
mod picture;

/// What a run looked like from outside: hosts as lanes, sessions as blocks, faults as shaded spans.
///
/// All times are simulated, in milliseconds since the beginning of the run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timeline {
    /// The name of the scenario.
    pub scenario: String,
    /// The seed.
    pub seed: u64,
    /// The git revision that the program was built from.
    pub revision: Option<String>,
    /// Which guarantee was broken: `G1` to `G19`, `panic`, `hang`, `scenario`. `None` when the run passed.
    pub guarantee: Option<String>,
    /// What was seen, in one sentence. `None` when the run passed.
    pub what: Option<String>,
    /// The command that repeats the run.
    pub replay: String,
    /// When the run ended.
    pub end_ms: u64,
    /// The hosts, in the order in which they are drawn.
    pub hosts: Vec<Host>,
    /// What went wrong on purpose.
    pub faults: Vec<FaultSpan>,
    /// The sessions of all managers.
    pub sessions: Vec<SessionBar>,
    /// What else happened.
    pub marks: Vec<Mark>,
    /// Where the guarantee was broken.
    pub violation: Option<ViolationMark>,
}

/// A simulated computer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// Its name.
    pub name: String,
    /// When its software ran. At all other times the host was down.
    pub up: Vec<Span>,
}

/// A time with a beginning and an end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// The beginning.
    pub from_ms: u64,
    /// The end.
    pub to_ms: u64,
}

/// Something that went wrong on purpose.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultSpan {
    /// A word for it, such as `partition`.
    pub kind: String,
    /// What happens, as the part of a sentence that follows "at 5 s, for 2 s:".
    pub about: String,
    /// The hosts that it concerns. When there are none it concerns the whole network.
    pub hosts: Vec<String>,
    /// When it begins.
    pub from_ms: u64,
    /// When it ends.
    pub to_ms: u64,
}

/// A session of one manager.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionBar {
    /// The host that the manager is on.
    pub host: String,
    /// The name of the manager.
    pub manager: String,
    /// What the manager calls the session.
    pub id: String,
    /// When the session was installed.
    pub from_ms: u64,
    /// When it ended. `None` when it was alive at the end of the run.
    pub to_ms: Option<u64>,
    /// Why it ended.
    pub end: Option<String>,
}

/// Something that happened on a host at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// The host.
    pub host: String,
    /// When.
    pub at_ms: u64,
    /// Of which kind it is.
    pub kind: Kind,
    /// What happened, in a few words. May be empty.
    pub text: String,
}

/// The kinds of marks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Kind {
    /// A host begins to connect.
    Attempt,
    /// It did not get a connection.
    AttemptFailed,
    /// A caller asks for a session, and has to wait.
    Waiting,
    /// A caller is given what it asked for.
    Served,
    /// What a caller did was cut off.
    Interrupted,
    /// A caller stops waiting.
    Cancelled,
    /// A manager shuts down.
    Shutdown,
    /// Something else.
    Note,
}

impl Kind {
    const ALL: [Self; 8] = [
        Self::Attempt,
        Self::AttemptFailed,
        Self::Waiting,
        Self::Served,
        Self::Interrupted,
        Self::Cancelled,
        Self::Shutdown,
        Self::Note,
    ];

    /// The name of its symbol, and of the class that gives it a colour.
    const fn symbol(self) -> &'static str {
        match self {
            Self::Attempt => "attempt",
            Self::AttemptFailed => "failed",
            Self::Waiting => "waiting",
            Self::Served => "served",
            Self::Interrupted => "interrupted",
            Self::Cancelled => "cancelled",
            Self::Shutdown => "shutdown",
            Self::Note => "note",
        }
    }

    /// A few words for the list of events.
    const fn words(self) -> &'static str {
        match self {
            Self::Attempt => "Attempt to connect",
            Self::AttemptFailed => "Attempt failed",
            Self::Waiting => "Caller waits",
            Self::Served => "Caller served",
            Self::Interrupted => "Caller interrupted",
            Self::Cancelled => "Caller cancelled",
            Self::Shutdown => "Shutdown",
            Self::Note => "Note",
        }
    }

    /// One line for the legend.
    const fn meaning(self) -> &'static str {
        match self {
            Self::Attempt => "the host begins to connect",
            Self::AttemptFailed => "the attempt to connect failed",
            Self::Waiting => "a caller asks for a session and waits",
            Self::Served => "a caller is given what it asked for",
            Self::Interrupted => "what a caller did was cut off",
            Self::Cancelled => "a caller stops waiting",
            Self::Shutdown => "a manager shuts down",
            Self::Note => "something else",
        }
    }
}

/// Where a guarantee was broken.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViolationMark {
    /// When it was seen.
    pub at_ms: u64,
    /// On which host, if on one.
    pub host: Option<String>,
    /// What was seen.
    pub text: String,
}

/// Draws a run as one HTML page.
///
/// ```
/// let page = sim::timeline::render(&sim::timeline::Timeline { scenario: "idle".into(), ..Default::default() });
/// assert!(page.starts_with("<!DOCTYPE html>"));
/// ```
#[expect(clippy::missing_panics_doc, reason = "a String takes all that is written to it")]
pub fn render(timeline: &Timeline) -> String {
    let mut page = String::new();
    page::write(&mut page, timeline).expect("a String takes all");
    page
}

/// How much of a long run before the violation is drawn a second time, enlarged.
const ENLARGED_MS: u64 = 10_000;

/// How much is drawn after it.
const AFTER_MS: u64 = 500;

/// A run that is longer than this is long.
const LONG_MS: u64 = 25_000;

impl Timeline {
    /// The end of the picture. A fault that was planned for longer than the run lasted ends here.
    fn last_ms(&self) -> u64 {
        (self.sessions.iter().map(|session| session.to_ms.unwrap_or(session.from_ms)))
            .chain(self.marks.iter().map(|mark| mark.at_ms))
            .chain(self.violation.iter().map(|violation| violation.at_ms))
            .chain([self.end_ms, 1])
            .max()
            .unwrap_or(1)
    }

    /// The part of a long run that is drawn a second time, enlarged.
    fn enlarged(&self) -> Option<Span> {
        let at_ms = self.violation.as_ref()?.at_ms;
        let last_ms = self.last_ms();
        let span = Span { from_ms: at_ms.saturating_sub(ENLARGED_MS), to_ms: (at_ms + AFTER_MS).min(last_ms) };
        (last_ms > LONG_MS).then_some(span)
    }

    /// The faults in the order in which they begin. Their numbers are those of this order, from 1.
    fn plan(&self) -> Vec<&FaultSpan> {
        let mut plan: Vec<_> = self.faults.iter().collect();
        plan.sort_by_key(|fault| fault.from_ms);
        plan
    }

    fn failed(&self) -> bool {
        self.guarantee.is_some() || self.what.is_some() || self.violation.is_some()
    }

    /// What was seen.
    fn what(&self) -> Option<&str> {
        self.what.as_deref().or(self.violation.as_ref().map(|violation| violation.text.as_str()))
    }
}

#[cfg(test)]
mod tests;
