//! One link: two sockets, and a pump for each way between them.

use std::{
    io,
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use socket2::{SockRef, Socket};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpSocket, TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::{mpsc, watch},
    time::{Instant, sleep_until, timeout},
};

use super::{Cut, Newcomer, Orders, Shared, Way};

/// The most bytes that a pump holds; with a delay, the most in one piece.
pub(super) const BUFFER_BYTES: usize = 16 * 1024;

/// The most pieces on the way at once in a direction, where there is a delay.
pub(super) const DELAYED_PIECES: usize = 512;

/// Into how many pieces a throttled second is cut.
const PIECES_PER_SECOND: u64 = 50;

/// How long a polite end waits for the other ends to close.
const POLITE_WAIT: Duration = Duration::from_secs(10);

pub(super) async fn run(newcomer: Newcomer, shared: Arc<Shared>) {
    let Newcomer { id, mut dialler, mut orders } = newcomer;
    let _entry = Entry { id, shared: Arc::clone(&shared) };
    let _ = dialler.set_nodelay(true);
    let mut target = None;
    let cut = match dial(&mut orders, &shared).await {
        Dialled::Connected(connected) => forward(&mut dialler, target.insert(connected), &mut orders, &shared).await,
        Dialled::Cut(cut, connected) => {
            target = connected;
            Some(cut)
        }
    };
    match cut {
        // Both ends have closed cleanly.
        None => {}
        Some(Cut::Fin) => end_politely(&mut dialler, target.as_mut(), &mut orders).await,
        Some(Cut::Rst | Cut::Stop) => reset(&dialler, target.as_ref()),
    }
}

/// Takes the link out of the list when its task ends, however it ends.
struct Entry {
    id: u64,
    shared: Arc<Shared>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.shared.lock().links.remove(&self.id);
    }
}

enum Dialled {
    Connected(TcpStream),
    /// The link has to be cut. The target may know the connection already.
    Cut(Cut, Option<TcpStream>),
}

/// Connects to the target. That is a message upstream, which waits while upstream is frozen, and its failure is one
/// downstream.
async fn dial(orders: &mut watch::Receiver<Orders>, shared: &Shared) -> Dialled {
    let mut ways = orders.clone();
    tokio::select! {
        biased;
        cut = ordered_cut(orders) => return Dialled::Cut(cut, None),
        _ = flows(&mut ways, Way::Up) => {}
    }
    let Ok((socket, same_socket, address)) = target_socket(shared) else { return Dialled::Cut(Cut::Rst, None) };
    let mut connecting = pin!(socket.connect(address));
    let cut = tokio::select! {
        biased;
        cut = ordered_cut(orders) => cut,
        connected = &mut connecting => {
            if let Ok(target) = connected {
                let _ = target.set_nodelay(true);
                return Dialled::Connected(target);
            }
            return tokio::select! {
                biased;
                cut = ordered_cut(orders) => Dialled::Cut(cut, None),
                _ = flows(&mut ways, Way::Down) => Dialled::Cut(Cut::Rst, None),
            };
        }
    };
    // The kernel may have connected already: the target must see the same end as the dialler.
    if cut == Cut::Fin {
        let target = timeout(POLITE_WAIT, connecting).await;
        return Dialled::Cut(cut, target.ok().and_then(Result::ok));
    }
    let _ = same_socket.set_linger(Some(Duration::ZERO));
    Dialled::Cut(cut, None)
}

/// A socket for the target, the same one once more for while it connects, and the target.
fn target_socket(shared: &Shared) -> io::Result<(TcpSocket, Socket, SocketAddr)> {
    let address = shared.lock().target;
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    let same_socket = SockRef::from(&socket).try_clone()?;
    Ok((socket, same_socket, address))
}

/// Forwards both ways until both ends have closed, then gives nothing, or until the link has to be cut.
async fn forward(
    dialler: &mut TcpStream,
    target: &mut TcpStream,
    orders: &mut watch::Receiver<Orders>,
    shared: &Shared,
) -> Option<Cut> {
    let (up, down) = (orders.clone(), orders.clone());
    let (from_dialler, to_dialler) = dialler.split();
    let (from_target, to_target) = target.split();
    let both = async {
        tokio::try_join!(
            pump(from_dialler, to_target, Way::Up, up, &shared.bytes_up),
            pump(from_target, to_dialler, Way::Down, down, &shared.bytes_down),
        )
    };
    tokio::select! {
        biased;
        cut = ordered_cut(orders) => Some(cut),
        // One end was lost: so is the other.
        ended = both => ended.is_err().then_some(Cut::Rst),
    }
}

/// Forwards one way until end of file.
async fn pump(
    from: ReadHalf<'_>,
    to: WriteHalf<'_>,
    way: Way,
    orders: watch::Receiver<Orders>,
    counter: &AtomicU64,
) -> io::Result<()> {
    let delay = orders.borrow().delay;
    let mut intake = Intake { from, way, orders: orders.clone(), due: Instant::now() };
    let mut outlet = Outlet { to, way, orders, counter };
    if delay.is_zero() {
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            let count = intake.read(&mut buffer).await?;
            outlet.write(&buffer[..count]).await?;
            if count == 0 {
                return Ok(());
            }
        }
    }
    let (pieces, mut on_the_way) = mpsc::channel(DELAYED_PIECES);
    let takes = async move {
        loop {
            let mut piece = vec![0; BUFFER_BYTES];
            let read = intake.read(&mut piece).await.map(|count| piece.truncate(count));
            let is_last = read.is_err() || piece.is_empty();
            // Refused when the other half has failed, which ends this one.
            if pieces.send((Instant::now() + delay, read.map(|()| piece))).await.is_err() || is_last {
                return Ok(());
            }
        }
    };
    let gives = async {
        while let Some((due, piece)) = on_the_way.recv().await {
            sleep_until(due).await;
            outlet.write(&piece?).await?;
        }
        Ok(())
    };
    tokio::try_join!(takes, gives).map(|_| ())
}

