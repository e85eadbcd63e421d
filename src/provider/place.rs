//! The places of a manager: how many sessions its slot can hold.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::sync::Hold;

/// The permit for a place, which a session holds until it has left the slot.
pub(crate) type PlaceHold = Hold<OwnedSemaphorePermit>;

/// The free places.
#[derive(Debug)]
pub(crate) struct Places(Arc<Semaphore>);

/// A free place, until it is dropped.
#[derive(Debug)]
pub(crate) struct PlacePermit(OwnedSemaphorePermit);

impl Places {
    pub(crate) fn new(count: usize) -> Self {
        Self(Arc::new(Semaphore::new(count)))
    }

    /// Waits for a free one, in the order of asking. Cancel-safe: a dropped future passes its turn on.
    pub(super) async fn acquire(&self) -> PlacePermit {
        let permit = Arc::clone(&self.0).acquire_owned().await;
        PlacePermit(permit.unwrap_or_else(|_| unreachable!("the places of a manager are never closed")))
    }

    /// Takes a free one, if there is one and nobody waits.
    pub(super) fn try_acquire(&self) -> Option<PlacePermit> {
        Arc::clone(&self.0).try_acquire_owned().ok().map(PlacePermit)
    }
}

impl PlacePermit {
    /// For the session that is to hold it.
    pub(super) fn into_permit(self) -> OwnedSemaphorePermit {
        self.0
    }
}
