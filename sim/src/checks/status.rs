//! The status says what is so: what a manager does, how many sessions it has had, and how many attempts have failed since the
//! last one (G1, G12).

use std::collections::BTreeMap;
use std::time::Duration;

use super::check::Check;
use crate::context::ESTABLISHER;
use crate::history::{ACCEPT_FAILED, Entry, HELD_OUT, Report, What};
use crate::plan::Plan;
use crate::usage::{Dials, Listens};
use crate::verdict::Violation;

/// What is known of each manager, beside what it says.
pub(super) struct Statuses {
    /// Whether the establisher's attempts are traced, and in which place.
    has_attempts: bool,
    knows_places: bool,
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
    held_out: u64,
    not_admitted: u64,
    /// Whether an attempt has failed, or an accept.
    has_failed: bool,
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
        let has_attempts = plan.usage.dials != Dials::Provider;
        // With several places any of them may be what the status tells of.
        let knows_places = has_attempts && plan.settings.sessions == 1;
        let has_acceptor = plan.usage.listens == Listens::Acceptor;
        Self { has_attempts, knows_places, has_acceptor, managers: BTreeMap::new(), looks: 0 }
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
            ("peers found no place", says.held_out, known.held_out),
            ("connections were not admitted", says.not_admitted, known.not_admitted),
        ] {
            if says != is {
                return Some(format!("it says that {says} {what}, and it was {is}"));
            }
        }
        let is_live = says.sessions > 0;
        let traces_failures = if who == ESTABLISHER { self.has_attempts } else { self.has_acceptor };
        // The last one of a manager that gives up is told in another way.
        if traces_failures && !known.stops && says.names_error != known.has_failed {
            return Some(format!(
                "whether it names an error is {}, and should be {}",
                says.names_error, known.has_failed
            ));
        }
        let is_stopped = ["ShuttingDown", "Stopped"].contains(&says.activity.as_str());
        if is_stopped == says.stopped.is_empty() {
            return Some(format!("it says {}, and that it has stopped: {:?}", says.activity, says.stopped));
        }
        let knows_attempts = who == ESTABLISHER && self.knows_places;
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
                known.has_failed = true;
                (known.connecting, known.has_left) = (false, false);
            }
            What::Live(_) => {
                known.sessions_so_far += 1;
                (known.attempts, known.connecting) = (0, false);
            }
            What::Stops | What::GaveUp | What::ShutsDown => known.stops = true,
            What::Noted(text) => match text.as_str() {
                "crowded_out" => known.crowded_out += 1,
                "not_admitted" => known.not_admitted += 1,
                text if HELD_OUT.contains(&text) => known.held_out += 1,
                text if ACCEPT_FAILED.contains(&text) => known.has_failed = true,
                _ => {}
            },
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
