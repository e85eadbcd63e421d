//! evermux: a session alone, with the default configuration.

use std::io;

use evermux::{Config, MuxStream, Session};
use tokio::runtime::Handle;

use super::{Acceptor, Mux, Opener};

pub(crate) struct Evermux;

impl Mux for Evermux {
    type Opener = Session;
    type Acceptor = Session;

    async fn connect(server: &Handle) -> io::Result<(Session, Session)> {
        let pair = super::pair(server, async |socket| Ok(Session::server(socket, &Config::default()).await?)).await?;
        let near = Session::client(pair.near, &Config::default()).await?;
        Ok((near, pair.far.await.map_err(io::Error::other)??))
    }
}

impl Opener for Session {
    type Stream = MuxStream;

    async fn open(&self) -> io::Result<MuxStream> {
        Ok(self.open_stream().await?)
    }
}

impl Acceptor for Session {
    type Stream = MuxStream;

    async fn accept(&mut self) -> io::Result<MuxStream> {
        Ok(self.accept_stream().await?)
    }
}
