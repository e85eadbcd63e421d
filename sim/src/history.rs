//! What happened in a run, in order: what evermux traced, what callers saw, and what went wrong with the network.
//!
//! Everything that a run does happens on one thread, so the order is exact. The [checks](crate::checks) read the history as
//! it grows; the timeline of a failure is drawn from it.

use std::cell::RefCell;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use crate::interpose;
use crate::verdict::Violation;

/// What evermux traces when a receiver turns a candidate away for which there is no place.
pub const HELD_OUT: [&str; 2] = ["candidate_held_out", "too many candidates wait for a place"];

/// What evermux traces when a connection cannot be accepted.
pub const ACCEPT_FAILED: [&str; 2] = ["accept_failed", "a connection was lost before it was accepted"];

/// Something that happened.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// When, from the beginning.
    pub at: Duration,
    /// To whom: the name of a manager, which is that of its host, or empty for the network.
    pub who: String,
    /// In which place of an establisher, counted from 0.
    #[serde(default)]
    pub place: usize,
    /// What.
    pub what: What,
}

/// What happened.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// A host began to run.
    Up,
    /// A host ended without a word of its software.
    Down,
    /// A process stands still from now on.
    StandsStill,
    /// The process of a host goes on. What its sockets would find, by their addresses here.
    GoesOn {
        /// Those with bytes that were not read.
        readable: Vec<String>,
        /// Those that would take bytes.
        writable: Vec<String>,
    },
    /// The heartbeat of a session waits for an answer.
    Pings,
    /// A manager was started.
    Starts,
    /// A manager's shutdown was asked for.
    ShutsDown,
    /// A manager's shutdown has returned.
    HasShutDown,
    /// An establisher begins an attempt.
    Connecting,
    /// An attempt failed.
    AttemptFailed,
    /// The pause before an attempt was cut short.
    PauseCut,
    /// A session was installed.
    Live(String),
    /// Another session takes the place of this one.
    Replaced(String),
    /// Somebody ends a session, with this reason: it leaves its place at once, and what follows from that may be told first.
    Leaves(String, End),
    /// A session takes no new streams any more.
    Draining(String),
    /// A session has ended, with this reason.
    Closed(String, End),
    /// A manager traced something else. The text names a rare state.
    Noted(String),
    /// A caller asks for a session.
    Asks(usize),
    /// A caller was given a session.
    Given(usize, String),
    /// A caller was told that the manager has stopped.
    Freed(usize),
    /// A caller stopped waiting.
    GivesUp(usize),
    /// A caller has what it asked for.
    Served(usize),
    /// A caller's work was interrupted.
    Interrupted(usize, String),
    /// The manager gives out no sessions any more.
    Stops,
    /// The manager has given up.
    GaveUp,
    /// Somebody asks for the next attempt at once.
    ReconnectNow,
    /// At the end of a step the slot of a manager holds these sessions, with these addresses here.
    Holds(Vec<String>, Vec<String>),
    /// A session is in the slot for the first time at the end of a step. Its addresses, of this end and of the other.
    Runs(String, String, String),
    /// At the end of a step the status of a manager says this, and did not before.
    Says(Report),
    /// A fault begins; the number is its place in the plan.
    FaultBegins(usize),
    /// A fault ends.
    FaultEnds(usize),
    /// A connection was accepted by somebody who will never say a word.
    Mute(String),
    /// The connection of a session that is in the slot has been still for a while, one way or both.
    Silence(String, Silence),
    /// Somebody saw a guarantee broken.
    Violation(Violation),
}

/// Why a session ended: `CloseReason::name`, and its text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// The name, which stays the same from version to version.
    pub name: String,
    /// For people.
    pub text: String,
}

/// What the status of a manager says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// What it does.
    pub activity: String,
    /// How many sessions it has.
    pub sessions: usize,
    /// How many it has had.
    pub sessions_so_far: u64,
    /// How many attempts have failed since the last session.
    pub attempts: u32,
    /// How many handshakes have made room for others.
    pub crowded_out: u64,
    /// How many found no place.
    #[serde(default)]
    pub held_out: u64,
    /// How many connections were not admitted.
    pub not_admitted: u64,
    /// Whether it names the error of an attempt, or of an accept.
    #[serde(default)]
    pub names_error: bool,
    /// How it has stopped: nothing as long as it has not.
    #[serde(default)]
    pub stopped: String,
}

/// Since when nothing moves on a connection, as its socket has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Silence {
    /// When bytes were read last.
    pub heard: Duration,
    /// Since when a write waits, or has failed.
    pub stalled: Option<Duration>,
    /// Until when a write waited before.
    pub waited: Duration,
    /// Until when the process stood still.
    #[serde(default)]
    pub stood_still: Duration,
    /// The last round trip that its session knows.
    #[serde(default)]
    pub round_trip: Duration,
}

impl Silence {
    /// Of a connection that is made now.
    pub fn since(now: Duration) -> Self {
        Self { heard: now, stalled: None, waited: now, stood_still: Duration::ZERO, round_trip: Duration::ZERO }
    }

    /// For how long nothing has moved, in the direction in which that is longer.
    pub fn lasts(&self, now: Duration) -> Duration {
        now.saturating_sub(self.stalled.map_or(self.heard, |stalled| stalled.min(self.heard)))
    }
}

/// A history that is written by one thread, and may be read by another: one whose run comes to no end gives nothing back.
pub(crate) type Shared = Arc<Mutex<Vec<Entry>>>;

