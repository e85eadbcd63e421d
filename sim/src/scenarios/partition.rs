//! The link loses everything for a while: what was sent into the partition never arrives, and nobody is told.

use std::time::Duration;

use rand::RngExt;
use tokio::sync::watch;

use super::Scenario;
use super::managers::{ESTABLISHER, Establisher, RECEIVER, receive_until, recovery_bound};
use crate::run::{Broken, Network, Run};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "partition",
    about: "Two managers are parted from 5 s to 25 s: callers are served afterwards, and both shut down completely",
    network: |rng| Network { latency: Duration::from_millis(rng.random_range(0..=20)), ..Network::default() },
    run,
};

const PARTITION_AT: Duration = Duration::from_secs(5);
const REPAIR_AT: Duration = Duration::from_secs(25);

fn run(run: &mut Run) -> Result<(), Broken> {
    let (end, ended) = watch::channel(false);
    let seed = run.seed();
    run.client(RECEIVER, receive_until(seed, ended));
    let establisher = Establisher::new(run, REPAIR_AT);
    run.client(ESTABLISHER, async move {
        establisher.run().await?;
        end.send_replace(true);
        Ok(())
    });
    run.until(PARTITION_AT)?;
    run.partition(RECEIVER, ESTABLISHER);
    run.until(REPAIR_AT)?;
    run.repair(RECEIVER, ESTABLISHER);
    // Each caller is served within the bound; then both sides drain.
    run.finish_before(REPAIR_AT + recovery_bound() * 2)
}
