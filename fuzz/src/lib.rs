//! What a fuzzer runs: functions that take bytes, and panic where evermux does what it must not.
//!
//! [`codec`] gives the bytes to the decoder of frames. [`wire`] makes of them the decisions of a peer and of an application, of
//! which the first knows the protocol and breaks it where it hurts: its sessions live long. The program `fuzz` draws bytes by
//! itself, on stable Rust; `fuzz/run` lets cargo-fuzz do it, with coverage.

mod choices;
mod frames;
mod peer;
mod rulings;

pub use peer::{Ended, wire};
pub use rulings::{Rulings, watch_rulings};

use evermux::session::frame::{HEADER_LEN, Header, HeaderError};

/// Reads a header of each twelve bytes. What is a header comes out as it went in, and what is none is told why. Returns how
/// many were looked at.
///
/// # Panics
///
/// Where the decoder is wrong.
pub fn codec(bytes: &[u8]) -> u64 {
    let (headers, _) = bytes.as_chunks::<HEADER_LEN>();
    for bytes in headers {
        let expected = match bytes {
            [0, 0..=3, ..] => None,
            [0, kind, ..] => Some(HeaderError::Kind(*kind)),
            [version, ..] => Some(HeaderError::Version(*version)),
        };
        match Header::decode(*bytes) {
            Ok(header) => {
                assert_eq!(expected, None, "{bytes:?} is no header");
                assert_eq!(header.encode(), *bytes, "{header:?}");
                assert!(header.body_len() == 0 || header.body_len() == header.length);
            }
            Err(error) => assert_eq!(Some(error), expected, "{bytes:?}"),
        }
    }
    headers.len() as u64
}
