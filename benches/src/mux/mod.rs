//! What is compared: connections that carry streams, all behind the same two traits.

mod evermux;
pub(crate) mod raw_yamux;
mod tcp;
mod tokio_yamux;

use std::{future::Future, io, net::SocketAddr};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    runtime::Handle,
    sync::oneshot,
};

use self::{evermux::Evermux, raw_yamux::RawYamux, tcp::Tcp, tokio_yamux::TokioYamux};
use crate::{measure::Sample, rig::Rig};

pub(crate) const EVERMUX: &str = "evermux";
pub(crate) const YAMUX: &str = "yamux";
pub(crate) const TOKIO_YAMUX: &str = "tokio-yamux";
pub(crate) const TCP: &str = "tcp";

/// The contestants, in turn.
pub(crate) const ALL: &[&str] = &[EVERMUX, YAMUX, TOKIO_YAMUX, TCP];

/// A stream.
pub(crate) trait Io: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Io for T {}

/// The end of a connection that opens streams.
pub(crate) trait Opener: Clone + Send + Sync + 'static {
    type Stream: Io;

    fn open(&self) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

/// The end that takes them.
pub(crate) trait Acceptor: Send + 'static {
    type Stream: Io;

    /// The next stream. An error when the connection has ended.
    fn accept(&mut self) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

/// A contestant.
pub(crate) trait Mux: 'static {
    type Opener: Opener;
    type Acceptor: Acceptor;

    /// A connection over loopback TCP: one end on the current runtime, the other on `server`.
    fn connect(server: &Handle) -> impl Future<Output = io::Result<(Self::Opener, Self::Acceptor)>> + Send;
}

/// A case that any contestant can run.
pub(crate) trait MuxCase: Send + 'static {
    fn run<M: Mux>(self, server: Handle) -> impl Future<Output = io::Result<Sample>> + Send;
}

/// Runs a case with the contestant of this name.
pub(crate) fn run(contestant: &str, workers: usize, case: impl MuxCase) -> io::Result<Sample> {
    let rig = Rig::new(workers)?;
    let server = rig.server();
    match contestant {
        EVERMUX => rig.run(case.run::<Evermux>(server)),
        YAMUX => rig.run(case.run::<RawYamux>(server)),
        TOKIO_YAMUX => rig.run(case.run::<TokioYamux>(server)),
        TCP => rig.run(case.run::<Tcp>(server)),
        other => Err(io::Error::other(format!("there is no contestant `{other}`"))),
    }
}

/// A listener on loopback, on the current runtime, and where to dial it.
pub(crate) async fn listen() -> io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// A connection, and with it what `serve` makes of its other end on the server's runtime.
pub(crate) async fn pair<T, Fut>(
    server: &Handle,
    serve: impl FnOnce(TcpStream) -> Fut + Send + 'static,
) -> io::Result<Pair<T>>
where
    T: Send + 'static,
    Fut: Future<Output = io::Result<T>> + Send + 'static,
{
    let (tell, told) = oneshot::channel();
    let far = server.spawn(async move {
        let (listener, address) = listen().await?;
        // Nobody listens when the dialler is gone.
        let _ = tell.send(address);
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        serve(socket).await
    });
    let near = TcpStream::connect(told.await.map_err(io::Error::other)?).await?;
    near.set_nodelay(true)?;
    Ok(Pair { near, far })
}

pub(crate) struct Pair<T> {
    pub(crate) near: TcpStream,
    pub(crate) far: tokio::task::JoinHandle<io::Result<T>>,
}
