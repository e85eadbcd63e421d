//! hashicorp's library for Go, as the test kit has it.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use testkit::hashicorp::{self, Config, Error};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::library;
use crate::net::Socket;
use crate::plan::Side;

#[derive(Clone)]
pub(super) struct Session(hashicorp::Session);

impl Session {
    pub(super) fn new(side: Side, socket: Socket) -> Self {
        Self(match side {
            Side::Establisher => hashicorp::Session::client(socket, Config::default()),
            Side::Receiver => hashicorp::Session::server(socket, Config::default()),
        })
    }

    pub(super) async fn open(&self) -> io::Result<library::Stream> {
        Ok(split(self.0.open().await.map_err(lost)?))
    }

    pub(super) async fn accept(&self) -> io::Result<library::Stream> {
        Ok(split(self.0.accept().await.map_err(lost)?))
    }

    pub(super) fn is_closed(&self) -> bool {
        self.0.is_closed()
    }

    pub(super) fn close(&self) {
        let session = self.0.clone();
        tokio::spawn(async move { session.close().await });
    }
}

fn lost(error: Error) -> io::Error {
    let kind = match error {
        Error::Io(kind) => kind,
        Error::ConnectionWriteTimeout | Error::Timeout => io::ErrorKind::TimedOut,
        _ => io::ErrorKind::ConnectionReset,
    };
    io::Error::new(kind, error)
}

fn split(stream: hashicorp::Stream) -> library::Stream {
    let reader = Reader { stream: stream.clone(), reading: None, read: Vec::new() };
    library::Stream { reader: Box::new(reader), writer: Box::new(Writer { stream, calling: None }) }
}

type Calling<T> = Pin<Box<dyn Future<Output = Result<T, Error>>>>;

/// How much one call reads.
const READ_BYTES: usize = 4 << 10;

struct Reader {
    stream: hashicorp::Stream,
    reading: Option<Calling<Vec<u8>>>,
    /// What was read and not taken.
    read: Vec<u8>,
}

impl AsyncRead for Reader {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.read.is_empty() {
            let reading = this.reading.get_or_insert_with(|| {
                let stream = this.stream.clone();
                Box::pin(async move {
                    let mut bytes = vec![0; READ_BYTES];
                    let read = stream.read(&mut bytes).await?;
                    bytes.truncate(read);
                    Ok(bytes)
                })
            });
            let read = ready!(reading.as_mut().poll(cx));
            this.reading = None;
            this.read = read.map_err(lost)?;
        }
        let taken = this.read.len().min(buf.remaining());
        buf.put_slice(&this.read[..taken]);
        this.read.drain(..taken);
        Poll::Ready(Ok(()))
    }
}

struct Writer {
    stream: hashicorp::Stream,
    calling: Option<Calling<usize>>,
}

impl Writer {
    /// Goes on with the call that is under way, or begins this one.
    fn poll_call<Fut>(
        &mut self,
        cx: &mut Context<'_>,
        call: impl FnOnce(hashicorp::Stream) -> Fut,
    ) -> Poll<io::Result<usize>>
    where
        Fut: Future<Output = Result<usize, Error>> + 'static,
    {
        let stream = &self.stream;
        let calling = self.calling.get_or_insert_with(|| Box::pin(call(stream.clone())));
        let called = ready!(calling.as_mut().poll(cx));
        self.calling = None;
        Poll::Ready(called.map_err(lost))
    }
}

/// Whoever waits for a call comes back with the same bytes, as `write_all` does.
impl AsyncWrite for Writer {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_call(cx, |stream| {
            let bytes = buf.to_vec();
            async move { stream.write(&bytes).await.map(|()| bytes.len()) }
        })
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let closed = |stream: hashicorp::Stream| async move {
            stream.close().await;
            Ok(0)
        };
        self.poll_call(cx, closed).map_ok(drop)
    }
}
