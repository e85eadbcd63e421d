//! The synchronization core: a slot from which any number of tasks and threads take a live session.
//!
//! A [`SessionSlot`] has one or more places. A provider [reserves](SessionSlot::reserve) an id, makes a session under
//! it and [installs](SessionSlot::install) it; callers [wait](SessionSlot::wait) for one, block for one,
//! [peek](SessionSlot::peek), or keep a [`SlotReader`]. The session `V` and the stop reason `R` are opaque and cheap to
//! clone, an `Arc` for example. This module imports `std` alone, so it can be used, and checked, by itself. Beside the
//! slot there is [`Arrivals`]: what the sessions bring, and who takes it.
//!
//! The rest is what else two threads have to agree on: who has a place ([`Claim`], and the [`Hold`] it is made of),
//! how a session or its provider ends ([`SessionEnd`], [`StopGuard`]), how a stream ended ([`Ends`]), who acts on a
//! wake-up ([`Repoll`]), and who goes next when room is scarce ([`Gate`]).
//!
//! ```
//! use std::{sync::Arc, thread};
//! use evermux::sync::SessionSlot;
//!
//! let slot: Arc<SessionSlot<&str, ()>> = Arc::new(SessionSlot::new(1));
//! let waiter = thread::spawn({
//!     let slot = Arc::clone(&slot);
//!     move || slot.wait_blocking()
//! });
//! let mut reservation = slot.reserve();
//! slot.install(&mut reservation, "a session", Arc::default()).unwrap();
//! assert_eq!(waiter.join().unwrap(), Ok("a session"));
//!
//! assert_eq!(slot.clear(reservation.id()), Some("a session"));
//! assert_eq!(slot.peek(), None);
//! ```
//!
//! # Invariants
//!
//! All state of a slot is under one lock; nothing else is locked while it is held, so there is no lock order to keep.
//!
//! 1. An id is in one of three states: reserved, in a place, or in neither, which means dead. It moves from left to
//!    right and never back. Ids are never reused.
//! 2. Once there is a stop reason it stays, and all places are empty forever.
//! 3. A waker is registered only while no place is live and there is no stop reason.
//! 4. The generation changes with every change of the places or of the stop reason, and never returns to an earlier
//!    value. It is 0 only while nothing was ever installed or stopped.
//!
//! # Rules
//!
//! 1. Check and register happen under the same lock. Every wait loops on its condition, and checks it once more after
//!    its deadline.
//! 2. Stop reason, places and generation change under the lock.
//! 3. Waiters are taken out under the lock and woken after it.
//! 4. What was replaced, cleared or stopped is returned to the caller, who closes it after the lock (G6).
//! 5. `install` and `replace` after `stop` store nothing and hand the newcomer back (G5).
//! 6. `clear` and `replace` act only on the id that they name (G8). A newcomer whose id was cleared before it was
//!    installed is handed back: no corpse is ever published (G3).
//! 7. A session is cleared before anyone can learn that it is dead (G3): see [`SessionEnd`].
//! 8. A waker is cloned before the lock, and dropped or woken after it (G7). Of several that are woken at once each is,
//!    whatever another one does: a panic goes on once the rest were woken.
//! 9. A registration is named by epoch and index, so that a late drop cannot remove another future's entry (G9).
//! 10. A poisoned lock is taken like any other. `Clone` of `V` and of `R` is the only foreign code that runs under it,
//!     and nothing is half-changed while it does.
#![cfg_attr(not(feature = "__internals"), allow(unreachable_pub, reason = "some is public for the models alone"))]

pub use arrivals::{Arrivals, Lane, LaneLimits, Over, Taker};
pub use claim::{Claim, Departure};
pub use ends::Ends;
pub use gate::{Gate, Ticket};
pub use hold::Hold;
pub use order::{Ending, SessionEnd, StopGuard};
#[cfg(feature = "__internals")]
#[doc(hidden)]
pub use primitives::Sealed;
pub use primitives::{Ordering, Primitives, Std};
pub use reader::SlotReader;
pub use repoll::Repoll;
pub use reservation::{ClearHook, Refused, Reservation, SessionId};
pub use slot::SessionSlot;
pub use wait::{Wait, WaitUntilError};

#[cfg(not(feature = "__internals"))]
pub(crate) use self::internals::*;
#[cfg(feature = "__internals")]
#[doc(hidden)]
pub use self::internals::*;

mod arrivals;
mod bell;
mod claim;
mod earliest;
mod ends;
mod gate;
mod handed;
mod hold;
mod latch;
mod life;
mod order;
mod park;
mod primitives;
mod reader;
mod relay;
mod repoll;
mod reservation;
mod slot;
mod steps;
#[cfg(test)]
mod tests;
mod tracker;
mod wait;
mod wait_list;

/// What this crate alone uses. Its models see it, and its users do not.
mod internals {
    pub use super::{
        bell::Bell,
        earliest::Earliest,
        handed::{Class, Handed},
        latch::{Latch, Latched, LazyLatch},
        life::Life,
        park::block_on,
        relay::{Queue, Relay},
        steps::Steps,
        tracker::Tracker,
    };
}
