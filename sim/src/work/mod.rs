//! What callers do with a session, and what the other side does with their streams: one file for each kind of work, and
//! one line in [`ALL`].

mod aborts;
mod both;
mod burst;
mod cancelled;
mod cut_short;
mod deaf;
mod download;
mod frames;
mod greeted;
mod hog;
mod item;
mod moves_on;
mod parked;
pub mod protocol;
mod request;
mod resets;
mod short;
mod trickle;
mod unaccepted;
mod upload;
mod volume;
mod watches;

use std::time::Duration;

use crate::plan::{Caller, Plan};

pub use item::{Doing, Failed, StreamIds, Work, WorkItem, wrong_id};
pub use request::exchange_over;

/// Work that ends within the time of a drain.
pub const BRIEF: [&str; 5] =
    [request::WORK.name, upload::WORK.name, download::WORK.name, greeted::WORK.name, trickle::WORK.name];

/// The work that outlasts a drain.
pub const PARKED: &str = parked::WORK.name;

/// The work that any peer can do.
pub const REQUEST: &str = request::WORK.name;

/// The work that asks for the next session by itself.
pub const ASKS_AGAIN: [&str; 2] = [moves_on::WORK.name, aborts::WORK.name];

/// The work that holds up what is opened beside it.
pub const UNACCEPTED: &str = unaccepted::WORK.name;

/// The work that opens many streams at once, for which others wait.
pub const BURST: &str = burst::WORK.name;

/// Every kind of work.
pub static ALL: &[Work] = &[
    request::WORK,
    upload::WORK,
    download::WORK,
    greeted::WORK,
    short::WORK,
    trickle::WORK,
    cancelled::WORK,
    moves_on::WORK,
    cut_short::WORK,
    deaf::WORK,
    hog::WORK,
    both::WORK,
    parked::WORK,
    unaccepted::WORK,
    burst::WORK,
    frames::WORK,
    volume::WORK,
    resets::WORK,
    watches::WORK,
    aborts::WORK,
];

/// How many bytes the callers of a plan move one way at most, each with one piece of its work.
pub fn moves(plan: &Plan) -> u64 {
    plan.callers.iter().filter_map(|caller| Some((find(&caller.work)?.moves)(caller.bytes.into()))).sum()
}

/// How long one piece of the work of the callers of a plan takes at most when nothing is in its way.
pub fn pauses(plan: &Plan) -> Duration {
    let works = plan.callers.iter().filter_map(|caller| find(&caller.work));
    Duration::from_millis(works.map(|work| work.pauses_ms).max().unwrap_or_default())
}

/// What the work of a caller takes at most: the windows of its streams, and what is sent in one write, on both sides.
pub fn heap_bytes(caller: &Caller) -> usize {
    const WINDOWS: usize = 4 << 20;
    let moves = find(&caller.work).map_or(0, |work| (work.moves)(caller.bytes.into()));
    WINDOWS + 2 * usize::try_from(moves).unwrap_or(usize::MAX / 4)
}

/// The kind of work of that name.
pub fn find(name: &str) -> Option<&'static Work> {
    ALL.iter().find(|work| work.name == name)
}
