//! Long runs, in which nothing may grow: the same faults and the same work come again and again, and each time, when
//! everybody rests, what is left in the process is counted (G19).
//!
//! What n sessions have left is compared with what twice as many have, and a line is laid through the second half of what
//! was counted: what is lost with each session, stream, attempt or reset is a slope, however little it is.

#![expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a line through points"
)]

use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::Strategy;

use super::scenario::{Group, Scenario};
use crate::context::{ESTABLISHER, OTHER, RECEIVER};
use crate::counters::Counters;
use crate::draw::{any_callers, any_fault_of, any_network, any_settings, any_usage, suited};
use crate::faults::{self, ADDRESS_CHANGE, FATAL, SHUTDOWN};
use crate::interpose::elapsed;
use crate::plan::{Network, Plan, Settings, Yields};
use crate::play::Play;
use crate::stage::Run;
use crate::verdict::Violation;
use crate::{history, memory};

pub(super) static SOAK: Scenario = Scenario {
    name: "soak",
    about: "The same faults and work come again and again for an hour or more: nothing grows with the sessions that were",
    group: Group::Alone,
    plans: || plans(ROUNDS),
    run: |run| soak(run, ROUNDS),
};

pub(super) static SOAK_FOR_HOURS: Scenario = Scenario {
    name: "soak_for_hours",
    about: "As `soak`, for ten times as long",
    group: Group::Alone,
    plans: || plans(10 * ROUNDS),
    run: |run| soak(run, 10 * ROUNDS),
};

/// How often it all comes again.
const ROUNDS: u32 = 40;
/// When callers begin to rest in each round. The faults are over by then.
const WORKS_FOR: Duration = Duration::from_secs(80);
/// How long it takes at most until everybody has a session and is done with what was begun, and how long until what has
/// ended is gone: streams that nobody reads are discarded for 10 s.
const DONE_WITHIN: Duration = Duration::from_secs(400);
const SETTLES_WITHIN: Duration = Duration::from_secs(30);
/// How long a round takes at most.
const ROUND_MAX: Duration = Duration::from_secs(600);

/// The hosts with managers.
const HOSTS: [&str; 3] = [RECEIVER, ESTABLISHER, OTHER];

/// A manager that is started again has forgotten all.
const RESTARTS: [&str; 6] = [FATAL, SHUTDOWN, ADDRESS_CHANGE, "crash", "power loss", "latency spike"];

fn plans(rounds: u32) -> crate::draw::Plans {
    let kinds = faults::ALL.iter().map(|kind| kind.name).filter(|name| !RESTARTS.contains(name)).collect();
    let faults = vec(any_fault_of(kinds, 30_000, 15_000), 3..=6);
    (any_network(), any_settings(), any_usage(), any_callers(1..=3), faults)
        .prop_map(move |(network, settings, usage, callers, mut faults)| {
            for fault in &mut faults {
                fault.on = None;
            }
            let network = Network { tick_ms: 20, ..network };
            let settings = Settings { max_attempts: 0, max_elapsed_ms: 0, ..settings };
            let calm_ms = u64::try_from(ROUND_MAX.as_millis()).unwrap_or(u64::MAX) * u64::from(rounds);
            let (foreign, fleet, yields) = (None, 0, Yields::default());
            suited(Plan { network, settings, usage, foreign, fleet, callers, faults, calm_ms, yields })
        })
        .boxed()
}

/// What there was when everybody rested.
#[derive(Clone, Copy, Debug, Default)]
struct Sample {
    /// How many sessions there had been by then, of both sides.
    sessions: u64,
    heap: usize,
    tasks: usize,
    streams: usize,
    sockets: usize,
}

fn soak(run: &mut Run, rounds: u32) -> Result<(), Violation> {
    let mut play = Play::for_long(run);
    let mut samples = Vec::with_capacity(rounds as usize);
    for _ in 0..rounds {
        round(&mut play)?;
        samples.push(sample(&play));
    }
    judge(&play.context().counters, &samples)?;
    play.context().rests.send_replace(false);
    play.finish()
}

/// Everybody works under the faults, and then rests.
fn round(play: &mut Play<'_>) -> Result<(), Violation> {
    let begun = elapsed();
    play.context().rests.send_replace(false);
    play.faults(begun)?;
    play.until(begun + WORKS_FOR)?;
    play.context().rests.send_replace(true);
    let late = begun + WORKS_FOR + DONE_WITHIN;
    while !is_idle(play) {
        if elapsed() > late {
            let text =
                format!("{DONE_WITHIN:?} after callers began to rest somebody still works, or there is no session");
            return Err(Violation::new("liveness", text));
        }
        play.step()?;
    }
    let settled = elapsed() + SETTLES_WITHIN;
    play.until(settled)
}

fn is_idle(play: &Play<'_>) -> bool {
    play.is_live_on_both_sides() && !play.context().is_at_stake()
}

