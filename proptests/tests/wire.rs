//! What a session writes is whole frames in the order of the protocol, with pings between them alone (G18).

use std::{
    collections::BTreeMap,
    io,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use evermux::{
    CloseReason, Config, MuxStream, Session,
    session::frame::{Header, Kind, flags},
};
use proptest::prelude::*;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, duplex},
    time::timeout,
};

/// Longer than any case may take that does not hang.
const PATIENCE: Duration = Duration::from_secs(60);

/// How a transport takes and gives bytes.
#[derive(Clone, Copy, Debug)]
struct Whims {
    seed: u64,
    /// The most bytes at once.
    chunk: usize,
    /// One call in so many is pending, and wakes at once.
    pending: u64,
    vectored: bool,
}

fn whims() -> impl Strategy<Value = Whims> {
    let chunk = prop_oneof![1..14usize, 14..5_000usize, Just(70_000)];
    (any::<u64>(), chunk, 2..6u64, any::<bool>()).prop_map(|(seed, chunk, pending, vectored)| Whims {
        seed,
        chunk,
        pending,
        vectored,
    })
}

/// A transport that has whims, and keeps what was written to it.
struct Whimsical {
    io: DuplexStream,
    whims: Whims,
    written: Arc<Mutex<Vec<u8>>>,
}

impl Whimsical {
    fn new(io: DuplexStream, whims: Whims) -> (Self, Arc<Mutex<Vec<u8>>>) {
        let written = Arc::default();
        (Self { io, whims, written: Arc::clone(&written) }, written)
    }

    fn draw(&mut self, below: u64) -> u64 {
        self.whims.seed =
            self.whims.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.whims.seed >> 33) % below
    }

    /// How many bytes may pass now.
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<usize> {
        if self.draw(self.whims.pending) == 0 {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let most = self.whims.chunk as u64;
        Poll::Ready(usize::try_from(self.draw(most)).expect("below a usize") + 1)
    }
}

impl AsyncRead for Whimsical {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let chunk = std::task::ready!(self.poll_chunk(cx));
        let mut part = vec![0; chunk.min(buf.remaining())];
        let mut part = ReadBuf::new(&mut part);
        std::task::ready!(Pin::new(&mut self.io).poll_read(cx, &mut part))?;
        buf.put_slice(part.filled());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Whimsical {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut chunk = std::task::ready!(self.poll_chunk(cx));
        let mut bytes = Vec::new();
        for buf in bufs {
            let part = &buf[..buf.len().min(chunk)];
            bytes.extend_from_slice(part);
            chunk -= part.len();
        }
        let count = std::task::ready!(Pin::new(&mut self.io).poll_write(cx, &bytes))?;
        self.written.lock().unwrap().extend_from_slice(&bytes[..count]);
        Poll::Ready(Ok(count))
    }

