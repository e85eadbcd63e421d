//! What a manager tells by its events: each session lives, drains perhaps, and ends, in this order and once, nothing begins
//! after the manager has stopped, and it is what happened, event by event (G8, G12).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use evermux::{Event, Events, Stopped};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use tokio::time::sleep;

use crate::counters::Counters;
use crate::history::{self, ACCEPT_FAILED, HELD_OUT, What, broken};

/// A reader is slow once in so many events, and for so long.
const SLOW: u32 = 20;
const SLOW_FOR: Duration = Duration::from_secs(3);

/// What may come often is told once in a second, which is no more exact than this.
const SELDOM_LEAST: Duration = Duration::from_millis(950);
const SELDOM_MOST: Duration = Duration::from_millis(1_050);

/// How far a session has come.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Live,
    Draining,
    Closed,
}

/// What was told and what happened, where each has its event: the sessions that were live, in order, and how many times
/// there was something else.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Account {
    live: Vec<String>,
    attempts: usize,
    failed: usize,
    accepts_failed: usize,
    crowded_out: usize,
    /// The sessions that have ended, with the name of the reason.
    closed: BTreeMap<String, String>,
}

impl Account {
    /// How many events these are.
    fn len(&self) -> usize {
        let counted = self.attempts + self.failed + self.accepts_failed + self.crowded_out;
        self.live.len() + self.closed.len() + counted
    }

    /// Leaves out the reasons for which a session may end when its tasks are dropped: that is found at several places.
    fn without_ends_by_force(mut self) -> Self {
        self.closed
            .values_mut()
            .filter(|name| ["closed", "runtime_ended", "drain_timed_out"].contains(&name.as_str()))
            .for_each(String::clear);
        self
    }
}

/// What has happened to the manager of a host, and what it tells only now and then.
#[derive(Default)]
struct Happened {
    account: Account,
    held_out: Vec<Duration>,
    not_admitted: Vec<Duration>,
    /// The addresses of the other ends.
    peers: BTreeMap<String, String>,
}

impl Happened {
    /// To the manager of a host that started at a place in the history.
    fn to(host: &str, first: usize) -> Self {
        let mut this = Self::default();
        let mut starts = 0;
        for entry in history::since(first).into_iter().filter(|entry| entry.who == host) {
            let account = &mut this.account;
            match entry.what {
                // A slow reader reads on when the next one runs.
                What::Starts if starts == 1 => break,
                What::Live(session) => account.live.push(session),
                What::Connecting => account.attempts += 1,
                What::AttemptFailed => account.failed += 1,
                What::Starts => starts += 1,
                What::Runs(session, _, peer) => drop(this.peers.insert(session, peer)),
                What::Closed(session, end) if account.live.contains(&session) => {
                    account.closed.insert(session, end.name);
                }
                What::Noted(text) => match text.as_str() {
                    "crowded_out" => account.crowded_out += 1,
                    "not_admitted" => this.not_admitted.push(entry.at),
                    text if ACCEPT_FAILED.contains(&text) => account.accepts_failed += 1,
                    text if HELD_OUT.contains(&text) => this.held_out.push(entry.at),
                    _ => {}
                },
                _ => {}
            }
        }
        this
    }
}

/// How many of these are told, if there is so much time between two that are.
fn told_of(times: &[Duration], between: Duration) -> usize {
    let mut told: Vec<Duration> = Vec::new();
    for at in times {
        if told.last().is_none_or(|last| *at >= *last + between) {
            told.push(*at);
        }
    }
    told.len()
}

/// What a reader has been told so far.
#[derive(Default)]
struct Told {
    account: Account,
    drained: usize,
    held_out: usize,
    not_admitted: usize,
    missed: u64,
    stopped: Option<Stopped>,
    /// The numbers of the attempts that were begun and have not failed, and of those that may come next.
    begun: Vec<u32>,
    next: Vec<u32>,
    peers: BTreeMap<String, Option<SocketAddr>>,
    phases: BTreeMap<String, Phase>,
}

