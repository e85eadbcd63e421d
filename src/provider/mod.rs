//! Where connections come from.
//!
//! [`net`] says what a network is: [`Connect`] dials, [`Accept`] listens, and TCP is one of each. [`backoff`] says how
//! long to pause between attempts. Both stand alone: a provider of one's own may use either.

pub mod backoff;
pub(crate) mod establisher;
pub(crate) mod installer;
pub mod net;
pub(crate) mod progress;
pub(crate) mod receiver;

pub use backoff::{Backoff, Retry};
pub use net::{Accept, Connect, Connected, TcpAcceptor, TcpConnector};
