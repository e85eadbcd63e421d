//! A session on pipes of every size, against itself, the raw yamux crate and `tokio-yamux` (G18).

use std::future::poll_fn;

use crate::support::{in_time, pair, payload, read_all, send_all};
use evermux::{CloseReason, Config, MuxStream, Session};
use futures_util::StreamExt;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, DuplexStream, duplex},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::Instant,
};
use tokio_util::compat::{FuturesAsyncReadCompatExt, TokioAsyncReadCompatExt};

/// Each cuts the frames of twelve bytes and more in another way.
const PIPES: [usize; 8] = [1, 2, 11, 12, 13, 100, 4 << 10, 64 << 10];

/// As much as a test of a second can carry through the pipe.
fn payload_for(pipe: usize) -> Vec<u8> {
    payload(if pipe < 100 { 20_000 } else { 700_000 })
}

/// Sends and reads the echo, both at once.
async fn check_echo(stream: impl AsyncRead + AsyncWrite, bytes: &[u8], what: &str) {
    let (mut read, mut write) = tokio::io::split(stream);
    let (sent, echoed) = tokio::join!(send_all(&mut write, bytes), read_all(&mut read));
    sent.unwrap_or_else(|error| panic!("{what}: {error}"));
    assert!(echoed.unwrap_or_else(|error| panic!("{what}: {error}")) == bytes, "{what}: the echo differs");
}

async fn echo(stream: impl AsyncRead + AsyncWrite) {
    let (mut read, mut write) = tokio::io::split(stream);
    tokio::io::copy(&mut read, &mut write).await.unwrap();
    write.shutdown().await.unwrap();
}

async fn echo_all(session: Session) {
    while let Ok(stream) = session.accept_stream().await {
        tokio::spawn(echo(stream));
    }
}

#[tokio::test]
async fn against_itself_both_sides_open_and_both_directions_are_busy() {
    for pipe in PIPES {
        let (near, far) = pair(pipe).await;
        let bytes = payload_for(pipe);
        tokio::spawn(echo_all(near.clone()));
        tokio::spawn(echo_all(far.clone()));
        let open = async |session: &Session| -> MuxStream { in_time(session.open_stream()).await.unwrap() };
        let streams = [open(&near).await, open(&far).await, open(&near).await, open(&far).await];
        let what = format!("pipe of {pipe}");
        futures_util::future::join_all(streams.map(|stream| check_echo(stream, &bytes, &what))).await;
        assert!(in_time(near.ping()).await.is_ok());
    }
}

#[tokio::test]
async fn many_short_streams_come_and_go() {
    let (near, far) = pair(4096).await;
    tokio::spawn(echo_all(far.clone()));
    let callers = (0..64).map(|caller| {
        let near = near.clone();
        async move {
            for round in 0..50 {
                let stream = in_time(near.open_stream()).await.unwrap();
                check_echo(stream, &payload(caller * 7 + round), "short").await;
            }
        }
    });
    futures_util::future::join_all(callers).await;
    in_time(async {
        while near.open_streams() + far.open_streams() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn over_tcp() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (near, far) = tokio::try_join!(TcpStream::connect(address), async { Ok(listener.accept().await?.0) }).unwrap();
    let config = Config::default();
    let (near, far) = tokio::try_join!(Session::client(near, &config), Session::server(far, &config)).unwrap();
    tokio::spawn(echo_all(far));
    let bytes = payload(8 << 20);
    check_echo(near.open_stream().await.unwrap(), &bytes, "TCP").await;
}

/// A peer that is the raw yamux crate: it opens one stream, whose echo it checks, and echoes what it is sent.
async fn raw_peer(io: DuplexStream, mode: yamux::Mode, bytes: Vec<u8>) {
    let mut connection = yamux::Connection::new(io.compat(), yamux::Config::default(), mode);
    let stream = poll_fn(|cx| connection.poll_new_outbound(cx)).await.unwrap();
    let (inbound, mut streams) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(Ok(stream)) = poll_fn(|cx| connection.poll_next_inbound(cx)).await {
            let _ = inbound.send(stream);
        }
    });
    tokio::spawn(async move {
        while let Some(stream) = streams.recv().await {
            tokio::spawn(echo(stream.compat()));
        }
    });
    check_echo(stream.compat(), &bytes, "the raw crate's stream").await;
}

/// A peer that is `tokio-yamux`.
async fn tokio_yamux_peer(io: DuplexStream, is_client: bool, bytes: Vec<u8>) {
    let config = tokio_yamux::Config::default();
    let mut session = if is_client {
        tokio_yamux::Session::new_client(io, config)
    } else {
        tokio_yamux::Session::new_server(io, config)
    };
    let stream = session.open_stream().unwrap();
    tokio::spawn(async move {
        while let Some(Ok(stream)) = session.next().await {
            tokio::spawn(echo(stream));
        }
    });
    check_echo(stream, &bytes, "tokio-yamux's stream").await;
}

async fn check_against<F: Future<Output = ()> + Send + 'static>(
    pipe: usize,
    peer: impl Fn(DuplexStream, bool, Vec<u8>) -> F,
    is_client: bool,
    echoes: usize,
) {
    let (near, far) = duplex(pipe);
    let mut bytes = payload_for(pipe);
    let peer = tokio::spawn(peer(far, !is_client, bytes.clone()));
    let config = Config::default();
    let session = if is_client { Session::client(near, &config).await } else { Session::server(near, &config).await };
    let session = session.unwrap();
    tokio::spawn(echo_all(session.clone()));
    let stream = in_time(session.open_stream()).await.unwrap();
    bytes.truncate(echoes);
    check_echo(stream, &bytes, &format!("our stream, pipe of {pipe}")).await;
    in_time(peer).await.unwrap();
    assert!(in_time(session.ping()).await.is_ok());
    // It ends its side when it hears of it, long before the drain would end.
    let begin = Instant::now();
    assert!(matches!(in_time(session.close()).await, CloseReason::Closed));
    assert!(begin.elapsed() < config.drain_timeout() / 2, "{:?}", begin.elapsed());
}

#[tokio::test]
async fn against_the_raw_crate() {
    for pipe in PIPES {
        for is_client in [true, false] {
            let peer = |io, peer_is_client, bytes| {
                let mode = if peer_is_client { yamux::Mode::Client } else { yamux::Mode::Server };
                raw_peer(io, mode, bytes)
            };
            check_against(pipe, peer, is_client, usize::MAX).await;
        }
    }
}

#[tokio::test]
async fn against_tokio_yamux() {
    for pipe in PIPES {
        for is_client in [true, false] {
            // It takes credit only while it reads: an echo that waits to write would wait forever.
            check_against(pipe, tokio_yamux_peer, is_client, 200_000).await;
        }
    }
}
