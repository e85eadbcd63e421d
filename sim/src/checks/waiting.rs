//! Nobody waits while a session is live, and nobody waits for a manager that has shut down (G1, G2, G4).

use std::collections::BTreeMap;
use std::time::Duration;

use super::check::Check;
use crate::history::{Entry, What};
use crate::verdict::Violation;

/// Callers who wait, and since when there is something that ends their wait. Who is woken runs in the same step.
#[derive(Default)]
pub(super) struct Waiting {
    managers: BTreeMap<String, Manager>,
    looks: u64,
}

#[derive(Default)]
struct Manager {
    callers: BTreeMap<usize, Duration>,
    /// Since when a session is in the slot.
    live_since: Option<Duration>,
    shut_down_at: Option<Duration>,
    /// Until when its process stood still.
    stood_still: Duration,
    stands_still: bool,
}

impl Check for Waiting {
    fn name(&self) -> &'static str {
        "waiting"
    }

    fn looks(&self) -> u64 {
        self.looks
    }

    fn on(&mut self, entry: &Entry) -> Result<(), Violation> {
        let manager = self.managers.entry(entry.who.clone()).or_default();
        match &entry.what {
            What::Asks(caller) => {
                manager.callers.insert(*caller, entry.at);
            }
            What::Given(caller, _) | What::Freed(caller) | What::GivesUp(caller) => {
                // Who is given a session at once has not waited for it.
                let asked = manager.callers.remove(caller);
                self.looks += u64::from(asked.is_some_and(|asked| asked < entry.at));
            }
            What::Holds(sessions, _) => {
                manager.live_since = (!sessions.is_empty()).then_some(entry.at);
            }
            What::Starts => manager.shut_down_at = None,
            What::HasShutDown => manager.shut_down_at = Some(entry.at),
            What::Down => *manager = Manager::default(),
            What::StandsStill => manager.stands_still = true,
            What::GoesOn { .. } => (manager.stands_still, manager.stood_still) = (false, entry.at),
            _ => {}
        }
        Ok(())
    }

    fn after_step(&mut self, now: Duration) -> Result<(), Violation> {
        for (who, manager) in self.managers.iter().filter(|(_, manager)| !manager.stands_still) {
            for (caller, asked) in &manager.callers {
                // A process that stands still runs none of its callers.
                let since = manager.stood_still.max(*asked);
                if manager.live_since.is_some_and(|live| now > live.max(since)) {
                    let text = format!("caller {caller} of {who} waits while a session is in the slot");
                    return Err(Violation::new("G1", text));
                }
                if manager.shut_down_at.is_some_and(|shut_down| now > shut_down.max(since)) {
                    let text = format!("caller {caller} of {who} still waits after the shutdown has returned");
                    return Err(Violation::new("G4", text));
                }
            }
        }
        Ok(())
    }
}
