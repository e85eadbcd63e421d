//! The two ends of a session tell the same story of its end. What one side says of the other is so, whatever goes wrong
//! between them; and while nothing does, a session ends because somebody ended it, both sides learn of it soon, and a
//! peer that is turned away hears why (G10, G14, G17).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::check::Check;
use crate::context::{OTHER, RECEIVER};
use crate::faults;
use crate::history::{End, Entry, HELD_OUT, What};
use crate::plan::{CLOSES, HOSTILE, Plan, Side};
use crate::usage::Listens;
use crate::verdict::Violation;

/// What one side says that the other has done: each with what the other says of itself.
const OF_THE_OTHER: [(&str, &str); 2] = [("displaced", "replaced"), ("peer_timed_out", "heartbeat_timeout")];

/// With these somebody has ended a session, or everybody.
const ON_PURPOSE: [&str; 6] = ["closed", "peer_closed", "drain_timed_out", "aborted", "replaced", "runtime_ended"];

/// What ends no session, nor keeps word of its end from anybody.
const FAIR: [&str; 6] = ["reconnect_now", "cancelled callers", faults::SHUTDOWN, faults::RIVAL, "abort", CLOSES];

/// How long it takes until the end of a connection shows, beside the way there and back.
const SHOWS: Duration = Duration::from_secs(1);

/// What a session is called in a history: its manager, and its number.
type Name = (String, String);

/// A session that both sides have had in their slots.
#[derive(Default)]
struct Pair {
    /// The ends that were seen so far, in order.
    names: Vec<Name>,
    ended: Vec<(Duration, Name, End)>,
    /// Which of them has said goodbye.
    drained: BTreeSet<Name>,
}

/// The sessions of all managers, by their connections.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(super) struct Ends {
    /// Both sides are evermux, and keep to the protocol.
    applies: bool,
    /// The network loses nothing, and heartbeats have the patience that it takes.
    may_be_fair: bool,
    /// After a fault what it did is over by then.
    lasting: Duration,
    shows: Duration,
    /// A connection may end like one that was closed in good order.
    has_ends_of_files: bool,
    /// For each fault of the plan, whether it may disturb what it does not end on purpose.
    disturbs: Vec<bool>,
    disturbed: usize,
    fair_from: Duration,
    pairs: BTreeMap<[String; 2], Pair>,
    connections: BTreeMap<Name, [String; 2]>,
    /// Whoever should end by then, if all stays fair: its connection is gone.
    due: VecDeque<(Duration, Name)>,
    /// The peers that were turned away, by the name of the reason, and until when each should have heard.
    turned_away: BTreeMap<&'static str, u64>,
    should_hear: VecDeque<Duration>,
    hears_of_places: bool,
    looks: u64,
}

impl Ends {
    pub(super) fn new(plan: &Plan) -> Self {
        let is_hostile = plan.faults.iter().any(|fault| fault.kind == HOSTILE);
        let sides = [Side::Establisher, Side::Receiver].map(|side| plan.config(side, 0));
        let patience = sides
            .iter()
            .map(|config| config.heartbeat_timeout().min(config.write_timeout()).min(config.takeover_probe_timeout()));
        let way = 2 * plan.round_trip() + Duration::from_millis(8 * plan.network.tick_ms);
        let is_patient = patience.min().is_some_and(|patience| patience > way + Duration::from_secs(1));
        let lasting = sides.iter().map(|config| {
            (config.heartbeat_idle() + config.heartbeat_timeout()).max(config.write_timeout())
                + config.handshake_timeout()
        });
        let settings = plan.settings;
        Self {
            applies: plan.foreign.is_none() && !is_hostile,
            may_be_fair: is_patient && plan.is_lossless() && plan.network.bandwidth.least().is_none(),
            lasting: lasting.max().unwrap_or_default() + SHOWS,
            shows: way + SHOWS,
            disturbs: plan.faults.iter().map(|fault| !FAIR.contains(&fault.kind.as_str())).collect(),
            has_ends_of_files: plan.faults.iter().any(|fault| fault.kind == faults::END_OF_FILE),
            disturbed: 0,
            fair_from: Duration::ZERO,
            pairs: BTreeMap::new(),
            connections: BTreeMap::new(),
            due: VecDeque::new(),
            turned_away: BTreeMap::new(),
            should_hear: VecDeque::new(),
            // Of two clocks the faster one gives up before it can be told.
            hears_of_places: settings.receiver_clock_percent == settings.establisher_clock_percent
                && plan.usage.listens == Listens::Acceptor,
            looks: 0,
        }
    }

    fn is_fair(&self, now: Duration) -> bool {
        self.may_be_fair && self.disturbed == 0 && now >= self.fair_from
    }

    /// What it may have done is over a while after this.
    fn disturb(&mut self, now: Duration) {
        self.fair_from = self.fair_from.max(now + self.lasting);
        self.due.clear();
        self.should_hear.clear();
    }

    fn forget(&mut self, who: &str) {
        self.connections.retain(|(of, _), _| of != who);
        self.pairs.retain(|_, pair| pair.names.iter().all(|(of, _)| of != who));
        self.due.retain(|(_, (of, _))| of != who);
    }

