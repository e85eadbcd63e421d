//! Managers and their providers, over loopback TCP and networks in memory.
#![allow(missing_docs, reason = "test names say it")]

#[path = "../support/mod.rs"]
mod support;

mod accepting;
mod broadcast;
mod callers;
mod crowd;
mod gave_up;
mod incoming;
mod manager;
mod places;
mod provider;
mod receiver;
mod reconnect;
mod round_trips;
mod serde;
mod shutdown;
mod takeover;
mod tcp;
mod told;
