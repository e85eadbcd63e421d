//! Attempts with scripted answers, in paused time.

use std::{
    collections::VecDeque,
    future::pending,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use tokio::{io::ReadBuf, time::Instant};

use super::*;

/// A network that answers by a script and records what it was asked.
#[derive(Clone, Debug)]
struct Script(Arc<State>);

#[derive(Debug)]
struct State {
    /// What each lookup returns; after the last one the resolver is silent.
    lookups: Mutex<VecDeque<Vec<SocketAddr>>>,
    answer: fn(SocketAddr) -> Answer,
    began: Instant,
    dialled: Mutex<Vec<(Duration, SocketAddr)>>,
    open: Arc<AtomicUsize>,
}

#[derive(Clone, Copy, Debug)]
enum Answer {
    Connects(Duration),
    Fails(Duration, io::ErrorKind),
    FailsForGood(Duration),
    ConnectsToItself,
    Silent,
}

/// A socket, counted while it is open.
#[derive(Debug)]
struct Socket(Arc<AtomicUsize>);

impl Socket {
    fn open(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Script {
    fn new(lookups: impl IntoIterator<Item = Vec<SocketAddr>>, answer: fn(SocketAddr) -> Answer) -> Self {
        Self(Arc::new(State {
            lookups: Mutex::new(lookups.into_iter().collect()),
            answer,
            began: Instant::now(),
            dialled: Mutex::default(),
            open: Arc::default(),
        }))
    }

    fn dialled(&self) -> Vec<(Duration, SocketAddr)> {
        self.0.dialled.lock().unwrap().clone()
    }

    fn open(&self) -> usize {
        self.0.open.load(Ordering::Relaxed)
    }

    fn dialler(&self, address: &str) -> Dialer<Self> {
        Dialer::new(self.clone(), address.to_owned(), &Config::default()).unwrap()
    }
}

impl Network for Script {
    type Io = Socket;

    async fn lookup(&self, _: &str, _: u16) -> io::Result<Vec<SocketAddr>> {
        let next = self.0.lookups.lock().unwrap().pop_front();
        match next {
            Some(addresses) => Ok(addresses),
            None => pending().await,
        }
    }

    async fn connect(&self, address: SocketAddr) -> Result<Connected<Socket>, ConnectError> {
        let socket = Socket::open(&self.0.open);
        self.0.dialled.lock().unwrap().push((self.0.began.elapsed(), address));
        match (self.0.answer)(address) {
            Answer::Connects(after) => {
                sleep(after).await;
                Ok(Connected::anonymous(socket))
            }
            Answer::Fails(after, kind) => {
                sleep(after).await;
                Err(io::Error::from(kind).into())
            }
            Answer::FailsForGood(after) => {
                sleep(after).await;
                Err(ConnectError::fatal("the proxy lets nobody in"))
            }
            Answer::ConnectsToItself => Ok(Connected::new(socket, Some(address), None)),
            Answer::Silent => pending().await,
        }
    }
}

fn v4(last: u8) -> SocketAddr {
    ([10, 0, 0, last], 7233).into()
}

fn v6(last: u16) -> SocketAddr {
    ([0xfd00, 0, 0, 0, 0, 0, 0, last], 7233).into()
}

const MS: fn(u64) -> Duration = Duration::from_millis;

#[tokio::test(start_paused = true)]
async fn dial_without_deadline() {
    let silent_resolver = Script::new([], |_| Answer::Silent);
    let error = silent_resolver.dialler("example.com:7233").connect().await.unwrap_err();
    assert_eq!(silent_resolver.0.began.elapsed(), Config::default().resolve_timeout());
    assert!(!error.is_fatal());
    assert_eq!(error.to_string(), "cannot resolve \"example.com\": no answer within 5s");

    let black_hole = Script::new([vec![v4(1), v4(2), v4(3)]], |_| Answer::Silent);
    let error = black_hole.dialler("example.com:7233").connect().await.unwrap_err();
    assert_eq!(black_hole.0.began.elapsed(), Config::default().connect_timeout());
    assert!(!error.is_fatal());
    assert_eq!(error.to_string(), "cannot connect to example.com:7233: no connection within 5s");
    assert_eq!(black_hole.open(), 0);
}

#[tokio::test(start_paused = true)]
async fn silent_addresses_are_started_250_ms_apart() {
    let script = Script::new([vec![v4(1), v4(2), v4(3)]], |address| {
        if address == v4(3) { Answer::Connects(MS(10)) } else { Answer::Silent }
    });
    let connected = script.dialler("example.com:7233").connect().await.unwrap();
    assert_eq!(script.dialled(), [(MS(0), v4(1)), (MS(250), v4(2)), (MS(500), v4(3))]);
    assert_eq!(connected.peer, Some(v4(3)));
    assert_eq!(script.open(), 1, "the sockets that lost are closed");
}

#[tokio::test(start_paused = true)]
async fn a_slow_address_may_still_win() {
    let script =
        Script::new(
            [vec![v4(1), v4(2)]],
            |address| {
                if address == v4(1) { Answer::Connects(MS(400)) } else { Answer::Silent }
            },
        );
    let connected = script.dialler("example.com:7233").connect().await.unwrap();
    assert_eq!(connected.peer, Some(v4(1)));
    assert_eq!(script.0.began.elapsed(), MS(400));
}

#[tokio::test(start_paused = true)]
async fn a_refusal_lets_the_next_address_start_at_once() {
    let script = Script::new([vec![v4(1), v4(2)]], |address| {
        if address == v4(1) { Answer::Fails(MS(3), io::ErrorKind::ConnectionRefused) } else { Answer::Connects(MS(10)) }
    });
    let connected = script.dialler("example.com:7233").connect().await.unwrap();
    assert_eq!(connected.peer, Some(v4(2)));
    assert_eq!(script.0.began.elapsed(), MS(13));
}

#[tokio::test(start_paused = true)]
async fn the_families_take_turns_and_64_addresses_are_the_most() {
    let few = Script::new([vec![v6(1), v6(2), v6(3), v4(1)]], |_| Answer::Fails(MS(0), io::ErrorKind::HostUnreachable));
    few.dialler("example.com:7233").connect().await.unwrap_err();
    let order: Vec<_> = few.dialled().into_iter().map(|(_, address)| address).collect();
    assert_eq!(order, [v6(1), v4(1), v6(2), v6(3)]);

    let many = (1..=100).map(v4).chain([v6(1)]).collect();
    let many = Script::new([many], |_| Answer::Fails(MS(0), io::ErrorKind::HostUnreachable));
    many.dialler("example.com:7233").connect().await.unwrap_err();
    assert_eq!(many.dialled().len(), 64);
}

#[tokio::test(start_paused = true)]
async fn dropping_an_attempt_closes_its_sockets() {
    let script = Script::new([vec![v4(1), v4(2)]], |_| Answer::Silent);
    let dialler = script.dialler("example.com:7233");
    timeout(MS(300), dialler.connect()).await.unwrap_err();
    assert_eq!(script.dialled().len(), 2);
    assert_eq!(script.open(), 0);
}

#[tokio::test(start_paused = true)]
async fn every_answer_is_in_the_error() {
    let script = Script::new([vec![v4(1), v4(2)]], |address| {
        if address == v4(1) { Answer::Fails(MS(0), io::ErrorKind::ConnectionRefused) } else { Answer::Silent }
    });
    let error = script.dialler("example.com:7233").connect().await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot connect to example.com:7233: 10.0.0.1:7233: connection refused; no connection within 5s"
    );

    let refused: fn(SocketAddr) -> Answer = |_| Answer::Fails(MS(0), io::ErrorKind::ConnectionRefused);
    let error = Script::new([vec![v4(1)]], refused).dialler("10.0.0.1:7233").connect().await.unwrap_err();
    assert_eq!(error.to_string(), "cannot connect to 10.0.0.1:7233: connection refused", "the address stands once");

    let nobody = Script::new([vec![]], |_| Answer::Silent);
    let error = nobody.dialler("example.com:7233").connect().await.unwrap_err();
    assert_eq!(error.to_string(), "cannot resolve \"example.com\": the name has no addresses");
    assert!(!error.is_fatal());
}

#[tokio::test(start_paused = true)]
async fn only_an_invalid_literal_address_is_fatal() {
    async fn is_fatal(address: &str, answer: fn(SocketAddr) -> Answer) -> bool {
        let script = Script::new([vec![v4(1), v4(2)]], answer);
        script.dialler(address).connect().await.unwrap_err().is_fatal()
    }
    let invalid: fn(SocketAddr) -> Answer = |_| Answer::Fails(MS(0), io::ErrorKind::InvalidInput);
    assert!(is_fatal("10.0.0.1:7233", invalid).await);
    assert!(is_fatal("[fd00::1]:7233", invalid).await);
    assert!(!is_fatal("example.com:7233", invalid).await, "the name may move");
    assert!(!is_fatal("10.0.0.1:7233", |_| Answer::Silent).await);
    for answer in [
        |_| Answer::Fails(MS(0), io::ErrorKind::ConnectionRefused),
        |_| Answer::Fails(MS(0), io::ErrorKind::PermissionDenied),
        |_| Answer::Fails(MS(0), io::ErrorKind::NetworkUnreachable),
        |_| Answer::Fails(MS(0), io::ErrorKind::Unsupported),
        |_| Answer::Fails(MS(0), io::ErrorKind::AddrNotAvailable),
    ] {
        assert!(!is_fatal("10.0.0.1:7233", answer).await);
    }
}

#[tokio::test(start_paused = true)]
async fn a_network_that_fails_for_good_ends_the_attempt_at_once() {
    let script = Script::new([vec![v4(1), v4(2), v4(3)]], |address| {
        if address == v4(2) { Answer::FailsForGood(MS(10)) } else { Answer::Silent }
    });
    let error = script.dialler("example.com:7233").connect().await.unwrap_err();
    assert!(error.is_fatal());
    assert_eq!(error.to_string(), "cannot connect to example.com:7233: 10.0.0.2:7233: the proxy lets nobody in");
    assert_eq!((script.0.began.elapsed(), script.dialled().len(), script.open()), (MS(260), 2, 0));
}

#[tokio::test(start_paused = true)]
async fn a_connection_to_itself_counts_as_refused() {
    let script = Script::new([vec![v4(1), v4(2)]], |address| {
        if address == v4(1) { Answer::ConnectsToItself } else { Answer::Connects(MS(10)) }
    });
    let connected = script.dialler("example.com:7233").connect().await.unwrap();
    assert_eq!((connected.peer, script.open()), (Some(v4(2)), 1));

    let script = Script::new([vec![v4(1)]], |_| Answer::ConnectsToItself);
    let error = script.dialler("10.0.0.1:7233").connect().await.unwrap_err();
    assert!(!error.is_fatal(), "somebody may come to listen");
    assert!(error.to_string().contains("connected to itself"), "{error}");
}

#[test]
fn addresses_are_checked_up_front() {
    for (address, name, port) in [
        ("example.com:7233", "example.com", 7233),
        ("my_host-1.local.:1", "my_host-1.local.", 1),
        ("127.0.0.1:65535", "127.0.0.1", 65535),
        ("[::1]:7233", "::1", 7233),
        ("[fe80::1%eth0]:7233", "fe80::1%eth0", 7233),
        ("0.0.0.0:0", "0.0.0.0", 0),
    ] {
        let host = Host::parse(address).unwrap();
        assert_eq!((host.name.as_str(), host.port), (name, port));
        assert_eq!(host.to_string(), address);
    }
    for address in [
        "",
        ":",
        ":7233",
        "host",
        "host:",
        "host:+1",
        "host:65536",
        "host:x",
        "::1:7233",
        "[::1]",
        "[::1]7233",
        "[host]:1",
        "[::1%]:1",
        "[::1:1",
        "::1]:1",
        "a b:1",
        "http://host:80",
        "user@host:22",
        "host:1\n",
    ] {
        assert_eq!(Host::parse(address), None, "{address:?}");
    }
    assert!(matches!(
        Dialer::new(Script::new([], |_| Answer::Silent), "host:0".to_owned(), &Config::default()),
        Err(StartError::Address { address }) if address == "host:0"
    ));
}
