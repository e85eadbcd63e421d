//! What a stranger, or a bug in one handshake, costs: that connection (G13, G14).

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use crate::support::{MemoryAcceptor, in_time, network};
use evermux::{Accept, Config, Connect, Connected, MuxManager, Session, error::AcceptError};
use testkit::frames::{Header, Peer};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    net::TcpStream,
    time::{Instant, sleep, timeout},
};

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

#[tokio::test]
async fn a_panic_in_one_handshake_is_one_lost_connection() {
    struct Touchy(Arc<AtomicU32>, MemoryAcceptor);
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
    let handshakes = Arc::new(AtomicU32::new(0));
    let receiver = MuxManager::receive_with(Touchy(Arc::clone(&handshakes), acceptor)).start().await.unwrap();
    let config = Config::builder().backoff_initial(Duration::from_millis(1)).build().unwrap();
    let establisher = MuxManager::establish_with(connector).config(config).start().await.unwrap();
    in_time(establisher.session()).await.unwrap();
    in_time(receiver.session()).await.unwrap();
    assert_eq!(handshakes.load(Ordering::Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn a_candidate_that_says_goodbye_holds_no_place() {
    let (connector, acceptor) = network();
    let receiver = MuxManager::receive_with(acceptor).start().await.unwrap();
    let config = Config::default();
    let holder = Session::client(connector.connect().await.unwrap().io, &config).await.unwrap();
    in_time(receiver.session()).await.unwrap();
    // It proves itself, says goodbye, and keeps its socket.
    let mut leaving = Peer::new(connector.connect().await.unwrap().io);
    let (ping, _) = in_time(leaving.recv()).await.unwrap();
    leaving.send(Header::pong(ping.length), &[]).await.unwrap();
    sleep(Duration::from_millis(1)).await;
    leaving.send(Header::go_away(0), &[]).await.unwrap();
    sleep(Duration::from_millis(1)).await;
    holder.abort();
    let next = Session::client(connector.connect().await.unwrap().io, &config);
    timeout(Duration::from_secs(1), next).await.expect("the place is free").unwrap();
}

/// Fails to accept as it is told, and counts how often it is asked.
struct Failing {
    inner: MemoryAcceptor,
    asked: Arc<AtomicU32>,
    fails: fn(u32) -> Option<AcceptError>,
}

impl Accept for Failing {
    type Io = DuplexStream;
    type Pending = DuplexStream;

    async fn accept(&self) -> Result<DuplexStream, AcceptError> {
        match (self.fails)(self.asked.fetch_add(1, Ordering::Relaxed)) {
            Some(error) => Err(error),
            None => self.inner.accept().await,
        }
    }

    async fn finish(&self, io: DuplexStream) -> Result<Connected<DuplexStream>, AcceptError> {
        self.inner.finish(io).await
    }

    fn local_addr(&self) -> Option<SocketAddr> {
        None
    }
}

/// How long a receiver takes to accept a connection whose acceptor fails so before.
async fn accepted_after(fails: fn(u32) -> Option<AcceptError>) -> Duration {
    let (connector, inner) = network();
    let began = Instant::now();
    let receiver = MuxManager::receive_with(Failing { inner, asked: Arc::default(), fails }).start().await.unwrap();
    let establisher = MuxManager::establish_with(connector).start().await.unwrap();
    establisher.session().await.unwrap();
    let took = began.elapsed();
    assert!(receiver.status().last_error.is_some());
    establisher.shutdown().await;
    receiver.shutdown().await;
    took
}

/// Somebody who gave up while he waited in the kernel keeps nobody else waiting.
#[tokio::test(start_paused = true)]
async fn an_error_of_one_connection_does_not_pause_accepting() {
    let aborted = |asked| (asked < 63).then(|| io::Error::from(io::ErrorKind::ConnectionAborted).into());
    assert_eq!(accepted_after(aborted).await, Duration::ZERO);
    // The process has run out of something: soon there may be some again.
    let out_of_files = |asked| (asked < 3).then(|| AcceptError::transient("too many open files"));
    let took = accepted_after(out_of_files).await;
    assert_eq!(took.as_millis() / 100, 3, "{took:?}");
}

/// A listener that fails at once and forever takes no processor time to speak of, whatever it says.
#[tokio::test(start_paused = true)]
async fn errors_of_connections_without_end_pause_accepting() {
    let (_connector, inner) = network();
    let asked = Arc::new(AtomicU32::new(0));
    let acceptor = Failing { inner, asked: Arc::clone(&asked), fails: |_| Some(AcceptError::connection("gone")) };
    let receiver = MuxManager::receive_with(acceptor).start().await.unwrap();
    sleep(Duration::from_secs(10)).await;
    let asked = asked.load(Ordering::Relaxed);
    assert!((64 * 90..=64 * 101).contains(&asked), "asked {asked} times in ten seconds");
    in_time(receiver.shutdown()).await;
}
