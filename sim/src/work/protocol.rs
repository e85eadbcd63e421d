//! What both sides of a stream say: a greeting from who accepts, then a header from who opened it, then bytes that both
//! can tell from the header, so that each side checks all that it reads (G17, G18).

use std::io;
use std::time::Duration;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{Rng, SeedableRng};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::sleep;

use super::item::Failed;
use crate::counters::Counters;
use crate::net::{Condition, Conditions};
use crate::verdict::Violation;

/// What who accepts says first, before it has read anything.
pub const GREETING: u8 = b'!';

const PART: usize = 16 << 10;
/// More than this is sent in two halves, so that the window that the first has opened is whole for the second.
const MUCH: usize = 1 << 20;
const PAUSE_WITHIN_MUCH: Duration = Duration::from_secs(1);
/// How many bytes a reader takes that is always behind, and its pause after that.
const LAGGING_BYTES: usize = 4 << 10;
const LAGS_FOR: Duration = Duration::from_millis(20);

/// What who opened the stream wants of the other side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Request {
    /// The same bytes back.
    Echo = b'e',
    /// To read all, and to confirm it.
    Sink = b's',
    /// To send that many.
    Source = b'd',
    /// To send half of that many and to drop the stream.
    CutShort = b'h',
    /// To say FIN and to drop the stream, unread.
    Deaf = b'g',
    /// To read nothing for that many milliseconds, then to read the rest and confirm it.
    Slow = b'z',
    /// To send that many before it reads as many.
    Both = b'b',
    /// To say nothing before it reads a FIN.
    Silent = b'q',
    /// To read all, a little at a time, and to confirm it.
    Lagging = b'l',
    /// Nothing: whoever says this breaks rules.
    Nonsense = b'x',
    /// To read nothing for that many milliseconds, then whatever there is: whoever says this breaks rules.
    Ignored = b'i',
    /// To accept no streams for that many milliseconds, and to say so when this begins.
    Unaccepting = b'u',
}

/// The beginning of a stream.
#[derive(Clone, Copy, Debug)]
pub struct Header {
    /// What is wanted.
    pub request: Request,
    /// How many bytes, or milliseconds.
    pub amount: u32,
    /// From what the bytes are drawn.
    pub seed: u64,
}

const REQUESTS: [Request; 12] = [
    Request::Echo,
    Request::Sink,
    Request::Source,
    Request::CutShort,
    Request::Deaf,
    Request::Slow,
    Request::Both,
    Request::Silent,
    Request::Lagging,
    Request::Nonsense,
    Request::Ignored,
    Request::Unaccepting,
];

impl Header {
    const LEN: usize = 13;

    /// As it is sent.
    pub fn encode(self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[0] = self.request as u8;
        bytes[1..5].copy_from_slice(&self.amount.to_be_bytes());
        bytes[5..].copy_from_slice(&self.seed.to_be_bytes());
        bytes
    }

    fn decode(bytes: [u8; Self::LEN]) -> Option<Self> {
        let request = REQUESTS.into_iter().find(|request| *request as u8 == bytes[0])?;
        let amount = u32::from_be_bytes(bytes[1..5].try_into().ok()?);
        let seed = u64::from_be_bytes(bytes[5..].try_into().ok()?);
        Some(Self { request, amount, seed })
    }
}

/// The bytes that a header stands for, part by part.
pub struct Bytes {
    rng: Xoshiro256PlusPlus,
    left: usize,
}

impl Bytes {
    /// So many bytes from that seed.
    pub fn new(seed: u64, amount: usize) -> Self {
        Self { rng: Xoshiro256PlusPlus::seed_from_u64(seed), left: amount }
    }

    /// How many are left.
    pub fn left(&self) -> usize {
        self.left
    }

    /// The next bytes; empty at the end.
    pub fn part(&mut self) -> Vec<u8> {
        let mut part = vec![0; self.left.min(PART)];
        self.rng.fill_bytes(&mut part);
        self.left -= part.len();
        part
    }

    /// All that is left, at once.
    pub fn all(mut self) -> Vec<u8> {
        let mut all = Vec::with_capacity(self.left);
        while self.left > 0 {
            all.extend(self.part());
        }
        all
    }

    /// Takes the next of them, so many at most: a multiple of 8, or all that is left.
    fn split(&mut self, most: usize) -> Self {
        let first = Self { rng: self.rng.clone(), left: self.left.min(most) };
        let mut skipped = vec![0; first.left];
        self.rng.fill_bytes(&mut skipped);
        self.left -= first.left;
        first
    }

    /// Writes all that is left.
    pub async fn send(&mut self, writer: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        while self.left > 0 {
            writer.write_all(&self.part()).await?;
        }
        Ok(())
    }

    /// Reads and compares all that is left. What is sent must be these bytes, in this order, and an end before them all
    /// must not look like a clean one.
    pub async fn expect(&mut self, reader: &mut (impl AsyncRead + Unpin)) -> Result<(), Failed> {
        while self.left > 0 {
            let wanted = self.part();
            let mut got = vec![0; wanted.len()];
            let mut filled = 0;
            while filled < got.len() {
                match reader.read(&mut got[filled..]).await? {
                    0 => {
                        let missing = wanted.len() - filled + self.left;
                        let text = format!("a stream ended cleanly {missing} bytes too early");
                        return Err(Violation::new("G17", text).into());
                    }
                    read => filled += read,
                }
                if got[..filled] != wanted[..filled] {
                    return Err(Violation::new("G18", "what arrived on a stream is not what was sent").into());
                }
            }
        }
        Ok(())
    }
}

