//! What wire and handle share of one stream.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::OwnedSemaphorePermit;

use crate::{
    error::StreamError,
    sync::{Bell, Ends, Handed, LazyLatch, Steps},
};

/// How a stream has ended on the wire: both sides have finished, or one has reset it.
pub(super) type Outcome = Result<(), StreamError>;

/// The wire writes it before the yamux crate sees the last byte of a frame; the handle reads it.
#[derive(Debug, Default)]
pub(crate) struct Entry {
    /// The wire carries, the user reads. The peer's end is its FIN.
    pub(super) ends: Ends,
    /// The crate's end of it. `None` until the crate has made it, and once it was reset on this side.
    inner: Mutex<Option<yamux::Stream>>,
    /// How it ends on the wire. Who waits for that keeps nothing else of it.
    pub(super) end: LazyLatch<Outcome>,
    /// What its handle has handed to the crate.
    pub(super) handed: Handed,
    /// The tasks that wait for bytes and for credit. The crate wakes them, except if it is lost to a panic.
    pub(crate) reader: Bell,
    pub(crate) writer: Bell,
}

impl Entry {
    pub(crate) fn inner(&self) -> MutexGuard<'_, Option<yamux::Stream>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why no more can be read or written, if a frame of this stream caused that.
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

    /// How many bytes the peer's Data frames carried, once its FIN was handed over.
    pub(crate) fn finished_at(&self) -> Option<u64> {
        self.ends.finished_at()
    }

    /// Whether the peer's RST was handed over. After a FIN it fails writes only.
    pub(crate) fn is_reset_by_peer(&self) -> bool {
        self.ends.is_reset()
    }

    /// Whether the peer sent too many frames that nobody read: we have reset the stream and dropped what it held.
    pub(crate) fn is_flooded(&self) -> bool {
        self.ends.is_flooded()
    }

    /// Counts bytes that were read. Only one task reads.
    pub(crate) fn add_read(&self, bytes: usize) {
        self.ends.set_read(self.ends.read() + bytes as u64);
    }

    /// How many bytes were read.
    pub(crate) fn read(&self) -> u64 {
        self.ends.read()
    }

    /// Whether the handle is gone or has reset the stream: what the crate still sends for it does not come from the
    /// user.
    pub(crate) fn is_gone(&self) -> bool {
        self.ends.is_gone()
    }

    /// Whether the user's FIN is queued.
    pub(crate) fn is_fin_queued(&self) -> bool {
        self.ends.is_fin_queued()
    }

    pub(crate) fn set_gone(&self) {
        self.ends.set_gone();
    }

    pub(crate) fn set_fin_queued(&self) {
        self.ends.set_fin_queued();
    }

    /// Drops what the crate holds of a flooded stream, read or not, and wakes its waiters.
    pub(crate) fn drop_flooded(&self) {
        let inner = self.inner().take();
        drop(inner);
        self.wake();
    }

    /// Wakes reader and writer. The crate's end of the stream must be gone.
    pub(crate) fn wake(&self) {
        let mut steps = Steps::new();
        steps.run(|| self.reader.ring());
        steps.run(|| self.writer.ring());
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
