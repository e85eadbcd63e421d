//! A shutdown cuts nothing off that can end in time: in a run in which nothing else happens, no session is lost, and no
//! stream that was open before is interrupted (G17).

use std::collections::BTreeMap;
use std::time::Duration;

use super::check::Check;
use crate::faults;
use crate::history::{Entry, What};
use crate::plan::Plan;
use crate::verdict::Violation;
use crate::work;

/// Work that ends within the time of a drain.
const BRIEF: [&str; 5] = ["request", "upload", "download", "greeted", "trickle"];

/// Whoever begins so long before a shutdown has its stream open by then, at every latency there is.
const BEFORE: Duration = Duration::from_millis(500);

/// The callers, since when each is at its work, and when managers were told to shut down.
pub(super) struct Graceful {
    applies: bool,
    brief: Vec<bool>,
    begun: BTreeMap<(String, usize), Duration>,
    shut_down: Option<Duration>,
    live: BTreeMap<(String, String), Duration>,
}

impl Graceful {
    pub(super) fn new(plan: &Plan) -> Self {
        // Where nobody accepts for a while, a stream may not be open yet that was asked for long ago.
        let disturbs = |work: &str| [work::ABORTS, work::UNACCEPTED].contains(&work);
        let is_undisturbed = !plan.callers.iter().any(|caller| disturbs(&caller.work));
        let applies =
            plan.is_lossless() && is_undisturbed && plan.faults.iter().all(|fault| fault.kind == faults::SHUTDOWN);
        let brief = plan.callers.iter().map(|caller| BRIEF.contains(&caller.work.as_str())).collect();
        Self { applies, brief, begun: BTreeMap::new(), shut_down: None, live: BTreeMap::new() }
    }
}

impl Check for Graceful {
    fn on(&mut self, entry: &Entry) -> Result<(), Violation> {
        if !self.applies {
            return Ok(());
        }
        match &entry.what {
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
                if live.is_some_and(|live| *live + BEFORE < entry.at) {
                    let who = &entry.who;
                    let had =
                        if self.shut_down.is_some() { "its peer had only shut down" } else { "nothing else happened" };
                    let text = format!("session {session} of {who} was lost, and {had}: {}", end.text);
                    return Err(Violation::new("G17", text));
                }
            }
            What::Interrupted(caller, error) if self.brief.get(*caller) == Some(&true) => {
                let begun = self.begun.get(&(entry.who.clone(), *caller));
                if let (Some(begun), Some(shut_down)) = (begun, self.shut_down)
                    && *begun + BEFORE < shut_down
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
