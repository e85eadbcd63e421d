//! How long a provider pauses between attempts, and when it gives up.
//!
//! Three things are kept apart, and each has its own clock:
//!
//! - The **pause** grows with every attempt that fails and with every session that dies young. Only a stable session
//!   makes it start over: a peer that accepts and drops at once meets growing pauses (G11, the flap guard). A clean
//!   goodbye is not a failure: after the first there is no pause but `first_retry_jitter`.
//! - The **failures in a row** and the **time without a session**, which `max_attempts` and `max_elapsed` limit, start
//!   over with every session, however short.
//! - With several places, failures while another session is live affect only the pause.

use std::{mem, time::Duration};

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use tokio::time::Instant;

use crate::{config::Config, random};

/// The pauses of one provider, according to a [`Config`].
///
/// It never reads a clock, never sleeps and does no I/O: the caller reports what happened and when, and gets the pause.
///
/// ```
/// use std::time::Duration;
/// use evermux::{Config, provider::{Backoff, Retry}};
/// use tokio::time::Instant;
///
/// let config = Config::builder().backoff_jitter(0.0).max_attempts(Some(3)).build()?;
/// let now = Instant::now();
/// let mut backoff = Backoff::seeded(&config, 7, now);
///
/// assert_eq!(backoff.after_failure(now), Retry::After(Duration::from_secs(1)));
/// assert_eq!(backoff.after_failure(now), Retry::After(Duration::from_millis(1500)));
/// assert_eq!(backoff.after_failure(now), Retry::GiveUp);
/// # Ok::<(), evermux::ConfigError>(())
/// ```
#[derive(Debug)]
pub struct Backoff {
    pauses: ExponentialBuilder,
    next: ExponentialBackoff,
    longest: Duration,
    jitter: f64,
    stable_after: Duration,
    first_retry_jitter: Duration,
    max_attempts: Option<u32>,
    max_elapsed: Option<Duration>,
    /// An unstable session has said goodbye since the last stable one.
    heard_goodbye: bool,
    attempts: u32,
    /// How many have failed in the same row before, beside a live session elsewhere: no limit is about these.
    beside: u32,
    without_session_since: Instant,
    rng: ChaCha8Rng,
}

/// What to do after a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Retry {
    /// Make the next attempt after this pause.
    After(Duration),
    /// Make none: `max_attempts` or `max_elapsed` is reached.
    GiveUp,
}

impl Backoff {
    /// Starts at `now` without a session, with a generator seeded by `seed`.
    ///
    /// The same seed and the same history give the same pauses. [`Config::seed`] is ignored.
    pub fn seeded(config: &Config, seed: u64, now: Instant) -> Self {
        Self::new(config, random::derive(seed, "backoff"), now)
    }

    /// Starts at `now` without a session.
    pub(crate) fn new(config: &Config, rng: ChaCha8Rng, now: Instant) -> Self {
        // backon would draw its jitter from its own generator: here the jitter comes from `rng`, so that one seed
        // decides everything. For the same reason backon's generator, which is created in any case, gets a seed.
        let pauses = ExponentialBuilder::new()
            .with_min_delay(config.backoff_initial())
            .with_factor(config.backoff_factor())
            .with_max_delay(config.backoff_max())
            .without_max_times()
            .with_jitter_seed(0);
        Self {
            pauses,
            next: pauses.build(),
            longest: config.backoff_max(),
            jitter: f64::from(config.backoff_jitter()),
            stable_after: config.stable_after(),
            first_retry_jitter: config.first_retry_jitter(),
            max_attempts: config.max_attempts(),
            max_elapsed: config.max_elapsed(),
            heard_goodbye: false,
            attempts: 0,
            beside: 0,
            without_session_since: now,
            rng,
        }
    }

    /// An attempt failed at `now`: what next?
    ///
    /// The pause is `backoff_initial` × `backoff_factor`ⁿ, at most `backoff_max`, plus or minus the fraction
    /// `backoff_jitter`. It is cut short if `max_elapsed` would end within it, so that giving up is late by at most one
    /// attempt.
    pub fn after_failure(&mut self, now: Instant) -> Retry {
        self.attempts = self.attempts.saturating_add(1);
        let pause = self.pause();
        let elapsed = now.saturating_duration_since(self.without_session_since);
        let left = self.max_elapsed.map_or(Duration::MAX, |limit| limit.saturating_sub(elapsed));
        if left.is_zero() || self.max_attempts.is_some_and(|limit| self.attempts >= limit) {
            return Retry::GiveUp;
        }
        Retry::After(pause.min(left))
    }

    /// An attempt failed at `now` while the manager has a live session in another place: how long to pause?
    ///
    /// The pause grows as in [`after_failure`](Self::after_failure). The failures in a row and the time without a
    /// session start over.
    pub fn after_failure_beside_live(&mut self, now: Instant) -> Duration {
        let failures = self.failures().saturating_add(1);
        self.restart_limits(now);
        self.beside = failures;
        self.pause()
    }

