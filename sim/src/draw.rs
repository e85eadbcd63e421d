//! From what plans are drawn, and what is wrong with one that was written by hand.

use std::ops::RangeInclusive;

use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any};
use proptest::sample::{select, subsequence};
use proptest::strategy::{BoxedStrategy, ValueTree as _};
use proptest::test_runner::{Config as RunnerConfig, Reason, RngAlgorithm, TestRng, TestRunner};
use rand::Rng;

use crate::plan::{
    Bandwidth, Caller, Event, Fault, Foreign, Impairments, Library, Network, On, Plan, Settings, Side, Sockets,
};
use crate::random::rng;
use crate::{faults, work};

/// From what a plan is drawn.
pub type Plans = BoxedStrategy<Plan>;

/// Draws the plan of a seed.
///
/// # Errors
///
/// That the strategy rejects what it draws.
pub fn draw(plans: &Plans, seed: u64) -> Result<Plan, Reason> {
    let mut key = [0; 32];
    rng(seed, "plan").fill_bytes(&mut key);
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &key);
    Ok(plans.new_tree(&mut TestRunner::new_with_rng(RunnerConfig::default(), rng))?.current())
}

/// Any impairments: mostly none.
pub fn any_impairments() -> BoxedStrategy<Impairments> {
    let some = (0..=10_u32, 0..=10_u32, 0..=20_u32).prop_map(|(loss, duplication, reordering)| Impairments {
        loss,
        duplication,
        reordering,
    });
    proptest::prop_oneof![3 => Just(Impairments::default()), 1 => some].boxed()
}

/// Any bandwidth: mostly without a limit.
pub fn any_bandwidth() -> BoxedStrategy<Bandwidth> {
    // As often between 64 and 128 KiB a second as between 2 and 4 MiB.
    let rate = || (16..22_u32, 0..4_u64).prop_map(|(log, more)| Some((4 + more) << (log - 2)));
    let way = || proptest::prop_oneof![2 => Just(None), 1 => rate()];
    let some = (way(), way()).prop_map(|(up, down)| Bandwidth { up, down });
    proptest::prop_oneof![3 => Just(Bandwidth::default()), 1 => some].boxed()
}

/// Any network.
pub fn any_network() -> BoxedStrategy<Network> {
    let chunk = proptest::prop_oneof![4 => Just(0), 1 => 64..2_000_usize];
    let spurious = proptest::prop_oneof![3 => Just(0), 1 => 1..=30_u32];
    let sockets = (any::<bool>(), any::<bool>(), spurious).prop_map(|(vectored, buffered, spurious_percent)| Sockets {
        vectored,
        buffered,
        spurious_percent,
    });
    let return_ms = proptest::prop_oneof![3 => Just(0), 1 => 1..=100_u64];
    let tick_ms = select(vec![5, 10_u64]);
    let path = (0..=50_u64, return_ms, any_bandwidth());
    (any_impairments(), path, any::<bool>(), chunk, any::<bool>(), sockets, tick_ms)
        .prop_map(
            |(impairments, (latency_ms, return_ms, bandwidth), random_order, chunk, handshake, sockets, tick_ms)| {
                Network {
                    impairments,
                    latency_ms,
                    return_ms,
                    bandwidth,
                    random_order,
                    chunk,
                    handshake,
                    sockets,
                    tick_ms,
                }
            },
        )
        .boxed()
}

/// Any settings.
pub fn any_settings() -> BoxedStrategy<Settings> {
    // Often the defaults, which must do by themselves.
    let defaults = Settings::default();
    let percent = || proptest::prop_oneof![3 => Just(100), 1 => 60..=150_u32];
    let heartbeat = proptest::prop_oneof![3 => Just(100), 1 => 30..=60_u32];
    let handshakes = proptest::prop_oneof![Just(defaults.handshakes), 4..=8_usize];
    let accept_backlog = proptest::prop_oneof![3 => Just(defaults.accept_backlog), 1 => 2..=8_usize];
    let max_concurrent_streams = proptest::prop_oneof![
        3 => Just(defaults.max_concurrent_streams),
        1 => 8..=16_u32,
        1 => 300..=1_000_u32,
    ];
    let sessions = proptest::prop_oneof![4 => Just(1), 1 => 2..=4_usize];
    (sessions, handshakes, accept_backlog, max_concurrent_streams, heartbeat, percent(), percent())
        .prop_map(
            |(
                sessions,
                handshakes,
                accept_backlog,
                max_concurrent_streams,
                heartbeat_percent,
                receiver_clock_percent,
                establisher_clock_percent,
            )| {
                Settings {
                    sessions,
                    handshakes,
                    accept_backlog,
                    max_concurrent_streams,
                    heartbeat_percent,
                    receiver_clock_percent,
                    establisher_clock_percent,
                }
            },
        )
        .boxed()
}

