//! What wire and handle know of one stream.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use futures_util::task::AtomicWaker;
use tokio::sync::OwnedSemaphorePermit;

use super::{end::WireEnd, handed::Handed};
use crate::{error::StreamError, sync::Ends};

/// The wire writes it before the yamux crate sees the last byte of a frame; the handle reads it.
#[derive(Debug, Default)]
pub(crate) struct Entry {
    /// The wire carries, the user reads. The end of the peer is its FIN.
    pub(super) ends: Ends,
    /// The crate's end of it. None before the crate has made it, and once it was reset on this side.
    inner: Mutex<Option<yamux::Stream>>,
    /// How it ends on the wire.
    pub(super) end: WireEnd,
    /// What its handle has given to the crate.
    pub(super) handed: Handed,
    /// Who waits for bytes, and who for credit. The crate wakes them, but not when it is lost to a panic.
    pub(crate) reader: AtomicWaker,
    pub(crate) writer: AtomicWaker,
}

impl Entry {
    pub(crate) fn inner(&self) -> MutexGuard<'_, Option<yamux::Stream>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why there is nothing more to read or to write, if a frame of this stream said so.
    pub(crate) fn error(&self) -> Option<StreamError> {
        if self.is_flooded() {
            Some(StreamError::Flooded)
        } else if self.ends.is_refused() {
            Some(StreamError::Refused)
        } else if self.ends.is_flooding() {
            Some(StreamError::Flooding)
        } else if self.is_reset_by_peer() {
            Some(StreamError::ResetByPeer)
        } else {
            None
        }
    }

    /// Whether the peer's FIN was handed over, and the bytes that its Data frames carried before it.
    pub(crate) fn finished_at(&self) -> Option<u64> {
        self.ends.finished_at()
    }

    /// Whether the peer's RST was handed over. After a FIN it fails writes alone.
    pub(crate) fn is_reset_by_peer(&self) -> bool {
        self.ends.is_reset()
    }

    /// Whether the peer has sent too many frames that nobody reads: we have reset the stream, and dropped what it held.
    pub(crate) fn is_flooded(&self) -> bool {
        self.ends.is_flooded()
    }

    /// So many more bytes of it were read. One task reads.
    pub(crate) fn add_read(&self, bytes: usize) {
        self.ends.set_read(self.ends.read() + bytes as u64);
    }

    /// How many bytes of it were read.
    pub(crate) fn read(&self) -> u64 {
        self.ends.read()
    }

    /// Whether the handle is gone or has reset the stream: what the crate still says of it is not the user's word.
    pub(crate) fn is_gone(&self) -> bool {
        self.ends.is_gone()
    }

    /// Whether the user's FIN stands in the queue.
    pub(crate) fn is_fin_queued(&self) -> bool {
        self.ends.is_fin_queued()
    }

    pub(crate) fn set_gone(&self) {
        self.ends.set_gone();
    }

    pub(crate) fn set_fin_queued(&self) {
        self.ends.set_fin_queued();
    }

    /// Drops what the crate has of a flooded stream, read or not, and tells whoever waits for it.
    pub(crate) fn drop_flooded(&self) {
        let inner = self.inner().take();
        drop(inner);
        self.wake();
    }

    /// Wakes whoever waits. The crate's end of the stream must be gone.
    pub(crate) fn wake(&self) {
        self.reader.wake();
        self.writer.wake();
    }
}

/// Counts a stream, or a wait for one, in the load of its session.
#[derive(Debug)]
pub(crate) struct LoadGuard(Arc<AtomicUsize>);

impl LoadGuard {
    pub(crate) fn new(load: &Arc<AtomicUsize>) -> Self {
        load.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(load))
    }
}

impl Drop for LoadGuard {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// What an outbound stream holds while it is open on the wire.
#[derive(Debug)]
pub(crate) struct OpenPermit {
    pub(crate) permit: OwnedSemaphorePermit,
    pub(crate) load: LoadGuard,
}
