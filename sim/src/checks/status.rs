//! The status says what is so: what a manager does, how many sessions it has had, and how many attempts have failed since the
//! last one (G1, G12).

use std::collections::BTreeMap;
use std::time::Duration;

use super::check::Check;
use crate::context::ESTABLISHER;
use crate::history::{Entry, Report, What};
use crate::plan::Plan;
use crate::usage::{Dials, Listens};
use crate::verdict::Violation;

/// What is known of each manager, beside what it says.
pub(super) struct Statuses {
    /// Whether the establisher's attempts are traced.
    has_attempts: bool,
    /// Whether receivers have no provider of their own.
    has_acceptor: bool,
    managers: BTreeMap<String, Known>,
    looks: u64,
}

#[derive(Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
struct Known {
    sessions_so_far: u64,
    attempts: u32,
    crowded_out: u64,
    not_admitted: u64,
    /// Whether it dials now.
    connecting: bool,
    /// A session has left its place, and what follows has not begun: whose process stands still does nothing about it.
    has_left: bool,
    stops: bool,
    /// What it said last, and whether anything has happened since that was looked at.
    says: Option<Report>,
    has_changed: bool,
}

impl Statuses {
    pub(super) fn new(plan: &Plan) -> Self {
        // With several places any of them may be what the status tells of.
        let has_attempts = plan.usage.dials != Dials::Provider && plan.settings.sessions == 1;
        let has_acceptor = plan.usage.listens == Listens::Acceptor;
        Self { has_attempts, has_acceptor, managers: BTreeMap::new(), looks: 0 }
    }

    /// Whether this is a receiver that accepts by itself.
    fn listens(&self, who: &str) -> bool {
        self.has_acceptor && who != ESTABLISHER
    }

    /// What is wrong with a report.
    fn wrong(&self, who: &str, known: &Known, says: &Report) -> Option<String> {
        if says.sessions_so_far != known.sessions_so_far {
            return Some(format!(
                "it says that it has had {}, and had {}",
                says.sessions_so_far, known.sessions_so_far
            ));
        }
        for (what, says, is) in [
            ("handshakes have made room", says.crowded_out, known.crowded_out),
            ("connections were not admitted", says.not_admitted, known.not_admitted),
        ] {
            if says != is {
                return Some(format!("it says that {says} {what}, and it was {is}"));
            }
        }
        let is_live = says.sessions > 0;
        let knows_attempts = who == ESTABLISHER && self.has_attempts;
        let dials = knows_attempts && known.connecting;
        let may_be = match says.activity.as_str() {
            "Live" => is_live,
            "Connecting" => {
                !is_live && !known.stops && (dials == knows_attempts || known.has_left) && !self.listens(who)
            }
            "BackingOff" => !is_live && !known.stops && who == ESTABLISHER && !dials,
            "Listening" => !is_live && !known.stops && who != ESTABLISHER,
            "ShuttingDown" | "Stopped" => known.stops,
            _ => false,
        };
        if !may_be {
            return Some(format!("it says {} with {} sessions", says.activity, says.sessions));
        }
        if knows_attempts && !known.stops && says.attempts != known.attempts {
            return Some(format!("it says that {} attempts have failed, and {} have", says.attempts, known.attempts));
        }
        None
    }
}

impl Check for Statuses {
    fn name(&self) -> &'static str {
        "status"
    }

    fn looks(&self) -> u64 {
        self.looks
    }

    fn on(&mut self, entry: &Entry) -> Result<(), Violation> {
        if let What::Starts = entry.what {
            // The first attempt was begun before anybody could note the start.
            let known = Known { connecting: entry.who == ESTABLISHER, ..Known::default() };
            self.managers.insert(entry.who.clone(), known);
            return Ok(());
        }
        let Some(known) = self.managers.get_mut(&entry.who) else { return Ok(()) };
        known.has_changed = true;
        match &entry.what {
            What::Down | What::HasShutDown => drop(self.managers.remove(&entry.who)),
            What::Connecting => (known.connecting, known.has_left) = (true, false),
            What::Leaves(..) | What::Draining(_) | What::Closed(..) => known.has_left = true,
            What::AttemptFailed => {
                known.attempts += 1;
                (known.connecting, known.has_left) = (false, false);
            }
            What::Live(_) => {
                known.sessions_so_far += 1;
                (known.attempts, known.connecting) = (0, false);
            }
            What::Stops | What::GaveUp | What::ShutsDown => known.stops = true,
            What::Noted(text) if text == "crowded_out" => known.crowded_out += 1,
            What::Noted(text) if text == "not_admitted" => known.not_admitted += 1,
            What::Says(report) => known.says = Some(report.clone()),
            _ => {}
        }
        Ok(())
    }

    fn after_step(&mut self, _: Duration) -> Result<(), Violation> {
        let mut managers = std::mem::take(&mut self.managers);
        for (who, known) in &mut managers {
            let Some(says) = known.says.clone().filter(|_| std::mem::take(&mut known.has_changed)) else { continue };
            self.looks += 1;
            if let Some(what) = self.wrong(who, known, &says) {
                return Err(Violation::new("G12", format!("the status of {who} is not so: {what}")));
            }
        }
        self.managers = managers;
        Ok(())
    }
}
