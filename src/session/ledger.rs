//! What came and went on the wire, stream by stream (G16, G17).
//!
//! The wire keeps the ledger and the handles read it. A record lives from the SYN until both ends have finished on the
//! wire; frames of a stream without a record go nowhere. The wire writes an entry before the yamux crate sees the last
//! byte of the frame it is about, so a handle that the crate wakes always finds it written.
//!
//! # The state of a stream
//!
//! ```text
//!                         SYN
//!                          │
//!           FIN in         ▼         FIN out
//!         ┌────────────── open ──────────────┐
//!         ▼                                  ▼
//!   the peer has finished           we have finished: a handle that is
//!         │                         dropped now lingers (driver/streams.rs)
//!         │ FIN out                          │ FIN in
//!         └────────────► ended ◄─────────────┘
//!
//!   from any state, at once:
//!     RST in                    the peer has reset it, refused it, or calls it flooded
//!     RST out                   the handle has reset it, or was dropped before its FIN; the peer has flooded it
//!     the end of the session    cut: its handles are told why the session ended
//! ```
//!
//! A `Record` holds what went out, and whether the stream was acknowledged; [`Ends`](crate::sync::Ends) holds what came
//! in, which the reader needs as well. A record that has ended is dropped outside the lock, and wakes its waiters.

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak, atomic::AtomicUsize},
};

use super::{
    entry::{Entry, LoadGuard, OpenPermit},
    frame::{Header, Kind, flags},
    goodbye::FLOODED,
    inbound::Inbound,
    record::Record,
    unread::{Unread, max_unread_frames, max_unread_frames_of},
};
use crate::{
    config::Config,
    sync::{Gate, Lane, Over, Steps},
};

/// What to do with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ruling {
    /// Let it through.
    Pass,
    /// Replace it with an RST.
    Reset,
    /// Let it through, then send an RST.
    PassThenReset,
    /// Take it, body and all, without an answer.
    Drop,
    /// Drop it, and answer with this RST.
    Refuse(Header),
}

/// The records of one session.
#[derive(Debug)]
pub(crate) struct Ledger {
    records: BTreeMap<u32, Record>,
    /// Inbound streams that we have not acknowledged, and how many there may be. Acknowledged ones are limited where
    /// they are taken.
    unacknowledged_in: usize,
    accept_backlog: usize,
    /// Streams of ours that the peer has not acknowledged.
    unacknowledged_out: usize,
    /// Where inbound streams wait to be taken.
    lane: Lane<Inbound>,
    load: Arc<AtomicUsize>,
    gate: Arc<Gate>,
    /// A draining session refuses every new stream.
    refuse_all: bool,
    /// Unread frames, in all streams whose handles still exist, and how many are too many.
    unread: u32,
    max_unread: u32,
    /// If `unread` was too high only because some frames had been read in the meantime, it is checked again once it
    /// reaches this.
    look_at: u32,
    /// Streams that have ended on the wire, and the frames that their handles have not read.
    left: Vec<(Weak<Entry>, Unread)>,
    /// Streams that were reset for their unread frames, and still hold them.
    flooded: Vec<Arc<Entry>>,
    /// How far the output carries streams that ended cleanly.
    said: u64,
    /// Records that have ended. Their drop wakes others: the driver does that, after its poll of the crate.
    ended: Vec<Record>,
}

/// What has ended on the wire, to be dropped without its guard.
#[must_use = "its drop wakes others"]
pub(crate) struct Ended {
    records: Vec<Record>,
    flooded: Vec<Arc<Entry>>,
}

impl Ended {
    /// Releases the permits of the streams, and drops what flooded ones hold.
    pub(crate) fn settle(self, lane: &Lane<Inbound>) {
        let Self { records, flooded } = self;
        let mut steps = Steps::new();
        let is_any = !records.is_empty();
        for record in records {
            if let Some(outcome) = record.outcome() {
                steps.run(|| record.entry.end.set(outcome));
            }
            // The crate wakes a writer that waits for credit, but not one at the gate.
            steps.run(|| record.entry.writer.ring());
            steps.run(|| drop(record));
        }
        if is_any {
            steps.run(|| lane.wake());
        }
        for entry in flooded {
            steps.run(|| entry.drop_flooded());
        }
    }
}

