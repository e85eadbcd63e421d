//! What the integration tests cannot reach: a resolver that changes its answer, socket options, error numbers.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use super::*;

/// The operating system, with a resolver whose answers change.
#[derive(Clone)]
struct Moving(Arc<Mutex<VecDeque<Vec<SocketAddr>>>>);

impl Network for Moving {
    type Io = TcpStream;

    async fn lookup(&self, _: &str, _: u16) -> io::Result<Vec<SocketAddr>> {
        Ok(self.0.lock().unwrap().pop_front().unwrap())
    }

    async fn connect(&self, address: SocketAddr) -> Result<Connected<TcpStream>, ConnectError> {
        System.connect(address).await
    }
}

async fn acceptor() -> TcpAcceptor {
    TcpAcceptor::bind("127.0.0.1:0", &Config::default()).await.unwrap()
}

fn dialer(answers: impl Into<VecDeque<Vec<SocketAddr>>>) -> Dialer<Moving> {
    let moving = Moving(Arc::new(Mutex::new(answers.into())));
    Dialer::new(moving, "example.com:7233".to_owned(), &Config::default()).unwrap()
}

#[tokio::test]
async fn of_two_addresses_the_first_refuses() {
    // A port that is bound but not listened on refuses, and nobody else can take it.
    let refusing = TcpSocket::new_v4().unwrap();
    refusing.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listening = acceptor().await;
    let dialer = dialer([vec![refusing.local_addr().unwrap(), listening.local]]);
    assert_eq!(dialer.connect().await.unwrap().peer, Some(listening.local));
}

#[tokio::test]
async fn stale_dns() {
    let (old, new) = (acceptor().await, acceptor().await);
    let dialer = dialer([vec![old.local], vec![new.local]]);

    assert_eq!(dialer.connect().await.unwrap().peer, Some(old.local));
    drop(old);
    assert_eq!(dialer.connect().await.unwrap().peer, Some(new.local));
}

#[tokio::test]
async fn sockets_are_tuned_at_both_ends() {
    let acceptor = acceptor().await;
    let connector = TcpConnector::new(acceptor.local.to_string(), &Config::default()).unwrap();
    let (dialled, pending) = tokio::join!(connector.connect(), acceptor.accept());
    let dialled = dialled.unwrap();
    let accepted = acceptor.finish(pending.unwrap()).await.unwrap();
    for stream in [&dialled.io, &accepted.io] {
        assert!(stream.nodelay().unwrap());
        #[cfg(any(target_os = "android", target_os = "linux"))]
        assert_eq!(socket2::SockRef::from(stream).tcp_notsent_lowat().unwrap(), NOTSENT_LOWAT_BYTES);
    }
}

/// This happens to one dial in tens of thousands; here the socket was bound to its port beforehand.
#[tokio::test]
async fn a_socket_that_dials_its_own_port_is_refused_and_leaves_the_port_free() {
    for host in ["127.0.0.1:0", "[::1]:0", "[::ffff:127.0.0.1]:0"] {
        let host: SocketAddr = host.parse().unwrap();
        let socket = if host.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }.unwrap();
        if let Err(error) = socket.bind(host) {
            assert_ne!(host.ip().to_string(), "127.0.0.1", "{error}");
            continue; // A machine without IPv6.
        }
        let address = socket.local_addr().unwrap();
        // Not every operating system connects a socket to itself.
        let Ok(stream) = socket.connect(address).await else { continue };
        let error = Connected::dialled(stream).unwrap_err();
        assert_eq!((error.kind(), error.to_string()), (io::ErrorKind::ConnectionRefused, to_itself().to_string()));
        listen(address).expect("the port is free at once");
    }
}

#[cfg(unix)]
#[test]
fn fatal_on_transient_accept() {
    let error = |number| accept_error(io::Error::from_raw_os_error(number));
    let verdict = |number| (error(number).is_connection(), error(number).is_fatal());
    for number in [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM, libc::EACCES, libc::EFAULT, 999] {
        assert_eq!(verdict(number), (false, false), "{}: accepting pauses", error(number));
    }
    for number in [
        libc::ECONNABORTED,
        libc::ECONNRESET,
        libc::EPERM,
        libc::EPROTO,
        libc::EINTR,
        libc::ENOPROTOOPT,
        libc::EOPNOTSUPP,
        libc::ENETDOWN,
        libc::ENETUNREACH,
        libc::EHOSTDOWN,
        libc::EHOSTUNREACH,
        libc::ETIMEDOUT,
        #[cfg(target_os = "linux")]
        libc::ENONET,
    ] {
        assert_eq!(verdict(number), (true, false), "{}: one connection is lost", error(number));
    }
    for number in [libc::EBADF, libc::ENOTSOCK, libc::EINVAL] {
        assert_eq!(verdict(number), (false, true), "{}: the listener is broken", error(number));
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn accepting_on_a_listener_that_was_shut_down_is_fatal() {
    let acceptor = acceptor().await;
    socket2::SockRef::from(&acceptor.listener).shutdown(std::net::Shutdown::Both).unwrap();
    assert!(acceptor.accept().await.unwrap_err().is_fatal());
}
