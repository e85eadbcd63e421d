//! Properties of the pauses between attempts (G11), over any settings and any history.

use std::time::Duration;

use evermux::{
    Config,
    provider::{Backoff, Retry},
};
use proptest::prelude::*;
use tokio::time::Instant;

/// Any valid settings of the backoff, the extreme ones included, without limits on attempts.
fn settings() -> impl Strategy<Value = Config> {
    let span = || {
        prop_oneof![
            8 => (1..120_000u64).prop_map(Duration::from_millis),
            1 => (1..1_000u64).prop_map(Duration::from_nanos),
            1 => Just(Duration::MAX),
        ]
    };
    let factor = prop_oneof![Just(1.0), Just(1.5), Just(2.0), 1.0..100.0f32];
    let jitter = prop_oneof![Just(0.0), Just(0.2), Just(1.0), 0.0..1.0f32];
    (span(), span(), factor, jitter, span(), prop_oneof![Just(Duration::ZERO), span()]).prop_map(
        |(one, other, factor, jitter, stable_after, first_retry_jitter)| {
            Config::builder()
                .backoff_initial(one.min(other))
                .backoff_max(one.max(other))
                .backoff_factor(factor)
                .backoff_jitter(jitter)
                .stable_after(stable_after)
                .first_retry_jitter(first_retry_jitter)
                .build()
                .expect("valid by construction")
        },
    )
}

/// What may happen to a provider.
#[derive(Clone, Copy, Debug)]
enum Event {
    Failure,
    FailureBesideLive,
    /// A session is lost just short of `stable_after`.
    ShortSession,
    /// A session is lost just at `stable_after`.
    StableSession,
    /// A session closes cleanly as soon as it is live.
    Goodbye,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => Just(Event::Failure),
        1 => Just(Event::FailureBesideLive),
        2 => Just(Event::ShortSession),
        1 => Just(Event::StableSession),
        2 => Just(Event::Goodbye),
    ]
}

fn happen(backoff: &mut Backoff, config: &Config, event: Event, now: Instant) -> Duration {
    let stable_after = config.stable_after();
    match event {
        Event::Failure => pause(backoff.after_failure(now)),
        Event::FailureBesideLive => backoff.after_failure_beside_live(now),
        Event::ShortSession => backoff.after_session(stable_after.saturating_sub(Duration::from_nanos(1)), now),
        Event::StableSession => backoff.after_session(stable_after, now),
        Event::Goodbye => backoff.after_goodbye(Duration::ZERO, now),
    }
}

/// Whether the next attempt is made at once: after a stable session, and after the first goodbye since the last one.
fn is_forgiven(event: Event, forgives: &mut bool) -> bool {
    match event {
        Event::StableSession => {
            *forgives = true;
            true
        }
        Event::Goodbye => std::mem::replace(forgives, false),
        _ => false,
    }
}

fn pause(retry: Retry) -> Duration {
    match retry {
        Retry::After(pause) => pause,
        Retry::GiveUp => panic!("it gave up without a limit"),
    }
}

fn scaled(duration: Duration, share: f64) -> Duration {
    Duration::try_from_secs_f64(duration.as_secs_f64() * share).unwrap_or(Duration::MAX)
}

/// Whether the two are the same but for the rounding of `f32` seconds and of nanoseconds.
fn close(one: Duration, other: Duration) -> bool {
    one.abs_diff(other) <= Duration::from_nanos(1).max(scaled(one.max(other), 1e-6))
}

/// The pauses before jitter, by the definition: each step from the one before, in `f64`.
fn ideal(config: &Config) -> impl Iterator<Item = Duration> {
    let (factor, max) = (f64::from(config.backoff_factor()), config.backoff_max());
    std::iter::successors(Some(config.backoff_initial()), move |pause| Some(scaled(*pause, factor).min(max)))
}

fn without_jitter(config: &Config) -> Config {
    Config::builder()
        .backoff_initial(config.backoff_initial())
        .backoff_max(config.backoff_max())
        .backoff_factor(config.backoff_factor())
        .backoff_jitter(0.0)
        .stable_after(config.stable_after())
        .build()
        .expect("only the jitter differs")
}

