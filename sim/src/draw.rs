//! From what plans are drawn, and what is wrong with one that was written by hand.

use std::ops::RangeInclusive;

use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any};
use proptest::sample::{select, subsequence};
use proptest::strategy::{BoxedStrategy, ValueTree as _};
use proptest::test_runner::{Config as RunnerConfig, Reason, RngAlgorithm, TestRng, TestRunner};
use rand::Rng;

use crate::plan::{
    Bandwidth, Caller, Event, Fault, Foreign, Impairments, Library, Network, On, Plan, Settings, Side, Sockets, Yields,
};
use crate::random::rng;
use crate::usage::{Dials, Listens, Stops, Takes, Usage};
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
    let path = (0..=50_u64, return_ms, any_bandwidth(), mostly(0, 1..=3_u16));
    (any_impairments(), path, any::<bool>(), chunk, any::<bool>(), sockets, tick_ms)
        .prop_map(
            |(
                impairments,
                (latency_ms, return_ms, bandwidth, dead_addresses),
                random_order,
                chunk,
                handshake,
                sockets,
                tick_ms,
            )| {
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
                    dead_addresses,
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
    let clocks = (heartbeat, percent(), percent());
    (sessions, handshakes, accept_backlog, max_concurrent_streams, clocks, any_ends(), any_pauses())
        .prop_map(|(sessions, handshakes, accept_backlog, max_concurrent_streams, clocks, ends, pauses)| {
            let (heartbeat_percent, receiver_clock_percent, establisher_clock_percent) = clocks;
            let (max_attempts, max_elapsed_ms, max_streams_per_session, early_go_away) = ends;
            let (backoff_factor_percent, backoff_jitter_percent, first_retry_jitter_ms) = pauses.0;
            let (accept_timeout_ms, window_growth_kib, event_backlog) = pauses.1;
            Settings {
                sessions,
                handshakes,
                accept_backlog,
                max_concurrent_streams,
                heartbeat_percent,
                receiver_clock_percent,
                establisher_clock_percent,
                accept_timeout_ms,
                max_attempts,
                max_elapsed_ms,
                max_streams_per_session,
                backoff_factor_percent,
                backoff_jitter_percent,
                first_retry_jitter_ms,
                early_go_away,
                window_growth_kib,
                event_backlog,
            }
        })
        .boxed()
}

/// The default, seven times in eight.
fn mostly<T: std::fmt::Debug + Clone + 'static>(
    default: T,
    others: impl Strategy<Value = T> + 'static,
) -> BoxedStrategy<T> {
    proptest::prop_oneof![7 => Just(default), 1 => others].boxed()
}

/// When a manager gives up, or ends a session by itself, and how it says so.
fn any_ends() -> BoxedStrategy<(u32, u64, u32, bool)> {
    (mostly(0, 1..=6_u32), mostly(0, 5_000..40_000_u64), mostly(0, 1_500..=6_000_u32), mostly(false, Just(true)))
        .boxed()
}

type Pauses = (u32, u32, u64);
type Waits = (u64, usize, usize);

/// Pauses, and what waits for somebody.
fn any_pauses() -> BoxedStrategy<(Pauses, Waits)> {
    let defaults = Settings::default();
    let pauses = (
        mostly(defaults.backoff_factor_percent, 100..=300_u32),
        mostly(defaults.backoff_jitter_percent, 0..=100_u32),
        mostly(defaults.first_retry_jitter_ms, 1..=2_000_u64),
    );
    let waits = (
        proptest::prop_oneof![4 => Just(defaults.accept_timeout_ms), 1 => 500..=10_000_u64],
        mostly(defaults.window_growth_kib, 0..=1_024_usize),
        mostly(defaults.event_backlog, 1..=8_usize),
    );
    (pauses, waits).boxed()
}

