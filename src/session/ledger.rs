//! What came and went on the wire, stream by stream (G16, G17).
//!
//! The wire keeps the ledger and the handles read it. A record lives from the SYN until both ends have finished on the
//! wire; frames of a stream without a record go nowhere. The wire writes an entry before the yamux crate sees the last
//! byte of the frame it is about, so a handle that the crate wakes always finds it written.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use futures_util::task::AtomicWaker;
use tokio::sync::OwnedSemaphorePermit;

use super::frame::{Header, Kind, flags};
use crate::sync::Ends;

/// Data frames that a stream may hold unread. The window bounds their bytes, and this what the memory for each frame
/// adds to them: some 4 MiB, where a peer sends a byte in each. One more resets the stream.
pub(crate) const MAX_UNREAD_FRAMES: u32 = 1 << 16;

/// What wire and handle know of one stream.
#[derive(Debug, Default)]
pub(crate) struct Entry {
    /// The wire carries, the user reads. The end of the peer is its FIN.
    ends: Ends,
    /// Who waits for bytes, and who for credit. The crate wakes them, but not when it is lost to a panic.
    pub(crate) reader: AtomicWaker,
    pub(crate) writer: AtomicWaker,
}

impl Entry {
    /// Whether the peer's FIN was handed over, and the bytes that its Data frames carried before it.
    pub(crate) fn finished_at(&self) -> Option<u64> {
        self.ends.finished_at()
    }

    /// Whether the peer's RST was handed over. After a FIN it fails writes only.
    pub(crate) fn is_reset_by_peer(&self) -> bool {
        self.ends.is_reset()
    }

    /// Whether the peer has sent too many frames that nobody reads.
    pub(crate) fn is_flooded(&self) -> bool {
        self.ends.is_flooded()
    }

    /// The user has read so many bytes by now.
    pub(crate) fn set_read(&self, bytes: u64) {
        self.ends.set_read(bytes);
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

    /// Wakes whoever waits. The session must be closed, and the crate gone.
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
pub(crate) struct Place {
    pub(crate) permit: OwnedSemaphorePermit,
    pub(crate) load: LoadGuard,
}

#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
struct Record {
    entry: Arc<Entry>,
    outbound: bool,
    /// Our SYN has gone out, or the peer's has come in.
    announced: bool,
    fin_out: bool,
    /// An RST goes out right after our FIN.
    reset_after_fin: bool,
    /// Data frames since the user had last read everything.
    unread_frames: u32,
    _permit: Option<OwnedSemaphorePermit>,
    _load: LoadGuard,
}

/// What to do with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ruling {
    /// Let it through.
    Pass,
    /// Let its place be taken by an RST.
    Reset,
    /// Let it through, then send an RST.
    PassThenReset,
    /// Take it, body and all, and say nothing.
    Drop,
    /// Drop it, and answer with an RST.
    Refuse,
    /// Let an RST take its place, and answer with one.
    Flood,
}

/// The records of one session.
#[derive(Debug)]
pub(crate) struct Ledger {
    records: BTreeMap<u32, Record>,
    inbound: u32,
    max_inbound: u32,
    load: Arc<AtomicUsize>,
    /// A draining session refuses every new stream.
    refuse_all: bool,
}

impl Ledger {
    pub(crate) fn new(max_inbound: u32, load: Arc<AtomicUsize>) -> Self {
        Self { records: BTreeMap::new(), inbound: 0, max_inbound, load, refuse_all: false }
    }

