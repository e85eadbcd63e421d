//! A candidate is not judged by its heartbeat: until a session is proven, the deadline of the handshake alone counts. So who
//! waits for the only place goes on waiting, however eager its heartbeat is (G10, G14).

use std::collections::{BTreeMap, BTreeSet};

use super::check::Check;
use crate::history::{Entry, What};
use crate::verdict::Violation;

/// What managers that dial have made live, rivals among them. A receiver proves its half before there is a place: the
/// heartbeat of its candidates does count.
#[derive(Default)]
pub(super) struct Candidates {
    live: BTreeMap<String, BTreeSet<String>>,
    looks: u64,
}

impl Check for Candidates {
    fn name(&self) -> &'static str {
        "candidates"
    }

    fn looks(&self) -> u64 {
        self.looks
    }

    fn on(&mut self, entry: &Entry) -> Result<(), Violation> {
        let who = &entry.who;
        match &entry.what {
            What::Starts | What::Down => {
                self.live.remove(who);
            }
            What::Connecting => {
                self.live.entry(who.clone()).or_default();
            }
            What::Live(session) => {
                if let Some(live) = self.live.get_mut(who) {
                    live.insert(session.clone());
                }
            }
            What::Closed(session, end)
                if end.name == "heartbeat_timeout"
                    && self.live.get(who).is_some_and(|live| !live.contains(session)) =>
            {
                let text = format!("the heartbeat of {who} gave up session {session}, which was not proven yet");
                return Err(Violation::new("G10", text));
            }
            // One that was not proven has ended in another way.
            What::Closed(session, _) if self.live.get(who).is_some_and(|live| !live.contains(session)) => {
                self.looks += 1;
            }
            _ => {}
        }
        Ok(())
    }
}
