//! The simulated network as evermux uses it: sockets with every byte accounted for in the trace, a connector, a listener,
//! and what faults do to the sockets of a host.

mod conditions;
mod dial;
mod kernel;
mod listen;
mod names;
mod reactor;
mod socket;

pub use conditions::{Condition, Conditions, Cut, During};
pub use dial::Connector;
pub use kernel::Kernel;
pub use listen::Listener;
pub use names::Names;
pub use socket::Socket;
