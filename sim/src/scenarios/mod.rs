//! What can be run: one file for each scenario, and one line in [`ALL`].

use rand_chacha::ChaCha8Rng;

use crate::run::{Broken, Network, Run};

mod echo;
mod managers;
mod partition;
mod random;

/// A workload, what goes wrong under it, and what must hold all the same.
pub struct Scenario {
    /// What it is called on the command line.
    pub name: &'static str,
    /// What it does and checks, in one sentence.
    pub about: &'static str,
    /// Draws the network.
    pub network: fn(&mut ChaCha8Rng) -> Network,
    /// Runs it to its end.
    pub run: fn(&mut Run) -> Result<(), Broken>,
}

/// Every scenario.
pub static ALL: &[Scenario] = &[echo::SCENARIO, partition::SCENARIO, random::SCENARIO];

/// The scenario of that name.
pub fn find(name: &str) -> Option<&'static Scenario> {
    ALL.iter().find(|scenario| scenario.name == name)
}
