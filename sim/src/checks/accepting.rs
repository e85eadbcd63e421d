//! Accepting never stalls, and no ghost keeps a peer out: while only others are in trouble, every attempt of the establisher
//! comes to a session, and soon (G13, G14).

use std::collections::BTreeSet;
use std::time::Duration;

use super::check::Check;
use crate::context::{ESTABLISHER, RECEIVER};
use crate::faults::{self, Blocks, Concerns};
use crate::history::{Entry, What};
use crate::plan::{Fault, Plan, Side};
use crate::usage::{Dials, Listens};
use crate::verdict::Violation;

/// What an address costs on which nobody answers.
const HEAD_START: Duration = Duration::from_millis(250);

/// The attempts of the establisher.
pub(super) struct Accepting {
    /// What no fault of the run blocks must succeed; not so when somebody was told to shut down.
    applies: bool,
    /// For each fault of the plan, what it blocks, and whether it is the establisher's own: over when that dials again.
    blocks: Vec<(Blocks, bool)>,
    /// The faults that bar now.
    barred: BTreeSet<usize>,
    /// A listener that was away is back by then.
    open_from: Duration,
    grain: Duration,
    /// When faults ended that may have left a ghost behind. Each waits for the place as long as a candidate may.
    ends: Vec<Duration>,
    ghost_waits: Duration,
    /// How long an attempt takes at most: a ghost that has the place is found in two probes.
    soon: Duration,
    receiver_runs: bool,
    /// An attempt is under way that nothing has disturbed; since when.
    must_succeed: Option<Duration>,
    looks: u64,
}

impl Accepting {
    pub(super) fn new(plan: &Plan) -> Self {
        let blocks = |fault: &Fault| {
            faults::find(&fault.kind).map_or((Blocks::Longer, false), |kind| {
                (kind.blocks, kind.concerns == Concerns::Side && fault.side == Side::Establisher)
            })
        };
        let blocks = plan.faults.iter().map(blocks).collect::<Vec<_>>();
        let receiver = plan.config(Side::Receiver, 0);
        let round_trips = 8 * (plan.round_trip() + 2 * Duration::from_millis(plan.network.tick_ms));
        Self {
            applies: plan.is_lossless()
                && plan.foreign.is_none()
                && !blocks.iter().any(|(blocks, _)| *blocks == Blocks::Longer)
                && plan.settings.sessions == 1
                && plan.fleet == 0
                && plan.usage.dials != Dials::Provider
                && plan.usage.listens == Listens::Acceptor
                && plan.settings.max_streams_per_session == 0,
            blocks,
            barred: BTreeSet::new(),
            open_from: Duration::ZERO,
            grain: Duration::from_millis(plan.network.tick_ms * 4),
            ends: Vec::new(),
            ghost_waits: receiver.handshake_timeout(),
            soon: 2 * receiver.takeover_probe_timeout()
                + round_trips
                + HEAD_START * u32::from(plan.network.dead_addresses)
                + Duration::from_secs(1),
            receiver_runs: false,
            must_succeed: None,
            looks: 0,
        }
    }
}

impl Check for Accepting {
    fn name(&self) -> &'static str {
        "accepting"
    }

    fn looks(&self) -> u64 {
        self.looks
    }

    fn on(&mut self, entry: &Entry) -> Result<(), Violation> {
        match &entry.what {
            What::ShutsDown => self.applies = false,
            What::Starts if entry.who == RECEIVER => self.receiver_runs = true,
            What::Down if entry.who == RECEIVER => self.receiver_runs = false,
            What::FaultBegins(fault)
                if self.blocks.get(*fault).is_some_and(|(blocks, _)| *blocks == Blocks::Meanwhile) =>
            {
                self.barred.insert(*fault);
                self.must_succeed = None;
            }
            What::FaultEnds(fault) if self.barred.remove(fault) => {
                if !self.blocks[*fault].1 {
                    self.open_from = entry.at + self.grain;
                }
                self.ends.push(entry.at);
            }
            // Past the limit of handshakes others wait, and one that was silent for a second makes room: that may be the
            // establisher's.
            What::Noted(text) if entry.who == RECEIVER && ["accept_paused", "crowded_out"].contains(&text.as_str()) => {
                self.must_succeed = None;
            }
            What::Connecting if entry.who == ESTABLISHER => {
                self.ends.retain(|end| *end + self.ghost_waits > entry.at);
                // With several, ghosts may wait for the place as well, each before it.
                let free = self.barred.is_empty() && self.ends.len() <= 1;
                self.must_succeed = (self.receiver_runs && free && entry.at >= self.open_from).then_some(entry.at);
            }
            What::Live(_) if entry.who == ESTABLISHER => {
                let took = self.must_succeed.take().map(|begun| entry.at.saturating_sub(begun));
                self.looks += u64::from(self.applies && took.is_some());
                if let Some(took) = took.filter(|took| self.applies && *took > self.soon) {
                    let text = format!("an attempt took {took:?}, although nothing but a ghost was in its way");
                    return Err(Violation::new("G14", text));
                }
            }
            What::AttemptFailed if entry.who == ESTABLISHER && self.applies && self.must_succeed.is_some() => {
                let text = "an attempt failed, although the receiver ran and no fault kept the establisher out";
                return Err(Violation::new("G13", text));
            }
            _ => {}
        }
        Ok(())
    }
}
