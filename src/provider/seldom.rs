//! Limits on reports of what may happen often.

use std::time::Duration;

use tokio::time::Instant;

/// The minimum time between two warnings of a kind: there may be many, and the first says it all.
pub(super) const BETWEEN_WARNINGS: Duration = Duration::from_secs(60);

/// Limits how often something is reported: not again within a given time.
#[derive(Debug)]
pub(super) struct Seldom {
    between: Duration,
    last: Option<Instant>,
}

impl Seldom {
    pub(super) fn new(between: Duration) -> Self {
        Self { between, last: None }
    }

    /// Whether a report is due now.
    pub(super) fn is_due(&mut self, now: Instant) -> bool {
        let is_due = self.last.is_none_or(|last| now.saturating_duration_since(last) >= self.between);
        if is_due {
            self.last = Some(now);
        }
        is_due
    }
}
