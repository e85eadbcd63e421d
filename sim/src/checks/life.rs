//! Each session lives once: it becomes live, drains perhaps, and is closed, once; and nothing outlives its manager
//! (G5, G6).

use std::collections::BTreeMap;

use super::check::Check;
use crate::history::{Entry, What};
use crate::verdict::Violation;

/// The sessions of all managers that run.
#[derive(Default)]
pub(super) struct Lives {
    managers: BTreeMap<String, Manager>,
    looks: u64,
}

#[derive(Default)]
struct Manager {
    sessions: BTreeMap<String, Phase>,
    has_shut_down: bool,
}

/// How far a session has come. It never goes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Live,
    Draining,
    Closed,
}

impl Check for Lives {
    fn name(&self) -> &'static str {
        "lives"
    }

    fn looks(&self) -> u64 {
        self.looks
    }

    fn on(&mut self, entry: &Entry) -> Result<(), Violation> {
        let who = &entry.who;
        match &entry.what {
            What::Starts => {
                self.managers.insert(who.clone(), Manager::default());
                return Ok(());
            }
            What::Down => {
                self.managers.remove(who);
                return Ok(());
            }
            _ => {}
        }
        let Some(manager) = self.managers.get_mut(who) else { return Ok(()) };
        if let What::HasShutDown = entry.what {
            manager.has_shut_down = true;
            self.looks += 1;
            let open = manager.sessions.iter().find(|(_, phase)| **phase != Phase::Closed);
            return match open {
                None => Ok(()),
                Some((session, phase)) => {
                    let text = format!("the shutdown of {who} has returned, and session {session} is {phase:?}");
                    Err(Violation::new("G5", text))
                }
            };
        }
        let (session, phase) = match &entry.what {
            What::Live(session) => (session, Phase::Live),
            What::Draining(session) => (session, Phase::Draining),
            What::Closed(session, _) => (session, Phase::Closed),
            What::Connecting | What::AttemptFailed if manager.has_shut_down => {
                return Err(Violation::new("G5", format!("{who} makes attempts after its shutdown has returned")));
            }
            _ => return Ok(()),
        };
        self.looks += 1;
        if manager.has_shut_down {
            let text = format!("session {session} of {who} is {phase:?} after the shutdown has returned");
            return Err(Violation::new("G5", text));
        }
        // Whoever aborts a session was given it.
        if let What::Closed(_, end) = &entry.what
            && end.name == "aborted"
            && !manager.sessions.contains_key(session)
        {
            return Err(Violation::new("G6", format!("session {session} of {who} was aborted before anybody had it")));
        }
        match manager.sessions.insert(session.clone(), phase) {
            Some(before) if before >= phase => {
                Err(Violation::new("G6", format!("session {session} of {who} is {phase:?} after it was {before:?}")))
            }
            _ => Ok(()),
        }
    }
}