    /// A session that had lived for `lived` was lost at `now`: how long to pause?
    ///
    /// After `stable_after` or longer, the pauses start over, and the first is drawn from zero to `first_retry_jitter`,
    /// which is zero by default: the attempt is made at once. After a shorter life, the pause is the next growing one.
    pub fn after_session(&mut self, lived: Duration, now: Instant) -> Duration {
        self.restart_limits(now);
        if lived < self.stable_after {
            return self.pause();
        }
        self.next = self.pauses.build();
        self.heard_goodbye = false;
        self.first_retry()
    }

    /// A session that had lived for `lived` began to close cleanly at `now`, on this side or by the peer: how long to
    /// pause?
    ///
    /// The first one counts as a stable session, however short it was: a peer that restarts is healthy. Until a session
    /// is stable again, each further one is followed by the next growing pause, less the time that it lived.
    pub fn after_goodbye(&mut self, lived: Duration, now: Instant) -> Duration {
        if lived >= self.stable_after {
            return self.after_session(lived, now);
        }
        self.restart_limits(now);
        if mem::replace(&mut self.heard_goodbye, true) {
            self.pause().saturating_sub(lived)
        } else {
            self.first_retry()
        }
    }

    /// The manager had a session in another place until `at`: it is without one only since then.
    pub(crate) fn was_live_elsewhere(&mut self, at: Instant) {
        self.without_session_since = self.without_session_since.max(at);
    }

    /// How many attempts have failed in a row, since the start or the last session.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// The same of this place, whatever there is in the others.
    pub(crate) fn failures(&self) -> u32 {
        self.attempts.saturating_add(self.beside)
    }

    fn first_retry(&mut self) -> Duration {
        let share = self.rng.random_range(0.0..=1.0);
        scale(self.first_retry_jitter, share).min(self.first_retry_jitter)
    }

    fn restart_limits(&mut self, now: Instant) {
        (self.attempts, self.beside) = (0, 0);
        self.without_session_since = now;
    }

    fn pause(&mut self) -> Duration {
        // backon's iterator ends after `usize::MAX` pauses; after that, the longest repeats.
        let pause = self.next.next().unwrap_or(self.longest);
        let share = 1.0 + self.rng.random_range(-self.jitter..=self.jitter);
        scale(pause, share)
    }
}

