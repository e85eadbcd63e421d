//! The names of sessions, and what happens to a session before it is installed and when it dies.

use std::{
    error::Error,
    fmt,
    sync::{Arc, Weak},
};

use super::{Primitives, SessionSlot, Std};

/// Names a session. Unique within a slot, never reused.
///
/// An id has no order: it says which session, not which came first.
///
/// ```
/// use std::sync::Arc;
/// use evermux::sync::{SessionId, SessionSlot};
///
/// let slot: Arc<SessionSlot<&str, ()>> = Arc::new(SessionSlot::new(1));
/// let (first, second) = (slot.reserve(), slot.reserve());
/// assert_ne!(first.id(), second.id());
/// assert_ne!(first.id(), SessionId::STANDALONE);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionId(pub(super) u64);

impl SessionId {
    /// The id of every session made without a manager. No slot gives it out.
    pub const STANDALONE: Self = Self(0);

    /// The number behind the id, for logs.
    pub fn as_u64(self) -> u64 {
        self.0
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionId({})", self.0)
    }
}

/// An id for a session that is not installed yet: see [`SessionSlot::reserve`].
///
/// The id is made before the session's driver starts, so that a session that dies before it is installed can report
/// that: its [`clear`](SessionSlot::clear) removes the id from the reserved ones, and the install is then refused as
/// [`Dead`](Refused::Dead). Dropping the reservation before it is used makes the id dead; after, it does nothing.
#[must_use = "dropping a reservation forgets its id"]
pub struct Reservation<V: Clone, R: Clone, P: Primitives = Std> {
    slot: Arc<SessionSlot<V, R, P>>,
    id: SessionId,
    pub(super) installed: bool,
}

impl<V: Clone, R: Clone, P: Primitives> Reservation<V, R, P> {
    pub(super) fn new(slot: Arc<SessionSlot<V, R, P>>, id: SessionId) -> Self {
        Self { slot, id, installed: false }
    }

    /// The reserved id.
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// The slot that the id belongs to.
    pub fn slot(&self) -> &Arc<SessionSlot<V, R, P>> {
        &self.slot
    }

    /// The hook that the session calls first when it dies.
    pub fn clear_hook(&self) -> ClearHook<V, R, P> {
        ClearHook { slot: Arc::downgrade(&self.slot), id: self.id }
    }
}

impl<V: Clone, R: Clone, P: Primitives> Drop for Reservation<V, R, P> {
    fn drop(&mut self) {
        if !self.installed {
            self.slot.forget(self.id);
        }
    }
}

impl<V: Clone, R: Clone, P: Primitives> fmt::Debug for Reservation<V, R, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reservation").field("id", &self.id).field("installed", &self.installed).finish_non_exhaustive()
    }
}

/// Clears one session from its slot, and holds the slot weakly, since the slot holds the session.
pub struct ClearHook<V: Clone, R: Clone, P: Primitives = Std> {
    slot: Weak<SessionSlot<V, R, P>>,
    id: SessionId,
}

impl<V: Clone, R: Clone, P: Primitives> ClearHook<V, R, P> {
    /// Clears the session: after this the slot gives it to nobody. Only the first call does anything.
    pub fn clear(&self) {
        if let Some(slot) = self.slot.upgrade() {
            drop(slot.clear(self.id));
        }
    }
}

impl<V: Clone, R: Clone, P: Primitives> Clone for ClearHook<V, R, P> {
    fn clone(&self) -> Self {
        Self { slot: Weak::clone(&self.slot), id: self.id }
    }
}

impl<V: Clone, R: Clone, P: Primitives> fmt::Debug for ClearHook<V, R, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClearHook").field("id", &self.id).finish_non_exhaustive()
    }
}

/// A newcomer was not stored. It is handed back, for the caller to close.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused<V, R> {
    /// No place is free. The reservation is still good.
    Full(V),
    /// The session to be replaced is gone and a place is free: install instead. The reservation is still good.
    Gone(V),
    /// The newcomer was cleared before it was installed, or its reservation was used before.
    Dead(V),
    /// The slot has stopped, for this reason.
    Stopped(V, R),
}

impl<V, R> fmt::Display for Refused<V, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "no place is free",
            Self::Gone(_) => "the session to be replaced is gone",
            Self::Dead(_) => "the session died before it was installed",
            Self::Stopped(..) => "the slot has stopped",
        })
    }
}

impl<V: fmt::Debug, R: fmt::Debug> Error for Refused<V, R> {}
