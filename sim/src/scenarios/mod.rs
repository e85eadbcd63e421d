//! What can be run: one file for each family of scenarios, and one line in [`all`] for each.

mod calm;
mod from_within;
mod random;
mod red;
mod scenario;
mod scripted;
mod soak;

pub use scenario::{Group, Scenario};

/// Every scenario, in groups.
pub fn all() -> impl Iterator<Item = &'static Scenario> {
    DRAWN.iter().chain(scripted::ALL).copied()
}

/// Those whose plans are drawn from the seed.
static DRAWN: &[&Scenario] = &[
    &random::RANDOM,
    &calm::HARMLESS,
    &calm::GRACEFUL,
    &random::FLEET,
    &random::PARTITION,
    &calm::CALM,
    &random::SMOKE,
    &calm::IDLE,
    &soak::SOAK,
    &soak::SOAK_FOR_HOURS,
    &calm::CONTROL,
    &red::RED,
    &red::SPINS,
    &from_within::SCENARIO,
];

/// The negative control of the proof of determinism: bulk, a round trip over 1 ms, and more than 10 s.
pub static CONTROL: &Scenario = &calm::CONTROL;

/// The scenario that can run any plan.
pub static RANDOM: &Scenario = &random::RANDOM;

/// The scenario of that name.
pub fn find(name: &str) -> Option<&'static Scenario> {
    all().find(|scenario| scenario.name == name)
}
