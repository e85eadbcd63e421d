//! Networks on which nothing goes wrong that a session should not outlive.

use proptest::collection::vec;
use proptest::prelude::{Just, Strategy};

use super::scenario::{Group, Scenario, world};
use crate::context::ESTABLISHER;
use crate::draw::{
    any_caller_of, any_callers, any_fault_of, any_network, any_plan, any_settings, any_usage, any_yields, suited,
};
use crate::faults::{self, Harm};
use crate::history::{self, Entry, What};
use crate::plan::{Bandwidth, Caller, Impairments, Network, Plan, Settings, Side, Yields};
use crate::usage::Usage;
use crate::verdict::Violation;
use crate::work;

pub(super) static CALM: Scenario = Scenario {
    name: "calm",
    about: "Callers of every kind, and nothing goes wrong: no session ends, and everybody is served at once",
    group: Group::Alone,
    plans: || {
        any_plan(1..=8, 0..=0)
            .prop_map(|mut plan| {
                plan.calm_ms = 40_000;
                plan
            })
            .boxed()
    },
    run: world,
};

/// The longest that a fault lasts which holds everything up.
const SHORT_MS: u64 = 700;

pub(super) static HARMLESS: Scenario = Scenario {
    name: "harmless",
    about: "What delays, and what concerns others, ends no session, and what cuts one off ends one alone",
    group: Group::Swept,
    plans: || {
        let faults_of = |harm, lasts_ms, most| {
            let kinds = faults::ALL.iter().filter(move |kind| kind.harm == harm && kind.name != "latency spike");
            vec(any_fault_of(kinds.map(|kind| kind.name).collect(), 40_000, lasts_ms), most)
        };
        let faults = (
            faults_of(Harm::None, 30_000, 0..=5),
            faults_of(Harm::Delay, SHORT_MS, 0..=2),
            faults_of(Harm::One, SHORT_MS, 0..=2),
        )
            .prop_map(|(long, short, cut)| [long, short, cut].concat());
        // Sometimes nothing happens at all.
        let faults = proptest::prop_oneof![4 => faults, 1 => Just(Vec::new())];
        (any_network(), any_settings(), any_usage(), any_callers(1..=6), faults, any_yields())
            .prop_map(|(network, settings, usage, callers, faults, yields)| {
                suited(Plan {
                    network,
                    settings,
                    usage,
                    foreign: None,
                    fleet: 0,
                    callers,
                    faults,
                    calm_ms: 20_000,
                    yields,
                })
            })
            .boxed()
    },
    run: world,
};

pub(super) static GRACEFUL: Scenario = Scenario {
    name: "graceful",
    about: "Managers are shut down and started again while callers work: what can end in time is not cut off",
    group: Group::Swept,
    plans: || {
        // Who is parked is cut off at the end of the drain.
        let works = work::BRIEF.into_iter().chain([work::PARKED]).collect();
        let shutdowns = vec(any_fault_of(vec![faults::SHUTDOWN], 25_000, 1_000), 1..=5);
        (any_network(), any_settings(), any_usage(), vec(any_caller_of(works), 1..=5), shutdowns, any_yields())
            .prop_map(|(network, settings, usage, callers, faults, yields)| {
                let network =
                    Network { impairments: Impairments::default(), bandwidth: Bandwidth::default(), ..network };
                suited(Plan {
                    network,
                    settings,
                    usage,
                    foreign: None,
                    fleet: 0,
                    callers,
                    faults,
                    calm_ms: 20_000,
                    yields,
                })
            })
            .boxed()
    },
    run: world,
};

pub(super) static IDLE: Scenario = Scenario {
    name: "idle",
    about: "Callers who work once in a while, for two hours: the session stays the same",
    group: Group::Alone,
    plans: || {
        any_plan(1..=3, 0..=0)
            .prop_map(|mut plan| {
                // Nothing that may end a session: else a run proves nothing.
                plan.network = Network { tick_ms: 50, impairments: Impairments::default(), ..plan.network };
                plan.settings.max_streams_per_session = 0;
                plan.foreign = None;
                plan.callers.iter_mut().for_each(|caller| caller.pause_ms = 3_600_000);
                plan.calm_ms = 2 * 3_600_000;
                suited(plan)
            })
            .boxed()
    },
    run: |run| {
        world(run)?;
        stays_the_same(run.plan())
    },
};

/// Nobody has had more sessions than it has places for.
fn stays_the_same(plan: &Plan) -> Result<(), Violation> {
    let live = |entry: &Entry| entry.who == ESTABLISHER && matches!(entry.what, What::Live(_));
    let sessions = history::since(0).iter().filter(|entry| live(entry)).count();
    if sessions == plan.settings.sessions {
        return Ok(());
    }
    let text = format!("nothing happened, and there were {sessions} sessions in {} places", plan.settings.sessions);
    Err(Violation::new("G10", text))
}

pub(super) static CONTROL: Scenario = Scenario {
    name: "control",
    about: "Bulk both ways for fifteen seconds: with a wrong clock no two runs of it are the same",
    group: Group::Alone,
    plans: || {
        let caller = |work: &str, side| Caller { work: work.into(), side, pause_ms: 200, bytes: 300_000 };
        let callers = vec![
            caller("request", Side::Establisher),
            caller("upload", Side::Establisher),
            caller("download", Side::Receiver),
        ];
        let plan = move |latency_ms| Plan {
            network: Network { latency_ms, ..Network::default() },
            settings: Settings::default(),
            usage: Usage::default(),
            foreign: None,
            fleet: 0,
            callers: callers.clone(),
            faults: Vec::new(),
            calm_ms: 15_000,
            yields: Yields::default(),
        };
        (2..=20_u64).prop_map(plan).boxed()
    },
    run: world,
};
