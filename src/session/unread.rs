//! How many unread Data frames a stream holds (G19).
//!
//! A window bounds the bytes of a stream, not its frames: each costs some 64 bytes of memory beside its payload, so
//! frames of one byte take sixty times their window. What counts is what is unread *now*: a reader may stay behind
//! forever and never catch up.

/// How many unread Data frames one stream may hold if its window has not grown. One more resets the stream, and that
/// alone (G16).
const MAX_UNREAD_FRAMES: u32 = 1 << 16;

/// With frames of at least this many bytes, a window of any size is full before there are too many.
const HONEST_FRAME: u32 = 128;

/// How many unread Data frames one stream with this window may hold.
pub(crate) fn max_unread_frames_of(window: u64) -> u32 {
    u32::try_from(window / u64::from(HONEST_FRAME)).unwrap_or(u32::MAX).max(MAX_UNREAD_FRAMES)
}

/// The streams of a session may together hold this many frames for each stream allowed in each direction.
const FRAMES_OF_A_STREAM: u32 = (256 << 10) / HONEST_FRAME;

/// How many unread Data frames the streams of one session may hold together. One more resets the stream that holds
/// most.
pub(crate) fn max_unread_frames(max_concurrent_streams: u32) -> u32 {
    max_concurrent_streams.saturating_mul(2 * FRAMES_OF_A_STREAM).max(2 * MAX_UNREAD_FRAMES)
}

/// How many steps are kept for a stream.
const STEPS: usize = 8;
/// A step holds up to one in this many of all frames.
const SHARES: u32 = 4;

/// Consecutive frames, up to an offset of the stream.
#[derive(Clone, Copy, Debug, Default)]
struct Step {
    end: u64,
    frames: u32,
}

/// The unread frames of one stream, in the order in which they came.
///
/// In fixed space: if there are many, several count as one step until the last of them is read. So frames that were
/// read may still count, in a steady backlog up to half as many as are unread; never fewer are counted than there are.
#[derive(Debug, Default)]
pub(crate) struct Unread {
    steps: [Step; STEPS],
    len: usize,
    frames: u32,
}

impl Unread {
    /// How many there are, as of the last [`settle`](Self::settle).
    pub(crate) fn frames(&self) -> u32 {
        self.frames
    }

    /// Counts a frame that ends at this offset of its stream.
    pub(crate) fn push(&mut self, end: u64) {
        self.frames += 1;
        let grain = self.frames.div_ceil(SHARES);
        match self.steps[..self.len].last_mut() {
            Some(last) if last.frames < grain && self.len > 1 => {
                last.end = end;
                last.frames += 1;
            }
            _ => {
                if self.len == STEPS {
                    self.merge();
                }
                self.steps[self.len] = Step { end, frames: 1 };
                self.len += 1;
            }
        }
    }

    /// The stream was read up to this offset. Returns how many frames are no longer unread.
    pub(crate) fn settle(&mut self, read: u64) -> u32 {
        let done = self.steps[..self.len].iter().take_while(|step| step.end <= read).count();
        let frames = self.steps[..done].iter().map(|step| step.frames).sum();
        self.steps.copy_within(done..self.len, 0);
        self.len -= done;
        self.frames -= frames;
        frames
    }

    /// Makes room: merges steps in pairs.
    fn merge(&mut self) {
        for index in 0..STEPS / 2 {
            let (first, second) = (self.steps[2 * index], self.steps[2 * index + 1]);
            self.steps[index] = Step { end: second.end, frames: first.frames + second.frames };
        }
        self.len = STEPS / 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pushes frames of these lengths, with a reader that is up to `behind` bytes behind.
    fn check(lengths: impl Iterator<Item = u64>, behind: u64) {
        let mut unread = Unread::default();
        let mut ends = std::collections::VecDeque::new();
        let (mut end, mut counted) = (0, 0);
        for length in lengths {
            end += length;
            unread.push(end);
            ends.push_back(end);
            counted += 1;
            let read = end.saturating_sub(behind);
            counted -= unread.settle(read);
            ends.retain(|end| *end > read);
            let there = u32::try_from(ends.len()).unwrap();
            assert_eq!(unread.frames(), counted);
            let most = there + there.div_ceil(2) + 2;
            assert!((there..=most).contains(&unread.frames()), "{there} are unread, and {} counted", unread.frames());
        }
        unread.settle(end);
        assert_eq!(unread.frames(), 0, "everything was read");
    }

    #[test]
    fn what_was_read_counts_no_more_though_the_reader_never_catches_up() {
        check((0..10_000).map(|_| 1), 1_000);
        check((0..10_000).map(|n| 1 + n % 7), 500);
        check((0..10_000).map(|n| 1 + (n * 7919) % 300), 100_000);
        check((0..100).map(|_| 100), 0);
    }

    #[test]
    fn all_of_them_count_where_nothing_is_read() {
        let mut unread = Unread::default();
        for frame in 1..=100_000 {
            unread.push(frame);
            assert_eq!(u64::from(unread.frames()), frame);
        }
        assert_eq!(unread.settle(0), 0);
        assert_eq!(unread.settle(100_000), 100_000);
    }

    #[test]
    fn a_session_may_hold_what_its_streams_need() {
        assert_eq!(max_unread_frames(256), 1 << 20);
        assert_eq!(max_unread_frames(1), 1 << 17);
        assert_eq!(max_unread_frames_of(256 << 10), 1 << 16);
        assert_eq!(max_unread_frames_of(64 << 20), 1 << 19);
    }
}
