//! The kernel of a host, apart from its processes.
//!
//! Its TCP runs on a host of turmoil's: it receives, sends and accepts whatever a process does. The process runs in a runtime
//! of its own, and learns of all that in [turns](Kernel::turn) of its [reactor](super::reactor).

use std::future::{Future, pending, poll_fn};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use lossy::Stack;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::names::Names;
use super::reactor::{Reactor, Source};

/// The kernel of one host, as its process has it.
#[derive(Clone, Debug, Default)]
pub struct Kernel {
    names: Names,
    reactor: Reactor,
    /// None while the host is down.
    tcp: Arc<Mutex<Option<Stack>>>,
}

impl Kernel {
    /// The kernel of a host in a network with these names.
    pub fn new(names: Names) -> Self {
        Self { names, ..Self::default() }
    }

    /// The address of a host.
    ///
    /// # Errors
    ///
    /// That there is no host of that name.
    pub fn address_of(&self, host: &str) -> io::Result<IpAddr> {
        self.names.resolve(host)
    }

    /// Tells the process what has become ready.
    pub fn turn(&self) {
        self.reactor.turn();
    }

    /// Runs with this TCP, which is that of the current host. Never ends: it is dropped when its host goes down.
    pub async fn run(&self, tcp: Stack) {
        *self.tcp() = Some(tcp);
        let _down = Down(self);
        pending::<()>().await;
    }

    /// What the sockets of the process would find.
    pub(crate) fn readiness(&self) -> Vec<lossy::Readiness> {
        self.tcp().as_ref().map_or_else(Vec::new, Stack::readiness)
    }

    fn tcp(&self) -> MutexGuard<'_, Option<Stack>> {
        self.tcp.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn running_tcp(&self) -> io::Result<Stack> {
        self.tcp().clone().ok_or_else(|| io::ErrorKind::NetworkDown.into())
    }

    /// Connects to an address.
    pub(super) async fn connect(&self, peer: SocketAddr) -> io::Result<Connection> {
        let tcp = self.running_tcp()?;
        let source = self.reactor.source_to_ask();
        let mut connect = pin!(tcp.connect(peer));
        let stream = poll_fn(|cx| source.poll(cx, |cx| connect.as_mut().poll(cx))).await?;
        Ok(Connection::new(stream, &self.reactor))
    }

    /// Listens on a port.
    pub(super) fn bind(&self, port: u16) -> io::Result<Listener> {
        Ok(Listener { inner: self.running_tcp()?.bind(port)?, source: self.reactor.source() })
    }
}

/// Forgets the TCP when its host goes down.
struct Down<'a>(&'a Kernel);

impl Drop for Down<'_> {
    fn drop(&mut self) {
        let tcp = self.0.tcp().take();
        drop(tcp);
    }
}

/// A port that a process listens on. Its drop frees the port at once.
#[derive(Debug)]
pub(super) struct Listener {
    inner: lossy::Listener,
    source: Arc<Source>,
}

impl Listener {
    /// Waits for the next connection. No connection is lost when it is dropped.
    pub(super) async fn accept(&self) -> io::Result<Connection> {
        // A call before this one may have been dropped, and what it was woken by with it.
        self.source.tell();
        let mut accept = pin!(self.inner.accept());
        let stream = poll_fn(|cx| self.source.poll(cx, |cx| accept.as_mut().poll(cx))).await?;
        Ok(Connection::new(stream, self.source.reactor()))
    }
}

/// A connection, as the process has it.
#[derive(Debug)]
pub(super) struct Connection {
    inner: lossy::Stream,
    input: Arc<Source>,
    output: Arc<Source>,
}

impl Connection {
    fn new(inner: lossy::Stream, reactor: &Reactor) -> Self {
        Self { inner, input: reactor.source(), output: reactor.source() }
    }

    /// The addresses of this end and of the other one.
    pub(super) fn addresses(&self) -> (SocketAddr, SocketAddr) {
        (self.inner.local_addr(), self.inner.peer_addr())
    }
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { inner, input, .. } = self.get_mut();
        let before = buf.remaining();
        let read = ready!(input.poll(cx, |cx| Pin::new(inner).poll_read(cx, buf)));
        if read.is_ok() && buf.remaining() < before && buf.remaining() > 0 {
            input.is_exhausted();
        }
        Poll::Ready(read)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let Self { inner, output, .. } = self.get_mut();
        let written = ready!(output.poll(cx, |cx| Pin::new(inner).poll_write(cx, buf)));
        if written.as_ref().is_ok_and(|written| *written > 0 && *written < buf.len()) {
            output.is_exhausted();
        }
        Poll::Ready(written)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// At once, as with the kernel's sockets.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }
}