/// Where a pump reads.
struct Intake<'a> {
    from: ReadHalf<'a>,
    way: Way,
    orders: watch::Receiver<Orders>,
    /// When a throttled link may read again.
    due: Instant,
}

impl Intake<'_> {
    /// Reads what there is, at most [`BUFFER_BYTES`]. 0 at end of file.
    async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Self { from, way, orders, due } = self;
        loop {
            let rate = flows(orders, *way).await.bytes_per_second;
            if rate.is_some() {
                tokio::select! {
                    biased;
                    () = changed(orders) => continue,
                    () = sleep_until(*due) => {}
                }
            }
            let most =
                rate.map_or(BUFFER_BYTES as u64, |rate| (rate / PIECES_PER_SECOND).clamp(1, BUFFER_BYTES as u64));
            let most = usize::try_from(most).expect("it is at most BUFFER_BYTES");
            let read = tokio::select! {
                biased;
                () = changed(orders) => continue,
                read = from.read(&mut buffer[..most]) => read,
            };
            // What was read was perhaps sent after a freeze began. That the sender was lost is news that goes this way,
            // too.
            flows(orders, *way).await;
            if let (Ok(count), Some(rate)) = (&read, rate) {
                *due = (*due).max(Instant::now()) + Duration::from_micros(1_000_000 * *count as u64 / rate);
            }
            return read;
        }
    }
}

/// Where a pump writes.
struct Outlet<'a> {
    to: WriteHalf<'a>,
    way: Way,
    orders: watch::Receiver<Orders>,
    counter: &'a AtomicU64,
}

impl Outlet<'_> {
    /// Writes all of it, or passes the end of file on when there is nothing.
    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Self { to, way, orders, counter } = self;
        let written = if bytes.is_empty() {
            // Behind a delay a freeze may have begun.
            flows(orders, *way).await;
            to.shutdown().await
        } else {
            write(to, bytes, *way, orders).await
        };
        if let Err(error) = written {
            // That the reader was lost is news that goes the other way.
            flows(orders, way.back()).await;
            return Err(error);
        }
        counter.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(())
    }
}

async fn write(
    to: &mut WriteHalf<'_>,
    mut bytes: &[u8],
    way: Way,
    orders: &mut watch::Receiver<Orders>,
) -> io::Result<()> {
    while !bytes.is_empty() {
        flows(orders, way).await;
        tokio::select! {
            biased;
            () = changed(orders) => {}
            written = to.write(bytes) => match written? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                count => bytes = &bytes[count..],
            },
        }
    }
    Ok(())
}

/// Says FIN to both ends and takes what they still send, so that closing does not become a reset.
async fn end_politely(
    dialler: &mut TcpStream,
    mut target: Option<&mut TcpStream>,
    orders: &mut watch::Receiver<Orders>,
) {
    let both = async {
        // An end that is gone already needs no FIN.
        let _ = dialler.shutdown().await;
        if let Some(target) = &mut target {
            let _ = target.shutdown().await;
        }
        tokio::join!(discard(dialler), async {
            if let Some(target) = &mut target {
                discard(target).await;
            }
        });
    };
    let stopped = tokio::select! {
        biased;
        _ = orders.wait_for(|orders| orders.cut == Some(Cut::Stop)) => true,
        _ = timeout(POLITE_WAIT, both) => false,
    };
    if stopped {
        reset(dialler, target.as_deref());
    }
}

async fn discard(from: &mut TcpStream) {
    let mut buffer = [0; 4096];
    while from.read(&mut buffer).await.is_ok_and(|count| count > 0) {}
}

/// Makes the close that follows a reset.
fn reset(dialler: &TcpStream, target: Option<&TcpStream>) {
    for socket in [Some(dialler), target].into_iter().flatten() {
        // It fails for a socket that is broken already: its other end has had the news.
        let _ = SockRef::from(socket).set_linger(Some(Duration::ZERO));
    }
}

/// Waits until bytes may go this way.
async fn flows(orders: &mut watch::Receiver<Orders>, way: Way) -> Orders {
    let flowing = orders.wait_for(|orders| !orders.frozen(way)).await.ok().map(|orders| *orders);
    match flowing {
        Some(orders) => orders,
        None => std::future::pending().await,
    }
}

/// Waits until the orders have changed since they were looked at.
async fn changed(orders: &mut watch::Receiver<Orders>) {
    if orders.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

async fn ordered_cut(orders: &mut watch::Receiver<Orders>) -> Cut {
    orders.wait_for(|orders| orders.cut.is_some()).await.ok().and_then(|orders| orders.cut).unwrap_or(Cut::Stop)
}
