//! Who is dead is found in time: no session stays in the slot when its connection has been still for longer than its own
//! settings allow (G10).
//!
//! Nothing is asked about faults: what counts is what the socket of this side has carried. So a fault that is over in time
//! excuses nothing and accuses nobody. A peer on a long path may take three round trips to answer.
//!
//! And nobody is called dead whose bytes are waiting: after a process stood still, no session is given up for its silence whose
//! socket has something to read, or for a stalled write whose socket has room.

use std::collections::BTreeMap;
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
    /// The address here of each session in the slot of a manager.
    locals: BTreeMap<(String, String), String>,
    /// What the sockets of a host would have found when its process went on.
    went_on: BTreeMap<String, WentOn>,
    looks: u64,
}

struct WentOn {
    at: Duration,
    readable: Vec<String>,
    writable: Vec<String>,
}

impl Detection {
    pub(super) fn new(plan: &Plan) -> Self {
        let [establisher, receiver] = [Side::Establisher, Side::Receiver].map(|side| plan.config(side, 0));
        Self {
            establisher,
            receiver,
            grain: Duration::from_millis(plan.network.tick_ms * 4),
            locals: BTreeMap::new(),
            went_on: BTreeMap::new(),
            looks: 0,
        }
    }

    /// When a session whose connection is still is over at the latest, and why.
    ///
    /// The heartbeat's ping is written when nothing was heard for the idle time, or behind other bytes when they have gone
    /// out; from then on the peer has its time to answer.
    fn ends(config: &Config, silence: &Silence) -> (Duration, String) {
        match silence.stalled {
            Some(stalled) => (
                (stalled + config.write_timeout()).max(silence.stood_still),
                format!("a write waits since {stalled:?}"),
            ),
            None => {
                let asked = silence.waited.max(silence.heard + config.heartbeat_idle()).max(silence.stood_still);
                (
                    asked + config.heartbeat_timeout().max(3 * silence.round_trip),
                    format!("nothing was heard since {:?}", silence.heard),
                )
            }
        }
    }
}

impl Detection {
    /// Whether a session that was given up may be.
    fn is_dead(&mut self, entry: &Entry, session: &str, reason: &str) -> Result<(), Violation> {
        let Some(went_on) = self.went_on.get(&entry.who).filter(|went_on| entry.at <= went_on.at + self.grain) else {
            return Ok(());
        };
        let ready = match reason {
            "heartbeat_timeout" => &went_on.readable,
            "write_stalled" => &went_on.writable,
            _ => return Ok(()),
        };
        let local = self.locals.get(&(entry.who.clone(), session.to_owned()));
        if local.is_some_and(|local| ready.contains(local)) {
            let text = format!("session {session} of {} was given up ({reason}), and its socket was ready", entry.who);
            return Err(Violation::new("G10", text));
        }
        Ok(())
    }
}

impl Check for Detection {
    fn name(&self) -> &'static str {
        "detection"
    }

    fn looks(&self) -> u64 {
        self.looks
    }

    fn on(&mut self, entry: &Entry) -> Result<(), Violation> {
        let (session, silence) = match &entry.what {
            What::Silence(session, silence) => (session, silence),
            What::Starts | What::Down => {
                self.locals.retain(|(who, _), _| *who != entry.who);
                return Ok(());
            }
            What::Holds(sessions, locals) => {
                for (session, local) in sessions.iter().zip(locals) {
                    self.locals.insert((entry.who.clone(), session.clone()), local.clone());
                }
                return Ok(());
            }
            What::GoesOn { readable, writable } => {
                // Its sessions whose sockets are ready must go on.
                let ready = |local: &&String| readable.contains(local) || writable.contains(local);
                let of_this_host = self.locals.iter().filter(|((who, _), _)| *who == entry.who).map(|(_, local)| local);
                self.looks += of_this_host.filter(ready).count() as u64;
                let went_on = WentOn { at: entry.at, readable: readable.clone(), writable: writable.clone() };
                self.went_on.insert(entry.who.clone(), went_on);
                return Ok(());
            }
            What::Closed(session, end) => return self.is_dead(entry, session, &end.name),
            _ => return Ok(()),
        };
        self.looks += 1;
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