thread_local! {
    static HISTORY: RefCell<Shared> = RefCell::default();
}

fn with<R>(f: impl FnOnce(&mut Vec<Entry>) -> R) -> R {
    HISTORY.with_borrow(|history| f(&mut history.lock().unwrap_or_else(PoisonError::into_inner)))
}

/// Adds an entry to the history of this thread's run.
pub fn note(who: &str, what: What) {
    note_in(who, 0, what);
}

fn note_in(who: &str, place: usize, what: What) {
    let entry = Entry { at: interpose::elapsed(), who: who.to_owned(), place, what };
    with(|history| history.push(entry));
}

/// Adds that a guarantee was broken.
pub fn broken(who: &str, guarantee: &'static str, what: impl Into<String>) {
    note(who, What::Violation(Violation::new(guarantee, what)));
}

/// What happens on this thread goes there.
pub(crate) fn begin(history: Shared) {
    HISTORY.set(history);
}

/// How many entries there are.
pub(crate) fn len() -> usize {
    with(|history| history.len())
}

/// The entries from a number on.
pub(crate) fn since(first: usize) -> Vec<Entry> {
    with(|history| history[first..].to_vec())
}

/// How much memory the history of this thread takes.
pub(crate) fn heap_bytes() -> usize {
    with(|history| {
        let texts = history.iter().map(|entry| {
            let what = match &entry.what {
                What::Live(text)
                | What::Replaced(text)
                | What::Draining(text)
                | What::Noted(text)
                | What::Mute(text)
                | What::Given(_, text)
                | What::Silence(text, _)
                | What::Interrupted(_, text) => text.capacity(),
                What::Leaves(session, end) | What::Closed(session, end) => {
                    session.capacity() + end.name.capacity() + end.text.capacity()
                }
                What::Runs(session, local, peer) => session.capacity() + local.capacity() + peer.capacity(),
                What::Holds(sessions, locals) => {
                    let vector = (sessions.capacity() + locals.capacity()) * size_of::<String>();
                    let texts = sessions.iter().chain(locals).map(String::capacity).sum::<usize>();
                    vector + texts
                }
                What::GoesOn { readable, writable } => {
                    let vectors = (readable.capacity() + writable.capacity()) * size_of::<String>();
                    vectors + readable.iter().chain(writable).map(String::capacity).sum::<usize>()
                }
                What::Says(report) => report.activity.capacity(),
                What::Violation(broken) => broken.what.capacity(),
                _ => 0,
            };
            entry.who.capacity() + what
        });
        texts.sum::<usize>() + history.capacity() * size_of::<Entry>()
    })
}

/// The whole history of this thread.
pub(crate) fn take() -> Vec<Entry> {
    with(std::mem::take)
}

/// Notes what evermux traces.
pub(crate) struct Listener;

/// Of which events it hears.
pub(crate) fn wanted() -> Targets {
    let heartbeats = ("evermux::session::heartbeat", LevelFilter::TRACE);
    Targets::new().with_targets([("evermux", LevelFilter::DEBUG), heartbeats])
}

/// What a span of evermux names.
struct Label {
    span: &'static str,
    name: String,
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Listener {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let wanted = match attributes.metadata().name() {
            "manager" => "name",
            "session" => "id",
            "place" => "index",
            _ => return,
        };
        let mut one = One { wanted, value: None };
        attributes.record(&mut one);
        if let (Some(span), Some(name)) = (context.span(id), one.value) {
            span.extensions_mut().insert(Label { span: attributes.metadata().name(), name });
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut said = Said::default();
        event.record(&mut said);
        let (mut manager, mut place) = (None, 0);
        for span in context.event_scope(event).into_iter().flatten() {
            if let Some(label) = span.extensions().get::<Label>() {
                match label.span {
                    "manager" => manager = Some(label.name.clone()),
                    "place" => place = label.name.parse().unwrap_or(0),
                    _ => said.session = said.session.or(Some(label.name.clone())),
                }
            }
        }
        let Some(manager) = manager else { return };
        let session = said.session.unwrap_or_default();
        let what = match said.event.as_str() {
            "connecting" => What::Connecting,
            "attempt_failed" => What::AttemptFailed,
            "pause_cut" => What::PauseCut,
            "ping_sent" => What::Pings,
            "shutting_down" => What::Stops,
            "session_live" => What::Live(session),
            "session_replaced" => What::Replaced(session),
            "session_draining" => What::Draining(session),
            "session_closed" => What::Closed(session, said.end),
            "" => What::Noted(said.message),
            _ => What::Noted(said.event),
        };
        note_in(&manager, place, what);
    }
}

/// Takes one field.
struct One {
    wanted: &'static str,
    value: Option<String>,
}

impl Visit for One {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == self.wanted {
            self.value = Some(format!("{value:?}").trim_matches('"').to_owned());
        }
    }
}

/// Takes the fields of an event that matter.
#[derive(Default)]
struct Said {
    /// The name of the event, where it has one.
    event: String,
    message: String,
    session: Option<String>,
    end: End,
}

impl Visit for Said {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => self.message = format!("{value:?}"),
            "session" => self.session = Some(format!("{value:?}")),
            "reason" => self.end.text = format!("{value:?}"),
            _ => {}
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "event" => value.clone_into(&mut self.event),
            "kind" => value.clone_into(&mut self.end.name),
            _ => self.record_debug(field, &value),
        }
    }
}
