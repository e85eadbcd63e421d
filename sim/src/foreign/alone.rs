//! A session of evermux's, without a manager.

use std::io;

use evermux::{Config, MuxStream};

use super::library;
use crate::net::Socket;
use crate::plan::Side;

#[derive(Clone)]
pub(super) struct Session(evermux::Session);

impl Session {
    /// Waits until the session is proven.
    pub(super) async fn begin(side: Side, socket: Socket) -> io::Result<Self> {
        let config = Config::default();
        Ok(Self(match side {
            Side::Establisher => evermux::Session::client(socket, &config).await?,
            Side::Receiver => evermux::Session::server(socket, &config).await?,
        }))
    }

    pub(super) async fn open(&self) -> io::Result<library::Stream> {
        Ok(split(self.0.open_stream().await?))
    }

    pub(super) async fn accept(&self) -> io::Result<library::Stream> {
        Ok(split(self.0.accept_stream().await?))
    }

    pub(super) fn is_closed(&self) -> bool {
        self.0.is_closed() || self.0.is_draining()
    }

    /// At once, as the other libraries do.
    pub(super) fn close(&self) {
        self.0.abort();
    }
}

fn split(stream: MuxStream) -> library::Stream {
    let (reader, writer) = stream.into_split();
    library::Stream { reader: Box::new(reader), writer: Box::new(writer) }
}
