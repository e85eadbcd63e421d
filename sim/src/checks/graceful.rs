//! A shutdown cuts nothing off that can end in time: in a run in which nothing else happens, no session is lost, and no
//! stream that was open before is interrupted (G17).

use std::collections::BTreeMap;
use std::time::Duration;

use evermux::{Config, OpenError};

use super::check::Check;
use crate::faults;
use crate::history::{Entry, What};
use crate::plan::{Plan, Settings, Side};
use crate::usage::Stops;
use crate::verdict::Violation;
use crate::work;

/// Whoever begins so long before a shutdown, and two round trips, has its stream open by then.
const BEFORE: Duration = Duration::from_millis(300);

/// The callers, since when each is at its work, and when managers were told to shut down.
pub(super) struct Graceful {
    applies: bool,
    /// Whether nobody waits for others before he can open a stream.
    has_places: bool,
    before: Duration,
    brief: Vec<bool>,
    begun: BTreeMap<(String, usize), Duration>,
    shut_down: Option<Duration>,
    live: BTreeMap<(String, String), Duration>,
    looks: u64,
}

impl Graceful {
    pub(super) fn new(plan: &Plan) -> Self {
        // Where nobody accepts for a while, a stream may not be open yet that was asked for long ago.
        let is_undisturbed = !plan.callers.iter().any(|caller| caller.work == work::UNACCEPTED);
        // With a fast clock a drain ends before the work that takes longest.
        let drain = |side| plan.config(side, 0).drain_timeout();
        let drains_long = drain(Side::Establisher).min(drain(Side::Receiver)) >= Config::default().drain_timeout();
        let applies = plan.is_lossless()
            && plan.network.bandwidth.least().is_none()
            && drains_long
            && plan.foreign.is_none()
            && is_undisturbed
            && !plan.ends_sessions()
            && !matches!(plan.usage.stops, Stops::Within(_))
            && plan.faults.iter().all(|fault| fault.kind == faults::SHUTDOWN);
        let brief = plan.callers.iter().map(|caller| work::BRIEF.contains(&caller.work.as_str())).collect();
        let before = BEFORE + 2 * plan.round_trip();
        let has_places = plan.settings.max_concurrent_streams >= Settings::default().max_concurrent_streams
            && !plan.callers.iter().any(|caller| caller.work == work::BURST);
        Self {
            applies,
            has_places,
            before,
            brief,
            begun: BTreeMap::new(),
            shut_down: None,
            live: BTreeMap::new(),
            looks: 0,
        }
    }
}

impl Check for Graceful {
    fn name(&self) -> &'static str {
        "graceful shutdown"
    }

    fn looks(&self) -> u64 {
        self.looks
    }

    fn on(&mut self, entry: &Entry) -> Result<(), Violation> {
        if !self.applies {
            return Ok(());
        }
        match &entry.what {
            // Its sessions have the numbers of those before it.
            What::Starts => self.live.retain(|(who, _), _| *who != entry.who),
            What::ShutsDown => self.shut_down = Some(entry.at),
            What::Given(caller, _) => {
                self.begun.insert((entry.who.clone(), *caller), entry.at);
            }
            What::Live(session) => {
                self.live.insert((entry.who.clone(), session.clone()), entry.at);
            }
            What::Closed(session, end) if end.name == "lost" => {
                // One that is not live on both sides yet is not drained.
                let live = self.live.get(&(entry.who.clone(), session.clone()));
                if live.is_some_and(|live| *live + self.before < entry.at) {
                    let who = &entry.who;
                    let had =
                        if self.shut_down.is_some() { "its peer had only shut down" } else { "nothing else happened" };
                    let text = format!("session {session} of {who} was lost, and {had}: {}", end.text);
                    return Err(Violation::new("G17", text));
                }
            }
            What::Served(caller) if self.brief.get(*caller) == Some(&true) => {
                let begun = self.begun.get(&(entry.who.clone(), *caller));
                let went_on = matches!((begun, self.shut_down), (Some(begun), Some(at)) if *begun + self.before < at);
                self.looks += u64::from(went_on);
            }
            What::Interrupted(caller, error) if self.brief.get(*caller) == Some(&true) => {
                let begun = self.begun.get(&(entry.who.clone(), *caller));
                if let (Some(begun), Some(shut_down)) = (begun, self.shut_down)
                    && *begun + self.before < shut_down
                    && (self.has_places || !error.ends_with(&OpenError::Draining.to_string()))
                {
                    let text = format!(
                        "a shutdown interrupted what caller {caller} of {} had begun before: {error}",
                        entry.who
                    );
                    return Err(Violation::new("G17", text));
                }
            }
            _ => {}
        }
        Ok(())
    }
}
