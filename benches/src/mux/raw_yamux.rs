//! The `yamux` crate with its default configuration, and the least driver that its documentation asks for.

use std::{
    future::{Future, poll_fn},
    io,
    task::Poll,
};

use tokio::{
    net::TcpStream,
    runtime::Handle,
    sync::{mpsc, oneshot},
};
use tokio_util::compat::{Compat, FuturesAsyncReadCompatExt, TokioAsyncReadCompatExt};
use yamux::{Config, Connection, Mode};

use super::{Acceptor, Mux, Opener};

pub(crate) struct RawYamux;

impl Mux for RawYamux {
    type Opener = Opens;
    type Acceptor = Streams;

    async fn connect(server: &Handle) -> io::Result<(Opens, Streams)> {
        let pair = super::pair(server, async |socket| {
            let (opens, streams, driver) = start(socket, Mode::Server);
            tokio::spawn(driver);
            Ok((opens, streams))
        })
        .await?;
        let (opens, _, driver) = start(pair.near, Mode::Client);
        tokio::spawn(driver);
        let (_, streams) = pair.far.await.map_err(io::Error::other)??;
        Ok((opens, streams))
    }
}

/// Opens streams, by asking the driver.
#[derive(Clone)]
pub(crate) struct Opens(mpsc::UnboundedSender<oneshot::Sender<yamux::Stream>>);

impl Opener for Opens {
    type Stream = Compat<yamux::Stream>;

    async fn open(&self) -> io::Result<Self::Stream> {
        let (reply, stream) = oneshot::channel();
        self.0.send(reply).map_err(|_| io::ErrorKind::NotConnected)?;
        Ok(stream.await.map_err(|_| io::ErrorKind::NotConnected)?.compat())
    }
}

/// What the peer opens.
pub(crate) struct Streams(mpsc::UnboundedReceiver<yamux::Stream>);

impl Acceptor for Streams {
    type Stream = Compat<yamux::Stream>;

    async fn accept(&mut self) -> io::Result<Self::Stream> {
        Ok(self.0.recv().await.ok_or(io::ErrorKind::NotConnected)?.compat())
    }
}

/// A connection, and its driver, which ends with it.
pub(crate) fn start(socket: TcpStream, mode: Mode) -> (Opens, Streams, impl Future<Output = ()> + Send + 'static) {
    let mut connection = Connection::new(socket.compat(), Config::default(), mode);
    let (asks, mut asked) = mpsc::unbounded_channel::<oneshot::Sender<yamux::Stream>>();
    let (inbound, streams) = mpsc::unbounded_channel();
    let mut opening = None;
    let driver = poll_fn(move |cx| {
        loop {
            match connection.poll_next_inbound(cx) {
                Poll::Ready(Some(Ok(stream))) => {
                    // Dropped, and so closed, if nobody takes streams.
                    let _ = inbound.send(stream);
                    continue;
                }
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => {}
            }
            if opening.is_none()
                && let Poll::Ready(Some(reply)) = asked.poll_recv(cx)
            {
                opening = Some(reply);
            }
            if opening.is_none() {
                return Poll::Pending;
            }
            match connection.poll_new_outbound(cx) {
                Poll::Ready(Ok(stream)) => {
                    let _ = opening.take().map(|reply| reply.send(stream));
                }
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
    });
    (Opens(asks), Streams(streams), driver)
}
