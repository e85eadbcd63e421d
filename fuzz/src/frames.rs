//! The frames that evermux writes, read out of bytes in any pieces.

use evermux::session::frame::{HEADER_LEN, Header};

/// Bytes that are not a whole frame yet.
#[derive(Default)]
pub(crate) struct Frames {
    bytes: Vec<u8>,
}

impl Frames {
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole frame.
    ///
    /// # Panics
    ///
    /// Where what was written is no frame.
    pub(crate) fn next(&mut self) -> Option<(Header, Vec<u8>)> {
        let header = Header::decode(*self.bytes.first_chunk()?).expect("evermux writes frames");
        let end = HEADER_LEN + header.body_len() as usize;
        if self.bytes.len() < end {
            return None;
        }
        let frame: Vec<u8> = self.bytes.drain(..end).collect();
        Some((header, frame[HEADER_LEN..].to_vec()))
    }
}
