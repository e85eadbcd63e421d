//! Nobody waits while a session is live, and nobody waits for a manager that has shut down (G1, G2, G4).

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use super::check::Check;
use crate::context::RunContext;
use crate::history::{Entry, What};
use crate::verdict::Violation;

/// Callers who wait, and since when there is something that ends their wait.
pub(super) struct Waiting {
    /// What was woken at the end of one step runs in the next; a third one is too late.
    patience: Duration,
    managers: BTreeMap<String, Manager>,
    looks: u64,
}

#[derive(Default)]
struct Manager {
    callers: BTreeMap<usize, Duration>,
    /// Since when a session is in the slot.
    live_since: Option<Duration>,
    shut_down_at: Option<Duration>,
}

impl Waiting {
    pub(super) fn new(context: &Rc<RunContext>) -> Self {
        Self { patience: Duration::from_millis(context.plan.network.tick_ms * 2), managers: BTreeMap::new(), looks: 0 }
    }
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
            _ => {}
        }
        Ok(())
    }

    fn after_step(&mut self, now: Duration) -> Result<(), Violation> {
        for (who, manager) in &self.managers {
            for (caller, asked) in &manager.callers {
                if let Some(live) = manager.live_since
                    && now.saturating_sub(live.max(*asked)) > self.patience
                {
                    let text = format!("caller {caller} of {who} waits while a session is in the slot");
                    return Err(Violation::new("G1", text));
                }
                if let Some(shut_down) = manager.shut_down_at
                    && now.saturating_sub(shut_down.max(*asked)) > self.patience
                {
                    let text = format!("caller {caller} of {who} still waits after the shutdown has returned");
                    return Err(Violation::new("G4", text));
                }
            }
        }
        Ok(())
    }
}
