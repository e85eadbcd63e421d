//! What the tests and examples of evermux share. It knows nothing of evermux.
//!
//! - [`FaultProxy`]: a TCP link that can be cut, frozen, slowed and closed to newcomers.
//! - [`frames`]: a yamux peer that does, frame by frame, what a test says.
//! - [`hashicorp`]: a yamux peer that behaves as one with hashicorp's library for Go.
//! - [`strict`]: a transport that holds its caller to the contract, and may be difficult to work with.
//! - [`count`]: what this process holds, for tests that look for leaks.
//! - [`layers`]: which modules of a crate import which.
#![forbid(unsafe_code)]

pub use proxy::FaultProxy;

pub mod count;
pub mod frames;
pub mod hashicorp;
pub mod layers;
pub mod proxy;
pub mod strict;