impl Told {
    /// What is wrong with an event where it comes.
    fn take(&mut self, event: &Event) -> Result<(), (&'static str, String)> {
        let (session, phase) = match event {
            Event::SessionLive { session, peer, round_trip } => {
                self.peers.insert(session.to_string(), *peer);
                if round_trip.is_none() {
                    return Err(("G15", format!("session {session} was told to be live without a round trip")));
                }
                (session, Phase::Live)
            }
            Event::SessionDraining { session, .. } => {
                self.drained += 1;
                (session, Phase::Draining)
            }
            Event::SessionClosed { session, reason } => {
                self.account.closed.insert(session.to_string(), reason.name().to_owned());
                (session, Phase::Closed)
            }
            Event::Stopped(why) => {
                let before = self.stopped.replace(why.clone());
                return before.map_or(Ok(()), |_| Err(("G12", "the manager was told to have stopped twice".into())));
            }
            Event::Missed(missed) => {
                self.missed += missed;
                self.phases.clear();
                return Ok(());
            }
            Event::Connecting { attempt } => {
                self.account.attempts += 1;
                if self.stopped.is_some() {
                    return Err(("G12", "an attempt was told after the manager had stopped".into()));
                }
                self.begun.push(*attempt);
                let next = self.next.iter().position(|next| next == attempt);
                if next.map(|next| self.next.swap_remove(next)).is_none() && self.missed == 0 {
                    return Err(("G12", format!("attempt {attempt} was told, and it is one of {:?}", self.next)));
                }
                return Ok(());
            }
            Event::AttemptFailed { attempt, next_delay, .. } => {
                self.account.failed += 1;
                let begun = self.begun.iter().position(|begun| begun == attempt);
                let is_begun = begun.map(|begun| self.begun.swap_remove(begun)).is_some() || self.missed > 0;
                if !is_begun || next_delay.is_none() && self.stopped.is_some() {
                    return Err(("G12", format!("attempt {attempt} was told to have failed, and was not begun")));
                }
                self.next.push(attempt.saturating_add(1));
                return Ok(());
            }
            Event::AcceptFailed { .. } => {
                self.account.accepts_failed += 1;
                return Ok(());
            }
            Event::CrowdedOut { peer, .. } => {
                self.account.crowded_out += 1;
                return named(*peer, "was crowded out");
            }
            Event::HeldOut { peer, holders } => {
                self.held_out += 1;
                if holders.is_empty() {
                    return Err(("G14", format!("nobody had the places when {peer:?} was held out")));
                }
                return named(*peer, "was held out");
            }
            Event::NotAdmitted { peer } => {
                self.not_admitted += 1;
                return named(*peer, "was not admitted");
            }
            _ => return Ok(()),
        };
        if phase == Phase::Live {
            self.account.live.push(session.to_string());
            // When it has left its place, the next attempt there is the first one.
            self.next.push(1);
            if self.stopped.is_some() {
                return Err(("G12", format!("session {session} was told to be live after the manager had stopped")));
            }
        }
        let is_next = match self.phases.insert(session.to_string(), phase) {
            None => phase == Phase::Live || self.missed > 0,
            Some(before) => before < phase,
        };
        if is_next { Ok(()) } else { Err(("G8", format!("the events of session {session} are not in order"))) }
    }

    /// What is wrong with all that was told, when all has happened.
    fn wrong(self, host: &str, happened: Happened) -> Result<(), (&'static str, String)> {
        let lacks = |what: String| Err(("G12", what));
        let Happened { mut account, held_out, not_admitted, peers } = happened;
        let Some(stopped) = self.stopped else {
            return if self.missed > 0 {
                Ok(())
            } else {
                lacks("the events ended before the manager had stopped".into())
            };
        };
        // Of the attempt after which it gives up only the event tells.
        if matches!(stopped, Stopped::GaveUp(_)) && self.account.failed > account.failed {
            account.failed += 1;
        }
        let last = usize::from(matches!(stopped, Stopped::GaveUp(_)));
        let range = |times: &[Duration]| told_of(times, SELDOM_MOST)..=told_of(times, SELDOM_LEAST);
        let (held_out, not_admitted) = (range(&held_out), range(&not_admitted));
        if self.missed > 0 {
            // One has stopped it, and each session may have drained.
            let seldom = held_out.start() + not_admitted.start();
            let fewest = account.len() + seldom + 1;
            let most = account.len() + account.live.len() + held_out.end() + not_admitted.end() + 1 + last;
            let told = self.account.len() + self.drained + self.held_out + self.not_admitted + 1;
            let told = told + usize::try_from(self.missed).unwrap_or(usize::MAX / 2);
            if !(fewest..=most).contains(&told) {
                return lacks(format!("{told} events were told or missed, and there were {fewest} to {most}"));
            }
            return Ok(());
        }
        if let Some((session, _)) = self.phases.iter().find(|(_, phase)| **phase != Phase::Closed) {
            return lacks(format!("nobody was told of the end of session {session}"));
        }
        if self.account.clone().without_ends_by_force() != account.clone().without_ends_by_force() {
            return lacks(format!("the events of {host} tell {:?}, and there was {account:?}", self.account));
        }
        for (what, told, happened) in
            [("held out", self.held_out, held_out), ("not admitted", self.not_admitted, not_admitted)]
        {
            if !happened.contains(&told) {
                return lacks(format!(
                    "{host} told {told} times that a peer was {what}, which is due {happened:?} times"
                ));
            }
        }
        let wrong = self.peers.iter().find(|(session, peer)| {
            peers.get(*session).is_some_and(|known| peer.map(|peer| peer.to_string()).as_ref() != Some(known))
        });
        match wrong {
            Some((session, peer)) => lacks(format!("session {session} was told to be with {peer:?}")),
            None => Ok(()),
        }
    }
}

/// Here every connection has addresses.
fn named(peer: Option<SocketAddr>, what: &str) -> Result<(), (&'static str, String)> {
    if peer.is_some() { Ok(()) } else { Err(("G12", format!("somebody {what}, and was not named"))) }
}

/// Reads the events of a manager to their end. It started at this place in the history, and has so many for sessions.
pub(super) async fn listen(
    mut events: Events,
    counters: Counters,
    mut rng: ChaCha8Rng,
    host: &'static str,
    (first, places): (usize, usize),
) {
    let mut told = Told { next: vec![1; places], ..Told::default() };
    while let Some(event) = events.next().await {
        if let Err((guarantee, what)) = told.take(&event) {
            broken(host, guarantee, what);
        }
        match event {
            Event::Missed(_) => {
                counters.add("a slow reader missed events", 1);
                continue;
            }
            Event::SessionClosed { .. } => counters.add("a session was told to its end", 1),
            _ => {}
        }
        if rng.random_ratio(1, SLOW) {
            sleep(SLOW_FOR).await;
        }
    }
    if let Err((guarantee, what)) = told.wrong(host, Happened::to(host, first)) {
        broken(host, guarantee, what);
    }
}
