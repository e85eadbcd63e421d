//! evermux on a simulated network: every run is one seed.
//!
//! A run happens on a thread of its own, on which the clock and the operating system's randomness are simulated
//! ([`interpose`]), over a network made by turmoil ([`net`]). All that a run says of itself goes into one trace, whose
//! hash names the run ([`trace`]): the same seed gives the same trace to the last byte, in any process, under any load.
//! One process does one run, because tokio's numbers of tasks are those of the process ([`subprocess`]). A run can be drawn as a
//! page for people to read ([`timeline`]).
//!
//! # Layers
//!
//! Lowest first. A module imports from lower layers alone, and nothing from its own: `tests/layers.rs` holds that. The files
//! of a folder are such a tree too; its `mod.rs` lists them, and what they share is a file of its own.
//!
//! | layer | modules | |
//! | --- | --- | --- |
//! | 1 | [`verdict`], [`counters`], [`random`], [`interpose`], `watch`, [`timeline`], [`usage`], `yields` | what a run says, counts and draws; its clock; whether it comes to an end; a page for people; what programs use; other orders of tasks |
//! | 2 | [`plan`], [`history`], [`memory`], `panics` | what a run does; what happened; what it took, and how it may fail beside |
//! | 3 | [`trace`], [`net`], [`bounds`], [`reached`], `parts` | the hash of what was said; sockets under conditions; how long things may take; what a run came to; what of a plan may be unusual |
//! | 4 | [`process`] | the software of a host, beside its kernel |
//! | 5 | [`stage`], [`outcome`], [`context`], [`work`] | turmoil; what came of a run; what hosts share; what callers do |
//! | 6 | [`world`], `caller`, `serve`, `foreign` | links and hosts, as faults change them; who works; who serves; peers that are not evermux |
//! | 7 | [`faults`], `fleet`, [`node`] | what goes wrong; many clients; the software of a host |
//! | 8 | [`checks`], [`draw`] | what must hold; from what plans are drawn |
//! | 9 | [`play`], [`totals`], [`mutate`] | a plan that is played under the checks; what many runs add up to; plans that are nearly as others |
//! | 10 | [`scenarios`] | what can be run |
//! | 11 | [`run`], [`subprocess`] | one run on a thread; one run in a process |
//! | 12 | [`sweep`], [`search`], [`shrink`], [`capsule`] | many runs, and many that build on each other; the smallest that fails; a failure to hand on |
//! | 13 | `cli` | the program |
//!
//! # What is absent
//!
//! What would break that, and is therefore absent here: a `select!` that is not `biased` (tokio draws its order from a
//! counter of the whole process), an order taken from a randomly hashed map, addresses in memory, and time or randomness
//! from anywhere but the functions that [`interpose`] replaces.

pub mod bounds;
mod caller;
pub mod capsule;
pub mod checks;
pub mod context;
pub mod counters;
pub mod draw;
pub mod faults;
mod fleet;
mod foreign;
pub mod history;
pub mod interpose;
pub mod memory;
pub mod mutate;
pub mod net;
pub mod node;
pub mod outcome;
mod panics;
mod parts;
pub mod plan;
pub mod play;
pub mod process;
pub mod random;
pub mod reached;
pub mod run;
pub mod scenarios;
pub mod search;
mod serve;
pub mod shrink;
pub mod stage;
pub mod subprocess;
pub mod sweep;
pub mod timeline;
pub mod totals;
pub mod trace;
pub mod usage;
pub mod verdict;
mod watch;
pub mod work;
pub mod world;
mod yields;
