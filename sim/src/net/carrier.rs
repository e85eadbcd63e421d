//! What carries the bytes: turmoil's TCP, or the lossy one.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use turmoil::net::{TcpListener, TcpStream};

/// The TCP of one host.
#[derive(Clone, Debug)]
pub enum Carrier {
    /// turmoil's, which every host has.
    Turmoil,
    /// The lossy one, of a host that has started it.
    Lossy(lossy::Stack),
}

impl Carrier {
    /// Connects to a port of a host by its name.
    pub(super) async fn connect(&self, host: &str, port: u16) -> io::Result<Stream> {
        match self {
            Self::Turmoil => TcpStream::connect((host, port)).await.map(Stream::Turmoil),
            Self::Lossy(stack) => stack.connect(SocketAddr::new(turmoil::lookup(host), port)).await.map(Stream::Lossy),
        }
    }

    /// Listens on a port of this host.
    pub(super) async fn bind(&self, port: u16) -> io::Result<Bound> {
        match self {
            Self::Turmoil => TcpListener::bind((IpAddr::V4(Ipv4Addr::UNSPECIFIED), port)).await.map(Bound::Turmoil),
            Self::Lossy(stack) => stack.bind(port).map(Bound::Lossy),
        }
    }
}

/// A port that is listened on.
pub(super) enum Bound {
    Turmoil(TcpListener),
    Lossy(lossy::Listener),
}

impl Bound {
    /// Waits for the next connection. No connection is lost when it is dropped.
    pub(super) async fn accept(&self) -> io::Result<Stream> {
        match self {
            Self::Turmoil(listener) => listener.accept().await.map(|(stream, _)| Stream::Turmoil(stream)),
            Self::Lossy(listener) => listener.accept().await.map(Stream::Lossy),
        }
    }
}

/// A connection.
#[derive(Debug)]
pub(super) enum Stream {
    Turmoil(TcpStream),
    Lossy(lossy::Stream),
}

impl Stream {
    /// The addresses of this end and of the other one.
    pub(super) fn addresses(&self) -> io::Result<(SocketAddr, SocketAddr)> {
        match self {
            Self::Turmoil(stream) => Ok((stream.local_addr()?, stream.peer_addr()?)),
            Self::Lossy(stream) => Ok((stream.local_addr(), stream.peer_addr())),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Turmoil(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Lossy(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Turmoil(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Lossy(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Turmoil(stream) => Pin::new(stream).poll_flush(cx),
            Self::Lossy(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Turmoil(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Lossy(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
