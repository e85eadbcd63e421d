//! A failure, as a directory that can be handed to somebody: what failed, the plan that makes it fail, the trace, and a page
//! that shows it. It is no longer than can be handed on: of what is long it has the beginning and the end.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::{fmt, fs, mem};

use serde::{Deserialize, Serialize};

use crate::context::{ESTABLISHER, OTHER, RECEIVER};
use crate::faults::{self, Concerns};
use crate::history::{Entry, What};
use crate::outcome::Outcome;
use crate::plan::{Plan, Side};
use crate::run::{Ended, Options, run};
use crate::scenarios::{self, Scenario};
use crate::timeline::{FaultSpan, Host, Kind, Mark, SessionBar, Span, Timeline, ViolationMark, render};
use crate::{bounds, checks, draw, work};

/// The file that says what the capsule is about, and what a replay needs.
const CAPSULE: &str = "capsule.json";
const TRACE: &str = "trace.txt";
const TIMELINE: &str = "timeline.html";
/// How much of a trace is kept, from its beginning and from its end.
const HEAD_BYTES: usize = 1 << 20;
const TAIL_BYTES: usize = 256 << 10;
/// How many events are drawn, from the beginning and from the end.
const DRAWN: usize = 2_000;

/// What a capsule says of a failure.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Capsule {
    /// The name of the scenario.
    pub scenario: String,
    /// The seed.
    pub seed: u64,
    /// The git revision from which this program was built, with `+` when the source was changed.
    pub revision: Option<String>,
    /// The guarantee that is broken.
    pub guarantee: Option<String>,
    /// How that was seen, in one sentence.
    pub what: Option<String>,
    /// The hash of the trace.
    pub trace: String,
    /// How many events the trace has.
    pub events: u64,
    /// The plan that makes it fail.
    pub plan: Plan,
    /// The plan that the seed draws.
    pub drawn_plan: Plan,
}

/// Why a capsule cannot be read.
#[derive(Debug)]
pub struct NotACapsule {
    path: PathBuf,
    why: String,
}

impl fmt::Display for NotACapsule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is not a failure capsule: {}", self.path.display(), self.why)
    }
}

impl std::error::Error for NotACapsule {}

impl Capsule {
    /// Reads the capsule in a directory, or the `capsule.json` of one.
    pub fn read(path: &Path) -> Result<Self, NotACapsule> {
        let file = if path.is_dir() { path.join(CAPSULE) } else { path.to_owned() };
        let not = |why: String| NotACapsule { path: path.to_owned(), why };
        let text = fs::read(&file).map_err(|error| not(format!("{}: {error}", file.display())))?;
        let capsule: Self = serde_json::from_slice(&text).map_err(|error| not(error.to_string()))?;
        draw::check(&capsule.plan).map_err(not)?;
        capsule.scenario().ok_or_else(|| not(format!("there is no scenario {:?}", capsule.scenario)))?;
        Ok(capsule)
    }

    /// The scenario.
    pub fn scenario(&self) -> Option<&'static Scenario> {
        scenarios::find(&self.scenario)
    }
}

/// Runs a plan once more, and writes the capsule of what comes of it to a directory, which is made.
pub fn write(
    directory: &Path,
    scenario: &'static Scenario,
    seed: u64,
    plan: &Plan,
    drawn_plan: &Plan,
) -> io::Result<Outcome> {
    fs::create_dir_all(directory)?;
    let trace = Bounded::new(File::create(directory.join(TRACE))?);
    let options = Options { output: Some(Box::new(trace.clone())), ..Options::default() };
    let ended = run(scenario, seed, plan.clone(), options);
    trace.finish()?;
    let outcome = &ended.outcome;
    let broken = outcome.result.as_ref().err();
    let capsule = Capsule {
        scenario: scenario.name.to_owned(),
        seed,
        revision: revision(),
        guarantee: broken.map(|broken| broken.guarantee.to_string()),
        what: broken.map(|broken| broken.what.clone()),
        trace: format!("{:032x}", outcome.trace.hash),
        events: outcome.trace.lines,
        plan: plan.clone(),
        drawn_plan: drawn_plan.clone(),
    };
    fs::write(directory.join(CAPSULE), serde_json::to_vec_pretty(&capsule)?)?;
    let replay = format!("cargo run --release -p sim -- replay {}", directory.display());
    let timeline = timeline(&ended, plan, capsule.revision, replay);
    fs::write(directory.join(TIMELINE), render(&timeline))?;
    Ok(ended.outcome)
}

