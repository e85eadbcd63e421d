//! A queue of bytes in one allocation.

/// Bytes come in at its end, and leave at its front.
#[derive(Debug)]
pub(super) struct Buffer {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Buffer {
    pub(super) fn with_capacity(bytes: usize) -> Self {
        Self { bytes: vec![0; bytes].into_boxed_slice(), start: 0, end: 0 }
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    pub(super) fn len(&self) -> usize {
        self.end - self.start
    }

    pub(super) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// How many bytes there is room for.
    pub(super) fn room(&self) -> usize {
        self.bytes.len() - self.len()
    }

    pub(super) fn consume(&mut self, n: usize) {
        self.start += n;
        debug_assert!(self.start <= self.end);
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    pub(super) fn clear(&mut self) {
        (self.start, self.end) = (0, 0);
    }

    /// Appends as much as fits. Returns how much that was.
    pub(super) fn push(&mut self, bytes: &[u8]) -> usize {
        let n = bytes.len().min(self.room());
        if self.end + n > self.bytes.len() {
            self.compact();
        }
        self.bytes[self.end..self.end + n].copy_from_slice(&bytes[..n]);
        self.end += n;
        n
    }

    /// The space for bytes that [`filled`](Self::filled) then appends. Empty only if there is no room at all.
    pub(super) fn space(&mut self) -> &mut [u8] {
        if self.end == self.bytes.len() {
            self.compact();
        }
        &mut self.bytes[self.end..]
    }

    /// The first `n` bytes of [`space`](Self::space) were written.
    pub(super) fn filled(&mut self, n: usize) {
        self.end += n;
        debug_assert!(self.end <= self.bytes.len());
    }

    fn compact(&mut self) {
        self.bytes.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_in_leaves_in_order() {
        let mut buffer = Buffer::with_capacity(8);
        assert_eq!((buffer.push(b"abcdef"), buffer.room()), (6, 2));
        buffer.consume(4);
        assert_eq!((buffer.as_slice(), buffer.room()), (&b"ef"[..], 6));
        assert_eq!(buffer.push(b"0123456789"), 6, "it takes what there is room for");
        assert_eq!(buffer.as_slice(), b"ef012345");
        assert_eq!((buffer.push(b"x"), buffer.space().len()), (0, 0));
        buffer.consume(8);
        assert!(buffer.is_empty());
    }

    #[test]
    fn there_is_space_as_long_as_there_is_room() {
        let mut buffer = Buffer::with_capacity(8);
        buffer.space()[..8].copy_from_slice(b"abcdefgh");
        buffer.filled(8);
        buffer.consume(3);
        let space = buffer.space();
        assert_eq!(space.len(), 3);
        space[0] = b'!';
        buffer.filled(1);
        assert_eq!(buffer.as_slice(), b"defgh!");
        buffer.clear();
        assert_eq!(buffer.space().len(), 8);
    }
}
