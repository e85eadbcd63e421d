//! Where connections come from.
//!
//! [`net`] says what a network is: [`Connect`] dials, [`Accept`] listens, and TCP is one of each. [`backoff`] says how
//! long to pause between attempts. Both stand alone: a provider of one's own may use either.

pub mod backoff;
pub mod net;

pub use backoff::{Backoff, Retry};
pub use net::{Accept, Connect, Connected, TcpAcceptor, TcpConnector};
