//! What must hold of a history: one file for each check, and one line in [`all`].
//!
//! Each check sees every entry, in order, and is asked after each step. What can only be seen from within, as whether bytes
//! are the right ones or which tasks are left after a shutdown, is looked at by the [work](crate::work) and the
//! [nodes](crate::node), and stands in the history as broken.

use std::rc::Rc;

use crate::context::RunContext;

mod accepting;
mod admission;
mod candidates;
mod check;
pub mod coverage;
mod detection;
mod ends;
mod giving_up;
mod graceful;
mod honest;
mod life;
mod pauses;
mod proof;
mod slot;
mod spurious_close;
mod status;
#[cfg(test)]
mod tests;
mod waiting;

pub use check::Check;

/// Every check.
pub fn all(context: &Rc<RunContext>) -> Vec<Box<dyn Check>> {
    vec![
        Box::new(slot::Slots::new(&context.plan)),
        Box::new(life::Lives::default()),
        Box::new(waiting::Waiting::default()),
        Box::new(pauses::Pauses::new(&context.plan)),
        Box::new(graceful::Graceful::new(&context.plan)),
        Box::new(spurious_close::SpuriousClose::new(&context.plan)),
        Box::new(honest::Honest::new(&context.plan)),
        Box::new(proof::Proof::default()),
        Box::new(detection::Detection::new(&context.plan)),
        Box::new(accepting::Accepting::new(&context.plan)),
        Box::new(candidates::Candidates::default()),
        Box::new(admission::Admission::new(&context.plan)),
        Box::new(giving_up::GivingUp::new(&context.plan)),
        Box::new(status::Statuses::new(&context.plan)),
        Box::new(ends::Ends::new(&context.plan)),
    ]
}
