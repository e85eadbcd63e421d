//! loom's primitives: it explores every execution, with what the memory model lets a load see.

use std::{cell::Cell, sync::PoisonError};

use evermux::sync::Ordering;
use loom::sync;

use super::{Guard, Platform, nothing_held, on};
use crate::spurious::World;

loom::thread_local! {
    static HELD: Cell<usize> = nothing_held();
}

loom::lazy_static! {
    static ref WORLD: sync::Mutex<World<Loom>> = sync::Mutex::new(World::new());
}

/// loom's platform. Its clock stands still, so its deadlines never pass.
#[derive(Clone, Copy, Debug)]
pub enum Loom {}

impl Platform for Loom {
    fn held<T>(with: impl FnOnce(&Cell<usize>) -> T) -> T {
        HELD.with(with)
    }

    fn world<T>(with: impl FnOnce(&Self::Mutex<World<Self>>) -> T) -> T {
        with(&WORLD)
    }
}

// The slot reads so under its lock, before it stores. loom remembers one access to an atomic, so a load would hide a
// reader's, and nothing would be explored in which the store comes before that. An addition hides nothing.
on!(Loom, sync, relaxed: |atomic| atomic.fetch_add(0, Ordering::Relaxed));