fn sample(play: &Play<'_>) -> Sample {
    let context = play.context();
    let mut sample = Sample {
        heap: memory::in_use().saturating_sub(history::heap_bytes() + context.counters.heap_bytes()),
        tasks: play.alive_tasks(),
        ..Sample::default()
    };
    for host in HOSTS {
        sample.sockets += context.conditions(host).open_sockets();
        let status = context.manager(host).map(|manager| manager.status());
        sample.sessions += status.as_ref().map_or(0, |status| status.sessions_so_far);
        sample.streams +=
            status.iter().flat_map(|status| &status.sessions).map(|session| session.open_streams).sum::<usize>();
    }
    sample
}

/// By how much the heap of two samples may differ by chance: by what buffers hold that the last sessions have left behind.
const CHANCE_BYTES: f64 = 64.0 * 1_024.0;
/// What each session may leave.
const LEFT_OF_ONE_BYTES: f64 = 64.0;
/// By how many tasks, streams or sockets there may be more in the end.
const MORE_MAX: f64 = 1.0;

/// Nothing grows.
fn judge(counters: &Counters, samples: &[Sample]) -> Result<(), Violation> {
    let last = samples.last().copied().unwrap_or_default();
    let half = samples.iter().position(|sample| 2 * sample.sessions >= last.sessions).unwrap_or_default();
    let (n, twice) = (around(samples, half), around(samples, samples.len()));
    let (of_n, of_twice) = (middle(n, |sample| sample.sessions as f64), middle(twice, |sample| sample.sessions as f64));
    let more = middle(twice, heap) - middle(n, heap);
    let second_half = &samples[samples.len() / 2..];
    let sessions = middle(twice, |sample| sample.sessions as f64) - second_half[0].sessions as f64;
    let heaps = [
        (format!("the heap of {of_twice} sessions beside that of {of_n}"), more, of_twice - of_n),
        (format!("the heap of the last {sessions} sessions"), rise(second_half, heap), sessions),
    ];
    for (what, grown, sessions) in heaps {
        let bound = CHANCE_BYTES + LEFT_OF_ONE_BYTES * sessions;
        counters.worst_bytes("the heap has grown", grown.max(0.0) as u64, bound as u64);
        if grown > bound {
            let text = format!("{what} has grown by {grown:.0} bytes, and {bound:.0} would be chance");
            return Err(Violation::new("G19", text));
        }
    }
    let numbers = [
        ("tasks", rise(second_half, |sample| sample.tasks as f64)),
        ("streams", rise(second_half, |sample| sample.streams as f64)),
        ("sockets", rise(second_half, |sample| sample.sockets as f64)),
    ];
    for (what, grown) in numbers {
        if grown > MORE_MAX {
            let text = format!("with {sessions} sessions there are {grown:.1} more {what} when everybody rests");
            return Err(Violation::new("G19", text));
        }
    }
    Ok(())
}

fn heap(sample: &Sample) -> f64 {
    sample.heap as f64
}

/// A few samples that end before this one, so that the middle one is not there by chance.
fn around(samples: &[Sample], end: usize) -> &[Sample] {
    const FEW: usize = 7;
    let end = end.clamp(FEW.min(samples.len()), samples.len());
    &samples[end.saturating_sub(FEW)..end]
}

fn middle(samples: &[Sample], of: impl Fn(&Sample) -> f64) -> f64 {
    let mut values = samples.iter().map(of).collect::<Vec<_>>();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// By how much the line rises that fits the samples best, from the first to the last.
fn rise(samples: &[Sample], of: impl Fn(&Sample) -> f64) -> f64 {
    let many = samples.len() as f64;
    let (mid_x, mid_y) = ((many - 1.0) / 2.0, samples.iter().map(&of).sum::<f64>() / many.max(1.0));
    let points = samples.iter().enumerate().map(|(x, sample)| (x as f64 - mid_x, of(sample) - mid_y));
    let (up, along) = points.fold((0.0, 0.0), |(up, along), (x, y)| (up + x * y, along + x * x));
    if along > 0.0 { up / along * (many - 1.0) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_grows_a_little_each_time_is_a_slope_and_what_goes_up_and_down_is_none() {
        let samples = |of: &dyn Fn(usize) -> usize| {
            (0..40).map(|x| Sample { sessions: x as u64 * 3, heap: of(x), ..Sample::default() }).collect::<Vec<_>>()
        };
        let judge = |of: &dyn Fn(usize) -> usize| judge(&Counters::default(), &samples(of));
        assert_eq!(judge(&|x| 1_000_000 + (x * 7_919) % 40_000), Ok(()));
        assert!(judge(&|x| 1_000_000 + (x * 7_919) % 40_000 + x * 5_000).is_err());
    }

    #[test]
    fn tasks_streams_and_sockets_that_stay_are_counted() {
        let more = |x: usize| Sample { sessions: x as u64, tasks: 8 + x / 10, ..Sample::default() };
        assert!(judge(&Counters::default(), &(0..40).map(more).collect::<Vec<_>>()).is_err());
    }
}
