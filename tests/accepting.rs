//! Accepting never stalls (G13), and what is published was proven (G15).
#![allow(missing_docs, reason = "test names say it")]

mod common;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use common::{in_time, network::network};
use evermux::{
    Accept, Config, Connect, Connected, MuxManager,
    error::{AcceptError, ConnectError},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    net::TcpStream,
    time::{Instant, sleep, timeout},
};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn slow_handshake_blocks_accept() {
    let receiver = MuxManager::receive("127.0.0.1:0").start().await.unwrap();
    let address = receiver.local_addr().unwrap();
    let mut silent = Vec::new();
    for _ in 0..10 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        // It is in its handshake: it has been sent the proof.
        in_time(stream.read_u8()).await.unwrap();
        silent.push(stream);
    }
    let establisher = MuxManager::establish(address.to_string()).start().await.unwrap();
    in_time(establisher.session()).await.unwrap();
    in_time(receiver.session()).await.unwrap();
}

#[tokio::test]
async fn when_handshakes_are_full_the_oldest_is_dropped() {
    let config = Config::builder().handshakes_in_flight(4).build().unwrap();
    let receiver = MuxManager::receive("127.0.0.1:0").config(config).start().await.unwrap();
    let address = receiver.local_addr().unwrap();
    let mut silent = Vec::new();
    for _ in 0..5 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        in_time(stream.read_u8()).await.unwrap();
        silent.push(stream);
    }
    // The first was closed, the second is still waited for.
    in_time(silent[0].read_to_end(&mut Vec::new())).await.ok();
    assert!(timeout(Duration::from_millis(50), silent[1].read_to_end(&mut Vec::new())).await.is_err());
    // A live session is no handshake.
    let establisher = MuxManager::establish(address.to_string()).start().await.unwrap();
    let session = in_time(establisher.session()).await.unwrap();
    for _ in 0..8 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        in_time(stream.read_u8()).await.unwrap();
        silent.push(stream);
    }
    assert!(!session.is_closed());
    in_time(session.ping()).await.unwrap();
}

#[tokio::test]
async fn a_stranger_costs_nobody_a_session() {
    let receiver = MuxManager::receive("127.0.0.1:0").start().await.unwrap();
    let address = receiver.local_addr().unwrap();
    let establisher = MuxManager::establish(address.to_string()).start().await.unwrap();
    let session = in_time(establisher.session()).await.unwrap();
    for bytes in [&b""[..], b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", &[0; 100], &[0xff; 1000]] {
        let mut stranger = TcpStream::connect(address).await.unwrap();
        stranger.write_all(bytes).await.unwrap();
        stranger.shutdown().await.unwrap();
        in_time(stranger.read_to_end(&mut Vec::new())).await.ok();
    }
    in_time(session.ping()).await.unwrap();
    assert_eq!(receiver.status().sessions_so_far, 1);
}

/// An acceptor whose handshake takes as long as the test says, and whose `accept` may fail.
struct Slow<A> {
    inner: A,
    handshake: Duration,
    failures: Arc<AtomicU32>,
}

impl<A: Accept<Io = DuplexStream, Pending = DuplexStream>> Accept for Slow<A> {
    type Io = DuplexStream;
    type Pending = DuplexStream;

    async fn accept(&self) -> Result<DuplexStream, AcceptError> {
        if self.failures.load(Ordering::Relaxed) > 0 {
            self.failures.fetch_sub(1, Ordering::Relaxed);
            return Err(AcceptError::transient("too many open files"));
        }
        self.inner.accept().await
    }

    async fn finish(&self, io: DuplexStream) -> Result<Connected<DuplexStream>, AcceptError> {
        sleep(self.handshake).await;
        self.inner.finish(io).await
    }

    fn local_addr(&self) -> Option<SocketAddr> {
        None
    }
}

