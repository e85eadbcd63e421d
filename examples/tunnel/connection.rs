//! One TCP connection and one stream, and how the end of each becomes the end of the other.
//!
//! | on one side | on the other |
//! | --- | --- |
//! | FIN | FIN; the other direction goes on |
//! | RST, or any error | RST, both directions |
//! | the session is lost | RST, after the bytes that had come |
//! | this process is killed | RST: until both directions have finished, the kernel is told to end the connection so |

use std::{
    fmt, io,
    net::Shutdown,
    pin::pin,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use evermux::{MuxStream, OpenError};
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, Interest, ReadHalf, WriteHalf},
    net::TcpStream,
};

/// What each direction of a connection may hold in between.
const BUFFER_BYTES: usize = 64 * 1024;

/// After how long without a byte the other end of a TCP connection is asked whether it is still there.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// Bytes that were carried.
#[derive(Debug, Default)]
pub(crate) struct Bytes {
    sent: AtomicU64,
    received: AtomicU64,
}

impl Bytes {
    /// To the other side.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// From the other side.
    pub(crate) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }
}

/// What ended a connection other than its two FINs.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The TCP connection broke.
    Tcp(io::Error),
    /// The stream broke: it was reset on the other side, or its session is lost.
    Stream(io::Error),
    /// There was no stream for it.
    Open(OpenError),
    /// The forward address did not answer.
    Connect(io::Error),
    /// The time to finish was over.
    CutOff,
}

impl Failure {
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Tcp(_) => "tcp",
            Self::Stream(_) => "stream",
            Self::Open(_) => "open",
            Self::Connect(_) => "connect",
            Self::CutOff => "cut off",
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(error) => write!(f, "the TCP connection broke: {error}"),
            Self::Stream(error) => write!(f, "the stream broke: {error}"),
            Self::Open(error) => write!(f, "{error}"),
            Self::Connect(error) => write!(f, "cannot connect: {error}"),
            Self::CutOff => f.write_str("there was no more time to finish"),
        }
    }
}

/// Makes a reset of every end of this connection, the end of this process included, until [`finish`] is called.
pub(crate) fn prepare(tcp: &TcpStream) -> io::Result<()> {
    let socket = SockRef::from(tcp);
    socket.set_linger(Some(Duration::ZERO))?;
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE))
}

/// Both directions have finished: the kernel may take its time to deliver what it has.
fn finish(tcp: &TcpStream) -> Result<(), Failure> {
    SockRef::from(tcp).set_linger(None).map_err(Failure::Tcp)
}

/// Waits for an error of a TCP connection that nobody reads from at the moment.
pub(crate) async fn broken(tcp: &TcpStream) -> io::Error {
    match tcp.ready(Interest::ERROR).await {
        Ok(_) => tcp.take_error().ok().flatten().unwrap_or_else(|| io::ErrorKind::ConnectionReset.into()),
        Err(error) => error,
    }
}

/// Carries bytes and ends both ways, until both directions have finished or one is broken. Then the stream has ended in
/// the same way; the TCP connection does when it is dropped.
///
/// Dropping the future drops the stream as it is.
pub(crate) async fn carry(tcp: &TcpStream, stream: MuxStream, bytes: [&Bytes; 2]) -> Result<(), Failure> {
    let closed = stream.closed();
    let (mut reader, mut writer) = tokio::io::split(stream);
    let carried = {
        let mut outward = pin!(send(tcp, &mut writer, bytes));
        let mut inward = pin!(receive(&mut reader, tcp, bytes));
        // Unbiased, so that neither direction starves the other. One that has finished no longer notices what breaks
        // behind it, so something else has to.
        tokio::select! {
            finished = &mut outward => match finished {
                Ok(()) => tokio::select! {
                    finished = inward => finished,
                    error = broken(tcp) => Err(Failure::Tcp(error)),
                },
                Err(failure) => Err(failure),
            },
            finished = &mut inward => match finished {
                Ok(()) => tokio::select! {
                    finished = outward => finished,
                    Err(error) = closed => Err(Failure::Stream(error)),
                },
                Err(failure) => Err(failure),
            },
        }
    };
    if carried.is_err() {
        // A drop would not do: after our FIN it leaves the other side time to finish.
        reader.unsplit(writer).reset();
    }
    carried.and_then(|()| finish(tcp))
}

/// From the TCP connection to the stream, with the FIN.
async fn send(tcp: &TcpStream, stream: &mut WriteHalf<MuxStream>, bytes: [&Bytes; 2]) -> Result<(), Failure> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let count = read(tcp, &mut buffer).await.map_err(Failure::Tcp)?;
        if count == 0 {
            return stream.shutdown().await.map_err(Failure::Stream);
        }
        tokio::select! {
            biased;
            written = stream.write_all(&buffer[..count]) => written.map_err(Failure::Stream)?,
            // The other side takes nothing at the moment, and may never.
            error = broken(tcp) => return Err(Failure::Tcp(error)),
        }
        for bytes in bytes {
            bytes.sent.fetch_add(count as u64, Ordering::Relaxed);
        }
    }
}

/// From the stream to the TCP connection, with the FIN.
async fn receive(stream: &mut ReadHalf<MuxStream>, tcp: &TcpStream, bytes: [&Bytes; 2]) -> Result<(), Failure> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let count = stream.read(&mut buffer).await.map_err(Failure::Stream)?;
        if count == 0 {
            return SockRef::from(tcp).shutdown(Shutdown::Write).map_err(Failure::Tcp);
        }
        write_all(tcp, &buffer[..count]).await.map_err(Failure::Tcp)?;
        for bytes in bytes {
            bytes.received.fetch_add(count as u64, Ordering::Relaxed);
        }
    }
}

async fn read(tcp: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        tcp.readable().await?;
        match tcp.try_read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            read => return read,
        }
    }
}

async fn write_all(tcp: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        tcp.writable().await?;
        match tcp.try_write(bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            written => bytes = &bytes[written?..],
        }
    }
    Ok(())
}
