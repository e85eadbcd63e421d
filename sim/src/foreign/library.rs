//! What the libraries have in common.

use std::io;

use tokio::io::{AsyncRead, AsyncWrite};

use super::{hashicorp, raw};
use crate::net::Socket;
use crate::plan::{Library, Side};

/// A session of one of the libraries. Clones are the same one.
#[derive(Clone)]
pub(super) enum Session {
    Hashicorp(hashicorp::Session),
    Raw(raw::Session),
}

/// A stream, in its two directions.
pub(super) struct Stream {
    pub(super) reader: Box<dyn AsyncRead + Unpin>,
    pub(super) writer: Box<dyn AsyncWrite + Unpin>,
}

impl Session {
    pub(super) fn new(library: Library, side: Side, socket: Socket) -> Self {
        match library {
            Library::Hashicorp => Self::Hashicorp(hashicorp::Session::new(side, socket)),
            Library::Yamux => Self::Raw(raw::Session::new(side, socket)),
        }
    }

    pub(super) async fn open(&self) -> io::Result<Stream> {
        match self {
            Self::Hashicorp(session) => session.open().await,
            Self::Raw(session) => session.open().await,
        }
    }

    pub(super) async fn accept(&self) -> io::Result<Stream> {
        match self {
            Self::Hashicorp(session) => session.accept().await,
            Self::Raw(session) => session.accept().await,
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        match self {
            Self::Hashicorp(session) => session.is_closed(),
            Self::Raw(session) => session.is_closed(),
        }
    }

    pub(super) fn close(&self) {
        match self {
            Self::Hashicorp(session) => session.close(),
            Self::Raw(session) => session.close(),
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
