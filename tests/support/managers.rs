//! A receiver whose place is taken, and those who want it.

use evermux::{ConfigBuilder, Connect, MuxManager, Session};
use testkit::frames::{Flags, Header, Kind, Peer};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream};

use super::{
    in_time,
    network::{MemoryConnector, network},
};

/// A receiver whose place is taken.
pub(crate) struct Occupied {
    pub(crate) connector: MemoryConnector,
    pub(crate) receiver: MuxManager,
    /// The establisher whose session has the place.
    pub(crate) holder: MuxManager,
    /// That session, as the receiver has it.
    pub(crate) session: Session,
}

pub(crate) async fn occupied(config: ConfigBuilder) -> Occupied {
    let (connector, acceptor) = network();
    let config = config.build().unwrap();
    let receiver = MuxManager::receive_with(acceptor).config(config.clone()).start().await.unwrap();
    let holder = MuxManager::establish_with(connector.clone()).config(config).start().await.unwrap();
    in_time(holder.session()).await.unwrap();
    let session = in_time(receiver.session()).await.unwrap();
    Occupied { connector, receiver, holder, session }
}

/// A client of that network that says nothing yet.
pub(crate) async fn client(connector: &MemoryConnector) -> Peer<DuplexStream> {
    Peer::new(connector.connect().await.unwrap().io)
}

/// Answers the proof of a receiver and asks it something, which is answered once it has a place.
pub(crate) async fn half_prove<Io: AsyncRead + AsyncWrite + Unpin>(peer: &mut Peer<Io>) {
    let (ping, _) = peer.recv_until(|header| header.kind == Kind::Ping && header.flags == Flags::SYN).await.unwrap();
    peer.send(Header::pong(ping.length), &[]).await.unwrap();
    peer.send(Header::ping(77), &[]).await.unwrap();
}
