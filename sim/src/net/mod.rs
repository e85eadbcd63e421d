//! The simulated network as evermux uses it: sockets with every byte accounted for in the trace, a connector, a listener,
//! and what faults do to the sockets of a host.
//!
//! turmoil's TCP does not retransmit. What is sent into a partition is lost forever, and the connection with it: both
//! ends stay silent after the repair, until someone notices.

mod carrier;
mod conditions;
mod dial;
mod listen;
mod socket;

pub use carrier::Carrier;
pub use conditions::{Condition, Conditions, Cut, During};
pub use dial::Connector;
pub use listen::Listener;
pub use socket::Socket;
