//! Who is dead is found in time: no session stays in the slot when its connection has been still for longer than its own
//! settings allow (G10).
//!
//! Nothing is asked about faults: what counts is what the socket of this side has carried. So a fault that is over in time
//! excuses nothing and accuses nobody. A peer on a long path may take three round trips to answer.

use std::time::Duration;

use evermux::Config;

use super::check::Check;
use crate::context::ESTABLISHER;
use crate::history::{Entry, Silence, What};
use crate::plan::{Plan, Side};
use crate::verdict::Violation;

/// By what the sessions of each side find that they are dead.
pub(super) struct Detection {
    establisher: Config,
    receiver: Config,
    /// How exact the times are.
    grain: Duration,
}

impl Detection {
    pub(super) fn new(plan: &Plan) -> Self {
        let [establisher, receiver] = [Side::Establisher, Side::Receiver].map(|side| plan.config(side, 0));
        Self { establisher, receiver, grain: Duration::from_millis(plan.network.tick_ms * 4) }
    }

    /// When a session whose connection is still is over at the latest, and why.
    ///
    /// The heartbeat's ping is written when nothing was heard for the idle time, or behind other bytes when they have gone
    /// out; from then on the peer has its time to answer.
    fn ends(config: &Config, silence: &Silence) -> (Duration, String) {
        match silence.stalled {
            Some(stalled) => (stalled + config.write_timeout(), format!("a write waits since {stalled:?}")),
            None => {
                let asked = silence.waited.max(silence.heard + config.heartbeat_idle());
                (
                    asked + config.heartbeat_timeout().max(3 * silence.round_trip),
                    format!("nothing was heard since {:?}", silence.heard),
                )
            }
        }
    }
}

impl Check for Detection {
    fn on(&mut self, entry: &Entry) -> Result<(), Violation> {
        let What::Silence(session, silence) = &entry.what else { return Ok(()) };
        let who = &entry.who;
        let config = if who == ESTABLISHER { &self.establisher } else { &self.receiver };
        let (latest, why) = Self::ends(config, silence);
        if entry.at > latest + self.grain {
            let text = format!("session {session} of {who} is live, and should have ended at {latest:?}: {why}");
            return Err(Violation::new("G10", text));
        }
        Ok(())
    }
}
