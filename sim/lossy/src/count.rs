//! Who counts what is rare.

use std::sync::Arc;

/// Counts what is rare in a TCP: that a segment was sent again, that a window was probed.
pub trait Count: Send + Sync {
    /// It has happened once more.
    fn count(&self, what: &'static str);
}

/// Counts nothing.
impl Count for () {
    fn count(&self, _: &'static str) {}
}

/// Who counts for all connections of a stack.
pub(crate) type Counter = Arc<dyn Count>;
