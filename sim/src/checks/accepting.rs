//! Accepting never stalls: while only others are in trouble, every attempt of the establisher comes to a session (G13).

use std::collections::BTreeSet;
use std::time::Duration;

use super::Check;
use crate::board::{ESTABLISHER, RECEIVER};
use crate::faults::{self, Bars};
use crate::history::{Entry, What};
use crate::plan::{Fault, Plan};
use crate::run::Broken;

/// The attempts of the establisher.
pub(super) struct Accepting {
    /// What no fault of the run bars must succeed; not so when somebody was told to shut down.
    applies: bool,
    /// For each fault of the plan, what it bars.
    bars: Vec<Bars>,
    /// The faults that bar now.
    barred: BTreeSet<usize>,
    /// A listener that was away is back by then.
    open_from: Duration,
    grain: Duration,
    receiver_runs: bool,
    /// An attempt is under way that nothing has disturbed.
    must_succeed: bool,
}

impl Accepting {
    pub(super) fn new(plan: &Plan) -> Self {
        let bars = |fault: &Fault| faults::find(&fault.kind).map_or(Bars::Longer, |kind| kind.bars);
        let bars = plan.faults.iter().map(bars).collect::<Vec<_>>();
        Self {
            applies: plan.is_lossless() && !bars.contains(&Bars::Longer),
            bars,
            barred: BTreeSet::new(),
            open_from: Duration::ZERO,
            grain: Duration::from_millis(plan.network.tick_ms * 4),
            receiver_runs: false,
            must_succeed: false,
        }
    }
}

impl Check for Accepting {
    fn on(&mut self, entry: &Entry) -> Result<(), Broken> {
        match &entry.what {
            What::ShutsDown => self.applies = false,
            What::Starts if entry.who == RECEIVER => self.receiver_runs = true,
            What::FaultBegins(fault) if self.bars.get(*fault) == Some(&Bars::Meanwhile) => {
                self.barred.insert(*fault);
                self.must_succeed = false;
            }
            What::FaultEnds(fault) if self.barred.remove(fault) => self.open_from = entry.at + self.grain,
            // Past the limit of handshakes the oldest is dropped, and that may be the establisher's.
            What::Noted(text) if entry.who == RECEIVER && text.starts_with("too many") => self.must_succeed = false,
            What::Connecting if entry.who == ESTABLISHER => {
                self.must_succeed = self.receiver_runs && self.barred.is_empty() && entry.at >= self.open_from;
            }
            What::AttemptFailed if entry.who == ESTABLISHER && self.applies && self.must_succeed => {
                let text = "an attempt failed, although the receiver ran and no fault kept the establisher out";
                return Err(Broken::new("G13", text));
            }
            _ => {}
        }
        Ok(())
    }
}
