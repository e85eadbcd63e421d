//! What can be run: one file for each family of scenarios, and one line in [`ALL`] for each.

use crate::plan::Plans;
use crate::run::{Broken, Run};
use crate::world::World;

mod calm;
mod echo;
mod random;
mod red;

/// A workload, what goes wrong under it, and what must hold all the same.
pub struct Scenario {
    /// What it is called on the command line.
    pub name: &'static str,
    /// What it does and checks, in one sentence.
    pub about: &'static str,
    /// Whether a sweep without `--scenario` has it.
    pub swept: bool,
    /// From what its plans are drawn.
    pub plans: fn() -> Plans,
    /// Runs the plan to its end.
    pub run: fn(&mut Run) -> Result<(), Broken>,
}

/// Every scenario.
pub static ALL: &[&Scenario] = &[
    &random::RANDOM,
    &random::PARTITION,
    &calm::CALM,
    &calm::HARMLESS,
    &echo::SCENARIO,
    &random::SMOKE,
    &calm::IDLE,
    &calm::CONTROL,
    &red::RED,
];

/// The negative control of the proof of determinism: bulk, a round trip over 1 ms, and more than 10 s.
pub static CONTROL: &Scenario = &calm::CONTROL;

/// The scenario of that name.
pub fn find(name: &str) -> Option<&'static Scenario> {
    ALL.iter().copied().find(|scenario| scenario.name == name)
}

/// Runs a plan on three hosts, under every check.
fn world(run: &mut Run) -> Result<(), Broken> {
    World::new(run).run()
}
