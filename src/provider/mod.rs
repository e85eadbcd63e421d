//! Where connections come from.
//!
//! [`net`] says what a network is: [`Connect`] dials, [`Accept`] listens, and TCP is one of each.

pub mod net;

pub use net::{Accept, Connect, Connected};
