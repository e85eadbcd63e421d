//! Streams for threads without async.

use std::{future::poll_fn, io, pin::Pin, time::Duration};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::stream::{MuxStream, ReadHalf, WriteHalf};
use crate::blocking;

/// A [`MuxStream`] for threads: see [`Blocking`].
pub type BlockingStream = Blocking<MuxStream>;

/// A [`MuxStream`] for threads, or a half of one: [`std::io::Read`] and [`std::io::Write`].
///
/// It needs no runtime of its own. When the runtime of its session ends, its calls fail.
///
/// ```
/// use std::{io::{Read, Write}, thread};
///
/// # fn example(stream: evermux::MuxStream) -> std::io::Result<()> {
/// let (mut reader, mut writer) = stream.into_blocking().into_split();
/// let writing = thread::spawn(move || {
///     writer.write_all(b"request")?;
///     writer.shutdown()
/// });
/// let mut reply = Vec::new();
/// reader.read_to_end(&mut reply)?;
/// writing.join().expect("it does not panic")
/// # }
/// ```
///
/// # Panics
///
/// If it would have to wait inside an async context, as with tokio's blocking calls. `spawn_blocking` and
/// `block_in_place` are fine.
#[must_use = "dropping what may still write, before `shutdown`, resets the stream"]
#[derive(Debug)]
pub struct Blocking<S> {
    inner: S,
    read_timeout: Option<Duration>,
    write_timeout: Option<Duration>,
}

impl<S> Blocking<S> {
    fn new(inner: S) -> Self {
        Self { inner, read_timeout: None, write_timeout: None }
    }

    /// Sets how long a read may wait before it fails with [`TimedOut`](io::ErrorKind::TimedOut) without having read
    /// anything. By default, and with `None`, it waits for as long as the session lives.
    pub fn set_read_timeout(&mut self, timeout: Option<Duration>) {
        self.read_timeout = timeout;
    }

    /// Sets how long a write may wait before it fails with [`TimedOut`](io::ErrorKind::TimedOut) without having written
    /// anything. By default, and with `None`, it waits for as long as the session lives.
    pub fn set_write_timeout(&mut self, timeout: Option<Duration>) {
        self.write_timeout = timeout;
    }

    /// The inner stream, or half.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// Returns the inner stream, or half.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl Blocking<MuxStream> {
    /// Waits for the end of the stream, regardless of what was read or written: [`MuxStream::closed`], without a time
    /// limit.
    ///
    /// # Errors
    ///
    /// As [`MuxStream::closed`].
    pub fn closed(&self) -> io::Result<()> {
        blocking::block_on(self.inner.closed())
    }

    /// Ends both directions at once: [`MuxStream::reset`].
    pub fn reset(self) {
        self.inner.reset();
    }

    /// Splits the stream into its halves, so that two threads can each hold one. Timeouts stay set.
    pub fn into_split(self) -> (Blocking<ReadHalf>, Blocking<WriteHalf>) {
        let (read_timeout, write_timeout) = (self.read_timeout, self.write_timeout);
        let (read, write) = self.inner.into_split();
        (Blocking { read_timeout, ..Blocking::new(read) }, Blocking { write_timeout, ..Blocking::new(write) })
    }
}

impl<S: AsyncWrite + Unpin> Blocking<S> {
    /// Finishes writing: no more bytes follow. Reading goes on.
    ///
    /// # Errors
    ///
    /// The stream was reset, or its session is lost.
    pub fn shutdown(&mut self) -> io::Result<()> {
        let inner = &mut self.inner;
        wait(self.write_timeout, poll_fn(|cx| Pin::new(&mut *inner).poll_shutdown(cx)))
    }
}

/// Waits for at most `timeout`.
fn wait<T>(timeout: Option<Duration>, future: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match timeout {
        None => blocking::block_on(future),
        Some(timeout) => {
            let timed_out =
                || io::Error::new(io::ErrorKind::TimedOut, format!("nothing could be done within {timeout:?}"));
            blocking::block_on_timeout(timeout, future).unwrap_or_else(|| Err(timed_out()))
        }
    }
}

impl<S: AsyncRead + Unpin> io::Read for Blocking<S> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut buf = ReadBuf::new(buf);
        let inner = &mut self.inner;
        wait(self.read_timeout, poll_fn(|cx| Pin::new(&mut *inner).poll_read(cx, &mut buf)))?;
        Ok(buf.filled().len())
    }
}

impl<S: AsyncWrite + Unpin> io::Write for Blocking<S> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let inner = &mut self.inner;
        wait(self.write_timeout, poll_fn(|cx| Pin::new(&mut *inner).poll_write(cx, buf)))
    }

    fn flush(&mut self) -> io::Result<()> {
        let inner = &mut self.inner;
        wait(self.write_timeout, poll_fn(|cx| Pin::new(&mut *inner).poll_flush(cx)))
    }
}

impl MuxStream {
    /// Turns it into a [`std::io::Read`] and [`std::io::Write`], for threads without async.
    ///
    /// ```
    /// use std::io::{Read, Write};
    /// use evermux::MuxManager;
    ///
    /// let server = MuxManager::receive("127.0.0.1:0").start_blocking()?;
    /// let client = MuxManager::establish(server.local_addr().unwrap().to_string()).start_blocking()?;
    ///
    /// let mut outbound = client.open_stream_blocking()?.into_blocking();
    /// outbound.write_all(b"hello")?;
    /// outbound.shutdown()?;
    /// let mut inbound = server.session_blocking()?.accept_stream_blocking()?.into_blocking();
    /// let mut text = String::new();
    /// inbound.read_to_string(&mut text)?;
    /// assert_eq!(text, "hello");
    ///
    /// drop((outbound, inbound));
    /// client.shutdown_blocking();
    /// server.shutdown_blocking();
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn into_blocking(self) -> BlockingStream {
        Blocking::new(self)
    }
}

impl ReadHalf {
    /// Turns it into a [`std::io::Read`], for threads without async.
    pub fn into_blocking(self) -> Blocking<Self> {
        Blocking::new(self)
    }
}

impl WriteHalf {
    /// Turns it into a [`std::io::Write`], for threads without async.
    pub fn into_blocking(self) -> Blocking<Self> {
        Blocking::new(self)
    }
}
