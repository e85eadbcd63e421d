//! What a check is.

use std::time::Duration;

use crate::history::Entry;
use crate::verdict::Broken;

/// Something that must hold.
pub trait Check {
    /// Looks at what happened next.
    fn on(&mut self, entry: &Entry) -> Result<(), Broken>;

    /// Looks at the end of a step.
    fn after_step(&mut self, _now: Duration) -> Result<(), Broken> {
        Ok(())
    }
}
