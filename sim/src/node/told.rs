//! What a manager tells by its events: each session lives, drains perhaps, and ends, in this order and once, nothing begins
//! after the manager has stopped, and it is what happened (G8, G12).

use std::collections::BTreeMap;
use std::time::Duration;

use evermux::{Event, Events};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use tokio::time::sleep;

use crate::counters::Counters;
use crate::history::{self, What, broken};

/// A reader is slow once in so many events, and for so long.
const SLOW: u32 = 20;
const SLOW_FOR: Duration = Duration::from_secs(3);

/// How far a session has come.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Live,
    Draining,
    Closed,
}

/// What was told and what happened: the sessions that were live, in order, and how many attempts were begun.
#[derive(Debug, Default, PartialEq, Eq)]
struct Account {
    live: Vec<String>,
    attempts: usize,
}

impl Account {
    /// What has happened to the manager of a host that started at a place in the history.
    fn of(host: &str, first: usize) -> Self {
        let mut account = Self::default();
        let mut starts = 0;
        for entry in history::since(first).into_iter().filter(|entry| entry.who == host) {
            match entry.what {
                // A slow reader reads on when the next one runs.
                What::Starts if starts == 1 => break,
                What::Live(session) => account.live.push(session),
                What::Connecting => account.attempts += 1,
                What::Starts => starts += 1,
                _ => {}
            }
        }
        account
    }
}

/// Reads the events of a manager to their end. It started at this place in the history.
pub(super) async fn listen(
    mut events: Events,
    counters: Counters,
    mut rng: ChaCha8Rng,
    host: &'static str,
    first: usize,
) {
    let mut told = Account::default();
    let mut sessions = BTreeMap::new();
    // What was missed may have been anything.
    let mut has_missed = false;
    let mut has_stopped = false;
    while let Some(event) = events.next().await {
        let (session, phase) = match event {
            Event::SessionLive { session, .. } => (session, Phase::Live),
            Event::SessionDraining { session, .. } => (session, Phase::Draining),
            Event::SessionClosed { session, .. } => (session, Phase::Closed),
            Event::Stopped(_) => {
                if std::mem::replace(&mut has_stopped, true) {
                    broken(host, "G12", "the manager was told to have stopped twice");
                }
                continue;
            }
            Event::Missed(_) => {
                counters.add("a slow reader missed events", 1);
                has_missed = true;
                sessions.clear();
                continue;
            }
            Event::Connecting { .. } => {
                if has_stopped {
                    broken(host, "G12", "an attempt was told after the manager had stopped");
                }
                told.attempts += 1;
                continue;
            }
            _ => continue,
        };
        if phase == Phase::Live {
            told.live.push(session.to_string());
        }
        if has_stopped && phase == Phase::Live {
            broken(host, "G12", format!("session {session} was told to be live after the manager had stopped"));
        }
        let before = sessions.insert(session.to_string(), phase);
        let is_next = match before {
            None => phase == Phase::Live || has_missed,
            Some(before) => before < phase,
        };
        if !is_next {
            broken(host, "G8", format!("the events of session {session} are not in order"));
        }
        if phase == Phase::Closed {
            counters.add("a session was told to its end", 1);
        }
        if rng.random_ratio(1, SLOW) {
            sleep(SLOW_FOR).await;
        }
    }
    let open = sessions.into_iter().find(|(_, phase)| *phase != Phase::Closed);
    match open {
        _ if has_missed => {}
        Some((session, _)) => broken(host, "G12", format!("nobody was told of the end of session {session}")),
        None if !has_stopped => broken(host, "G12", "the events ended before the manager had stopped"),
        None => {
            let happened = Account::of(host, first);
            if told != happened {
                broken(host, "G12", format!("the events of {host} tell {told:?}, and there was {happened:?}"));
            }
        }
    }
}