/// Any use of the interface: mostly the plain one.
pub fn any_usage() -> BoxedStrategy<Usage> {
    let dials = proptest::prop_oneof![4 => Just(Dials::Connector), 3 => Just(Dials::Names), 1 => Just(Dials::Provider)];
    let listens = mostly(Listens::Acceptor, select(vec![Listens::Waits, Listens::Newest]));
    let takes = proptest::prop_oneof![3 => Just(Takes::Incoming), 1 => select(vec![Takes::Sessions, Takes::None])];
    let stops = proptest::prop_oneof![
        3 => Just(Stops::Shutdown),
        1 => (0..=3_000_u64).prop_map(Stops::Within),
        1 => Just(Stops::Token),
        1 => (0..=3_000_u64).prop_map(Stops::StopAccepting),
    ];
    (dials, listens, takes, stops, proptest::prop_oneof![4 => Just(false), 1 => Just(true)])
        .prop_map(|(dials, listens, takes, stops, admits)| Usage { dials, listens, takes, stops, admits })
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
pub(crate) fn any_on() -> BoxedStrategy<Option<On>> {
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

/// Before what a fault begins.
pub(crate) const FAULT_BEGINS_BEFORE_MS: u64 = 60_000;
/// How long it lasts at most.
pub(crate) const FAULT_LASTS_MS: u64 = 30_000;

/// So many faults, of some kinds.
pub fn any_faults(faults: RangeInclusive<usize>) -> BoxedStrategy<Vec<Fault>> {
    let kinds = faults::ALL.iter().map(|kind| kind.name).collect();
    some_of(kinds)
        .prop_flat_map(move |kinds| vec(any_fault_of(kinds, FAULT_BEGINS_BEFORE_MS, FAULT_LASTS_MS), faults.clone()))
        .boxed()
}

/// Any yields: often none, mostly rare ones.
pub fn any_yields() -> BoxedStrategy<Yields> {
    let some = |percent| (percent, 0..1_000_000_u64).prop_map(|(percent, order)| Yields { percent, order });
    proptest::prop_oneof![
        10 => Just(Yields::default()),
        5 => some(1..=5_u32),
        3 => some(6..=25_u32),
        2 => some(26..=75_u32),
    ]
    .boxed()
}

/// Any side that is not evermux: mostly none.
pub fn any_foreign() -> BoxedStrategy<Option<Foreign>> {
    let side = select(vec![Side::Establisher, Side::Receiver]);
    let library = select(vec![Library::Hashicorp, Library::Hashicorp, Library::Yamux, Library::Session]);
    let some = (side, library).prop_map(|(side, library)| Some(Foreign { side, library }));
    proptest::prop_oneof![4 => Just(None), 1 => some].boxed()
}

/// Lets callers do what they can: somebody must want a session, and who works does so on the side that is evermux, with what
/// its peer can do. An establisher takes streams where somebody opens them.
pub(crate) fn suited(mut plan: Plan) -> Plan {
    if let Some(foreign) = plan.foreign {
        for caller in &mut plan.callers {
            caller.side = match foreign.side {
                Side::Establisher => Side::Receiver,
                Side::Receiver => Side::Establisher,
            };
            if !work::find(&caller.work).is_some_and(|work| work.foreign) {
                work::REQUEST.clone_into(&mut caller.work);
            }
        }
    } else if let Some(first) = plan.callers.first_mut() {
        first.side = Side::Establisher;
    }
    if !takes_suit(&plan) {
        plan.usage.takes = Takes::default();
    }
    if !fleet_suits(&plan) {
        plan.fleet = 0;
    }
    // A dialer takes nothing that a name leads to for the end.
    let is_fatal = |fault: &Fault| fault.kind == faults::FATAL && fault.side == Side::Establisher;
    if plan.usage.dials == Dials::Names && plan.faults.iter().any(is_fatal) {
        plan.usage.dials = Dials::Connector;
    }
    plan
}

/// Whether nobody wants a stream of an establisher that takes none.
fn takes_suit(plan: &Plan) -> bool {
    let nobody_opens = plan.foreign.is_none() && plan.callers.iter().all(|caller| caller.side == Side::Establisher);
    plan.usage.takes != Takes::None || nobody_opens
}

/// A fleet has a receiver that is evermux, stays where it is, and admits it.
fn fleet_suits(plan: &Plan) -> bool {
    let stays = plan.faults.iter().all(|fault| fault.kind != faults::ADDRESS_CHANGE);
    plan.fleet == 0 || (plan.foreign.is_none() && stays && !plan.usage.admits)
}

/// Any plan with so many callers and faults.
pub fn any_plan(callers: RangeInclusive<usize>, faults: RangeInclusive<usize>) -> Plans {
    // A few; the scenario `fleet` has many.
    let fleet = proptest::prop_oneof![19 => Just(0), 1 => 3..=12_u16];
    let work = (any_callers(callers), any_faults(faults), fleet);
    let parts = (any_network(), any_settings(), any_usage(), any_foreign(), work, any_yields());
    parts
        .prop_map(|(network, settings, usage, foreign, (callers, faults, fleet), yields)| {
            suited(Plan { network, settings, usage, foreign, fleet, callers, faults, calm_ms: 1_000, yields })
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
    if !takes_suit(plan) {
        return Err("an establisher that takes no streams has a peer that opens none".into());
    }
    if !fleet_suits(plan) {
        return Err("a fleet has a receiver that is evermux, stays where it is, and admits everybody".into());
    }
    if plan.network.tick_ms == 0 {
        return Err("tick_ms must be at least 1".into());
    }
    Ok(())
}
