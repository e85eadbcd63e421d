//! What a check is.

use std::time::Duration;

use crate::history::Entry;
use crate::verdict::Violation;

/// Something that must hold.
pub trait Check {
    /// What it is called in the counters of a sweep.
    fn name(&self) -> &'static str;

    /// How often it has looked at something that could have been wrong. A check that never looks proves nothing.
    fn looks(&self) -> u64;

    /// Looks at what happened next.
    fn on(&mut self, entry: &Entry) -> Result<(), Violation>;

    /// Looks at the end of a step.
    fn after_step(&mut self, _now: Duration) -> Result<(), Violation> {
        Ok(())
    }
}
