//! The `yamux` crate in three versions, with its default configuration, and the least driver that it needs.

use std::{
    future::poll_fn,
    io,
    sync::Arc,
    task::{Poll, ready},
    time::Duration,
};

use tokio::sync::{Mutex, mpsc, oneshot, watch};
use tokio_util::compat::{Compat, FuturesAsyncReadCompatExt, TokioAsyncReadCompatExt};

use super::engine::{Endpoint, Library};

/// What a driver is asked for.
enum Ask<S> {
    Open(oneshot::Sender<io::Result<S>>),
    Close,
}

/// A session of one of the versions.
pub(crate) struct Raw<S> {
    asks: mpsc::UnboundedSender<Ask<S>>,
    inbound: Arc<Mutex<mpsc::UnboundedReceiver<S>>>,
    end: watch::Receiver<Option<String>>,
}

impl<S> Clone for Raw<S> {
    fn clone(&self) -> Self {
        Self { asks: self.asks.clone(), inbound: Arc::clone(&self.inbound), end: self.end.clone() }
    }
}

impl<S: futures_util::AsyncRead + futures_util::AsyncWrite + Send + Unpin + 'static> Library for Raw<S> {
    type Stream = Compat<S>;

    async fn open(&self) -> io::Result<Compat<S>> {
        let (reply, stream) = oneshot::channel();
        self.asks.send(Ask::Open(reply)).map_err(|_| io::Error::other("the session has ended"))?;
        Ok(stream.await.map_err(|_| io::Error::other("the session has ended"))??.compat())
    }

    async fn accept(&self) -> io::Result<Compat<S>> {
        let stream = self.inbound.lock().await.recv().await;
        Ok(stream.ok_or_else(|| io::Error::other("the session has ended"))?.compat())
    }

    async fn ping(&self) -> io::Result<Duration> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "the crate pings by itself alone"))
    }

    async fn go_away(&self) -> io::Result<()> {
        self.asks.send(Ask::Close).map_err(|_| io::Error::other("the session has ended"))
    }

    async fn closed(&self) -> String {
        let mut end = self.end.clone();
        let ended = end.wait_for(Option::is_some).await;
        ended.ok().and_then(|end| end.clone()).unwrap_or_default()
    }
}

macro_rules! version {
    ($name:ident, $krate:ident) => {
        /// Makes a session.
        pub(crate) async fn $name(endpoint: Endpoint) -> io::Result<Raw<$krate::Stream>> {
            let mode = if endpoint.is_dial() { $krate::Mode::Client } else { $krate::Mode::Server };
            let socket = endpoint.connect().await?.compat();
            let mut connection = $krate::Connection::new(socket, $krate::Config::default(), mode);
            let (asks, mut asked) = mpsc::unbounded_channel();
            let (streams, inbound) = mpsc::unbounded_channel();
            let (tell, end) = watch::channel(None);
            let (mut opening, mut closing) = (None, false);
            tokio::spawn(async move {
                let why = poll_fn(|cx| {
                    loop {
                        if closing {
                            let closed = ready!(connection.poll_close(cx));
                            return Poll::Ready(format!("closed here: {closed:?}"));
                        }
                        match connection.poll_next_inbound(cx) {
                            Poll::Ready(Some(Ok(stream))) => {
                                let _ = streams.send(stream);
                                continue;
                            }
                            Poll::Ready(Some(Err(error))) => return Poll::Ready(error.to_string()),
                            Poll::Ready(None) => return Poll::Ready("closed by the other side".into()),
                            Poll::Pending => {}
                        }
                        if opening.is_none() {
                            match asked.poll_recv(cx) {
                                Poll::Ready(Some(Ask::Open(reply))) => opening = Some(reply),
                                Poll::Ready(Some(Ask::Close)) => {
                                    closing = true;
                                    continue;
                                }
                                Poll::Ready(None) | Poll::Pending => return Poll::Pending,
                            }
                        }
                        let opened = ready!(connection.poll_new_outbound(cx)).map_err(io::Error::other);
                        let _ = opening.take().map(|reply: oneshot::Sender<_>| reply.send(opened));
                    }
                })
                .await;
                tell.send_replace(Some(why));
            });
            Ok(Raw { asks, inbound: Arc::new(Mutex::new(inbound)), end })
        }
    };
}

version!(of_0_12, yamux_0_12);
version!(of_0_13, yamux_0_13);
version!(of_0_14, yamux);
