//! What a check is.

use std::time::Duration;

use crate::history::Entry;
use crate::verdict::Violation;

/// Something that must hold.
pub trait Check {
    /// Looks at what happened next.
    fn on(&mut self, entry: &Entry) -> Result<(), Violation>;

    /// Looks at the end of a step.
    fn after_step(&mut self, _now: Duration) -> Result<(), Violation> {
        Ok(())
    }
}
