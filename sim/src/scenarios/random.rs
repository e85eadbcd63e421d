//! Faults of every kind, as the seed has it.

use proptest::prelude::Strategy;

use super::scenario::{Group, Scenario, world};
use crate::draw::{any_plan, suited};
use crate::faults;
use crate::plan::{Caller, Fault, Network, Plan, Settings, Side, Yields};
use crate::usage::Usage;

pub(super) static RANDOM: Scenario = Scenario {
    name: "random",
    about: "Callers of every kind, under up to eight faults of every kind",
    group: Group::Swept,
    plans: || any_plan(1..=6, 0..=8),
    run: world,
};

pub(super) static FLEET: Scenario = Scenario {
    name: "fleet",
    about: "8 to 200 clients of one receiver, and one more, under up to four faults",
    group: Group::Alone,
    plans: || {
        (any_plan(1..=2, 0..=4), 8..=200_u16)
            .prop_map(|(mut plan, fleet)| {
                plan.faults.retain(|fault| fault.kind != faults::ADDRESS_CHANGE);
                Plan { foreign: None, fleet, usage: Usage { admits: false, ..plan.usage }, ..plan }
            })
            .prop_map(suited)
            .boxed()
    },
    run: world,
};

pub(super) static SMOKE: Scenario = Scenario {
    name: "smoke",
    about: "Two callers and one short fault: some five simulated seconds",
    group: Group::Alone,
    plans: || {
        any_plan(2..=2, 1..=1)
            .prop_map(|mut plan| {
                for fault in &mut plan.faults {
                    fault.kind = "reset".into();
                    fault.at_ms = 1_500 + fault.at_ms % 1_000;
                    fault.lasts_ms = 1;
                }
                plan.foreign = None;
                plan.fleet = 0;
                for caller in &mut plan.callers {
                    caller.work = "request".into();
                    caller.bytes %= 4_000;
                    caller.pause_ms %= 500;
                }
                plan.settings = Settings::default();
                plan
            })
            .boxed()
    },
    run: world,
};

pub(super) static PARTITION: Scenario = Scenario {
    name: "partition",
    about: "The two sides are parted from 5 s to 25 s, and nobody is told",
    group: Group::Alone,
    plans: || {
        let callers = ["request", "request", "upload", "trickle"].map(|work| Caller {
            work: work.into(),
            side: Side::Establisher,
            pause_ms: 3_000,
            bytes: 300_000,
        });
        let fault = Fault {
            kind: "partition".into(),
            at_ms: 5_000,
            on: None,
            lasts_ms: 20_000,
            side: Side::Receiver,
            severity: 0,
        };
        let plan = move |latency_ms| Plan {
            network: Network { latency_ms, ..Network::default() },
            settings: Settings::default(),
            usage: Usage::default(),
            foreign: None,
            fleet: 0,
            callers: callers.to_vec(),
            faults: vec![fault.clone()],
            calm_ms: 0,
            yields: Yields::default(),
        };
        (0..=20_u64).prop_map(plan).boxed()
    },
    run: world,
};
