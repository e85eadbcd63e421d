//! Frames under any chunking: what one side sends arrives once and in order at the other, however the bytes are cut (G18).
#![allow(missing_docs, reason = "test names say it")]

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use evermux::{
    Config, Session,
    session::frame::{HEADER_LEN, Header, Kind},
};
use futures_util::future::join_all;
use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, duplex},
    runtime::{Builder, Runtime},
    time::timeout,
};

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![Just(Kind::Data), Just(Kind::WindowUpdate), Just(Kind::Ping), Just(Kind::GoAway)]
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
}

/// A pipe that takes and gives as few bytes as the seed says, and now and then none.
struct Choppy {
    io: DuplexStream,
    rng: ChaCha8Rng,
    most: usize,
}

impl Choppy {
    fn new(io: DuplexStream, seed: u64, most: usize) -> Self {
        Self { io, rng: ChaCha8Rng::seed_from_u64(seed), most }
    }

    /// How many bytes the next call moves, or that it moves none yet.
    fn next(&mut self, cx: &mut Context<'_>) -> Poll<usize> {
        if self.rng.random_ratio(1, 5) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(self.rng.random_range(1..=self.most))
    }
}

impl AsyncRead for Choppy {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let most = std::task::ready!(self.next(cx)).min(buf.remaining());
        let mut piece = ReadBuf::new(buf.initialize_unfilled_to(most));
        std::task::ready!(Pin::new(&mut self.io).poll_read(cx, &mut piece))?;
        let read = piece.filled().len();
        buf.advance(read);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Choppy {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let most = std::task::ready!(self.next(cx)).min(buf.len());
        Pin::new(&mut self.io).poll_write(cx, &buf[..most])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_write(cx, &bufs.iter().flat_map(|buf| buf.iter().copied()).collect::<Vec<u8>>())
    }

    fn is_write_vectored(&self) -> bool {
        self.most.is_multiple_of(2)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// Sends all, in writes of these lengths, finishes, and reads the echo.
async fn echo_of(session: &Session, bytes: &[u8], writes: &[usize]) -> io::Result<Vec<u8>> {
    let (mut reader, mut into) = session.open_stream().await?.into_split();
    let send = async {
        let mut rest = bytes;
        for write in writes.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, left) = rest.split_at((*write).min(rest.len()));
            into.write_all(piece).await?;
            rest = left;
        }
        into.shutdown().await
    };
    let mut echo = Vec::new();
    let (sending, reading) = tokio::join!(send, reader.read_to_end(&mut echo));
    sending?;
    reading?;
    Ok(echo)
}

async fn serve(session: Session) {
    while let Ok(stream) = session.accept_stream().await {
        tokio::spawn(async move {
            let (mut reader, mut into) = stream.into_split();
            tokio::io::copy(&mut reader, &mut into).await?;
            into.shutdown().await
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_header_survives_the_wire(kind in kind(), flags: u16, stream_id: u32, length: u32) {
        let header = Header { kind, flags, stream_id, length };
        prop_assert_eq!(Header::decode(header.encode()), Ok(header));
    }

    #[test]
    fn any_twelve_bytes_are_a_header_or_an_error(bytes: [u8; HEADER_LEN]) {
        if let Ok(header) = Header::decode(bytes) {
            prop_assert_eq!(header.encode(), bytes);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_sent_arrives_once_and_in_order_under_any_chunking(
        seed: u64,
        (most, pipe, lengths) in prop_oneof![
            // Frames are cut everywhere.
            (1_usize..40, 1_usize..40, prop::collection::vec(0_usize..3000, 1..5)),
            // Buffers fill up.
            (2000_usize..40_000, 2000_usize..70_000, prop::collection::vec(0_usize..300_000, 1..5)),
        ],
        writes in prop::collection::vec(1_usize..20_000, 1..5),
    ) {
        runtime().block_on(async {
            let (near, far) = duplex(pipe);
            let (near, far) = (Choppy::new(near, seed, most), Choppy::new(far, !seed, most));
            // Time moves only when nothing else can: a session that stands still ends by its heartbeat.
            let config = Config::default();
            let pair = async { tokio::try_join!(Session::client(near, &config), Session::server(far, &config)) };
            let (near, far) = timeout(Duration::from_secs(60), pair).await.expect("a hang").unwrap();
            tokio::spawn(serve(near.clone()));
            tokio::spawn(serve(far.clone()));
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let mut payloads = Vec::new();
            for (index, length) in lengths.iter().enumerate() {
                let mut bytes = vec![0; *length];
                rng.fill(&mut bytes[..]);
                payloads.push((if index % 2 == 0 { &near } else { &far }, bytes));
            }
            // All at once, so that the buffers of the wire fill up.
            let echoes = payloads.iter().map(|(session, bytes)| echo_of(session, bytes, &writes));
            let echoes = timeout(Duration::from_secs(600), join_all(echoes)).await.expect("a hang");
            for ((_, bytes), echo) in payloads.iter().zip(echoes) {
                prop_assert!(echo.unwrap() == *bytes, "the echo differs");
            }
            Ok(())
        })?;
    }

    #[test]
    fn any_bytes_from_a_peer_end_in_a_reason_and_never_in_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        runtime().block_on(async {
            let (near, mut far) = duplex(64 << 10);
            let session = tokio::spawn(async move { Session::server(near, &Config::default()).await });
            far.write_all(&bytes).await.unwrap();
            far.shutdown().await.unwrap();
            let ended = timeout(Duration::from_secs(60), session).await.expect("a hang").expect("a panic");
            prop_assert!(ended.is_err(), "nothing proved it");
            Ok(())
        })?;
    }

    #[test]
    fn any_frames_from_a_peer_never_panic_and_never_hang(
        frames in prop::collection::vec((kind(), 0_u16..16, 0_u32..6, prop_oneof![0_u32..100, any::<u32>()]), 0..40),
    ) {
        runtime().block_on(async {
            let (near, mut far) = duplex(1 << 20);
            let config = Config::default();
            let (session, ()) = tokio::join!(Session::server(near, &config), async {
                let mut ping = [0; HEADER_LEN];
                far.read_exact(&mut ping).await.unwrap();
                let value = Header::decode(ping).unwrap().length;
                far.write_all(&Header::pong(value).encode()).await.unwrap();
            });
            let session = session.unwrap();
            tokio::spawn(serve(session.clone()));
            for (kind, flags, stream_id, length) in frames {
                let length = if kind == Kind::Data { length % 2000 } else { length };
                let header = Header { kind, flags, stream_id, length };
                let body = vec![7; header.body_len() as usize];
                if far.write_all(&[&header.encode()[..], &body].concat()).await.is_err() {
                    break;
                }
            }
            drop(far);
            let reason = timeout(Duration::from_secs(60), session.closed()).await.expect("a hang");
            prop_assert!(!matches!(reason, evermux::CloseReason::Panicked), "{reason:?}");
            Ok(())
        })?;
    }
}
