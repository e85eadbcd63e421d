//! The `tokio-yamux` crate with its default configuration.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use futures_util::StreamExt;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    runtime::Handle,
    sync::mpsc,
};
use tokio_yamux::{Config, Control, Session, StreamHandle};

use super::{Acceptor, Mux, Opener};

pub(crate) struct TokioYamux;

impl Mux for TokioYamux {
    type Opener = Opens;
    type Acceptor = Streams;

    async fn connect(server: &Handle) -> io::Result<(Opens, Streams)> {
        let pair =
            super::pair(server, async |socket| Ok(start(Session::new_server(socket, Config::default())))).await?;
        let (opens, _) = start(Session::new_client(pair.near, Config::default()));
        let (_, streams) = pair.far.await.map_err(io::Error::other)??;
        Ok((opens, streams))
    }
}

/// Drives a session on the current runtime.
fn start(mut session: Session<TcpStream>) -> (Opens, Streams) {
    let opens = Opens(session.control());
    let (inbound, streams) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(Ok(stream)) = session.next().await {
            // Dropped, and so reset, if nobody takes streams.
            let _ = inbound.send(stream);
        }
    });
    (opens, Streams(streams))
}

#[derive(Clone)]
pub(crate) struct Opens(Control);

impl Opener for Opens {
    type Stream = Crediting;

    async fn open(&self) -> io::Result<Crediting> {
        self.0.clone().open_stream().await.map(Crediting).map_err(|error| io::Error::other(format!("{error:?}")))
    }
}

pub(crate) struct Streams(mpsc::UnboundedReceiver<StreamHandle>);

impl Acceptor for Streams {
    type Stream = Crediting;

    async fn accept(&mut self) -> io::Result<Crediting> {
        Ok(self.0.recv().await.map(Crediting).ok_or(io::ErrorKind::NotConnected)?)
    }
}

/// A stream that takes its credit while it waits to write.
///
/// The crate takes credit only in a look at what can be read, so a task that only writes would wait forever.
pub(crate) struct Crediting(StreamHandle);

impl AsyncWrite for Crediting {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.0).poll_write(cx, bytes);
        if written.is_pending() {
            // Takes the credit that is there, which wakes this task, and is woken by the credit to come.
            let _ = self.0.poll_peek(cx, &mut ReadBuf::new(&mut []));
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

impl AsyncRead for Crediting {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, bytes)
    }
}
