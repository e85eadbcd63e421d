//! Nobody is taken for a liar who keeps to the protocol: a session that was published ends with an error of the protocol
//! only where its peer may be hostile (G16).

use std::collections::BTreeSet;

use super::check::Check;
use crate::context::{OTHER, RECEIVER};
use crate::history::{Entry, What};
use crate::plan::{HOSTILE, Plan};
use crate::verdict::Violation;

/// The reasons that say that the peer has broken a rule.
const ACCUSATIONS: [&str; 3] = ["protocol", "ping_flood", "control_flood"];

/// The sessions of all managers with peers that keep to the protocol.
pub(super) struct Honest {
    /// Whether clients that break it come to every receiver.
    has_hostile: bool,
    live: BTreeSet<(String, String)>,
    looks: u64,
}

impl Honest {
    pub(super) fn new(plan: &Plan) -> Self {
        let has_hostile = plan.faults.iter().any(|fault| fault.kind == HOSTILE);
        Self { has_hostile, live: BTreeSet::new(), looks: 0 }
    }
}

impl Check for Honest {
    fn name(&self) -> &'static str {
        "errors of the protocol"
    }

    fn looks(&self) -> u64 {
        self.looks
    }

    fn on(&mut self, entry: &Entry) -> Result<(), Violation> {
        let key = |session: &String| (entry.who.clone(), session.clone());
        match &entry.what {
            // Who dials never dials such a client.
            What::Live(session) if !self.has_hostile || ![RECEIVER, OTHER].contains(&entry.who.as_str()) => {
                self.live.insert(key(session));
            }
            What::Closed(session, end) if self.live.remove(&key(session)) => {
                self.looks += 1;
                if ACCUSATIONS.contains(&end.name.as_str()) {
                    let text = format!("{} ended session {session} of an honest peer: {}", entry.who, end.text);
                    return Err(Violation::new("G16", text));
                }
            }
            _ => {}
        }
        Ok(())
    }
}