    /// A session has ended of which the other end is known.
    fn ended(&mut self, entry: &Entry, session: &str, end: &End) -> Result<(), String> {
        let name = (entry.who.clone(), session.to_owned());
        self.due.retain(|(_, due)| *due != name);
        let Some(connection) = self.connections.remove(&name) else { return Ok(()) };
        let is_fair = self.is_fair(entry.at);
        let Some(pair) = self.pairs.get_mut(&connection).filter(|pair| pair.names.len() == 2) else { return Ok(()) };
        pair.ended.push((entry.at, name.clone(), end.clone()));
        self.looks += 1;
        let other_drained = pair.drained.iter().any(|other| *other != name);
        let needs_goodbye = end.name == "peer_closed" || end.name == "closed" && !self.has_ends_of_files;
        if needs_goodbye && !other_drained {
            return Err(format!(
                "session {session} of {} is {}, and the other side has not closed it",
                entry.who, end.name
            ));
        }
        let [(_, (first, number), before), rest @ ..] = &pair.ended[..] else { return Ok(()) };
        if rest.is_empty() {
            if is_fair && !ON_PURPOSE.contains(&end.name.as_str()) {
                return Err(format!("session {number} of {first} ended, and nobody had ended it: {}", end.text));
            }
            if is_fair && let Some(other) = pair.names.iter().find(|other| **other != name) {
                self.due.push_back((entry.at + self.shows, other.clone()));
            }
            return Ok(());
        }
        let of_the_other = OF_THE_OTHER.iter().find(|(says, _)| *says == end.name);
        let of_this = OF_THE_OTHER.iter().find(|(says, _)| *says == before.name);
        let told = |who: &str, is: &End, other: &End| {
            Err(format!("{who} says that its session is {}, and the other side that it is {}", is.name, other.name))
        };
        match (of_the_other, of_this) {
            (Some((_, is)), _) if before.name != *is => told(&entry.who, end, before),
            (_, Some((_, is))) if end.name != *is => told(first, before, end),
            // It is closed when the peer has ended the connection in good order.
            _ if is_fair && before.name == "closed" && !ON_PURPOSE.contains(&end.name.as_str()) => {
                told(first, before, end)
            }
            _ => Ok(()),
        }
    }

    /// A client says that it was turned away.
    fn heard(&mut self, reason: &str) -> Result<(), String> {
        let left = self.turned_away.get_mut(reason).filter(|left| **left > 0);
        let Some(left) = left else { return Err(format!("a client was told {reason}, and no receiver had said so")) };
        *left -= 1;
        self.looks += 1;
        if reason == "held_out" {
            self.should_hear.pop_front();
        }
        Ok(())
    }
}

impl Check for Ends {
    fn name(&self) -> &'static str {
        "ends on both sides"
    }

    fn looks(&self) -> u64 {
        self.looks
    }

    fn on(&mut self, entry: &Entry) -> Result<(), Violation> {
        if !self.applies {
            return Ok(());
        }
        let listens = [RECEIVER, OTHER].contains(&entry.who.as_str());
        let result = match &entry.what {
            What::FaultBegins(fault) if self.disturbs.get(*fault) == Some(&true) => {
                self.disturbed += 1;
                self.disturb(entry.at);
                Ok(())
            }
            What::FaultEnds(fault) if self.disturbs.get(*fault) == Some(&true) => {
                self.disturbed = self.disturbed.saturating_sub(1);
                self.disturb(entry.at);
                Ok(())
            }
            What::Starts | What::Down => {
                self.forget(&entry.who);
                Ok(())
            }
            // Whoever waits for a place does so no longer.
            What::ShutsDown | What::GaveUp => {
                self.should_hear.clear();
                Ok(())
            }
            What::Runs(session, local, peer) => {
                let mut connection = [local.clone(), peer.clone()];
                connection.sort_unstable();
                let name = (entry.who.clone(), session.clone());
                let pair = self.pairs.entry(connection.clone()).or_default();
                // An address that comes again.
                if pair.names.len() == 2 || pair.names.iter().any(|(of, _)| *of == entry.who) {
                    *pair = Pair::default();
                }
                pair.names.push(name.clone());
                self.connections.insert(name, connection);
                Ok(())
            }
            What::Noted(text) if HELD_OUT.contains(&text.as_str()) => {
                *self.turned_away.entry("held_out").or_default() += 1;
                if self.hears_of_places && self.is_fair(entry.at) {
                    self.should_hear.push_back(entry.at + self.shows);
                }
                Ok(())
            }
            What::Noted(text) if text == "not_admitted" => {
                *self.turned_away.entry("not_admitted").or_default() += 1;
                Ok(())
            }
            What::Draining(session) => {
                let name = (entry.who.clone(), session.clone());
                let connection = self.connections.get(&name);
                if let Some(pair) = connection.and_then(|connection| self.pairs.get_mut(connection)) {
                    pair.drained.insert(name);
                }
                Ok(())
            }
            What::Closed(_, end) if !listens && ["held_out", "not_admitted"].contains(&end.name.as_str()) => {
                self.heard(&end.name)
            }
            What::Closed(session, end) => self.ended(entry, session, end),
            _ => Ok(()),
        };
        result.map_err(|what| Violation::new("G17", what))
    }

    fn after_step(&mut self, now: Duration) -> Result<(), Violation> {
        if let Some((_, (who, session))) = self.due.iter().find(|(due, _)| *due < now) {
            let text = format!("the other side of session {session} of {who} has ended it, and it goes on");
            return Err(Violation::new("G10", text));
        }
        if self.should_hear.front().is_some_and(|due| *due < now) {
            return Err(Violation::new("G14", "a client for which there was no place was not told so"));
        }
        Ok(())
    }
}
