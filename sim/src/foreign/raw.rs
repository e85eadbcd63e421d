//! The yamux crate alone.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::Poll;

use tokio::sync::{Mutex, mpsc, oneshot, watch};
use tokio_util::compat::{FuturesAsyncReadCompatExt, TokioAsyncReadCompatExt};
use yamux::{Config, Connection, Mode};

use super::library;
use crate::net::Socket;
use crate::plan::Side;

#[derive(Clone)]
pub(super) struct Session {
    opens: mpsc::Sender<Open>,
    inbound: Arc<Mutex<mpsc::UnboundedReceiver<yamux::Stream>>>,
    close: Arc<watch::Sender<bool>>,
}

type Open = oneshot::Sender<yamux::Stream>;

impl Session {
    pub(super) fn new(side: Side, socket: Socket) -> Self {
        let mode = match side {
            Side::Establisher => Mode::Client,
            Side::Receiver => Mode::Server,
        };
        let (opens, asked) = mpsc::channel(1);
        let (accepted, inbound) = mpsc::unbounded_channel();
        let (close, closes) = watch::channel(false);
        tokio::spawn(drive(socket, mode, asked, accepted, closes));
        Self { opens, inbound: Arc::new(Mutex::new(inbound)), close: Arc::new(close) }
    }

    pub(super) async fn open(&self) -> io::Result<library::Stream> {
        let (answer, stream) = oneshot::channel();
        self.opens.send(answer).await.map_err(|_| gone())?;
        Ok(split(stream.await.map_err(|_| gone())?))
    }

    pub(super) async fn accept(&self) -> io::Result<library::Stream> {
        Ok(split(self.inbound.lock().await.recv().await.ok_or_else(gone)?))
    }

    pub(super) fn is_closed(&self) -> bool {
        self.opens.is_closed()
    }

    pub(super) fn close(&self) {
        self.close.send_replace(true);
    }
}

fn gone() -> io::Error {
    io::ErrorKind::ConnectionAborted.into()
}

fn split(stream: yamux::Stream) -> library::Stream {
    let (reader, writer) = tokio::io::split(stream.compat());
    library::Stream { reader: Box::new(reader), writer: Box::new(writer) }
}

/// Owns a connection until it ends: opens streams for those who ask, and gives inbound ones to whoever accepts.
async fn drive(
    socket: Socket,
    mode: Mode,
    mut opens: mpsc::Receiver<Open>,
    inbound: mpsc::UnboundedSender<yamux::Stream>,
    mut closes: watch::Receiver<bool>,
) {
    let mut connection = Connection::new(socket.compat(), Config::default(), mode);
    let mut asked: Option<Open> = None;
    let serves = poll_fn(|cx| {
        loop {
            match connection.poll_next_inbound(cx) {
                Poll::Ready(Some(Ok(stream))) => {
                    let _ = inbound.send(stream);
                    continue;
                }
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => {}
            }
            if asked.is_none() {
                asked = match opens.poll_recv(cx) {
                    Poll::Ready(open) => open,
                    Poll::Pending => None,
                };
            }
            if asked.is_none() {
                return Poll::Pending;
            }
            match connection.poll_new_outbound(cx) {
                Poll::Ready(Ok(stream)) => {
                    let _ = asked.take().map(|open| open.send(stream));
                }
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
    });
    tokio::select! {
        biased;
        _ = closes.wait_for(|close| *close) => {}
        () = serves => {}
    }
}