impl Ledger {
    pub(crate) fn new(config: &Config, lane: Lane<Inbound>, load: Arc<AtomicUsize>, gate: Arc<Gate>) -> Self {
        Self {
            records: BTreeMap::new(),
            unacknowledged_in: 0,
            accept_backlog: config.accept_backlog(),
            unacknowledged_out: 0,
            lane,
            load,
            gate,
            refuse_all: false,
            unread: 0,
            max_unread: max_unread_frames(config.max_concurrent_streams()),
            look_at: 0,
            left: Vec::new(),
            flooded: Vec::new(),
            said: 0,
            ended: Vec::new(),
        }
    }

    pub(crate) fn refuse_all(&mut self) {
        self.refuse_all = true;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Whether a stream is open that the peer certainly knows of.
    pub(crate) fn is_used(&self) -> bool {
        self.records.values().any(|record| !record.outbound || record.acknowledged)
    }

    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    /// How much of the output the transport must have taken so that no cleanly ended stream was lost.
    pub(crate) fn said(&self) -> u64 {
        self.said
    }

    /// The entries of all open streams.
    pub(crate) fn entries(&self) -> Vec<Arc<Entry>> {
        self.records.values().map(|record| Arc::clone(&record.entry)).collect()
    }

    /// Whether the peer knows of every stream that we have opened.
    pub(crate) fn is_announced(&self) -> bool {
        self.records.values().all(|record| record.announced)
    }

    /// How many streams of ours the peer has not acknowledged, including those that we have finished, since they wait
    /// at the peer all the same.
    pub(crate) fn unacknowledged(&self) -> usize {
        self.unacknowledged_out
    }

    /// Closes every record, and returns the RST of each that the peer knows. The lane must be closed by then.
    pub(crate) fn close_all(&mut self) -> Vec<Header> {
        let records = std::mem::take(&mut self.records);
        let known = records.iter().filter(|(_, record)| record.announced);
        let resets = known.map(|(id, record)| self.reset(*id, record)).collect();
        self.ended.extend(records.into_values().map(Record::cut));
        resets
    }

    pub(crate) fn entry(&self, id: u32) -> Option<Arc<Entry>> {
        self.records.get(&id).map(|record| Arc::clone(&record.entry))
    }

    /// Opens a record for a stream of ours, before anything of it is sent.
    pub(crate) fn open(&mut self, id: u32, permit: OpenPermit) -> Arc<Entry> {
        let record = Record::new(true, Some(permit.permit), permit.load);
        let entry = Arc::clone(&record.entry);
        self.records.insert(id, record);
        self.unacknowledged_out += 1;
        entry
    }

    /// How many bytes the peer may still send on a stream. `None` if its frames go nowhere.
    pub(crate) fn credit(&self, id: u32) -> Option<u64> {
        let record = self.records.get(&id).filter(|record| !record.entry.ends.is_finished())?;
        Some(record.granted.saturating_sub(record.begun))
    }

    /// How many bytes the peer lets us send on a stream. `None` if its frames go nowhere.
    pub(crate) fn allowance(&self, id: u32) -> Option<u64> {
        self.records.get(&id).map(|record| record.allowance)
    }

    /// Rules on an inbound frame of a stream, from its header.
    pub(crate) fn rule_in(&mut self, header: &Header) -> Ruling {
        let id = header.stream_id;
        if header.has(flags::SYN) && !header.has(flags::RST) && !self.records.contains_key(&id) {
            if self.refuse_all || self.unacknowledged_in >= self.accept_backlog {
                return Ruling::Refuse(Header::reset(id));
            }
            self.unacknowledged_in += 1;
            let mut record = Record::new(false, None, LoadGuard::new(&self.load));
            record.begun = header.body_len().into();
            record.allowance += header.credit();
            self.records.insert(id, record);
            return Ruling::Pass;
        }
        let Some(record) = self.records.get_mut(&id) else { return Ruling::Drop };
        record.allowance += header.credit();
        // The crate would hand data that follows a FIN to the reader. Credit and RST still count.
        if header.kind != Kind::Data || header.has(flags::RST) {
            return Ruling::Pass;
        }
        if record.entry.ends.is_finished() {
            return Ruling::Drop;
        }
        if header.body_len() == 0 {
            return Ruling::Pass;
        }
        self.unread -= record.unread.settle(record.entry.read());
        // A window that has grown holds more frames, even of an honest peer.
        let window = record.granted.saturating_sub(record.entry.read());
        if record.unread.frames() >= max_unread_frames_of(window) {
            return Ruling::Refuse(self.flood(id));
        }
        record.begun += u64::from(header.body_len());
        Ruling::Pass
    }

    /// If the streams of the session hold too many unread frames, gives up the one that holds most. Returns its RST, if
    /// the peer needs one.
    pub(crate) fn relieve(&mut self) -> Option<Header> {
        if self.unread < self.max_unread.max(self.look_at) {
            return None;
        }
        self.unread = 0;
        for record in self.records.values_mut() {
            record.unread.settle(record.entry.read());
            self.unread += record.unread.frames();
        }
        self.left.retain_mut(|(entry, unread)| {
            let read = entry.upgrade().map_or(u64::MAX, |entry| entry.read());
            unread.settle(read);
            self.unread += unread.frames();
            unread.frames() > 0
        });
        if self.unread < self.max_unread {
            self.look_at = self.unread + self.max_unread / 16;
            return None;
        }
        self.look_at = 0;
        let open = self.records.iter().max_by_key(|(_, record)| record.unread.frames());
        let open = open.map(|(id, record)| (*id, record.unread.frames()));
        let left = (0..self.left.len()).max_by_key(|index| self.left[*index].1.frames());
        match (open, left) {
            (open, Some(left)) if open.is_none_or(|(_, frames)| frames < self.left[left].1.frames()) => {
                let (entry, unread) = self.left.swap_remove(left);
                self.unread -= unread.frames();
                if let Some(entry) = entry.upgrade() {
                    entry.ends.set_flooded();
                    self.flooded.push(entry);
                }
                None
            }
            (Some((id, _)), _) => Some(self.flood(id)),
            (None, _) => None,
        }
    }

    /// Gives up a stream that holds too many unread frames. Its reader is notified once they are dropped.
    fn flood(&mut self, id: u32) -> Header {
        let Some(record) = self.records.remove(&id) else { return Header::reset(id) };
        record.entry.ends.set_flooded();
        self.flooded.push(Arc::clone(&record.entry));
        let reset = Header { length: FLOODED, ..self.reset(id, &record) };
        self.removed(id, record);
        reset
    }

    /// The RST of a stream whose record ends with it. If the stream was taken, and our ACK is still on the way, the RST
    /// carries it: an opener may repeat what was reset without having been acknowledged.
    fn reset(&self, id: u32, record: &Record) -> Header {
        let reset = Header::reset(id);
        if record.outbound || record.acknowledged {
            return reset;
        }
        match self.lane.over(id, false) {
            Over::Taken => Header { flags: reset.flags | flags::ACK, ..reset },
            Over::Withdrawn(_) | Over::Kept | Over::Unknown => reset,
        }
    }

    /// Takes what has ended since the last call.
    pub(crate) fn take_ended(&mut self) -> Ended {
        Ended { records: std::mem::take(&mut self.ended), flooded: std::mem::take(&mut self.flooded) }
    }

    /// Books a frame that [`rule_in`](Self::rule_in) passed, or a part of it, before the crate is given its last byte.
    /// Only of an evermux peer do we know when it acknowledges, and what its RST says.
    pub(crate) fn book_in(&mut self, header: &Header, by_evermux: bool) {
        let Some(record) = self.records.get_mut(&header.stream_id) else { return };
        // A peer that answers has taken it: hashicorp's never acknowledges a stream that was finished before it was
        // taken.
        let acknowledges = header.has(flags::ACK) || !header.has(flags::RST);
        if acknowledges && record.outbound && !std::mem::replace(&mut record.acknowledged, true) {
            self.unacknowledged_out -= 1;
        }
        let entry = &record.entry;
        if header.has(flags::RST) {
            if record.outbound && !record.acknowledged && by_evermux {
                entry.ends.set_refused();
            }
            if header.length == FLOODED && by_evermux {
                entry.ends.set_flooding();
            }
            entry.ends.set_reset();
            self.remove(header.stream_id);
            return;
        }
        let body = header.body_len();
        if body > 0 {
            record.unread.push(entry.ends.carried() + u64::from(body));
            self.unread += 1;
        }
        if header.has(flags::FIN) {
            entry.ends.finish(body.into());
            if record.fin_at.is_some() {
                self.remove(header.stream_id);
            }
        } else {
            entry.ends.carry(body.into());
        }
    }

    /// Whether frames of this stream still go anywhere.
    pub(crate) fn is_open(&self, id: u32) -> bool {
        self.records.contains_key(&id)
    }

    /// Rules on a frame of a stream that the crate sends, and books it. Its header would end at `end` in the output.
    pub(crate) fn rule_out(&mut self, header: &Header, end: u64) -> Ruling {
        let Some(record) = self.records.get_mut(&header.stream_id) else { return Ruling::Drop };
        record.announced = true;
        if header.has(flags::ACK) && !record.outbound && !std::mem::replace(&mut record.acknowledged, true) {
            self.unacknowledged_in -= 1;
        }
        if header.has(flags::RST) {
            self.remove(header.stream_id);
            return Ruling::Pass;
        }
        record.granted += header.credit();
        record.allowance = record.allowance.saturating_sub(header.body_len().into());
        if !header.has(flags::FIN) {
            return Ruling::Pass;
        }
        if record.entry.is_gone() && !record.entry.is_fin_queued() {
            // The crate sends a FIN for a stream that was dropped unfinished: a cut reply must not read as complete.
            self.remove(header.stream_id);
            return Ruling::Reset;
        }
        record.fin_at = Some(end);
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

    /// The crate sends bytes of a stream.
    pub(crate) fn on_bytes_out(&self, id: u32) {
        if let Some(record) = self.records.get(&id) {
            record.entry.handed.on_frame_out(&self.gate);
        }
    }

    /// Gives up a stream whose FIN the user has sent. Returns whether its RST goes out now; otherwise it follows the
    /// FIN, or nothing is known of the stream any more.
    pub(crate) fn give_up(&mut self, id: u32) -> bool {
        match self.records.get_mut(&id) {
            None => false,
            Some(record) if record.fin_at.is_some() => {
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
        if let Some(record) = self.records.remove(&id) {
            self.removed(id, record);
        }
    }

    fn removed(&mut self, id: u32, mut record: Record) {
        match (record.outbound, record.acknowledged) {
            (true, false) => self.unacknowledged_out -= 1,
            (false, false) => self.unacknowledged_in -= 1,
            (_, true) => {}
        }
        if !record.outbound {
            // A stream that came whole can still be taken. One that its opener reset before that is of no use to
            // anybody.
            drop(self.lane.over(id, record.entry.ends.is_finished()));
        }
        record.entry.handed.end(&self.gate);
        self.unread -= record.unread.settle(record.entry.read());
        let frames = record.unread.frames();
        let holds_them = !record.entry.is_flooded() && !record.entry.is_gone();
        if frames > 0 && holds_them && Arc::strong_count(&record.entry) > 1 {
            self.leave(&record.entry, std::mem::take(&mut record.unread));
        } else {
            self.unread -= frames;
        }
        if let (Some(fin_at), Some(Ok(()))) = (record.fin_at, record.outcome()) {
            self.said = self.said.max(fin_at);
        }
        self.ended.push(record);
    }

    /// Keeps counting the frames that the handle of a stream still holds, for as long as the handle exists.
    fn leave(&mut self, entry: &Arc<Entry>, unread: Unread) {
        if self.left.len() == self.left.capacity() {
            self.left.retain(|(entry, unread)| {
                let is_held = entry.strong_count() > 0;
                if !is_held {
                    self.unread -= unread.frames();
                }
                is_held
            });
            self.left.reserve(self.left.len() + 16);
        }
        self.left.push((Arc::downgrade(entry), unread));
    }
}

#[cfg(test)]
mod tests;
