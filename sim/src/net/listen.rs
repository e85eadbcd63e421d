//! Listening.

use std::future::poll_fn;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::task::Poll;

use evermux::error::AcceptError;
use evermux::{Accept, Connected};
use testkit::strict::Strict;
use tokio::io::AsyncReadExt;
use tokio::sync::Mutex;

use super::conditions::{Condition, Conditions};
use super::kernel::{self, Kernel};
use super::socket::{HELLO, Socket};
use crate::history::{What, note};
use crate::yields::yielding;

/// What accept(2) fails with on Linux. EPERM, ECONNABORTED, EPROTO and EHOSTUNREACH concern one connection; EMFILE, ENFILE,
/// ENOBUFS and ENOMEM concern all, until something is freed.
const ERRORS: [i32; 8] = [1, 103, 71, 113, 24, 23, 105, 12];

/// A simulated TCP listener on all addresses of the host it was bound on.
///
/// While its host [refuses](Condition::Refuse) connections, nothing is bound; while it is [silent](Condition::Silent),
/// connections are accepted and left alone until then.
pub struct Listener {
    kernel: Kernel,
    port: u16,
    conditions: Conditions,
    handshake: bool,
    /// Held by the one call of `accept` there is at a time.
    inner: Mutex<Inner>,
}

struct Inner {
    bound: Option<kernel::Listener>,
    /// Accepted by a host that says nothing.
    silent: Vec<Socket>,
}

impl Listener {
    /// Listens on a port of the host with this kernel, which is under these conditions, and begins each connection with a
    /// handshake of the transport's own, or does not.
    pub fn bind(kernel: Kernel, port: u16, conditions: Conditions, handshake: bool) -> io::Result<Self> {
        let inner = Inner { bound: Some(kernel.bind(port)?), silent: Vec::new() };
        Ok(Self { kernel, port, conditions, handshake, inner: Mutex::new(inner) })
    }

    /// Waits for the next connection.
    ///
    /// # Cancel safety
    ///
    /// No connection is lost: one that was taken is returned in the same poll.
    pub async fn accept(&self) -> io::Result<Socket> {
        let mut inner = self.inner.lock().await;
        loop {
            if self.conditions.is(Condition::Refuse) {
                inner.bound = None;
                self.conditions.until(Condition::Refuse, false).await;
            }
            if self.conditions.is(Condition::AcceptErrors) || self.conditions.is(Condition::Fatal) {
                return Err(self.conditions.one_of(&ERRORS));
            }
            if !self.conditions.is(Condition::Silent) {
                inner.silent.clear();
            }
            let Inner { bound, silent } = &mut *inner;
            let listener = match bound {
                Some(listener) => listener,
                None => bound.insert(self.kernel.bind(self.port)?),
            };
            let accepted = {
                let mut accept = std::pin::pin!(listener.accept());
                let was_silent = self.conditions.is(Condition::Silent);
                poll_fn(|cx| {
                    for (condition, now) in [
                        (Condition::Refuse, false),
                        (Condition::AcceptErrors, false),
                        (Condition::Fatal, false),
                        (Condition::Silent, was_silent),
                    ] {
                        if self.conditions.poll_is(condition, !now, cx).is_ready() {
                            return Poll::Ready(None);
                        }
                    }
                    accept.as_mut().poll(cx).map(Some)
                })
                .await
            };
            match accepted {
                Some(Ok(stream)) => {
                    let socket = Socket::new(stream, &self.conditions);
                    if !self.conditions.is(Condition::Silent) {
                        return Ok(socket);
                    }
                    note("", What::Mute(socket.peer_addr().to_string()));
                    silent.push(socket);
                }
                Some(Err(error)) => return Err(error),
                // Something has changed.
                None => {}
            }
        }
    }

    /// Begins a connection with the handshake of the transport's own, where it has one.
    pub(crate) async fn begin(mut socket: Socket, handshake: bool) -> io::Result<Socket> {
        if handshake && socket.read_u8().await? != HELLO {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "no handshake"));
        }
        Ok(socket)
    }

    /// The address that was bound.
    pub fn local_addr(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::UNSPECIFIED, self.port))
    }
}

impl Accept for Listener {
    type Io = Strict<Socket>;
    type Pending = Socket;

    async fn accept(&self) -> Result<Socket, AcceptError> {
        let accepted = yielding(Listener::accept(self)).await;
        if self.conditions.is(Condition::Fatal) {
            return Err(AcceptError::fatal(io::Error::other("the acceptor fails for good")));
        }
        Ok(accepted?)
    }

    async fn finish(&self, socket: Socket) -> Result<Connected<Strict<Socket>>, AcceptError> {
        let socket = yielding(Self::begin(socket, self.handshake)).await?;
        let (local, peer) = (socket.local_addr(), socket.peer_addr());
        Ok(Connected::new(Strict::new(socket), Some(local), Some(peer)).with_unsent_limit(Socket::set_unsent_limit))
    }

    fn local_addr(&self) -> Option<SocketAddr> {
        Some(Listener::local_addr(self))
    }

    fn peer_addr(socket: &Socket) -> Option<SocketAddr> {
        Some(socket.peer_addr())
    }
}
