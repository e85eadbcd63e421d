//! What a scenario is.

use crate::draw::Plans;
use crate::plan::Plan;
use crate::play::Play;
use crate::stage::Run;
use crate::verdict::Violation;

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
    pub run: fn(&mut Run) -> Result<(), Violation>,
}

impl Scenario {
    /// Which runs one with such a plan is counted with: those of the same kind, and all that are scripted together.
    pub fn kind(&self, plan: &Plan) -> String {
        let family = if self.group == Group::Scripted { "scripted" } else { self.name };
        format!("{family}, {}", plan.kind())
    }
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

/// Runs a plan on three hosts, under every check.
pub(super) fn world(run: &mut Run) -> Result<(), Violation> {
    Play::new(run).run()
}
