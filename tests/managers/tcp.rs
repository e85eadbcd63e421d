//! The TCP forms of `Connect` and `Accept`, over loopback.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    pin::pin,
    sync::atomic::{AtomicU32, Ordering},
    task::{Context, Poll, Waker},
    time::Duration,
};

use evermux::{Accept, Config, Connect, MuxManager, TcpAcceptor, TcpConnector, error::StartError, events::Event};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    time::{Instant, sleep, timeout},
};

async fn listen(address: &str) -> (TcpAcceptor, SocketAddr) {
    let acceptor = TcpAcceptor::bind(address, &Config::default()).await.unwrap();
    let local = acceptor.local_addr().unwrap();
    (acceptor, local)
}

fn connector(address: impl Into<String>) -> TcpConnector {
    TcpConnector::new(address, &Config::default()).unwrap()
}

#[tokio::test]
async fn a_connection_carries_bytes_and_knows_its_addresses() {
    let (acceptor, address) = listen("127.0.0.1:0").await;
    assert_ne!(address.port(), 0, "port 0 was chosen by the operating system");

    let connector = connector(address.to_string());
    let (near, pending) = tokio::join!(connector.connect(), acceptor.accept());
    let (mut near, pending) = (near.unwrap(), pending.unwrap());
    assert_eq!(TcpAcceptor::peer_addr(&pending), near.local);
    let mut far = acceptor.finish(pending).await.unwrap();
    assert_eq!((near.peer, far.local), (Some(address), Some(address)));
    assert_eq!((near.local, far.peer), (Some(near.io.local_addr().unwrap()), near.local));

    near.io.write_all(b"ever").await.unwrap();
    let mut read = [0; 4];
    far.io.read_exact(&mut read).await.unwrap();
    assert_eq!(&read, b"ever");
}

/// The receiver closes first, which leaves its side of the connection in `TIME_WAIT`, and then there is a live one too.
#[tokio::test]
async fn the_port_can_be_bound_again_at_once() {
    // An address of its own where there is one, so that no other test is given the port in between.
    let host = if cfg!(target_os = "linux") { "127.0.0.2:0" } else { "127.0.0.1:0" };
    let (acceptor, address) = listen(host).await;
    let mut dying = TcpStream::connect(address).await.unwrap();
    drop(acceptor.accept().await.unwrap());
    assert_eq!(dying.read(&mut [0]).await.unwrap(), 0);
    drop(dying);
    let _living = TcpStream::connect(address).await.unwrap();
    let _accepted = acceptor.accept().await.unwrap();

    drop(acceptor);
    let (acceptor, again) = listen(&address.to_string()).await;
    assert_eq!(again, address);
    let connector = connector(address.to_string());
    let (near, far) = tokio::join!(connector.connect(), acceptor.accept());
    assert!(near.is_ok() && far.is_ok());
}

#[tokio::test]
async fn a_taken_port_is_a_bind_error() {
    let (_acceptor, address) = listen("127.0.0.1:0").await;
    let error = TcpAcceptor::bind(&address.to_string(), &Config::default()).await.unwrap_err();
    assert!(matches!(error, StartError::Bind { error, .. } if error.kind() == io::ErrorKind::AddrInUse));
}

#[tokio::test]
async fn a_malformed_address_is_an_address_error() {
    let error = TcpAcceptor::bind("localhost", &Config::default()).await.unwrap_err();
    assert!(matches!(error, StartError::Address { address } if address == "localhost"));
    let error = TcpConnector::new("localhost:0", &Config::default()).unwrap_err();
    assert!(matches!(error, StartError::Address { address } if address == "localhost:0"));
}

#[test]
fn binding_outside_a_runtime_is_an_error() {
    let config = Config::default();
    let bind = pin!(TcpAcceptor::bind("127.0.0.1:0", &config));
    let polled = bind.poll(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(polled, Poll::Ready(Err(StartError::NoRuntime))));
}

#[tokio::test]
async fn a_refusal_is_transient() {
    // A port that is bound and not listened on refuses, and nobody else can take it.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    let error = connector(address.to_string()).connect().await.unwrap_err();
    assert!(!error.is_fatal());
    assert!(error.to_string().starts_with(&format!("cannot connect to {address}: Connection refused")), "{error}");
}