/// The git revision from which this program was built, if it was known then.
pub fn revision() -> Option<String> {
    option_env!("SIM_REVISION").map(str::to_owned)
}

/// A file that keeps the beginning and the end of what is written.
///
/// Clones write to the same. After [`finish`](Self::finish) nothing more is kept: whoever still writes is a run that was given
/// up.
#[derive(Clone)]
struct Bounded(Arc<Mutex<Excerpt>>);

struct Excerpt {
    /// None when it is finished.
    file: Option<BufWriter<File>>,
    head_left: usize,
    tail: VecDeque<u8>,
    left_out: u64,
}

impl Bounded {
    fn new(file: File) -> Self {
        let file = Some(BufWriter::new(file));
        Self(Arc::new(Mutex::new(Excerpt { file, head_left: HEAD_BYTES, tail: VecDeque::new(), left_out: 0 })))
    }

    fn excerpt(&self) -> MutexGuard<'_, Excerpt> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn finish(&self) -> io::Result<()> {
        let mut excerpt = self.excerpt();
        let Some(mut file) = excerpt.file.take() else { return Ok(()) };
        if excerpt.left_out > 0 {
            writeln!(file, "\n({} bytes are left out; a replay has them)", excerpt.left_out)?;
        }
        let (front, back) = excerpt.tail.as_slices();
        file.write_all(front)?;
        file.write_all(back)?;
        file.flush()
    }
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut excerpt = self.excerpt();
        let Excerpt { file: Some(file), head_left, tail, left_out } = &mut *excerpt else { return Ok(bytes.len()) };
        if *head_left >= bytes.len() {
            *head_left -= bytes.len();
            return file.write_all(bytes).map(|()| bytes.len());
        }
        *head_left = 0;
        tail.extend(bytes);
        let more = tail.len().saturating_sub(TAIL_BYTES);
        tail.drain(..more);
        *left_out += more as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Draws a run from its history.
