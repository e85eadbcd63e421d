//! Request and reply: 8 bytes of id, 4 bytes of length, the payload, 8 bytes of checksum over all before; big endian.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

pub(crate) const HEADER_BYTES: usize = 12;
const CHECKSUM_BYTES: usize = 8;
const MAX_PAYLOAD_BYTES: usize = 64 * 1024;

/// Writes a message over what `message` held.
pub(crate) fn encode(id: u64, payload: &[u8], message: &mut Vec<u8>) {
    let length = u32::try_from(payload.len()).expect("a payload is at most 64 KiB");
    message.clear();
    message.extend_from_slice(&id.to_be_bytes());
    message.extend_from_slice(&length.to_be_bytes());
    message.extend_from_slice(payload);
    message.extend_from_slice(&checksum(message).to_be_bytes());
}

/// Reads the next message over what `message` held; false at an end of file between two messages.
///
/// [`is_wrong`] tells an error that says that the message is wrong from one that says that it did not come.
pub(crate) async fn read(from: &mut (impl AsyncRead + Unpin), message: &mut Vec<u8>) -> io::Result<bool> {
    message.resize(HEADER_BYTES, 0);
    let first = from.read(message).await?;
    if first == 0 {
        return Ok(false);
    }
    from.read_exact(&mut message[first..]).await?;
    let length = message.last_chunk().map_or(0, |length| u32::from_be_bytes(*length)) as usize;
    if length > MAX_PAYLOAD_BYTES {
        return Err(io::ErrorKind::InvalidData.into());
    }
    message.resize(HEADER_BYTES + length + CHECKSUM_BYTES, 0);
    from.read_exact(&mut message[HEADER_BYTES..]).await?;
    match message.split_last_chunk() {
        Some((covered, sum)) if checksum(covered) == u64::from_be_bytes(*sum) => Ok(true),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Whether the message came and was wrong. The transport's own errors carry a reason.
pub(crate) fn is_wrong(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::InvalidData && error.get_ref().is_none()
}

/// The id and the payload of a message that was read.
pub(crate) fn parts(message: &[u8]) -> (u64, &[u8]) {
    let id = message.first_chunk().map_or(0, |id| u64::from_be_bytes(*id));
    (id, &message[HEADER_BYTES..message.len() - CHECKSUM_BYTES])
}

/// FNV-1a, 64 bits: <http://www.isthe.com/chongo/tech/comp/fnv/>.
fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xCBF2_9CE4_8422_2325, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3))
}
