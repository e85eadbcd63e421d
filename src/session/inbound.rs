//! A stream of the peer's, until somebody takes it.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Waker},
};

use futures_util::io::AsyncWrite as _;
use tokio::sync::mpsc;

use super::{command::Command, entry::Entry, state::SessionState, stream::MuxStream, stream_core::StreamCore};

/// A stream of the peer's that nobody has taken yet. Its drop resets it.
///
/// It does not keep the session running, as a [`MuxStream`] does: the lane that it waits in may outlive every handle.
pub(crate) struct Inbound {
    id: u32,
    /// None once taken.
    entry: Option<Arc<Entry>>,
    session: Arc<SessionState>,
    commands: mpsc::WeakUnboundedSender<Command>,
}

impl Inbound {
    pub(crate) fn new(
        inner: yamux::Stream,
        entry: Arc<Entry>,
        session: Arc<SessionState>,
        commands: mpsc::WeakUnboundedSender<Command>,
    ) -> Self {
        let id = inner.id().val();
        *entry.inner() = Some(inner);
        Self { id, entry: Some(entry), session, commands }
    }

    /// Hands it to whoever has taken it, and tells the peer so (G16). The crate would wait for the first bytes.
    pub(crate) fn accept(mut self) -> Option<MuxStream> {
        let entry = self.entry.take()?;
        if let Some(inner) = &mut *entry.inner() {
            announce(inner, &mut Context::from_waker(Waker::noop()));
        }
        let session = Arc::clone(&self.session);
        // Without it the session is ending, and needs to be told nothing any more.
        let commands = self.commands.upgrade();
        Some(MuxStream::new(StreamCore::taken(self.id, entry, session, commands)))
    }
}

impl Drop for Inbound {
    fn drop(&mut self) {
        if let Some(entry) = self.entry.take() {
            entry.set_gone();
            let inner = entry.inner().take();
            drop(inner);
        }
    }
}

/// Sends the SYN or the ACK of a stream at once: the crate would wait for the first bytes, and a server-first protocol
/// forever.
pub(crate) fn announce(stream: &mut yamux::Stream, cx: &mut Context<'_>) {
    // The channel of a new stream has room, so this is never pending; an error is a session that is ending.
    let _ = Pin::new(stream).poll_write(cx, &[]);
}
