//! What can be run: one file for each family of scenarios, and one line in [`all`] for each.

use crate::plan::Plans;
use crate::run::{Broken, Run};
use crate::world::World;

mod calm;
mod echo;
mod from_within;
mod random;
mod red;
mod scripted;

/// A workload, what goes wrong under it, and what must hold all the same.
pub struct Scenario {
    /// What it is called on the command line.
    pub name: &'static str,
    /// What it does and checks, in one sentence.
    pub about: &'static str,
    /// With which others it is run.
    pub group: Group,
    /// From what its plans are drawn.
    pub plans: fn() -> Plans,
    /// Runs the plan to its end.
    pub run: fn(&mut Run) -> Result<(), Broken>,
}

/// With which others a scenario is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// In every sweep.
    Swept,
    /// A bug that really happened: with the others of its kind.
    Scripted,
    /// By its name alone.
    Alone,
}

/// Every scenario, in groups.
pub fn all() -> impl Iterator<Item = &'static Scenario> {
    DRAWN.iter().chain(scripted::ALL).copied()
}

/// Those whose plans are drawn from the seed.
static DRAWN: &[&Scenario] = &[
    &random::RANDOM,
    &random::PARTITION,
    &calm::CALM,
    &calm::HARMLESS,
    &echo::SCENARIO,
    &random::SMOKE,
    &calm::IDLE,
    &calm::CONTROL,
    &red::RED,
    &red::SPINS,
    &from_within::SCENARIO,
];

/// The negative control of the proof of determinism: bulk, a round trip over 1 ms, and more than 10 s.
pub static CONTROL: &Scenario = &calm::CONTROL;

/// The scenario of that name.
pub fn find(name: &str) -> Option<&'static Scenario> {
    all().find(|scenario| scenario.name == name)
}

/// Runs a plan on three hosts, under every check.
fn world(run: &mut Run) -> Result<(), Broken> {
    World::new(run).run()
}
