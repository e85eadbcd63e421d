//! evermux on a simulated network: every run is one seed.
//!
//! A run happens on a thread of its own, on which the clock and the operating system's randomness are simulated
//! ([`interpose`]), over a network made by turmoil ([`net`]). All that a run says of itself goes into one trace, whose
//! hash names the run ([`trace`]): the same seed gives the same trace to the last byte, in any process, under any load.
//! One process does one run, because tokio's numbers of tasks are those of the process ([`apart`]). A run can be drawn as a
//! page for people to read ([`timeline`]).
//!
//! What would break that, and is therefore absent here: a `select!` that is not `biased` (tokio draws its order from a
//! counter of the whole process), an order taken from a randomly hashed map, addresses in memory, and time or randomness
//! from anywhere but the functions that [`interpose`] replaces.

pub mod apart;
pub mod board;
pub mod bounds;
mod caller;
pub mod capsule;
pub mod checks;
pub mod counters;
pub mod draw;
pub mod faults;
pub mod history;
pub mod interpose;
pub mod memory;
pub mod net;
pub mod node;
pub mod outcome;
mod panics;
pub mod plan;
pub mod play;
pub mod random;
pub mod run;
pub mod scenarios;
pub mod shrink;
pub mod stage;
pub mod sweep;
pub mod tally;
pub mod timeline;
pub mod trace;
pub mod verdict;
mod watch;
pub mod work;
pub mod world;
