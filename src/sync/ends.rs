//! What came over a stream, and how it ended.

use std::fmt;

use super::{Ordering, Primitives, Std};

/// The last bytes have come.
const FINISHED: u64 = 1;
/// The peer has reset the stream. After the last bytes this fails writes only.
const RESET: u64 = 2;
/// The reader is gone, or has reset the stream.
const GONE: u64 = 4;
/// Our own last bytes are queued.
const FIN_QUEUED: u64 = 8;
/// More has come than is kept for a reader that does not read.
const FLOODED: u64 = 16;
/// The peer has reset the stream without handing it to anybody.
const REFUSED: u64 = 32;
/// The peer has reset the stream because its reader was too far behind.
const FLOODING: u64 = 64;

/// What one task records of a stream as its frames come, and another reads: how many bytes it carried, and how it
/// ended.
///
/// # Rules
///
/// 1. Bytes are counted before the end is published: anyone who finds the stream [finished](Self::finished_at) knows
///    all of its bytes (G17).
/// 2. A fact stays. Anyone who sees it sees what was written before it, and so every earlier fact.
/// 3. Only one task carries and finishes, and only one reads.
///
/// ```
/// use evermux::sync::Ends;
///
/// let ends = Ends::new();
/// ends.carry(5);
/// assert_eq!(ends.finished_at(), None);
/// ends.finish(2);
/// assert_eq!(ends.finished_at(), Some(7));
/// ```
pub struct Ends<P: Primitives = Std> {
    /// Bits, each set once, with release; read with acquire.
    facts: P::AtomicU64,
    /// Changed by one task. Final for anyone who has seen [`FINISHED`].
    carried: P::AtomicU64,
    /// How much was read. Changed by one task. It may be seen late: then the reader seems to have read less.
    read: P::AtomicU64,
}

impl Ends {
    /// For a stream that has carried nothing.
    pub fn new() -> Self {
        Self::with_primitives()
    }
}

impl Default for Ends {
    fn default() -> Self {
        Self::new()
    }
}

impl<P: Primitives> Ends<P> {
    /// As [`new`](Ends::new), on a platform of the caller's choice.
    pub fn with_primitives() -> Self {
        Self { facts: P::atomic_u64(0), carried: P::atomic_u64(0), read: P::atomic_u64(0) }
    }

    /// This many bytes came.
    pub fn carry(&self, bytes: u64) {
        let carried = P::load_u64(&self.carried, Ordering::Relaxed);
        P::store_u64(&self.carried, carried + bytes, Ordering::Release);
    }

    /// The last bytes came: this many.
    pub fn finish(&self, bytes: u64) {
        self.carry(bytes);
        self.set(FINISHED);
    }

    /// How many bytes there were in all, once the last have come.
    pub fn finished_at(&self) -> Option<u64> {
        self.is(FINISHED).then(|| P::load_u64(&self.carried, Ordering::Acquire))
    }

    /// Whether the last bytes have come.
    pub fn is_finished(&self) -> bool {
        self.is(FINISHED)
    }

    /// The peer has reset the stream.
    pub fn set_reset(&self) {
        self.set(RESET);
    }

    /// Whether the peer has reset the stream.
    pub fn is_reset(&self) -> bool {
        self.is(RESET)
    }

    /// The reader is gone, or has reset the stream.
    pub fn set_gone(&self) {
        self.set(GONE);
    }

    /// Whether the reader is gone, or has reset the stream.
    pub fn is_gone(&self) -> bool {
        self.is(GONE)
    }

    /// Our own last bytes are queued.
    pub fn set_fin_queued(&self) {
        self.set(FIN_QUEUED);
    }

    /// Whether our own last bytes are queued.
    pub fn is_fin_queued(&self) -> bool {
        self.is(FIN_QUEUED)
    }

    /// More has come than is kept for a reader that does not read.
    pub fn set_flooded(&self) {
        self.set(FLOODED);
    }

    /// Whether more has come than is kept for a reader that does not read.
    pub fn is_flooded(&self) -> bool {
        self.is(FLOODED)
    }

    /// The peer has reset the stream without handing it to anybody.
    pub fn set_refused(&self) {
        self.set(REFUSED);
    }

    /// Whether the peer has reset the stream without handing it to anybody.
    pub fn is_refused(&self) -> bool {
        self.is(REFUSED)
    }

    /// The peer has reset the stream because more had come than it keeps for a reader that does not read.
    pub fn set_flooding(&self) {
        self.set(FLOODING);
    }

    /// Whether the peer has reset the stream because more had come than it keeps for a reader that does not read.
    pub fn is_flooding(&self) -> bool {
        self.is(FLOODING)
    }

    /// How many bytes there were so far. For the task that carries.
    pub fn carried(&self) -> u64 {
        P::load_u64(&self.carried, Ordering::Relaxed)
    }

    /// This many bytes were read in total. For the task that reads.
    pub fn set_read(&self, bytes: u64) {
        P::store_u64(&self.read, bytes, Ordering::Relaxed);
    }

    /// How many bytes were read, as far as is known here: there may be more.
    pub fn read(&self) -> u64 {
        P::load_u64(&self.read, Ordering::Relaxed)
    }

    fn is(&self, fact: u64) -> bool {
        P::load_u64(&self.facts, Ordering::Acquire) & fact != 0
    }

    fn set(&self, fact: u64) {
        P::fetch_or_u64(&self.facts, fact, Ordering::AcqRel);
    }
}

impl<P: Primitives> fmt::Debug for Ends<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ends")
            .field("carried", &P::load_u64(&self.carried, Ordering::Relaxed))
            .field("read", &P::load_u64(&self.read, Ordering::Relaxed))
            .field("is_finished", &self.is_finished())
            .field("is_reset", &self.is_reset())
            .finish_non_exhaustive()
    }
}
