//! A slow path on loopback: so many bytes a second each way, for all connections together, behind one short queue.
//!
//! Its sockets take little themselves, so what has not gone through the queue stays with whoever sends it, as on a real path.

use std::{io, net::SocketAddr, time::Duration};

use socket2::SockRef;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpSocket, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::mpsc,
    time::{Instant, sleep_until},
};

/// What the path carries in one piece.
const PACKET_BYTES: usize = 1000;
/// How many pieces wait in its queue, each way.
const QUEUE: usize = 24;
/// What a socket of it may hold. The system takes twice that.
const SOCKET_BYTES: u32 = 4 << 10;

/// A piece that waits, and the outlet that it waits for.
type Packet = (Vec<u8>, mpsc::UnboundedSender<Vec<u8>>);

/// Begins a path to `target`, on the current runtime. Returns where to dial it. It ends with the runtime.
pub(crate) fn begin(target: SocketAddr, bytes_per_second: u64) -> io::Result<SocketAddr> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(SOCKET_BYTES)?;
    socket.bind("127.0.0.1:0".parse().map_err(io::Error::other)?)?;
    let listener = socket.listen(256)?;
    let address = listener.local_addr()?;
    tokio::spawn(carry_all(listener, target, [way(bytes_per_second), way(bytes_per_second)]));
    Ok(address)
}

/// One way of the path.
fn way(bytes_per_second: u64) -> mpsc::Sender<Packet> {
    let (queue, mut waiting) = mpsc::channel::<Packet>(QUEUE);
    tokio::spawn(async move {
        let mut free = Instant::now();
        while let Some((bytes, outlet)) = waiting.recv().await {
            free = free.max(Instant::now()) + Duration::from_micros(1_000_000 * bytes.len() as u64 / bytes_per_second);
            sleep_until(free).await;
            // The connection may have ended.
            let _ = outlet.send(bytes);
        }
    });
    queue
}

async fn carry_all(listener: TcpListener, target: SocketAddr, [there, back]: [mpsc::Sender<Packet>; 2]) {
    while let Ok((near, _)) = listener.accept().await {
        let (there, back) = (there.clone(), back.clone());
        tokio::spawn(async move {
            let Ok(far) = dial(target).await else { return };
            let _ = near.set_nodelay(true);
            let ((from_near, to_near), (from_far, to_far)) = (near.into_split(), far.into_split());
            tokio::join!(carry(from_near, there, to_far), carry(from_far, back, to_near));
        });
    }
}

async fn dial(target: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    SockRef::from(&socket).set_recv_buffer_size(SOCKET_BYTES as usize)?;
    let stream = socket.connect(target).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Carries one direction of a connection to its end.
async fn carry(mut from: OwnedReadHalf, queue: mpsc::Sender<Packet>, mut to: OwnedWriteHalf) {
    let (outlet, mut through) = mpsc::unbounded_channel();
    let enters = async move {
        let mut packet = [0; PACKET_BYTES];
        while let Ok(n @ 1..) = from.read(&mut packet).await {
            if queue.send((packet[..n].to_vec(), outlet.clone())).await.is_err() {
                return;
            }
        }
    };
    let leaves = async move {
        while let Some(bytes) = through.recv().await {
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
        let _ = to.shutdown().await;
    };
    tokio::join!(enters, leaves);
}