#[tokio::test(start_paused = true)]
async fn lazy_tls_handshake() {
    let (connector, acceptor) = network();
    let acceptor = Slow { inner: acceptor, handshake: 3 * SECOND, failures: Arc::default() };
    let receiver = MuxManager::receive_with(acceptor).start().await.unwrap();
    let establisher = MuxManager::establish_with(connector).start().await.unwrap();
    let begin = Instant::now();
    // Neither side has a session before the handshake is over.
    let (near, far) = tokio::join!(establisher.session(), receiver.session());
    assert!(begin.elapsed() >= 3 * SECOND, "{:?}", begin.elapsed());
    drop((near.unwrap(), far.unwrap()));
}

#[tokio::test(start_paused = true)]
async fn a_handshake_has_a_deadline() {
    let (connector, acceptor) = network();
    let acceptor = Slow { inner: acceptor, handshake: 3600 * SECOND, failures: Arc::default() };
    let receiver = MuxManager::receive_with(acceptor).start().await.unwrap();
    let begin = Instant::now();
    let mut io = connector.connect().await.unwrap().io;
    assert_eq!(in_time(io.read(&mut [0])).await.unwrap(), 0, "closed without a word");
    assert_eq!(begin.elapsed().as_secs(), 10);
    drop(receiver);
}

#[tokio::test(start_paused = true)]
async fn fatal_on_transient_accept() {
    let (connector, acceptor) = network();
    let failures = Arc::new(AtomicU32::new(5));
    let acceptor = Slow { inner: acceptor, handshake: Duration::ZERO, failures: Arc::clone(&failures) };
    let receiver = MuxManager::receive_with(acceptor).start().await.unwrap();
    let establisher = MuxManager::establish_with(connector).start().await.unwrap();
    let begin = Instant::now();
    in_time(establisher.session()).await.unwrap();
    // It pauses, rather than spin.
    assert!(begin.elapsed() >= Duration::from_millis(500), "{:?}", begin.elapsed());
    assert_eq!(failures.load(Ordering::Relaxed), 0);
    assert_eq!(receiver.status().last_error.unwrap().to_string(), "too many open files");
}

#[tokio::test]
async fn a_panic_in_one_handshake_is_one_lost_connection() {
    struct Touchy(Arc<AtomicU32>, common::network::PipeAcceptor);
    impl Accept for Touchy {
        type Io = DuplexStream;
        type Pending = DuplexStream;

        async fn accept(&self) -> Result<DuplexStream, AcceptError> {
            self.1.accept().await
        }

        async fn finish(&self, io: DuplexStream) -> Result<Connected<DuplexStream>, AcceptError> {
            assert!(self.0.fetch_add(1, Ordering::Relaxed) > 0, "a bug of the test");
            self.1.finish(io).await
        }

        fn local_addr(&self) -> Option<SocketAddr> {
            None
        }
    }
    let (connector, acceptor) = network();
    let receiver = MuxManager::receive_with(Touchy(Arc::default(), acceptor)).start().await.unwrap();
    let config = Config::builder().backoff_initial(Duration::from_millis(1)).build().unwrap();
    let establisher = MuxManager::establish_with(connector).config(config).start().await.unwrap();
    in_time(establisher.session()).await.unwrap();
    in_time(receiver.session()).await.unwrap();
    assert_eq!(establisher.status().attempts, 1);
}

#[tokio::test(start_paused = true)]
async fn a_connector_that_fails_in_its_handshake_is_tried_again() {
    let (connector, acceptor) = network();
    let tries = Arc::new(AtomicU32::new(0));
    let counting = {
        let tries = Arc::clone(&tries);
        move || {
            let (connector, tries) = (connector.clone(), Arc::clone(&tries));
            async move {
                if tries.fetch_add(1, Ordering::Relaxed) < 3 {
                    return Err(ConnectError::transient("handshake failure"));
                }
                connector.connect().await
            }
        }
    };
    let receiver = MuxManager::receive_with(acceptor).start().await.unwrap();
    let establisher = MuxManager::establish_with(counting).start().await.unwrap();
    in_time(establisher.session()).await.unwrap();
    assert_eq!(tries.load(Ordering::Relaxed), 4);
    drop(receiver);
}
