//! What both halves of a stream share: the crate's end of it, and what becomes of that.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::sync::mpsc;

use super::{command::Command, entry::Entry, state::SessionState, unclaimed::Unclaimed};
use crate::{
    error::{CloseReason, StreamError},
    sync::{Bell, Latched},
};

/// The crate's end of a stream, and the way to the driver for what that end cannot do.
pub(crate) struct StreamCore {
    pub(super) id: u32,
    pub(super) entry: Arc<Entry>,
    pub(super) session: Arc<SessionState>,
    /// `None` for a stream that was taken from a session that nobody holds any more.
    commands: Option<mpsc::UnboundedSender<Command>>,
}

impl StreamCore {
    pub(crate) fn new(
        stream: Unclaimed,
        session: Arc<SessionState>,
        commands: Option<mpsc::UnboundedSender<Command>>,
    ) -> Self {
        let (id, entry) = stream.claim();
        Self { id, entry, session, commands }
    }

    /// Sends a command to the driver. A session that has ended needs none.
    pub(super) fn command(&self, command: Command) {
        if let Some(commands) = &self.commands {
            let _ = commands.send(command);
        }
    }

    /// Waits for the end of the stream on the wire: see [`MuxStream::closed`](super::MuxStream::closed).
    pub(super) fn closed(&self) -> impl Future<Output = io::Result<()>> + Send + use<> {
        let end = self.entry.end.latch();
        let session = Arc::clone(&self.session);
        async move {
            tokio::select! {
                biased;
                outcome = end.wait() => outcome.map_err(Into::into),
                reason = session.closed() => Err(io::Error::new(io::ErrorKind::ConnectionReset, reason)),
            }
        }
    }

    /// Waits until the session opens and takes no more streams: see
    /// [`MuxStream::draining`](super::MuxStream::draining).
    pub(super) fn draining(&self) -> impl Future<Output = CloseReason> + Send + use<> {
        let session = Arc::clone(&self.session);
        async move { session.retired().await.reason }
    }

    /// Why the crate's end of the stream is gone.
    pub(super) fn reset_here(&self) -> io::Error {
        self.entry.error().filter(|end| *end == StreamError::Flooded).unwrap_or(StreamError::ResetHere).into()
    }

    /// Polls the crate. A panic in the driver loses the crate's wakers, so `bell` wakes the task as well.
    pub(super) fn poll_crate<T>(
        &self,
        bell: &Bell,
        cx: &mut Context<'_>,
        poll: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        bell.poll(cx, || self.session.close_reason().is_some(), poll)
    }

    /// Ends both directions at once. The peer sees an RST after what was written.
    pub(super) fn reset(&self) {
        let inner = self.entry.inner().take();
        if inner.is_none() {
            return;
        }
        self.entry.set_gone();
        drop(inner);
        if self.entry.is_fin_queued() {
            // The crate sends nothing more for a stream whose FIN it has sent.
            self.command(Command::GiveUp(self.id));
        }
    }
}

impl Drop for StreamCore {
    fn drop(&mut self) {
        let inner = self.entry.inner().take();
        let Some(inner) = inner else { return };
        let unfinished = self.entry.finished_at().is_none() && !self.entry.is_reset_by_peer();
        self.entry.set_gone();
        if self.entry.is_fin_queued() && unfinished {
            // The peer may still be sending: the driver reads and discards, so that what we sent is not destroyed
            // (G17).
            self.command(Command::Linger(inner, Arc::clone(&self.entry)));
        }
    }
}

/// The end of the session, once a half has to wait for it.
#[derive(Default)]
pub(super) struct ClosedFuture(Option<Latched<CloseReason>>);

impl ClosedFuture {
    pub(super) fn poll(&mut self, session: &SessionState, cx: &mut Context<'_>) -> Poll<CloseReason> {
        Pin::new(self.0.get_or_insert_with(|| session.closed())).poll(cx)
    }
}
