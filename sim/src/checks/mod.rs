//! What must hold of a history: one file for each check, and one line in [`all`].
//!
//! Each check sees every entry, in order, and is asked after each step. What can only be seen from within, as whether bytes
//! are the right ones or which tasks are left after a shutdown, is looked at by the [work](crate::work) and the
//! [nodes](crate::node), and stands in the history as broken.

use std::rc::Rc;
use std::time::Duration;

use crate::board::Board;
use crate::history::Entry;
use crate::run::Broken;

mod accepting;
mod candidates;
mod detection;
mod graceful;
mod life;
mod needless;
mod pauses;
mod proof;
pub mod rare;
mod slot;
#[cfg(test)]
mod tests;
mod waiting;

/// Something that must hold.
pub trait Check {
    /// Looks at what happened next.
    fn on(&mut self, entry: &Entry) -> Result<(), Broken>;

    /// Looks at the end of a step.
    fn after_step(&mut self, _now: Duration) -> Result<(), Broken> {
        Ok(())
    }
}

/// Every check.
pub fn all(board: &Rc<Board>) -> Vec<Box<dyn Check>> {
    vec![
        Box::new(slot::Slots::new(&board.plan)),
        Box::new(life::Lives::default()),
        Box::new(waiting::Waiting::new(board)),
        Box::new(pauses::Pauses::new(&board.plan)),
        Box::new(graceful::Graceful::new(&board.plan)),
        Box::new(needless::Needless::new(&board.plan)),
        Box::new(proof::Proof::default()),
        Box::new(detection::Detection::new(&board.plan)),
        Box::new(accepting::Accepting::new(&board.plan)),
        Box::new(candidates::Candidates::default()),
    ]
}
