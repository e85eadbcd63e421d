//! The receiving half of a connection: what has arrived, in order or not, and the window.

use std::collections::{BTreeMap, VecDeque};

use tokio::io::ReadBuf;

use super::segment::PAYLOAD_MAX;

/// Reassembles what arrives. Its numbers are sequence numbers of the peer.
///
/// 1. `next <= edge`: what was promised to the peer is never taken back, so that all that it may send has room.
/// 2. Nothing in `early` ends at `next` or before it, and nothing begins there.
pub(super) struct Receiver {
    /// The next number that is expected.
    next: u64,
    /// The number after the last that the peer may send.
    edge: u64,
    capacity: u64,
    /// What is in order and has not been read.
    unread: VecDeque<u8>,
    /// What came early, by the number of its first byte.
    early: BTreeMap<u64, Vec<u8>>,
    /// The number of the peer's FIN, when it is known.
    fin: Option<u64>,
}

/// What a segment brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// What was expected next.
    InOrder,
    /// Something after a gap.
    Early,
    /// Nothing new.
    Nothing,
}

impl Receiver {
    /// Expects `next` first, and holds `capacity` bytes for a reader.
    pub(super) fn new(next: u64, capacity: usize) -> Self {
        let capacity = capacity as u64;
        Self { next, edge: next + capacity, capacity, unread: VecDeque::new(), early: BTreeMap::new(), fin: None }
    }

    pub(super) fn next(&self) -> u64 {
        self.next
    }

    pub(super) fn has_unread(&self) -> bool {
        !self.unread.is_empty()
    }

    /// Whether the peer has said FIN, and all before it has arrived.
    pub(super) fn is_finished(&self) -> bool {
        self.fin.is_some_and(|fin| self.next > fin)
    }

    /// Whether a segment has something in the window (RFC 9293, section 3.4). An empty one may be at its very end.
    pub(super) fn accepts(&self, seq: u64, length: u64) -> bool {
        if length == 0 { (self.next..=self.edge).contains(&seq) } else { seq < self.edge && seq + length > self.next }
    }

    /// Takes what is new in a segment that is [accepted](Self::accepts).
    pub(super) fn take(&mut self, seq: u64, payload: &[u8], fin: bool) -> Arrival {
        if fin {
            self.fin.get_or_insert(seq + payload.len() as u64);
        }
        let begin = seq.max(self.next);
        let end = (seq + payload.len() as u64).min(self.edge).min(self.fin.unwrap_or(u64::MAX));
        let before = self.next;
        let mut early = false;
        if begin < end {
            let new = &payload[index(begin - seq)..index(end - seq)];
            if begin == self.next {
                self.unread.extend(new);
                self.next = end;
                self.take_early();
            } else {
                early = self.keep_early(begin, new);
            }
        }
        if self.fin == Some(self.next) {
            self.next += 1;
            self.edge = self.edge.max(self.next);
        }
        match self.next > before {
            true => Arrival::InOrder,
            false if early || (fin && seq > self.next) => Arrival::Early,
            false => Arrival::Nothing,
        }
    }

    /// Whether anything of it is new: of two segments that begin together, the longer one is kept.
    fn keep_early(&mut self, begin: u64, bytes: &[u8]) -> bool {
        let known = self.early.get(&begin).map_or(0, Vec::len);
        if bytes.len() > known {
            self.early.insert(begin, bytes.to_vec());
        }
        bytes.len() > known
    }

    fn take_early(&mut self) {
        while let Some(first) = self.early.first_entry()
            && *first.key() <= self.next
        {
            let (begin, bytes) = first.remove_entry();
            if let Some(new) = bytes.get(index(self.next - begin)..) {
                self.unread.extend(new);
                self.next += new.len() as u64;
            }
        }
    }

    /// Reads what is in order.
    pub(super) fn read(&mut self, buf: &mut ReadBuf<'_>) {
        let count = buf.remaining().min(self.unread.len());
        let (front, back) = self.unread.as_slices();
        for bytes in [front, back] {
            buf.put_slice(&bytes[..bytes.len().min(buf.remaining())]);
        }
        self.unread.drain(..count);
    }

    /// The window that a segment which leaves now promises.
    pub(super) fn window(&mut self) -> u32 {
        if self.growth() >= self.worthwhile() {
            self.edge += self.growth();
        }
        u32::try_from(self.edge - self.next).unwrap_or(u32::MAX)
    }

    /// Whether the window has grown so much that the peer should be told although there is nothing else to tell.
    pub(super) fn should_update(&self) -> bool {
        let closed = self.edge - self.next < self.worthwhile();
        !self.is_finished() && (self.growth() >= self.capacity / 2 || (closed && self.growth() >= self.worthwhile()))
    }

    /// By how much the window could grow.
    fn growth(&self) -> u64 {
        (self.next + self.capacity - self.unread.len() as u64).saturating_sub(self.edge)
    }

    /// The least growth that is promised. Less would make the peer send small segments (RFC 9293, section 3.8.6.2.2).
    fn worthwhile(&self) -> u64 {
        (PAYLOAD_MAX as u64).min(self.capacity / 2).max(1)
    }
}

fn index(count: u64) -> usize {
    usize::try_from(count).expect("less than a window")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(receiver: &mut Receiver, limit: usize) -> Vec<u8> {
        let mut bytes = vec![0; limit];
        let mut buf = ReadBuf::new(&mut bytes);
        receiver.read(&mut buf);
        buf.filled().to_vec()
    }

    #[test]
    fn segments_in_any_order_and_overlapping_give_the_bytes_once() {
        let mut receiver = Receiver::new(100, 64);
        assert_eq!(receiver.take(106, b"ghi", true), Arrival::Early);
        assert_eq!(receiver.take(102, b"cdef", false), Arrival::Early);
        assert_eq!(receiver.take(102, b"cd", false), Arrival::Nothing);
        assert_eq!(receiver.take(100, b"abcd", false), Arrival::InOrder);
        assert_eq!(read(&mut receiver, 64), b"abcdefghi");
        assert!(receiver.is_finished());
        assert_eq!(receiver.next(), 110);
    }

    #[test]
    fn a_window_that_is_full_opens_in_worthwhile_steps() {
        let mut receiver = Receiver::new(0, 8);
        assert_eq!(receiver.take(0, b"abcdefghXX", false), Arrival::InOrder);
        assert_eq!((receiver.window(), receiver.should_update()), (0, false));
        assert_eq!(read(&mut receiver, 3), b"abc");
        assert_eq!((receiver.window(), receiver.should_update()), (0, false));
        assert_eq!(read(&mut receiver, 1), b"d");
        assert!(receiver.should_update());
        assert_eq!(receiver.window(), 4);
    }
}