pub fn timeline(ended: &Ended, plan: &Plan, revision: Option<String>, replay: String) -> Timeline {
    let outcome = &ended.outcome;
    let end_ms = ms(outcome.simulated);
    let broken = outcome.result.as_ref().err();
    let mut timeline = Timeline {
        scenario: outcome.scenario.to_owned(),
        seed: outcome.seed,
        revision,
        guarantee: broken.map(|broken| broken.guarantee.to_string()),
        what: broken.map(|broken| broken.what.clone()),
        replay,
        end_ms,
        hosts: [ESTABLISHER, RECEIVER, OTHER].map(|name| Host { name: name.to_owned(), up: Vec::new() }).into(),
        faults: Vec::new(),
        sessions: Vec::new(),
        marks: Vec::new(),
        violation: None,
    };
    let mut open = Open::default();
    let left_out = DRAWN..ended.history.len().saturating_sub(DRAWN).max(DRAWN);
    for (number, entry) in ended.history.iter().enumerate() {
        let marks = mem::take(&mut timeline.marks);
        draw(entry, plan, &mut open, &mut timeline);
        let new = mem::replace(&mut timeline.marks, marks);
        if left_out.contains(&number) {
            continue;
        }
        timeline.marks.extend(new);
        if number + 1 == left_out.start && !left_out.is_empty() {
            let text = format!("{} events are not drawn from here on", left_out.len());
            timeline.marks.push(Mark { host: ESTABLISHER.to_owned(), at_ms: ms(entry.at), kind: Kind::Note, text });
        }
    }
    for (host, (from_ms, _)) in open.up {
        up(&mut timeline, &host, from_ms, end_ms);
    }
    // When each fault began and ended, as it came.
    let moment = |wanted: &dyn Fn(&What) -> bool| {
        ended.history.iter().find(|entry| wanted(&entry.what)).map(|entry| ms(entry.at))
    };
    timeline.faults = plan
        .faults
        .iter()
        .enumerate()
        .filter_map(|(index, fault)| {
            let began = moment(&|what| matches!(what, What::FaultBegins(begun) if *begun == index));
            let over = moment(&|what| matches!(what, What::FaultEnds(over) if *over == index));
            let about = faults::find(&fault.kind).map_or("", |kind| kind.about);
            // One that had not come by the end is not drawn.
            let from_ms = began?;
            Some(FaultSpan {
                kind: fault.kind.clone(),
                about: lower_case(about),
                hosts: concerned(&fault.kind, fault.side),
                from_ms,
                to_ms: over.unwrap_or(end_ms),
            })
        })
        .collect();
    if let Some(broken) = broken {
        let by =
            ended.history.iter().rev().find(|entry| matches!(&entry.what, What::Violation(what) if what == broken));
        timeline.violation = Some(ViolationMark {
            at_ms: by.map_or(end_ms, |entry| ms(entry.at)),
            host: by.map(|entry| entry.who.clone()).filter(|who| !who.is_empty()),
            text: broken.what.clone(),
        });
        if broken.guarantee == "liveness" {
            let bound = bounds::service(plan, work::pauses(plan), work::moves(plan));
            let text = format!("the last fault was over; everybody should have been served within {bound:?}");
            let at_ms = ms(plan.faults_end());
            timeline.marks.push(Mark { host: ESTABLISHER.to_owned(), at_ms, kind: Kind::Note, text });
        }
    }
    timeline
}

/// What has begun and not ended.
#[derive(Default)]
struct Open {
    /// Since when a host is up, and whose software runs on it: the last host has several.
    up: BTreeMap<String, (u64, BTreeSet<String>)>,
    sessions: BTreeMap<(String, String), usize>,
}

