//! What `testkit` plays of hashicorp's yamux at version 0.1.2, with its default configuration. Debian's package is of 2019.

use std::{
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use testkit::hashicorp::{Config, Error, Session, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::engine::{Endpoint, Library};

/// Makes a session.
pub(crate) async fn session(endpoint: Endpoint) -> io::Result<Session> {
    let socket = endpoint.connect().await?;
    let session = if endpoint.is_dial() { Session::client } else { Session::server };
    Ok(session(socket, Config::default()))
}

impl Library for Session {
    type Stream = Polled;

    async fn open(&self) -> io::Result<Polled> {
        Session::open(self).await.map(Polled::new).map_err(io::Error::other)
    }

    async fn accept(&self) -> io::Result<Polled> {
        Session::accept(self).await.map(Polled::new).map_err(io::Error::other)
    }

    fn reset(_stream: Polled) -> io::Result<()> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "the library has no way to reset a stream"))
    }

    async fn ping(&self) -> io::Result<Duration> {
        Session::ping(self).await.map_err(io::Error::other)
    }

    async fn go_away(&self) -> io::Result<()> {
        Session::go_away(self).await.map_err(io::Error::other)
    }

    async fn closed(&self) -> String {
        self.ended().await.to_string()
    }
}

type Call<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A stream whose calls are polled. A call goes on from one poll to the next, as a goroutine would.
pub(crate) struct Polled {
    stream: Stream,
    read: Option<Call<Result<Vec<u8>, Error>>>,
    /// What was read and did not fit.
    rest: io::Cursor<Vec<u8>>,
    write: Option<Call<Result<usize, Error>>>,
    close: Option<Call<()>>,
}

impl Polled {
    fn new(stream: Stream) -> Self {
        Self { stream, read: None, rest: io::Cursor::default(), write: None, close: None }
    }
}

/// Polls a call, which `begin` makes unless it goes on.
fn go_on<T>(call: &mut Option<Call<T>>, cx: &mut Context<'_>, begin: impl FnOnce() -> Call<T>) -> Poll<T> {
    let value = ready!(call.get_or_insert_with(begin).as_mut().poll(cx));
    *call = None;
    Poll::Ready(value)
}

impl AsyncRead for Polled {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { stream, read, rest, .. } = self.get_mut();
        let room = buffer.remaining();
        let begin = || -> Call<_> {
            let stream = stream.clone();
            Box::pin(async move {
                let mut bytes = vec![0; room];
                let count = stream.read(&mut bytes).await?;
                bytes.truncate(count);
                Ok(bytes)
            })
        };
        if rest.position() == rest.get_ref().len() as u64 {
            *rest = io::Cursor::new(ready!(go_on(read, cx, begin)).map_err(io::Error::other)?);
        }
        Pin::new(rest).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Polled {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let Self { stream, write, .. } = self.get_mut();
        let begin = || -> Call<_> {
            let (stream, bytes) = (stream.clone(), bytes.to_vec());
            Box::pin(async move { stream.write(&bytes).await.map(|()| bytes.len()) })
        };
        go_on(write, cx, begin).map_err(io::Error::other)
    }

    /// A write has written when it returns.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { stream, close, .. } = self.get_mut();
        let begin = || -> Call<_> {
            let stream = stream.clone();
            Box::pin(async move { stream.close().await })
        };
        go_on(close, cx, begin).map(Ok)
    }
}
