//! The `tokio-yamux` crate with its default configuration.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use futures_util::StreamExt;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::{Mutex, mpsc, watch},
};
use tokio_yamux::{Config, Control, Session, StreamHandle};

use super::engine::{Endpoint, Library};

/// A session.
#[derive(Clone)]
pub(crate) struct TokioYamux {
    control: Control,
    inbound: Arc<Mutex<mpsc::UnboundedReceiver<StreamHandle>>>,
    end: watch::Receiver<Option<String>>,
}

/// Makes a session, and drives it.
pub(crate) async fn session(endpoint: Endpoint) -> io::Result<TokioYamux> {
    let socket = endpoint.connect().await?;
    let mut session = if endpoint.is_dial() {
        Session::new_client(socket, Config::default())
    } else {
        Session::new_server(socket, Config::default())
    };
    let control = session.control();
    let (streams, inbound) = mpsc::unbounded_channel();
    let (tell, end) = watch::channel(None);
    tokio::spawn(async move {
        let why = loop {
            match session.next().await {
                Some(Ok(stream)) => drop(streams.send(stream)),
                Some(Err(error)) => break format!("{error:?}"),
                None => break "it has ended".to_owned(),
            }
        };
        drop(session);
        tell.send_replace(Some(why));
    });
    Ok(TokioYamux { control, inbound: Arc::new(Mutex::new(inbound)), end })
}

impl Library for TokioYamux {
    type Stream = Crediting;

    async fn open(&self) -> io::Result<Crediting> {
        let opened = self.control.clone().open_stream().await;
        opened.map(Crediting::new).map_err(|error| io::Error::other(format!("{error:?}")))
    }

    async fn accept(&self) -> io::Result<Crediting> {
        let stream = self.inbound.lock().await.recv().await;
        stream.map(Crediting::new).ok_or_else(|| io::Error::other("the session has ended"))
    }

    async fn ping(&self) -> io::Result<Duration> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "the crate pings by itself alone"))
    }

    async fn go_away(&self) -> io::Result<()> {
        self.control.clone().close().await;
        Ok(())
    }

    async fn closed(&self) -> String {
        let mut end = self.end.clone();
        let ended = end.wait_for(Option::is_some).await;
        ended.ok().and_then(|end| end.clone()).unwrap_or_default()
    }
}

/// A stream that takes its credit while it waits to write.
///
/// The crate takes credit only in a look at what can be read, so a task that only writes would wait forever.
pub(crate) struct Crediting {
    stream: StreamHandle,
    /// Who waits to read: the crate keeps one waker for whoever looked last.
    reader: Option<Waker>,
}

impl Crediting {
    fn new(stream: StreamHandle) -> Self {
        Self { stream, reader: None }
    }
}

/// Wakes who waits to write, and who waits to read.
struct Both {
    writer: Waker,
    reader: Option<Waker>,
}

impl Wake for Both {
    fn wake(self: Arc<Self>) {
        self.writer.wake_by_ref();
        self.reader.iter().for_each(Waker::wake_by_ref);
    }
}

impl AsyncWrite for Crediting {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if written.is_pending() {
            // Takes the credit that is there, which wakes this task, and is woken by the credit to come.
            let both = Waker::from(Arc::new(Both { writer: cx.waker().clone(), reader: self.reader.clone() }));
            let _ = self.stream.poll_peek(&mut Context::from_waker(&both), &mut ReadBuf::new(&mut []));
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl AsyncRead for Crediting {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(cx, bytes);
        self.reader = read.is_pending().then(|| cx.waker().clone());
        read
    }
}
