//! TCP itself: each stream is a connection.

use std::{io, net::SocketAddr};

use tokio::{
    net::{TcpListener, TcpStream},
    runtime::Handle,
};

use super::{Acceptor, Mux, Opener, listen};

pub(crate) struct Tcp;

impl Mux for Tcp {
    type Opener = SocketAddr;
    type Acceptor = TcpListener;

    async fn connect(server: &Handle) -> io::Result<(SocketAddr, TcpListener)> {
        let (listener, address) = server.spawn(listen()).await.map_err(io::Error::other)??;
        Ok((address, listener))
    }
}

impl Opener for SocketAddr {
    type Stream = TcpStream;

    async fn open(&self) -> io::Result<TcpStream> {
        let socket = TcpStream::connect(self).await?;
        socket.set_nodelay(true)?;
        Ok(socket)
    }
}

impl Acceptor for TcpListener {
    type Stream = TcpStream;

    async fn accept(&mut self) -> io::Result<TcpStream> {
        let (socket, _) = TcpListener::accept(self).await?;
        socket.set_nodelay(true)?;
        Ok(socket)
    }
}
