//! shuttle's primitives: it draws executions at random, and every load sees the last store.

use std::{cell::Cell, sync::PoisonError};

use evermux::sync::Ordering;
use shuttle::sync;

use super::{Guard, Platform, nothing_held, on};
use crate::spurious::World;

shuttle::thread_local! {
    static HELD: Cell<usize> = nothing_held();
}

shuttle::lazy_static! {
    static ref WORLD: sync::Mutex<World<Shuttle>> = sync::Mutex::new(World::new());
}

/// shuttle's platform. Its clock stands still, so its deadlines never pass.
#[derive(Clone, Copy, Debug)]
pub enum Shuttle {}

impl Platform for Shuttle {
    fn held<T>(with: impl FnOnce(&Cell<usize>) -> T) -> T {
        HELD.with(with)
    }

    fn world<T>(with: impl FnOnce(&Self::Mutex<World<Self>>) -> T) -> T {
        with(&WORLD)
    }
}

on!(Shuttle, sync, relaxed: |atomic| atomic.load(Ordering::Relaxed));
