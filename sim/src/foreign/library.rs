//! What the libraries have in common.

use std::io;

use tokio::io::{AsyncRead, AsyncWrite};

use super::{alone, hashicorp, raw};
use crate::net::Socket;
use crate::plan::{Library, Side};

/// A session of one of the libraries. Clones are the same one.
#[derive(Clone)]
pub(super) enum Session {
    Hashicorp(hashicorp::Session),
    Raw(raw::Session),
    Alone(alone::Session),
}

/// A stream, in its two directions.
pub(super) struct Stream {
    pub(super) reader: Box<dyn AsyncRead + Unpin>,
    pub(super) writer: Box<dyn AsyncWrite + Unpin>,
}

impl Session {
    /// Waits until the session can be used.
    pub(super) async fn begin(library: Library, side: Side, socket: Socket) -> io::Result<Self> {
        Ok(match library {
            Library::Hashicorp => Self::Hashicorp(hashicorp::Session::new(side, socket)),
            Library::Yamux => Self::Raw(raw::Session::new(side, socket)),
            Library::Session => Self::Alone(alone::Session::begin(side, socket).await?),
        })
    }

    pub(super) async fn open(&self) -> io::Result<Stream> {
        match self {
            Self::Hashicorp(session) => session.open().await,
            Self::Raw(session) => session.open().await,
            Self::Alone(session) => session.open().await,
        }
    }

    pub(super) async fn accept(&self) -> io::Result<Stream> {
        match self {
            Self::Hashicorp(session) => session.accept().await,
            Self::Raw(session) => session.accept().await,
            Self::Alone(session) => session.accept().await,
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        match self {
            Self::Hashicorp(session) => session.is_closed(),
            Self::Raw(session) => session.is_closed(),
            Self::Alone(session) => session.is_closed(),
        }
    }

    pub(super) fn close(&self) {
        match self {
            Self::Hashicorp(session) => session.close(),
            Self::Raw(session) => session.close(),
            Self::Alone(session) => session.close(),
        }
    }

    /// Ends the session when what this returns is dropped.
    pub(super) fn close_on_drop(&self) -> Open {
        Open(self.clone())
    }
}

/// A session that ends when this is dropped.
pub(super) struct Open(Session);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.close();
    }
}
