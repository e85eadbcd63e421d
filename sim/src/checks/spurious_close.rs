//! No session ends without a reason: what delays, and what concerns others, ends none, and what ends one ends one alone
//! (G10, G14).

use std::collections::BTreeSet;
use std::time::Duration;

use super::check::Check;
use crate::context::{OTHER, RECEIVER};
use crate::faults::{self, Harm};
use crate::history::{Entry, What};
use crate::plan::{HOSTILE, Plan, Side};
use crate::usage::Listens;
use crate::verdict::Violation;

/// Within so long a session ends whose connection was cut.
const AFTER_A_CUT: Duration = Duration::from_secs(1);

/// The sessions of who dials, rivals among them, in a run in which none of them should end but those that are cut.
pub(super) struct SpuriousClose {
    applies: bool,
    live: BTreeSet<(String, String)>,
    /// The faults that end one session.
    cuts: Vec<bool>,
    /// When such faults were, for each that has not ended one yet.
    cut: Vec<Duration>,
    /// Some manager was told to shut down.
    stops: bool,
    looks: u64,
}

impl SpuriousClose {
    pub(super) fn new(plan: &Plan) -> Self {
        // A holder that is silent for the time of a probe loses its place, if there is a rival.
        let has_rival = plan.faults.iter().any(|fault| [faults::RIVAL, HOSTILE].contains(&fault.kind.as_str()));
        let timeout = [Side::Establisher, Side::Receiver].map(|side| plan.config(side, 0)).map(|config| {
            let probe = if has_rival { config.takeover_probe_timeout() } else { Duration::MAX };
            config.heartbeat_timeout().min(config.write_timeout()).min(probe)
        });
        let mut disturbed = Duration::ZERO;
        let mut known = true;
        for fault in &plan.faults {
            match faults::find(&fault.kind).map(|kind| kind.harm) {
                Some(Harm::None | Harm::One) => {}
                Some(Harm::Delay) => {
                    disturbed += Duration::from_millis(fault.lasts_ms);
                    if fault.kind == "latency spike" {
                        // What was sent at its end is late for as long again, both ways.
                        disturbed += 2 * Duration::from_millis(fault.between(100, 3_000));
                    }
                }
                Some(Harm::Any) | None => known = false,
            }
        }
        // Five losses of the same segment are as long as the heartbeat's patience, and they happen.
        known &= plan.is_lossless();
        known &= !plan.ends_sessions();
        // Who comes last gets the place.
        known &= !has_rival || plan.usage.listens != Listens::Newest;
        let slack = 2 * plan.round_trip() + Duration::from_millis(500);
        let applies = known && disturbed + slack < timeout[0].min(timeout[1]);
        let cuts = plan.faults.iter().map(|fault| faults::find(&fault.kind).is_some_and(|kind| kind.harm == Harm::One));
        let live = BTreeSet::new();
        Self { applies, live, cuts: cuts.collect(), cut: Vec::new(), stops: false, looks: 0 }
    }
}

impl Check for SpuriousClose {
    fn name(&self) -> &'static str {
        "no end without a reason"
    }

    fn looks(&self) -> u64 {
        self.looks
    }

    fn on(&mut self, entry: &Entry) -> Result<(), Violation> {
        match &entry.what {
            What::ShutsDown => {
                self.stops = true;
            }
            What::FaultBegins(fault) if self.cuts.get(*fault).is_some_and(|cuts| *cuts) => self.cut.push(entry.at),
            What::Live(session) if ![RECEIVER, OTHER].contains(&entry.who.as_str()) => {
                self.looks += u64::from(self.applies);
                self.live.insert((entry.who.clone(), session.clone()));
            }
            What::Closed(session, end)
                if self.applies && !self.stops && self.live.contains(&(entry.who.clone(), session.clone())) =>
            {
                self.cut.retain(|cut| entry.at.saturating_sub(*cut) <= AFTER_A_CUT);
                if self.cut.pop().is_some() {
                    return Ok(());
                }
                let text = format!(
                    "session {session} ended, although nothing went wrong that it should not outlive: {}",
                    end.text
                );
                return Err(Violation::new("G10", text));
            }
            _ => {}
        }
        Ok(())
    }
}
