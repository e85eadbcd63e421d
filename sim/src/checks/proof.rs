//! What is published was proven: no caller is given a session with somebody who never said a word (G15).

use std::collections::BTreeSet;

use super::check::Check;
use crate::history::{Entry, What};
use crate::verdict::Violation;

/// The connections that were accepted by somebody silent.
#[derive(Default)]
pub(super) struct Proof {
    silent: BTreeSet<String>,
    looks: u64,
}

impl Check for Proof {
    fn name(&self) -> &'static str {
        "proof"
    }

    fn looks(&self) -> u64 {
        self.looks
    }

    fn on(&mut self, entry: &Entry) -> Result<(), Violation> {
        match &entry.what {
            What::Mute(dialler) => {
                self.silent.insert(dialler.clone());
            }
            What::Holds(sessions, locals) => {
                self.looks += u64::from(!self.silent.is_empty() && !locals.is_empty());
                if !locals.iter().any(|local| self.silent.contains(local)) {
                    return Ok(());
                }
                let text = format!(
                    "{} gives out session {}, and its other side has never said a word",
                    entry.who,
                    sessions.join(", ")
                );
                return Err(Violation::new("G15", text));
            }
            _ => {}
        }
        Ok(())
    }
}
