//! The live session, read again and again.

use crate::{error::Stopped, session::Session, sync::SlotReader};

/// Reads the live session of a [`MuxManager`](crate::MuxManager) on a hot path: see
/// [`MuxManager::reader`](crate::MuxManager::reader).
#[derive(Clone, Debug)]
pub struct Reader(pub(super) SlotReader<Session, Stopped>);

impl Reader {
    /// The live session, if there is one now. Never waits.
    ///
    /// It holds a clone of the session until a call finds it gone.
    pub fn session(&mut self) -> Option<&Session> {
        self.0.session()
    }
}
