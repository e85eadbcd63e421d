//! Faults of several kinds, one after the other, as the seed has it.

use std::time::Duration;

use rand::RngExt;

use super::Scenario;
use super::managers::{ESTABLISHER, Establisher, RECEIVER, receive, recovery_bound};
use crate::run::{Broken, Network, Run};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "random",
    about: "Two managers under partitions, freezes, crashes and power losses, drawn from the seed",
    network: |rng| Network {
        latency: Duration::from_millis(rng.random_range(0..=50)),
        random_order: rng.random(),
        ..Network::default()
    },
    run,
};

const FAULTS: std::ops::RangeInclusive<usize> = 1..=6;
/// The time between two faults: sessions grow stable in some, and not in others.
const CALM_MS: std::ops::Range<u64> = 100..25_000;
const FAULT_MS: std::ops::Range<u64> = 10..30_000;

#[derive(Clone, Copy, Debug)]
enum Fault {
    /// What is sent is lost.
    Partition,
    /// What is sent arrives later.
    Freeze,
    /// The receiver's process ends; its host says FIN.
    Crash,
    /// The receiver's host is gone without a word, and comes back as another process.
    PowerLoss,
}

fn run(run: &mut Run) -> Result<(), Broken> {
    let mut rng = run.rng("faults");
    let mut at = Duration::ZERO;
    let mut plan = Vec::new();
    for _ in 0..rng.random_range(FAULTS) {
        let fault = [Fault::Partition, Fault::Freeze, Fault::Crash, Fault::PowerLoss][rng.random_range(0..4)];
        let begin = at + Duration::from_millis(rng.random_range(CALM_MS));
        let end = begin + Duration::from_millis(rng.random_range(FAULT_MS));
        plan.push((begin, end, fault));
        at = end;
    }
    let seed = run.seed();
    run.host(RECEIVER, move || receive(seed));
    let establisher = Establisher::new(run, at);
    run.client(ESTABLISHER, establisher.run());
    for (begin, end, fault) in plan {
        run.until(begin)?;
        match fault {
            Fault::Partition => run.partition(RECEIVER, ESTABLISHER),
            Fault::Freeze => run.hold(RECEIVER, ESTABLISHER),
            Fault::Crash => run.crash(RECEIVER),
            Fault::PowerLoss => {
                // What the dying host would still say is lost.
                run.partition(RECEIVER, ESTABLISHER);
                run.crash(RECEIVER);
            }
        }
        run.until(end)?;
        match fault {
            Fault::Partition => run.repair(RECEIVER, ESTABLISHER),
            Fault::Freeze => run.release(RECEIVER, ESTABLISHER),
            Fault::Crash => run.bounce(RECEIVER),
            Fault::PowerLoss => {
                run.repair(RECEIVER, ESTABLISHER);
                run.bounce(RECEIVER);
            }
        }
    }
    run.finish_before(at + recovery_bound() * 2)
}
