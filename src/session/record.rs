//! What the ledger keeps of one stream while it is open on the wire.

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;

use super::{
    entry::{Entry, LoadGuard, Outcome},
    unread::Unread,
};
use crate::error::StreamError;

/// The initial window of a stream, each way.
pub(super) const WINDOW: u32 = 256 << 10;

#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(super) struct Record {
    pub(super) entry: Arc<Entry>,
    pub(super) outbound: bool,
    /// Our SYN has gone out, or the peer's has come in.
    pub(super) announced: bool,
    /// The side that did not open it has acknowledged it.
    pub(super) acknowledged: bool,
    /// Where in the output our FIN ends.
    pub(super) fin_at: Option<u64>,
    /// An RST goes out right after our FIN.
    pub(super) reset_after_fin: bool,
    /// The end of its session cut it, and that is what its handles report.
    cut: bool,
    /// How many bytes the peer may send in total, and how many it has begun to send.
    pub(super) granted: u64,
    pub(super) begun: u64,
    /// How many bytes the peer lets us send, beyond those already sent.
    pub(super) allowance: u64,
    pub(super) unread: Unread,
    _permit: Option<OwnedSemaphorePermit>,
    _load: LoadGuard,
}

impl Record {
    pub(super) fn new(outbound: bool, permit: Option<OwnedSemaphorePermit>, load: LoadGuard) -> Self {
        Self {
            entry: Arc::default(),
            outbound,
            announced: !outbound,
            acknowledged: false,
            fin_at: None,
            reset_after_fin: false,
            cut: false,
            granted: WINDOW.into(),
            begun: 0,
            allowance: WINDOW.into(),
            unread: Unread::default(),
            _permit: permit,
            _load: load,
        }
    }

    /// The end of its session cuts it.
    pub(super) fn cut(self) -> Self {
        Self { cut: true, ..self }
    }

    /// How the stream ended, once the record has. `None` if that is for its session to say.
    pub(super) fn outcome(&self) -> Option<Outcome> {
        let ends = &self.entry.ends;
        if let Some(error) = self.entry.error() {
            Some(Err(error))
        } else if self.fin_at.is_some() && ends.is_finished() {
            Some(Ok(()))
        } else {
            (!self.cut).then_some(Err(StreamError::ResetHere))
        }
    }
}