proptest! {
    #[test]
    fn pauses_grow_by_the_factor_up_to_the_longest(config in settings(), seed: u64) {
        // Below a microsecond a step may be less than the clock's nanosecond.
        prop_assume!(config.backoff_initial() >= Duration::from_millis(1));
        let config = without_jitter(&config);
        let now = Instant::now();
        let mut backoff = Backoff::seeded(&config, seed, now);
        let mut before = config.backoff_initial();
        for (n, ideal) in ideal(&config).take(60).enumerate() {
            let pause = pause(backoff.after_failure(now));
            let tolerance = scaled(ideal, 1e-5);
            prop_assert!(pause.abs_diff(ideal) <= tolerance, "pause {n} is {pause:?}, not {ideal:?}");
            prop_assert!(pause >= before || close(pause, before), "{before:?} shrank to {pause:?}");
            before = pause;
        }
    }

    #[test]
    fn no_history_gives_a_pause_outside_its_bounds(
        config in settings(),
        seed: u64,
        history in prop::collection::vec(event(), 1..200),
    ) {
        let now = Instant::now();
        let jitter = f64::from(config.backoff_jitter());
        let mut backoff = Backoff::seeded(&config, seed, now);
        let mut forgives = true;
        for event in history {
            let pause = happen(&mut backoff, &config, event, now);
            if is_forgiven(event, &mut forgives) {
                prop_assert!(pause <= config.first_retry_jitter());
            } else {
                prop_assert!(pause <= scaled(config.backoff_max(), 1.0 + jitter), "{pause:?}");
                let least = scaled(config.backoff_initial(), 1.0 - jitter);
                prop_assert!(pause >= least || close(pause, least), "{pause:?} < {least:?}");
            }
        }
    }

    #[test]
    fn jitter_stays_in_its_share_of_the_exact_pause(config in settings(), seed: u64) {
        let now = Instant::now();
        let jitter = f64::from(config.backoff_jitter());
        let mut exact = Backoff::seeded(&without_jitter(&config), seed, now);
        let mut drawn = Backoff::seeded(&config, seed, now);
        for _ in 0..60 {
            let exact = pause(exact.after_failure(now));
            let drawn = pause(drawn.after_failure(now));
            let (least, most) = (scaled(exact, 1.0 - jitter), scaled(exact, 1.0 + jitter));
            prop_assert!((least..=most).contains(&drawn), "{drawn:?} is not from {least:?} to {most:?}");
        }
    }

    #[test]
    fn only_a_stable_session_makes_the_pauses_start_anew(
        config in settings(),
        seed: u64,
        history in prop::collection::vec(event(), 1..100),
    ) {
        let config = without_jitter(&config);
        let now = Instant::now();
        let mut backoff = Backoff::seeded(&config, seed, now);
        let mut fresh = Backoff::seeded(&config, seed, now);
        let mut forgives = true;
        for event in history {
            let pause = happen(&mut backoff, &config, event, now);
            if is_forgiven(event, &mut forgives) {
                prop_assert_eq!(pause, Duration::ZERO);
                if let Event::StableSession = event {
                    fresh = Backoff::seeded(&config, seed, now);
                }
            } else {
                // Every event but stability and the first goodbye after it is one step of the same growth.
                prop_assert_eq!(pause, fresh.after_failure_beside_live(now));
            }
        }
    }

    #[test]
    fn a_peer_that_accepts_and_drops_meets_the_pauses_of_one_that_refuses(config in settings(), seed: u64) {
        let now = Instant::now();
        let mut refused = Backoff::seeded(&config, seed, now);
        let mut dropped = Backoff::seeded(&config, seed, now);
        for _ in 0..60 {
            prop_assert_eq!(
                pause(refused.after_failure(now)),
                happen(&mut dropped, &config, Event::ShortSession, now)
            );
        }
    }

    #[test]
    fn the_seed_and_the_history_decide_the_pauses(
        config in settings(),
        seed: u64,
        history in prop::collection::vec(event(), 1..100),
    ) {
        let now = Instant::now();
        let mut one = Backoff::seeded(&config, seed, now);
        let mut other = Backoff::seeded(&config, seed, now);
        for event in history {
            prop_assert_eq!(happen(&mut one, &config, event, now), happen(&mut other, &config, event, now));
        }
    }

    #[test]
    fn limits_count_failures_and_time_since_the_last_session(
        max_attempts in 1..20u32,
        max_elapsed_ms in 1..60_000u64,
        seed: u64,
        history in prop::collection::vec((event(), 0..10_000u64), 1..100),
    ) {
        let max_elapsed = Duration::from_millis(max_elapsed_ms);
        let config = Config::builder()
            .max_attempts(Some(max_attempts))
            .max_elapsed(Some(max_elapsed))
            .build()
            .expect("valid by construction");
        let mut now = Instant::now();
        let mut backoff = Backoff::seeded(&config, seed, now);
        let (mut failures, mut since) = (0, now);
        for (event, later_ms) in history {
            now += Duration::from_millis(later_ms);
            if let Event::Failure = event {
                failures += 1;
                let exhausted = failures >= max_attempts || now - since >= max_elapsed;
                match backoff.after_failure(now) {
                    Retry::GiveUp => prop_assert!(exhausted),
                    Retry::After(pause) => {
                        prop_assert!(!exhausted);
                        prop_assert!(now + pause <= since + max_elapsed, "the pause ends after the limit");
                    }
                }
            } else {
                happen(&mut backoff, &config, event, now);
                (failures, since) = (0, now);
            }
            prop_assert_eq!(backoff.attempts(), failures);
        }
    }
}

#[test]
fn a_million_failures_overflow_nothing() {
    let config = Config::builder().backoff_factor(100.0).build().expect("valid");
    let now = Instant::now();
    let mut backoff = Backoff::seeded(&config, 7, now);
    let bounds = Duration::from_secs(24)..=scaled(Duration::from_secs(30), 1.0 + f64::from(0.2f32));
    for n in 0..1_000_000 {
        let pause = pause(backoff.after_failure(now));
        assert!(n < 3 || bounds.contains(&pause) || close(pause, *bounds.start()), "pause {n} is {pause:?}");
    }
    assert_eq!(backoff.attempts(), 1_000_000);
}

#[test]
fn different_seeds_give_different_pauses() {
    let now = Instant::now();
    let first = |seed| pause(Backoff::seeded(&Config::default(), seed, now).after_failure(now));
    assert_ne!(first(1), first(2));
}

#[test]
fn jitter_shortens_pauses_as_often_as_it_lengthens_them() {
    let config = Config::builder().backoff_factor(1.0).build().expect("valid");
    let now = Instant::now();
    let mut backoff = Backoff::seeded(&config, 7, now);
    let shorter = (0..1000).filter(|_| pause(backoff.after_failure(now)) < config.backoff_initial()).count();
    assert!((400..600).contains(&shorter), "{shorter} of 1000 are shorter");
}