/// A host whose backlog is full drops every further SYN: it looks like a black hole.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn dial_without_deadline() {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut filling = Vec::new();
    while let Ok(stream) = tokio::time::timeout(Duration::from_millis(200), TcpStream::connect(address)).await {
        filling.push(stream.unwrap());
        assert!(filling.len() < 100, "the backlog never fills");
    }

    let limit = Duration::from_millis(300);
    let config = Config::builder().connect_timeout(limit).build().unwrap();
    let began = Instant::now();
    let error = TcpConnector::new(address.to_string(), &config).unwrap().connect().await.unwrap_err();
    assert!(began.elapsed() >= limit);
    assert!(!error.is_fatal());
    assert!(error.to_string().ends_with("no connection within 300ms"), "{error}");
}

/// A port on which nobody listens, and which the operating system may give to the socket that dials it. Of the range
/// for such sockets Linux gives `connect` the ports of one parity, so that tens of thousands of dials come to every
/// one.
#[cfg(target_os = "linux")]
async fn port_of_nobody() -> SocketAddr {
    // Where it begins differs from process to process and from test to test, so that each has a port of its own.
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap();
    let range: Vec<u16> = range.split_whitespace().map(|port| port.parse().unwrap()).collect();
    let (first, last) = (range[0], range[1]);
    let ports = u32::from(last - first) / 2;
    let begin = std::process::id() * 97 + NEXT.fetch_add(1_000, Ordering::Relaxed);
    for step in (0..ports).map(|step| (begin + step) % ports * 2) {
        let port = first + u16::try_from(step).unwrap();
        if let Ok(free) = TcpListener::bind(("127.0.0.1", port)).await {
            return free.local_addr().unwrap();
        }
    }
    panic!("no port is free");
}

#[cfg(target_os = "linux")]
const CONNECTED_TO_ITSELF: &str = "the socket was connected to itself: nobody listens there";

/// TCP lets a socket that dials its own port connect to itself ("simultaneous open", RFC 9293, section 3.5). Whatever
/// is dialled there answers with what it was asked.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_socket_that_is_connected_to_itself_is_a_refusal() {
    let address = port_of_nobody().await;
    // As it is, as an IPv6 address that stands for it, and as the address that stands for this host.
    for host in ["127.0.0.1", "[::ffff:127.0.0.1]", "0.0.0.0"] {
        let connector = connector(format!("{host}:{}", address.port()));
        let mut dials = 0_u32;
        let error = loop {
            let error = match connector.connect().await {
                Ok(connected) => panic!("{:?} is connected to {:?}", connected.local, connected.peer),
                Err(error) => error,
            };
            if error.to_string().contains("itself") {
                break error;
            }
            dials += 1;
            assert!(dials < 1_000_000, "it never happens: {error}");
        };
        assert!(!error.is_fatal());
        assert!(error.to_string().ends_with(CONNECTED_TO_ITSELF), "{error}");
        assert!(std::error::Error::source(&error).is_none(), "what was said is said again");
        // Nothing of the socket holds the port, not even for the time of TIME_WAIT.
        TcpListener::bind(address).await.expect("the port is free at once");
    }
}

/// The whole story: the receiver is away, its establisher dials on, and the receiver comes back.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn an_establisher_that_meets_itself_keeps_the_port_free_for_its_receiver() {
    let address = port_of_nobody().await;
    let pause = Duration::from_millis(1);
    let config = Config::builder().backoff_initial(pause).backoff_max(pause).build().unwrap();
    // Many places, since each dials once in a millisecond.
    let establisher = MuxManager::establish(address.to_string()).config(config).sessions(64).start().await.unwrap();
    let mut events = establisher.events();
    let met_itself = async {
        while let Some(event) = events.next().await {
            match event {
                Event::AttemptFailed { error, .. } if error.to_string().ends_with(CONNECTED_TO_ITSELF) => return,
                Event::SessionLive { peer, .. } => panic!("live with {peer:?}, although nobody listens"),
                _ => {}
            }
        }
    };
    timeout(Duration::from_secs(60), met_itself).await.expect("it never happens");
    assert_eq!(establisher.status().sessions_so_far, 0);
    let receive = async {
        loop {
            // A stranger may be given the port for a moment; so may a dial of ours.
            match MuxManager::receive(address.to_string()).sessions(64).start().await {
                Ok(receiver) => break receiver,
                Err(StartError::Bind { error, .. }) if error.kind() == io::ErrorKind::AddrInUse => {
                    sleep(pause).await;
                }
                Err(error) => panic!("{error}"),
            }
        }
    };
    let receiver = timeout(Duration::from_secs(30), receive).await.expect("the port stays taken");
    timeout(Duration::from_secs(30), establisher.session()).await.unwrap().unwrap();
    establisher.shutdown().await;
    receiver.shutdown().await;
}
