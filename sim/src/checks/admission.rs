//! Who is not admitted is never given a place (G14).

use super::check::Check;
use crate::context::{ESTABLISHER, OTHER, RECEIVER};
use crate::history::{Entry, What};
use crate::plan::Plan;
use crate::usage::Listens;
use crate::verdict::Violation;

/// The sessions of rivals with a receiver that admits the establisher alone.
pub(super) struct Admission {
    applies: bool,
    looks: u64,
}

impl Admission {
    pub(super) fn new(plan: &Plan) -> Self {
        let usage = plan.usage;
        Self { applies: usage.admits && usage.listens == Listens::Acceptor && plan.foreign.is_none(), looks: 0 }
    }
}

impl Check for Admission {
    fn name(&self) -> &'static str {
        "admission"
    }

    fn looks(&self) -> u64 {
        self.looks
    }

    fn on(&mut self, entry: &Entry) -> Result<(), Violation> {
        let is_rival = ![ESTABLISHER, RECEIVER, OTHER].contains(&entry.who.as_str());
        if !self.applies || !is_rival {
            return Ok(());
        }
        match &entry.what {
            What::AttemptFailed => self.looks += 1,
            What::Live(session) => {
                let text = format!("{} was not to be admitted, and has session {session}", entry.who);
                return Err(Violation::new("G14", text));
            }
            _ => {}
        }
        Ok(())
    }
}
