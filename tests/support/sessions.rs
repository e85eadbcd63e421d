//! Sessions of their own, over pipes that are strict, and peers that do what a test says.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use evermux::{Config, ConfigBuilder, Session};
use testkit::{
    frames::{Flags, Header, Kind, Peer},
    strict::{Report, Strict},
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, duplex};

use super::in_time;

/// Bytes in which a lost, doubled or moved piece shows.
pub(crate) fn payload(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64 ^ len as u64;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    std::iter::repeat_with(next).take(len).collect()
}

/// Two sessions that speak to each other through a pipe of so many bytes each way.
pub(crate) async fn pair(pipe: usize) -> (Session, Session) {
    pair_with(pipe, Config::builder()).await
}

/// [`pair`], with settings.
pub(crate) async fn pair_with(pipe: usize, settings: ConfigBuilder) -> (Session, Session) {
    let (near, far) = duplex(pipe);
    let config = settings.build().unwrap();
    tokio::try_join!(Session::client(strict(near), &config), Session::server(strict(far), &config)).unwrap()
}

/// A transport of its own kind: it must be flushed, takes less than it is given, writes vectors, and is called by its
/// contract, or the test fails.
pub(crate) fn strict<Io: AsyncRead + AsyncWrite + Unpin>(io: Io) -> Checked<Io> {
    let io = Strict::new(io).vectored(true).needs_flush();
    let report = io.report();
    Checked { io, report }
}

/// A [`Strict`] transport whose drop fails the test when it was called against its contract: a panic in a driver is a
/// lost session to the test, and may be what it waits for.
pub(crate) struct Checked<Io> {
    io: Strict<Io>,
    report: Report,
}

impl<Io> Drop for Checked<Io> {
    fn drop(&mut self) {
        if let Some(broken) = self.report.broken() {
            eprintln!("{broken}");
            std::process::abort();
        }
    }
}

impl<Io: AsyncRead + AsyncWrite + Unpin> AsyncRead for Checked<Io> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<Io: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Checked<Io> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// A session that dialled, and a peer that does what the test says. It has answered our proof, and answers pings
/// whenever it receives.
pub(crate) async fn client_against_peer(settings: ConfigBuilder) -> (Session, Peer<DuplexStream>) {
    client_against_peer_over(1 << 20, settings).await
}

/// [`client_against_peer`], over a pipe that holds so many bytes in each direction.
pub(crate) async fn client_against_peer_over(bytes: usize, settings: ConfigBuilder) -> (Session, Peer<DuplexStream>) {
    let (near, far) = duplex(bytes);
    let config = settings.build().unwrap();
    let mut peer = Peer::new(far);
    peer.answer_pings(true);
    let session = against(Session::client(strict(near), &config), &mut peer).await;
    (session, peer)
}

/// [`client_against_peer`], with a session that was dialled.
pub(crate) async fn server_against_peer(settings: ConfigBuilder) -> (Session, Peer<DuplexStream>) {
    let (near, far) = duplex(1 << 20);
    let config = settings.build().unwrap();
    let mut peer = Peer::new(far);
    peer.answer_pings(true);
    let session = against(Session::server(strict(near), &config), &mut peer).await;
    (session, peer)
}

pub(crate) async fn against<Io: AsyncRead + AsyncWrite + Unpin>(
    session: impl Future<Output = Result<Session, evermux::CloseReason>>,
    peer: &mut Peer<Io>,
) -> Session {
    tokio::select! {
        session = session => session.unwrap(),
        frame = peer.recv() => panic!("expected pings alone, got {frame:?}"),
    }
}

/// The next frame but for pings of ours.
pub(crate) async fn next<Io: AsyncRead + AsyncWrite + Unpin>(peer: &mut Peer<Io>) -> (Header, Vec<u8>) {
    in_time(peer.recv_until(|header| header.kind != Kind::Ping)).await.unwrap()
}

/// A frame's kind, flags and stream.
pub(crate) fn shape(header: &Header) -> (Kind, Flags, u32) {
    (header.kind, header.flags, header.stream_id)
}

/// Reads to the end.
pub(crate) async fn read_all(stream: &mut (impl AsyncRead + Unpin)) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    in_time(stream.read_to_end(&mut bytes)).await?;
    Ok(bytes)
}

/// Writes all and finishes.
pub(crate) async fn send_all(stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> std::io::Result<()> {
    in_time(stream.write_all(bytes)).await?;
    in_time(stream.shutdown()).await
}