/// `duration` × `share`, at most [`Duration::MAX`].
fn scale(duration: Duration, share: f64) -> Duration {
    Duration::try_from_secs_f64(duration.as_secs_f64() * share).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ConfigBuilder;

    fn backoff(settings: ConfigBuilder) -> (Backoff, Instant) {
        let now = Instant::now();
        (Backoff::seeded(&settings.build().unwrap(), 7, now), now)
    }

    /// The defaults without jitter: 1 s, 1.5 s, 2.25 s … 30 s; stable after 10 s.
    fn exact() -> ConfigBuilder {
        Config::builder().backoff_jitter(0.0)
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn pauses_grow_from_the_first_to_the_longest() {
        let (mut backoff, now) = backoff(exact());
        let pauses: Vec<_> = (0..11).map(|_| backoff.after_failure(now)).collect();
        assert_eq!(pauses[..3], [1000, 1500, 2250].map(|ms| Retry::After(Duration::from_millis(ms))));
        assert_eq!(pauses[9..], [Retry::After(30 * SECOND); 2]);
        assert_eq!(backoff.attempts(), 11);
    }

    #[test]
    fn one_place_gives_up_for_all() {
        let (mut backoff, now) = backoff(exact().max_elapsed(Some(10 * SECOND)));
        assert_eq!(backoff.after_failure(now + 9 * SECOND), Retry::After(SECOND));
        backoff.was_live_elsewhere(now + 5 * SECOND);
        assert_eq!(backoff.after_failure(now + 10 * SECOND), Retry::After(SECOND.mul_f32(1.5)));
        // What was before that changes nothing.
        backoff.was_live_elsewhere(now);
        assert_eq!(backoff.after_failure(now + 15 * SECOND), Retry::GiveUp);
    }

    #[test]
    fn failures_beside_a_live_session_are_in_the_same_row_and_near_no_limit() {
        let (mut backoff, now) = backoff(exact().max_attempts(Some(3)));
        assert_eq!(backoff.after_failure(now), Retry::After(SECOND));
        for failures in 2..=5 {
            let _ = backoff.after_failure_beside_live(now);
            assert_eq!((backoff.attempts(), backoff.failures()), (0, failures));
        }
        let _ = backoff.after_failure(now);
        assert_eq!((backoff.attempts(), backoff.failures()), (1, 6));
        let _ = backoff.after_session(SECOND, now);
        assert_eq!((backoff.attempts(), backoff.failures()), (0, 0));
    }

    #[test]
    fn backoff_reset_on_accept() {
        let (mut backoff, now) = backoff(exact());
        let just_too_short = Duration::from_millis(9_999);
        assert_eq!(backoff.after_session(just_too_short, now), SECOND);
        assert_eq!(backoff.after_session(Duration::ZERO, now), SECOND.mul_f32(1.5));
        assert_eq!(backoff.after_failure(now), Retry::After(SECOND.mul_f32(2.25)));
        assert_eq!(backoff.after_session(10 * SECOND, now), Duration::ZERO);
        assert_eq!(backoff.after_failure(now), Retry::After(SECOND));
    }

    #[test]
    fn a_goodbye_counts_as_a_flap() {
        let (mut backoff, now) = backoff(exact());
        assert_eq!(backoff.after_goodbye(Duration::ZERO, now), Duration::ZERO, "the first is no failure");
        assert_eq!(backoff.after_goodbye(Duration::ZERO, now), SECOND, "a peer that says nothing else meets pauses");
        assert_eq!(backoff.after_goodbye(SECOND, now), SECOND / 2, "of which it has waited what it lived");
        assert_eq!(backoff.after_goodbye(9 * SECOND, now), Duration::ZERO);
        assert_eq!(backoff.after_session(Duration::ZERO, now), SECOND.mul_f32(3.375), "a loss is not forgiven");
        assert_eq!(backoff.after_goodbye(10 * SECOND, now), Duration::ZERO);
        assert_eq!(backoff.after_goodbye(Duration::ZERO, now), Duration::ZERO, "a stable session makes all start anew");
        assert_eq!(backoff.after_failure(now), Retry::After(SECOND));
    }

    #[test]
    fn backoff_overflow() {
        let (mut backoff, now) = backoff(
            Config::builder()
                .backoff_initial(Duration::MAX)
                .backoff_max(Duration::MAX)
                .backoff_factor(100.0)
                .backoff_jitter(1.0)
                .first_retry_jitter(Duration::MAX),
        );
        backoff.attempts = u32::MAX - 1;
        for _ in 0..100 {
            assert!(matches!(backoff.after_failure(now), Retry::After(_)));
        }
        assert_eq!(backoff.attempts(), u32::MAX);
        assert!(backoff.after_session(Duration::MAX, now) <= Duration::MAX);
    }

    #[test]
    fn the_attempt_limit_counts_failures_since_the_last_session() {
        let (mut backoff, now) = backoff(exact().max_attempts(Some(2)));
        assert_eq!(backoff.after_failure(now), Retry::After(SECOND));
        backoff.after_session(Duration::ZERO, now);
        assert_eq!(backoff.attempts(), 0);
        assert!(matches!(backoff.after_failure(now), Retry::After(_)));
        assert_eq!(backoff.after_failure(now), Retry::GiveUp);
        assert_eq!(backoff.after_failure(now), Retry::GiveUp);
    }

    #[test]
    fn the_time_limit_counts_from_the_last_session_and_cuts_the_last_pause() {
        let (mut backoff, start) = backoff(exact().max_elapsed(Some(10 * SECOND)));
        assert_eq!(backoff.after_failure(start + 9 * SECOND), Retry::After(SECOND));
        assert_eq!(backoff.after_failure(start + 9 * SECOND), Retry::After(SECOND), "not 1.5 s");
        assert_eq!(backoff.after_failure(start + 10 * SECOND), Retry::GiveUp);

        backoff.after_session(Duration::ZERO, start + 10 * SECOND);
        assert!(matches!(backoff.after_failure(start + 19 * SECOND), Retry::After(_)));
        assert_eq!(backoff.after_failure(start + 20 * SECOND), Retry::GiveUp);
    }

    #[test]
    fn beside_a_live_session_limits_do_not_count_and_pauses_grow() {
        let (mut backoff, start) = backoff(exact().max_attempts(Some(2)).max_elapsed(Some(SECOND)));
        assert_eq!(backoff.after_failure_beside_live(start), SECOND);
        assert_eq!(backoff.after_failure_beside_live(start + 60 * SECOND), SECOND.mul_f32(1.5));
        assert!(matches!(backoff.after_failure(start + 60 * SECOND), Retry::After(_)));
        assert_eq!(backoff.after_failure(start + 60 * SECOND), Retry::GiveUp);
    }

    #[test]
    fn the_first_retry_after_a_stable_session_is_spread() {
        let (mut backoff, now) = backoff(exact().first_retry_jitter(4 * SECOND));
        let draws: Vec<_> = (0..1000).map(|_| backoff.after_session(10 * SECOND, now)).collect();
        assert!(draws.iter().all(|draw| *draw <= 4 * SECOND));
        assert!(draws.iter().any(|draw| *draw < SECOND) && draws.iter().any(|draw| *draw > 3 * SECOND));
    }
}
