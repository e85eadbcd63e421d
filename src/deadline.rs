//! Deadlines from durations of any length.

use std::time::Duration;

use tokio::time::Instant;

/// A longer time counts as this one: a clock cannot represent the end of every `Duration`.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// `start + duration`, capped at ten years.
pub(crate) fn after(start: Instant, duration: Duration) -> Instant {
    start + duration.min(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_duration_is_no_overflow() {
        let now = Instant::now();
        assert_eq!(after(now, Duration::MAX), now + LONGEST);
        assert_eq!(after(now, Duration::from_secs(1)), now + Duration::from_secs(1));
    }
}
