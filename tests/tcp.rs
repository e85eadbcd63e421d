//! The TCP forms of `Connect` and `Accept`, over loopback.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    pin::pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use evermux::{Accept, Config, Connect, TcpAcceptor, TcpConnector, error::StartError};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::Instant,
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
    assert!(matches!(error, StartError::Bind { source, .. } if source.kind() == io::ErrorKind::AddrInUse));
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