fn draw(entry: &Entry, plan: &Plan, open: &mut Open, timeline: &mut Timeline) {
    let at_ms = ms(entry.at);
    let manager = entry.who.as_str();
    let host = if timeline.hosts.iter().any(|host| host.name == manager) { manager } else { OTHER };
    let who = |caller: usize| {
        plan.callers.get(caller).map_or(format!("caller {caller}"), |spec| format!("caller {caller} ({})", spec.work))
    };
    let mut mark = |kind, text: String| timeline.marks.push(Mark { host: host.to_owned(), at_ms, kind, text });
    match &entry.what {
        What::Up => {
            // All hosts are there from the beginning, and run in the first step.
            let from_ms = if at_ms <= plan.network.tick_ms { 0 } else { at_ms };
            let (_, running) = open.up.entry(host.to_owned()).or_insert_with(|| (from_ms, BTreeSet::new()));
            running.insert(manager.to_owned());
        }
        What::Down => {
            if let Some((from_ms, running)) = open.up.get_mut(host) {
                running.remove(manager);
                if running.is_empty() {
                    up(timeline, host, *from_ms, at_ms);
                    open.up.remove(host);
                }
            }
            let gone = open.sessions.iter().filter(|((who, _), _)| who == manager).map(|(_, index)| *index);
            let gone = gone.collect::<Vec<_>>();
            open.sessions.retain(|(who, _), _| who != manager);
            for index in gone {
                timeline.sessions[index].to_ms = Some(at_ms);
                timeline.sessions[index].end = Some("its host went down".to_owned());
            }
        }
        What::Live(session) => {
            open.sessions.insert((manager.to_owned(), session.clone()), timeline.sessions.len());
            timeline.sessions.push(SessionBar {
                host: host.to_owned(),
                manager: manager.to_owned(),
                id: session.clone(),
                from_ms: at_ms,
                to_ms: None,
                end: None,
            });
        }
        What::Closed(session, end) => {
            if let Some(index) = open.sessions.remove(&(manager.to_owned(), session.clone())) {
                timeline.sessions[index].to_ms = Some(at_ms);
                timeline.sessions[index].end = Some(end.text.clone());
            }
        }
        What::Connecting => mark(Kind::Attempt, format!("{manager} begins an attempt")),
        What::AttemptFailed => mark(Kind::AttemptFailed, format!("an attempt of {manager} failed")),
        What::Replaced(session) => {
            mark(Kind::Note, format!("another session takes the place of session {session} of {manager}"));
        }
        What::Leaves(session, end) => {
            mark(Kind::Note, format!("session {session} of {manager} leaves its place: {}", end.name));
        }
        What::PauseCut => mark(Kind::Note, format!("the pause of {manager} is cut short")),
        What::Starts => mark(Kind::Note, format!("the manager {manager} starts")),
        What::GaveUp => mark(Kind::Shutdown, format!("{manager} gives up")),
        What::ShutsDown => mark(Kind::Shutdown, format!("{manager} is told to shut down")),
        What::HasShutDown => mark(Kind::Shutdown, format!("the shutdown of {manager} has returned")),
        What::Draining(session) => mark(Kind::Note, format!("session {session} of {manager} takes no new streams")),
        What::Noted(text) if checks::coverage::state(entry).is_some() => mark(Kind::Note, format!("{manager}: {text}")),
        What::ReconnectNow => mark(Kind::Note, format!("reconnect_now is called on {manager}")),
        What::Asks(caller) => mark(Kind::Waiting, format!("{} asks for a session", who(*caller))),
        What::Given(caller, session) => mark(Kind::Note, format!("{} is given session {session}", who(*caller))),
        What::Freed(caller) => mark(Kind::Note, format!("{} is told that the manager has stopped", who(*caller))),
        What::GivesUp(caller) => mark(Kind::Cancelled, format!("{} drops what it is doing", who(*caller))),
        What::Served(caller) => mark(Kind::Served, format!("{} has what it asked for", who(*caller))),
        What::Interrupted(caller, error) => {
            mark(Kind::Interrupted, format!("{} is interrupted: {error}", who(*caller)));
        }
        What::Mute(peer) => {
            let text = format!("a connection from {peer} is accepted by something silent");
            timeline.marks.push(Mark { host: RECEIVER.to_owned(), at_ms, kind: Kind::Note, text });
        }
        What::StandsStill => mark(Kind::Note, "it stands still".to_owned()),
        What::GoesOn { .. } => mark(Kind::Note, "it goes on".to_owned()),
        What::Noted(_)
        | What::Stops
        | What::Holds(..)
        | What::Runs(..)
        | What::Says(_)
        | What::Silence(..)
        | What::Pings
        | What::FaultBegins(_)
        | What::FaultEnds(_)
        | What::Violation(_) => {}
    }
}

fn up(timeline: &mut Timeline, host: &str, from_ms: u64, to_ms: u64) {
    if let Some(host) = timeline.hosts.iter_mut().find(|known| known.name == host) {
        host.up.push(Span { from_ms, to_ms });
    }
}

/// The hosts that a fault is drawn across.
fn concerned(kind: &str, side: Side) -> Vec<String> {
    let side = match side {
        Side::Establisher => ESTABLISHER,
        Side::Receiver => RECEIVER,
    };
    let hosts: &[&str] = match faults::find(kind).map(|kind| kind.concerns) {
        Some(Concerns::Side) => &[side],
        Some(Concerns::Establisher) => &[ESTABLISHER],
        Some(Concerns::Receiver) => &[RECEIVER],
        Some(Concerns::Others) => &[OTHER, RECEIVER],
        Some(Concerns::Both) | None => &[ESTABLISHER, RECEIVER],
    };
    hosts.iter().map(|host| (*host).to_owned()).collect()
}

fn lower_case(sentence: &str) -> String {
    let mut chars = sentence.chars();
    chars.next().map_or(String::new(), |first| first.to_lowercase().chain(chars).collect())
}

fn ms(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