/// Reads the end of a stream, which must come now.
pub async fn expect_end(reader: &mut (impl AsyncRead + Unpin)) -> Result<(), Failed> {
    match reader.read(&mut [0]).await? {
        0 => Ok(()),
        _ => Err(Violation::new("G18", "a stream carried more bytes than were sent").into()),
    }
}

/// Reads that all has arrived.
pub async fn expect_confirmation(reader: &mut (impl AsyncRead + Unpin), seed: u64) -> Result<(), Failed> {
    let mut confirmed = [0; 8];
    reader.read_exact(&mut confirmed).await?;
    if confirmed == seed.to_be_bytes() {
        return Ok(());
    }
    Err(Violation::new("G18", "a confirmation is not what was sent").into())
}

/// Reads the greeting.
pub async fn expect_greeting(reader: &mut (impl AsyncRead + Unpin)) -> Result<(), Failed> {
    let mut byte = [0];
    match reader.read(&mut byte).await? {
        0 => Err(Violation::new("G17", "a stream ended cleanly before its greeting").into()),
        _ if byte[0] == GREETING => Ok(()),
        _ => Err(Violation::new("G18", "a stream did not begin with its greeting").into()),
    }
}

/// Sends bytes in one write, or in two where they are many.
async fn send_at_once(writer: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<()> {
    let (first, second) = bytes.split_at(if bytes.len() > MUCH { bytes.len() / 2 } else { 0 });
    writer.write_all(first).await?;
    if !first.is_empty() {
        sleep(PAUSE_WITHIN_MUCH).await;
    }
    writer.write_all(second).await
}

async fn read_header(reader: &mut (impl AsyncRead + Unpin)) -> Result<Header, Failed> {
    let mut header = [0; Header::LEN];
    let mut filled = 0;
    while filled < header.len() {
        match reader.read(&mut header[filled..]).await? {
            0 => {
                let text = format!("a stream ended cleanly after {filled} bytes of its header");
                return Err(Violation::new("G17", text).into());
            }
            read => filled += read,
        }
    }
    Header::decode(header).ok_or_else(|| Violation::new("G18", "the header of a stream is not what was sent").into())
}

/// Serves one inbound stream of a host to its end.
pub async fn serve(
    mut reader: impl AsyncRead + Unpin,
    mut writer: impl AsyncWrite + Unpin,
    conditions: &Conditions,
    counters: &Counters,
) -> Result<(), Failed> {
    writer.write_all(&[GREETING]).await?;
    let header = read_header(&mut reader).await?;
    let amount = header.amount as usize;
    match header.request {
        Request::Echo => {
            let mut expected = Bytes::new(header.seed, amount);
            while expected.left() > 0 {
                let mut part = Bytes { rng: expected.rng.clone(), left: expected.left.min(PART) };
                part.expect(&mut reader).await?;
                writer.write_all(&expected.part()).await?;
            }
            expect_end(&mut reader).await?;
            writer.shutdown().await?;
        }
        Request::Sink => {
            Bytes::new(header.seed, amount).expect(&mut reader).await?;
            expect_end(&mut reader).await?;
            writer.write_all(&header.seed.to_be_bytes()).await?;
            writer.shutdown().await?;
        }
        Request::Source => {
            expect_end(&mut reader).await?;
            send_at_once(&mut writer, &Bytes::new(header.seed, amount).all()).await?;
            writer.shutdown().await?;
        }
        Request::CutShort => {
            expect_end(&mut reader).await?;
            let mut bytes = Bytes::new(header.seed, amount);
            while bytes.left() > amount / 2 {
                writer.write_all(&bytes.part()).await?;
            }
            counters.add("stream dropped in the middle of a reply", 1);
        }
        Request::Deaf => {
            writer.shutdown().await?;
            counters.add("stream dropped unread after a FIN", 1);
        }
        Request::Slow => {
            sleep(Duration::from_millis(header.amount.into())).await;
            let mut rest = Vec::new();
            reader.read_to_end(&mut rest).await?;
            let mut expected = Bytes::new(header.seed, rest.len());
            let all = rest.chunks(PART).all(|part| expected.part() == part);
            if !all {
                return Err(Violation::new("G18", "what arrived on a stream is not what was sent").into());
            }
            let read = u64::try_from(rest.len()).unwrap_or(u64::MAX);
            writer.write_all(&read.to_be_bytes()).await?;
            writer.shutdown().await?;
        }
        Request::Both => {
            Bytes::new(header.seed, amount).send(&mut writer).await?;
            writer.shutdown().await?;
            Bytes::new(header.seed, amount).expect(&mut reader).await?;
            expect_end(&mut reader).await?;
        }
        Request::Silent => {
            expect_end(&mut reader).await?;
            writer.shutdown().await?;
        }
        Request::Lagging => {
            let mut expected = Bytes::new(header.seed, amount);
            while expected.left() > 0 {
                expected.split(LAGGING_BYTES).expect(&mut reader).await?;
                sleep(LAGS_FOR).await;
            }
            expect_end(&mut reader).await?;
            writer.write_all(&header.seed.to_be_bytes()).await?;
            writer.shutdown().await?;
        }
        Request::Nonsense => {
            tokio::io::copy(&mut reader, &mut tokio::io::sink()).await?;
        }
        Request::Ignored => {
            sleep(Duration::from_millis(header.amount.into())).await;
            tokio::io::copy(&mut reader, &mut tokio::io::sink()).await?;
        }
        Request::Unaccepting => {
            let unaccepting = conditions.during(Condition::AcceptingStopped);
            writer.write_all(&header.seed.to_be_bytes()).await?;
            sleep(Duration::from_millis(header.amount.into())).await;
            drop(unaccepting);
            expect_end(&mut reader).await?;
            writer.shutdown().await?;
        }
    }
    Ok(())
}
