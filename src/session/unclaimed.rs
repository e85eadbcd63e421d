//! A stream that nobody has yet.

use std::{pin::Pin, sync::Arc, task::Context};

use futures_util::io::AsyncWrite as _;

use super::entry::Entry;

/// A stream that was opened, here or by the peer, and has no handle yet. Its drop resets it.
pub(crate) struct Unclaimed {
    id: u32,
    entry: Arc<Entry>,
    claimed: bool,
}

impl Unclaimed {
    pub(super) fn new(inner: yamux::Stream, entry: Arc<Entry>) -> Self {
        let id = inner.id().val();
        *entry.inner() = Some(inner);
        Self { id, entry, claimed: false }
    }

    /// Sends the SYN or the ACK at once: the crate would wait for the first bytes, and a server-first protocol forever.
    pub(super) fn announce(&self, cx: &mut Context<'_>) {
        if let Some(inner) = &mut *self.entry.inner() {
            // The channel of a new stream has room, so this is never pending; an error means that the session is ending.
            let _ = Pin::new(inner).poll_write(cx, &[]);
        }
    }

    /// Hands it over, with its id: from now on the handle resets it.
    pub(super) fn claim(mut self) -> (u32, Arc<Entry>) {
        self.claimed = true;
        (self.id, Arc::clone(&self.entry))
    }
}

impl Drop for Unclaimed {
    fn drop(&mut self) {
        if !self.claimed {
            self.entry.set_gone();
            let inner = self.entry.inner().take();
            drop(inner);
        }
    }
}
