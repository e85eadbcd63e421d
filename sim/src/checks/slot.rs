//! Each slot does what the reference model of the slot does (G3, G5, G8).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use evermux::sync::Refused;
use proptests::Model;

use super::check::Check;
use crate::context::{OTHER, RECEIVER};
use crate::history::{Entry, What};
use crate::plan::{Plan, Side};
use crate::verdict::Violation;

/// The slots of all managers, each beside its model.
pub(super) struct Slots {
    /// How many places the slot of a receiver has, and any other.
    places: (usize, usize),
    managers: BTreeMap<String, Beside>,
    looks: u64,
}

impl Slots {
    pub(super) fn new(plan: &Plan) -> Self {
        let places = (plan.places(Side::Receiver), plan.places(Side::Establisher));
        Self { places, managers: BTreeMap::new(), looks: 0 }
    }
}

/// A slot beside its model.
struct Beside {
    model: Model,
    /// The model's number of each session.
    numbers: BTreeMap<String, usize>,
    /// What the slot held when it was looked at last.
    held: Option<BTreeSet<String>>,
    /// Whether anything has happened since the model was compared.
    changed: bool,
}

impl Check for Slots {
    fn name(&self) -> &'static str {
        "the slot beside its model"
    }

    fn looks(&self) -> u64 {
        self.looks
    }

    fn on(&mut self, entry: &Entry) -> Result<(), Violation> {
        let who = &entry.who;
        if let What::Starts = entry.what {
            let places = if [RECEIVER, OTHER].contains(&who.as_str()) { self.places.0 } else { self.places.1 };
            let beside = Beside { model: Model::new(places), numbers: BTreeMap::new(), held: None, changed: false };
            self.managers.insert(who.clone(), beside);
            return Ok(());
        }
        if let What::Down | What::HasShutDown = entry.what {
            self.managers.remove(who);
            return Ok(());
        }
        let Some(slot) = self.managers.get_mut(who) else { return Ok(()) };
        match &entry.what {
            What::Live(session) => slot.install(who, session)?,
            What::Replaced(session) | What::Leaves(session, _) | What::Draining(session) | What::Closed(session, _) => {
                if let Some(number) = slot.numbers.get(session) {
                    slot.model.clear(*number);
                }
            }
            What::Stops | What::GaveUp => {
                slot.model.stop(0);
            }
            What::Given(caller, session) => {
                let number = slot.numbers.get(session);
                if !number.is_some_and(|number| slot.model.live().contains(number)) {
                    let text =
                        format!("caller {caller} of {who} was given session {session}, which was not in the slot");
                    return Err(Violation::new("G3", text));
                }
            }
            What::Holds(sessions, _) => slot.held = Some(sessions.iter().cloned().collect()),
            _ => return Ok(()),
        }
        slot.changed = true;
        Ok(())
    }

    fn after_step(&mut self, _: Duration) -> Result<(), Violation> {
        for (who, slot) in &mut self.managers {
            if !std::mem::take(&mut slot.changed) {
                continue;
            }
            let Some(held) = &slot.held else { continue };
            self.looks += 1;
            let live = slot.model.live();
            let expected =
                slot.numbers.iter().filter(|(_, number)| live.contains(number)).map(|(name, _)| name.clone());
            let expected = expected.collect::<BTreeSet<_>>();
            if let Some(lost) = expected.difference(held).next() {
                let text = format!("session {lost} of {who} lives, and is not in the slot");
                return Err(Violation::new("G8", text));
            }
            if let Some(stale) = held.difference(&expected).next() {
                let text = format!("session {stale} of {who} has ended, and is still in the slot");
                return Err(Violation::new("G3", text));
            }
        }
        Ok(())
    }
}

impl Beside {
    fn install(&mut self, who: &str, session: &str) -> Result<(), Violation> {
        let number = self.model.reserve();
        if self.numbers.insert(session.to_owned(), number).is_some() {
            return Err(Violation::new("G6", format!("session {session} of {who} became live twice")));
        }
        match self.model.install(number) {
            Ok(()) => Ok(()),
            Err(Refused::Stopped(..)) => Err(Violation::new(
                "G5",
                format!("session {session} of {who} became live after the manager had stopped"),
            )),
            Err(_) => {
                let text = format!("session {session} of {who} became live while another one had its place");
                Err(Violation::new("G8", text))
            }
        }
    }
}