    fn is_write_vectored(&self) -> bool {
        self.whims.vectored
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        std::task::ready!(self.poll_chunk(cx));
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

fn payload(len: usize, salt: usize) -> Vec<u8> {
    let byte = |at: usize| at.wrapping_mul(31).wrapping_add(at >> 8).wrapping_add(salt * 7).to_le_bytes()[0];
    (0..len).map(byte).collect()
}

async fn send_and_check_echo(stream: MuxStream, bytes: &[u8]) {
    let (mut read, mut write) = stream.into_split();
    let mut echo = Vec::new();
    let sending = async {
        write.write_all(bytes).await?;
        write.shutdown().await
    };
    let (sent, received) = tokio::join!(sending, read.read_to_end(&mut echo));
    sent.unwrap();
    received.unwrap();
    assert!(echo == bytes, "the echo differs");
}

async fn echo_all(session: Session) {
    while let Ok(stream) = session.accept_stream().await {
        tokio::spawn(async move {
            let (mut read, mut write) = stream.into_split();
            tokio::io::copy(&mut read, &mut write).await.unwrap();
            write.shutdown().await.unwrap();
        });
    }
}

/// Pings as often as it can: each goes out between two frames.
async fn ping_without_end(session: &Session) {
    while session.ping().await.is_ok() {}
}

/// What one side has written, taken apart: of each stream one SYN or ACK, the bytes, one FIN, and then no data. Gives what
/// is left of a frame that was cut as well.
fn streams_of(mut wire: &[u8]) -> (BTreeMap<u32, Vec<u8>>, &[u8]) {
    let mut streams: BTreeMap<u32, (Vec<u8>, bool)> = BTreeMap::new();
    while let Some((head, rest)) = wire.split_first_chunk() {
        let header = Header::decode(*head).expect("a header");
        let (body, rest) = rest.split_at_checked(header.body_len() as usize).expect("a whole body");
        wire = rest;
        assert!(!header.has(flags::RST), "{header:?}");
        if matches!(header.kind, Kind::Ping | Kind::GoAway) {
            assert_eq!(header.stream_id, 0);
            continue;
        }
        let (bytes, finished) = streams.entry(header.stream_id).or_insert_with(|| {
            assert!(header.has(flags::SYN) || header.has(flags::ACK), "the first of its stream: {header:?}");
            Default::default()
        });
        if header.kind == Kind::Data {
            assert!(!*finished, "data after the end: {header:?}");
            bytes.extend_from_slice(body);
        }
        *finished |= header.has(flags::FIN);
    }
    assert!(streams.values().all(|(_, finished)| *finished));
    (streams.into_iter().map(|(id, (bytes, _))| (id, bytes)).collect(), wire)
}

async fn run(near_whims: Whims, far_whims: Whims, pipe: usize, sizes: &[usize]) {
    let (near, far) = duplex(pipe);
    let ((near, near_wrote), (far, far_wrote)) = (Whimsical::new(near, near_whims), Whimsical::new(far, far_whims));
    let config = Config::default();
    let (near, far) = tokio::try_join!(Session::client(near, &config), Session::server(far, &config)).unwrap();
    let echoes = tokio::spawn(echo_all(far.clone()));
    let mut payloads = BTreeMap::new();
    let mut callers = tokio::task::JoinSet::new();
    for (salt, size) in sizes.iter().enumerate() {
        let stream = near.open_stream().await.unwrap();
        let bytes = payload(*size, salt);
        payloads.insert(stream.id(), bytes.clone());
        callers.spawn(async move { send_and_check_echo(stream, &bytes).await });
    }
    tokio::select! {
        _ = callers.join_all() => {}
        () = async { tokio::join!(ping_without_end(&near), ping_without_end(&far)); } => panic!("a session has ended"),
    }
    assert!(matches!(near.close().await, CloseReason::Closed));
    assert!(matches!(far.closed().await, CloseReason::PeerClosed));
    echoes.await.unwrap();
    for (wrote, is_cut) in [(near_wrote, false), (far_wrote, true)] {
        let wrote = wrote.lock().unwrap();
        let (streams, rest) = streams_of(&wrote);
        assert!(streams == payloads, "a stream's bytes differ on the wire");
        // The side that closes says all; the other may be cut in its goodbye by the end of its input.
        assert!(is_cut || rest.is_empty(), "a frame was cut");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn ping_inside_frame(
        near in whims(),
        far in whims(),
        pipe in prop_oneof![1..20usize, 20..9_000usize, Just(100_000)],
        sizes in proptest::collection::vec(prop_oneof![0..20usize, 0..40_000usize, 100_000..300_000usize], 1..5),
    ) {
        // As many bytes as a second can carry in pieces so small.
        let piece = near.chunk.min(far.chunk).min(pipe);
        let sizes: Vec<usize> = sizes.into_iter().map(|size| size.min(piece * 2_000)).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let case = async { timeout(PATIENCE, run(near, far, pipe, &sizes)).await.expect("it hangs") };
        runtime.block_on(case);
    }
}