    pub(crate) fn refuse_all(&mut self) {
        self.refuse_all = true;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The entries of all streams that are open.
    pub(crate) fn entries(&self) -> Vec<Arc<Entry>> {
        self.records.values().map(|record| Arc::clone(&record.entry)).collect()
    }

    /// Whether the peer knows of every stream that we have opened.
    pub(crate) fn is_announced(&self) -> bool {
        self.records.values().all(|record| record.announced)
    }

    /// Closes every record, and gives the ids of those that the peer knows.
    pub(crate) fn close_all(&mut self) -> impl Iterator<Item = u32> + use<> {
        self.inbound = 0;
        let records = std::mem::take(&mut self.records);
        records.into_iter().filter(|(_, record)| record.announced).map(|(id, _)| id)
    }

    pub(crate) fn entry(&self, id: u32) -> Option<Arc<Entry>> {
        self.records.get(&id).map(|record| Arc::clone(&record.entry))
    }

    /// Opens a record for a stream of ours, before anything of it is sent.
    pub(crate) fn open(&mut self, id: u32, place: Place) -> Arc<Entry> {
        let entry = Arc::new(Entry::default());
        let record = Record {
            entry: Arc::clone(&entry),
            outbound: true,
            announced: false,
            fin_out: false,
            reset_after_fin: false,
            unread_frames: 0,
            _permit: Some(place.permit),
            _load: place.load,
        };
        self.records.insert(id, record);
        entry
    }

    /// Rules on a frame of a stream that came in, from its header.
    pub(crate) fn rule_in(&mut self, header: &Header) -> Ruling {
        let id = header.stream_id;
        let known = self.records.get_mut(&id);
        if header.has(flags::SYN) && !header.has(flags::RST) && known.is_none() {
            if self.refuse_all || self.inbound >= self.max_inbound {
                return Ruling::Refuse;
            }
            self.inbound += 1;
            let record = Record {
                entry: Arc::default(),
                outbound: false,
                announced: true,
                fin_out: false,
                reset_after_fin: false,
                unread_frames: u32::from(header.body_len() > 0),
                _permit: None,
                _load: LoadGuard::new(&self.load),
            };
            self.records.insert(id, record);
            return Ruling::Pass;
        }
        let Some(record) = known else { return Ruling::Drop };
        // What follows a FIN would be handed to the reader by the crate. Credit and RST still count.
        if header.kind != Kind::Data || header.has(flags::RST) {
            return Ruling::Pass;
        }
        if record.entry.ends.is_finished() {
            return Ruling::Drop;
        }
        if header.body_len() == 0 {
            return Ruling::Pass;
        }
        if record.entry.ends.is_all_read() {
            record.unread_frames = 0;
        }
        record.unread_frames += 1;
        if record.unread_frames > MAX_UNREAD_FRAMES {
            record.entry.ends.set_flooded();
            return Ruling::Flood;
        }
        Ruling::Pass
    }

    /// Books a frame that [`rule_in`](Self::rule_in) passed. Called before the crate is given its last byte.
    pub(crate) fn book_in(&mut self, header: &Header) {
        let Some(record) = self.records.get(&header.stream_id) else { return };
        let entry = &record.entry;
        if header.has(flags::RST) {
            entry.ends.set_reset();
            self.remove(header.stream_id);
            return;
        }
        let bytes = u64::from(header.body_len());
        if header.has(flags::FIN) {
            entry.ends.finish(bytes);
            if record.fin_out {
                self.remove(header.stream_id);
            }
        } else {
            entry.ends.carry(bytes);
        }
    }

    /// Rules on a frame of a stream that the crate sends, and books it.
    pub(crate) fn pass_out(&mut self, header: &Header) -> Ruling {
        let Some(record) = self.records.get_mut(&header.stream_id) else { return Ruling::Drop };
        record.announced = true;
        if header.has(flags::RST) {
            self.remove(header.stream_id);
            return Ruling::Pass;
        }
        if !header.has(flags::FIN) {
            return Ruling::Pass;
        }
        if record.entry.is_gone() && !record.entry.is_fin_queued() {
            // The crate's word for a stream that was dropped unfinished: a cut reply must not read as complete.
            self.remove(header.stream_id);
            return Ruling::Reset;
        }
        record.fin_out = true;
        if record.entry.ends.is_finished() {
            self.remove(header.stream_id);
            Ruling::Pass
        } else if record.reset_after_fin {
            self.remove(header.stream_id);
            Ruling::PassThenReset
        } else {
            Ruling::Pass
        }
    }

    /// A stream whose FIN the user has sent is given up. Says whether its RST goes out now; otherwise it follows the FIN.
    pub(crate) fn give_up(&mut self, id: u32) -> bool {
        match self.records.get_mut(&id) {
            None => false,
            Some(record) if record.fin_out => {
                self.remove(id);
                true
            }
            Some(record) => {
                record.reset_after_fin = true;
                false
            }
        }
    }

    fn remove(&mut self, id: u32) {
        if let Some(record) = self.records.remove(&id)
            && !record.outbound
        {
            self.inbound -= 1;
        }
    }
}
