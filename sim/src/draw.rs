//! From what plans are drawn, and what is wrong with one that was written by hand.

use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any};
use proptest::sample::select;
use proptest::strategy::{BoxedStrategy, ValueTree as _};
use proptest::test_runner::{Config as RunnerConfig, Reason, RngAlgorithm, TestRng, TestRunner};
use rand::Rng;

use crate::plan::{Caller, Fault, Network, Plan, Settings, Side, Transport};
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

/// Any transport: mostly the one that is fast.
pub fn any_transport() -> BoxedStrategy<Transport> {
    let lossy = (0..=10_u32, 0..=10_u32, 0..=20_u32).prop_map(|(loss, duplication, reordering)| Transport::Lossy {
        loss,
        duplication,
        reordering,
    });
    proptest::prop_oneof![3 => Just(Transport::Turmoil), 1 => lossy].boxed()
}

/// Any network.
pub fn any_network() -> BoxedStrategy<Network> {
    let chunk = proptest::prop_oneof![4 => Just(0), 1 => 64..2_000_usize];
    // A freeze holds back what is sent meanwhile: the capacity must take what a window allows.
    (any_transport(), 0..=50_u64, any::<bool>(), chunk, any::<bool>())
        .prop_map(|(transport, latency_ms, random_order, chunk, handshake)| Network {
            transport,
            latency_ms,
            random_order,
            chunk,
            handshake,
            ..Network::default()
        })
        .boxed()
}

/// Any settings.
pub fn any_settings() -> BoxedStrategy<Settings> {
    let percent = || proptest::prop_oneof![3 => Just(100), 1 => 60..=150_u32];
    let heartbeat = proptest::prop_oneof![3 => Just(100), 1 => 30..=60_u32];
    let handshakes = proptest::prop_oneof![Just(64), 4..=8_usize];
    let accept_backlog = proptest::prop_oneof![3 => Just(256), 1 => 2..=8_usize];
    let max_concurrent_streams = proptest::prop_oneof![3 => Just(256), 1 => 8..=16_u32];
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

/// Any caller.
pub fn any_caller() -> BoxedStrategy<Caller> {
    let works = work::ALL.iter().filter(|work| work.drawn).map(|work| work.name).collect::<Vec<_>>();
    let side = proptest::prop_oneof![3 => Just(Side::Establisher), 1 => Just(Side::Receiver)];
    (select(works), side, 100..4_000_u64, 1..300_000_u32)
        .prop_map(|(work, side, pause_ms, bytes)| Caller { work: work.to_owned(), side, pause_ms, bytes })
        .boxed()
}

/// Any fault, that begins before and lasts at most so many milliseconds.
pub fn any_fault(before_ms: u64, lasts_ms: u64) -> BoxedStrategy<Fault> {
    let kinds = faults::ALL.iter().map(|kind| kind.name).collect::<Vec<_>>();
    let side = proptest::prop_oneof![Just(Side::Receiver), Just(Side::Establisher)];
    // Half of them short: what heals by itself is another matter than what is found out.
    let lasts = proptest::prop_oneof![1..1_000.min(lasts_ms), 1..lasts_ms];
    (select(kinds), 0..before_ms, lasts, side, 0..=100_u32)
        .prop_map(|(kind, at_ms, lasts_ms, side, severity)| Fault {
            kind: kind.to_owned(),
            at_ms,
            lasts_ms,
            side,
            severity,
        })
        .boxed()
}

/// Any plan with so many callers and faults.
pub fn any_plan(callers: std::ops::RangeInclusive<usize>, faults: std::ops::RangeInclusive<usize>) -> Plans {
    let parts = (any_network(), any_settings(), vec(any_caller(), callers), vec(any_fault(60_000, 30_000), faults));
    parts
        .prop_map(|(network, settings, mut callers, faults)| {
            // Somebody must want a session.
            if let Some(first) = callers.first_mut() {
                first.side = Side::Establisher;
            }
            Plan { network, settings, callers, faults, calm_ms: 1_000 }
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
    if plan.network.tick_ms == 0 {
        return Err("tick_ms must be at least 1".into());
    }
    Ok(())
}