/// Some of all: often few, so that what hides others is sometimes away.
fn some_of(all: Vec<&'static str>) -> BoxedStrategy<Vec<&'static str>> {
    let sizes = [1, 2, 3, 6, all.len()].map(|size| size.min(all.len()));
    select(sizes.to_vec()).prop_flat_map(move |size| subsequence(all.clone(), size)).boxed()
}

/// Any caller that does one of these kinds of work.
pub fn any_caller_of(works: Vec<&'static str>) -> BoxedStrategy<Caller> {
    let side = proptest::prop_oneof![3 => Just(Side::Establisher), 1 => Just(Side::Receiver)];
    (select(works), side, 100..4_000_u64, 1..300_000_u32)
        .prop_map(|(work, side, pause_ms, bytes)| Caller { work: work.to_owned(), side, pause_ms, bytes })
        .boxed()
}

/// So many callers, of some kinds of work.
pub fn any_callers(callers: RangeInclusive<usize>) -> BoxedStrategy<Vec<Caller>> {
    let works = work::ALL.iter().filter(|work| work.drawn).map(|work| work.name).collect();
    some_of(works).prop_flat_map(move |works| vec(any_caller_of(works), callers.clone())).boxed()
}

/// Any event that a fault waits for: mostly none.
fn any_on() -> BoxedStrategy<Option<On>> {
    let event = select(vec![Event::Connecting, Event::Live, Event::Draining, Event::Closed, Event::Ping]);
    let side = select(vec![Side::Establisher, Side::Receiver]);
    // Within a step or two, or within a round trip or two.
    let after_ms = proptest::prop_oneof![0..=10_u64, 0..=150_u64];
    let some = (event, side, after_ms).prop_map(|(event, side, after_ms)| Some(On { event, side, after_ms }));
    proptest::prop_oneof![2 => Just(None), 1 => some].boxed()
}

/// Any fault of these kinds, that begins before and lasts at most so many milliseconds.
pub fn any_fault_of(kinds: Vec<&'static str>, before_ms: u64, lasts_ms: u64) -> BoxedStrategy<Fault> {
    let side = proptest::prop_oneof![Just(Side::Receiver), Just(Side::Establisher)];
    // Half of them short: what heals by itself is another matter than what is found out.
    let lasts = proptest::prop_oneof![1..1_000.min(lasts_ms), 1..lasts_ms];
    (select(kinds), 0..before_ms, any_on(), lasts, side, 0..=100_u32)
        .prop_map(|(kind, at_ms, on, lasts_ms, side, severity)| Fault {
            kind: kind.to_owned(),
            at_ms,
            on,
            lasts_ms,
            side,
            severity,
        })
        .boxed()
}

/// So many faults, of some kinds.
pub fn any_faults(faults: RangeInclusive<usize>) -> BoxedStrategy<Vec<Fault>> {
    let kinds = faults::ALL.iter().map(|kind| kind.name).collect();
    some_of(kinds).prop_flat_map(move |kinds| vec(any_fault_of(kinds, 60_000, 30_000), faults.clone())).boxed()
}

/// Any side that is not evermux: mostly none.
pub fn any_foreign() -> BoxedStrategy<Option<Foreign>> {
    let side = select(vec![Side::Establisher, Side::Receiver]);
    let library = select(vec![Library::Hashicorp, Library::Yamux]);
    let some = (side, library).prop_map(|(side, library)| Some(Foreign { side, library }));
    proptest::prop_oneof![4 => Just(None), 1 => some].boxed()
}

/// Lets callers do what they can: somebody must want a session, and who works does so on the side that is evermux, with what
/// its peer can do.
pub(crate) fn suit(foreign: Option<Foreign>, callers: &mut [Caller]) {
    let Some(foreign) = foreign else {
        if let Some(first) = callers.first_mut() {
            first.side = Side::Establisher;
        }
        return;
    };
    for caller in callers {
        caller.side = match foreign.side {
            Side::Establisher => Side::Receiver,
            Side::Receiver => Side::Establisher,
        };
        if !work::find(&caller.work).is_some_and(|work| work.foreign) {
            work::REQUEST.clone_into(&mut caller.work);
        }
    }
}

/// Any plan with so many callers and faults.
pub fn any_plan(callers: RangeInclusive<usize>, faults: RangeInclusive<usize>) -> Plans {
    let parts = (any_network(), any_settings(), any_foreign(), any_callers(callers), any_faults(faults));
    parts
        .prop_map(|(network, settings, foreign, mut callers, faults)| {
            suit(foreign, &mut callers);
            Plan { network, settings, foreign, callers, faults, calm_ms: 1_000 }
        })
        .boxed()
}

/// Names what is wrong with a plan that was read from a file.
pub fn check(plan: &Plan) -> Result<(), String> {
    for fault in &plan.faults {
        faults::find(&fault.kind).ok_or_else(|| {
            let known = faults::ALL.iter().map(|kind| kind.name).collect::<Vec<_>>().join(", ");
            format!("there is no fault {:?}; there are: {known}", fault.kind)
        })?;
    }
    for caller in &plan.callers {
        work::find(&caller.work).ok_or_else(|| {
            let known = work::ALL.iter().map(|kind| kind.name).collect::<Vec<_>>().join(", ");
            format!("there is no work {:?}; there are: {known}", caller.work)
        })?;
    }
    if !(1..=1024).contains(&plan.settings.sessions) {
        return Err("sessions must be from 1 to 1,024".into());
    }
    for caller in &plan.callers {
        if plan.foreign(caller.side).is_some() {
            return Err(format!("caller {:?} is on the side that is not evermux", caller.work));
        }
        if plan.foreign.is_some() && !work::find(&caller.work).is_some_and(|work| work.foreign) {
            return Err(format!("the work {:?} is with evermux alone", caller.work));
        }
    }
    if plan.network.tick_ms == 0 {
        return Err("tick_ms must be at least 1".into());
    }
    Ok(())
}
