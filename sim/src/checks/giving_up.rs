//! A manager gives up at the limits that it was given, and no sooner (G12).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::check::Check;
use crate::context::ESTABLISHER;
use crate::faults;
use crate::history::{Entry, What};
use crate::plan::{Fault, Plan, Side};
use crate::usage::Dials;
use crate::verdict::Violation;

/// The attempts of the establisher, and the limits that it has.
pub(super) struct GivingUp {
    /// It has a limit, and no other reason to give up.
    applies: bool,
    max_attempts: Option<u32>,
    max_elapsed: Option<Duration>,
    /// How exact the times are.
    grain: Duration,
    /// How many attempts of each place have failed in a row without a session.
    failed: BTreeMap<usize, u32>,
    live: BTreeSet<String>,
    /// When there was a session last, or the manager started.
    without_since: Duration,
    /// The faults by which what the establisher dials with fails for good, and how many of them there are now.
    fatal: Vec<bool>,
    fatal_now: u32,
    /// The places whose attempt was begun under one of them: it is their last.
    last: BTreeSet<usize>,
    looks: u64,
}

impl GivingUp {
    pub(super) fn new(plan: &Plan) -> Self {
        let config = plan.config(Side::Establisher, 0);
        // A dialer takes no error of an address for the end.
        let is_fatal = |fault: &Fault| {
            fault.kind == faults::FATAL && fault.side == Side::Establisher && plan.usage.dials == Dials::Connector
        };
        Self {
            applies: plan.settings.gives_up() && plan.faults.iter().all(|fault| fault.kind != faults::FATAL),
            max_attempts: config.max_attempts(),
            max_elapsed: config.max_elapsed(),
            grain: Duration::from_millis(plan.network.tick_ms * 4),
            failed: BTreeMap::new(),
            live: BTreeSet::new(),
            without_since: Duration::ZERO,
            fatal: plan.faults.iter().map(is_fatal).collect(),
            fatal_now: 0,
            last: BTreeSet::new(),
            looks: 0,
        }
    }

    /// Whether the limit on attempts is reached with one more, which is told by the end of the manager alone.
    fn has_tried(&self) -> bool {
        let most = self.failed.values().max().copied().unwrap_or_default();
        self.max_attempts.is_some_and(|limit| most + 1 >= limit)
    }
}

impl Check for GivingUp {
    fn name(&self) -> &'static str {
        "giving up"
    }

    fn looks(&self) -> u64 {
        self.looks
    }

    fn on(&mut self, entry: &Entry) -> Result<(), Violation> {
        match &entry.what {
            What::FaultBegins(fault) if self.fatal.get(*fault) == Some(&true) => self.fatal_now += 1,
            What::FaultEnds(fault) if self.fatal.get(*fault) == Some(&true) => {
                self.fatal_now -= 1;
                // One that waited for its place dials now.
                self.last.clear();
            }
            _ => {}
        }
        if entry.who != ESTABLISHER {
            return Ok(());
        }
        match &entry.what {
            What::Connecting if self.fatal_now > 0 => {
                self.last.insert(entry.place);
            }
            What::Starts => {
                self.last.clear();
                self.failed.clear();
                self.live.clear();
                self.without_since = entry.at;
            }
            What::Live(session) => {
                self.live.insert(session.clone());
                self.failed.insert(entry.place, 0);
            }
            What::Leaves(session, _) | What::Draining(session) | What::Closed(session, _) | What::Replaced(session)
                if self.live.remove(session) && self.live.is_empty() =>
            {
                self.without_since = entry.at;
            }
            What::AttemptFailed => {
                let failed = self.failed.entry(entry.place).or_default();
                *failed = if self.live.is_empty() { *failed + 1 } else { 0 };
                let (failed, without) = (*failed, entry.at.saturating_sub(self.without_since));
                self.looks += u64::from(self.applies);
                if self.last.contains(&entry.place) {
                    return Err(Violation::new("G12", "the connector has failed for good, and the manager goes on"));
                }
                if self.max_attempts.is_some_and(|limit| failed >= limit) {
                    let text = format!("{failed} attempts have failed in a row, and the manager goes on");
                    return Err(Violation::new("G12", text));
                }
                let limit = self.max_elapsed.filter(|_| self.live.is_empty());
                if limit.is_some_and(|limit| without > limit + self.grain) {
                    let text = format!("an attempt failed {without:?} after the last session, and the manager goes on");
                    return Err(Violation::new("G12", text));
                }
            }
            What::GaveUp if self.applies => {
                let without = entry.at.saturating_sub(self.without_since);
                let too_long = self.max_elapsed.is_some_and(|limit| without + self.grain >= limit);
                if !self.live.is_empty() || (!too_long && !self.has_tried()) {
                    let text = format!(
                        "the manager gave up after {:?} failures of its places, {without:?} without a session",
                        self.failed.values().collect::<Vec<_>>()
                    );
                    return Err(Violation::new("G12", text));
                }
            }
            _ => {}
        }
        Ok(())
    }
}
