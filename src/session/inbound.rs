//! A stream of the peer, until somebody takes it.

use std::{
    sync::Arc,
    task::{Context, Waker},
};

use tokio::sync::mpsc;

use super::{command::Command, state::SessionState, stream::MuxStream, stream_core::StreamCore, unclaimed::Unclaimed};

/// A stream of the peer that nobody has taken yet. Its drop resets it.
///
/// Unlike a [`MuxStream`], it does not keep the session running: the lane it waits in may outlive every handle.
pub(crate) struct Inbound {
    stream: Unclaimed,
    session: Arc<SessionState>,
    commands: mpsc::WeakUnboundedSender<Command>,
}

impl Inbound {
    pub(crate) fn new(
        stream: Unclaimed,
        session: Arc<SessionState>,
        commands: mpsc::WeakUnboundedSender<Command>,
    ) -> Self {
        Self { stream, session, commands }
    }

    /// Hands it to its taker, and acknowledges it to the peer (G16). The crate would wait for the first bytes.
    pub(crate) fn accept(self) -> MuxStream {
        let Self { stream, session, commands } = self;
        stream.announce(&mut Context::from_waker(Waker::noop()));
        // Without a sender the session is ending, and needs no more commands.
        MuxStream::new(StreamCore::new(stream, session, commands.upgrade()))
    }
}
