//! Property and state-machine tests of evermux, and the reference model of its slot.

pub use platform::{SingleThreaded, assert_unlocked};
pub use slot::{Model, ModelReader};

mod platform;
mod slot;
