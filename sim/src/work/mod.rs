//! What callers do with a session, and what the other side does with their streams: one file for each kind of work, and
//! one line in [`ALL`].

mod aborts;
mod both;
mod cancelled;
mod cut_short;
mod deaf;
mod download;
mod greeted;
mod hog;
mod item;
mod moves_on;
mod parked;
pub mod protocol;
mod request;
mod short;
mod trickle;
mod unaccepted;
mod upload;

pub use item::{Doing, Failed, Work, WorkItem};

/// The work that ends sessions.
pub const ABORTS: &str = aborts::WORK.name;

/// The work that holds up what is opened beside it.
pub const UNACCEPTED: &str = unaccepted::WORK.name;

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
    aborts::WORK,
];

/// The kind of work of that name.
pub fn find(name: &str) -> Option<&'static Work> {
    ALL.iter().find(|work| work.name == name)
}
