//! What a peer can cost a side by what it sends: processor time of that side alone, for each MiB.
//!
//! The side runs on one thread, which is the one that is looked at. Its peer knows the protocol, reads all that comes, and
//! sends one kind of frame as fast as it is taken.

use std::{
    convert::Infallible,
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
};

use evermux::{Config, Session};
use testkit::frames::{Flags, HEADER_BYTES, Header, INITIAL_WINDOW, Kind};
use tokio::io::AsyncReadExt;
use yamux::Mode;

use super::{
    Setup,
    bulk::{mib, wrong},
};
use crate::{
    measure::{Meter, Sample},
    mux::{Acceptor, EVERMUX, Io, YAMUX, raw_yamux},
};

pub(super) const ALL: &[&str] = &[YAMUX, EVERMUX];

/// The stream that is open all the time.
const OPEN: u32 = 1;
/// One that never was.
const STRAY: u32 = 0x7fff_fffd;
/// About so much is written at once.
const WRITTEN_BYTES: usize = 16 << 10;

/// What the peer sends.
#[derive(Clone, Copy)]
pub(super) enum Flood {
    /// Frames of 16 KiB, as an honest peer sends them.
    Bulk,
    /// Frames of one byte each.
    Tiny,
    /// Credit of nothing, for the stream that is open.
    Credit,
    /// Pings that ask for answers.
    Pings,
    /// Streams that are opened and reset at once.
    Opens,
    /// Frames of a stream that is not open.
    Strays,
}

pub(super) fn run(contestant: &str, setup: &Setup, flood: Flood) -> io::Result<Sample> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let bytes = setup.scale.flood_bytes;
    let peer = thread::spawn(move || send(address, flood, bytes));
    let (socket, _) = listener.accept()?;
    socket.set_nonblocking(true)?;
    socket.set_nodelay(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let sample = runtime.block_on(async {
        let socket = tokio::net::TcpStream::from_std(socket)?;
        match contestant {
            EVERMUX => take(Session::server(socket, &Config::default()).await?).await,
            YAMUX => {
                let (_opens, streams, driver) = raw_yamux::start(socket, Mode::Server);
                tokio::spawn(driver);
                take(streams).await
            }
            other => Err(io::Error::other(format!("there is no contestant `{other}`"))),
        }
    });
    drop(runtime);
    let sent = peer.join().map_err(|_| io::Error::other("the peer has panicked"))?;
    match (sample, sent) {
        (Ok(sample), Ok(())) => Ok(sample),
        (Err(error), Ok(())) | (Ok(_), Err(error)) => Err(error),
        (Err(error), Err(sent)) => Err(io::Error::other(format!("{error}; its peer: {sent}"))),
    }
}

/// Reads the first stream to its end, and drops all others.
async fn take<A: Acceptor>(mut acceptor: A) -> io::Result<Sample> {
    let mut stream = acceptor.accept().await?;
    let others = tokio::spawn(async move { while acceptor.accept().await.is_ok() {} });
    let begun = read_mark(&mut stream).await?;
    let meter = Meter::start_of_thread()?;
    let mut buffer = vec![0; 64 << 10];
    while stream.read(&mut buffer).await? > 0 {}
    let cost = meter.stop()?;
    others.abort();
    Ok(cost.each(mib(begun)))
}

/// What comes first: how many bytes will.
async fn read_mark(stream: &mut impl Io) -> io::Result<u64> {
    stream.read_u64().await
}

/// What the two threads of the peer share.
struct Peer {
    writer: Mutex<TcpStream>,
    heard: Mutex<Heard>,
    changed: Condvar,
}

/// What has come of the other side.
struct Heard {
    /// How many bytes it takes.
    credit: u32,
    /// It has its first answer.
    is_answered: bool,
    /// It takes nothing more.
    is_over: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Peer {
    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        lock(&self.writer).write_all(bytes)
    }

    fn change(&self, change: impl FnOnce(&mut Heard)) {
        change(&mut lock(&self.heard));
        self.changed.notify_one();
    }

    fn until(&self, holds: impl Fn(&Heard) -> bool) -> io::Result<MutexGuard<'_, Heard>> {
        let waits = |heard: &mut Heard| !heard.is_over && !holds(heard);
        let heard = self.changed.wait_while(lock(&self.heard), waits).unwrap_or_else(PoisonError::into_inner);
        if heard.is_over { Err(wrong("it has reset the stream, or has gone".into())) } else { Ok(heard) }
    }

    fn spend(&self, bytes: u32) -> io::Result<()> {
        self.until(|heard| heard.credit >= bytes)?.credit -= bytes;
        Ok(())
    }

    /// Floods once it has answered a ping, with which each contestant begins: who takes the streams is there only then,
    /// and what nobody takes is soon reset.
    fn flood(&self, flood: Flood, bytes: u64) -> io::Result<()> {
        drop(self.until(|heard| heard.is_answered)?);
        let (piece, credit) = piece(flood);
        let pieces = bytes.div_ceil(piece(3).len() as u64);
        let total = pieces * piece(3).len() as u64;
        self.spend(8)?;
        self.write(&[&Header::data(OPEN, Flags::SYN, 8).encode()[..], &total.to_be_bytes()].concat())?;
        let mut next_id = OPEN + 2;
        for _ in 0..pieces {
            let piece = piece(next_id);
            self.spend(credit)?;
            self.write(&piece)?;
            next_id += 2 * u32::try_from(piece.len() / HEADER_BYTES).unwrap_or_default();
        }
        self.write(&Header::data(OPEN, Flags::FIN, 0).encode())
    }

    /// Reads all that comes, until the other side has gone.
    ///
    /// That side goes as soon as it has measured, and may have asked for an answer a moment before.
    fn read(&self, socket: TcpStream) -> io::Result<()> {
        use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};

        let ended = self.answer(socket);
        self.change(|heard| heard.is_over = true);
        match ended {
            Err(error) if matches!(error.kind(), UnexpectedEof | ConnectionReset | BrokenPipe) => Ok(()),
            Err(error) => Err(error),
            Ok(never) => match never {},
        }
    }

    /// Answers pings, and keeps the credit.
    fn answer(&self, socket: TcpStream) -> io::Result<Infallible> {
        let mut socket = io::BufReader::with_capacity(64 << 10, socket);
        let mut header = [0; HEADER_BYTES];
        loop {
            socket.read_exact(&mut header)?;
            let Header { kind, flags, stream_id, length } = Header::decode(header)?;
            match kind {
                Kind::Ping if flags.contains(Flags::SYN) => {
                    self.write(&Header::pong(length).encode())?;
                    self.change(|heard| heard.is_answered = true);
                }
                _ if stream_id == OPEN && flags.contains(Flags::RST) => self.change(|heard| heard.is_over = true),
                Kind::WindowUpdate if stream_id == OPEN => self.change(|heard| heard.credit += length),
                Kind::Data if length > 0 => return Err(wrong("it writes, and has nothing to say".into())),
                _ => {}
            }
        }
    }
}

fn send(address: SocketAddr, flood: Flood, bytes: u64) -> io::Result<()> {
    let socket = TcpStream::connect(address)?;
    socket.set_nodelay(true)?;
    let (reading, closing) = (socket.try_clone()?, socket.try_clone()?);
    let heard = Heard { credit: INITIAL_WINDOW, is_answered: false, is_over: false };
    let peer = Arc::new(Peer { writer: Mutex::new(socket), heard: Mutex::new(heard), changed: Condvar::new() });
    let reader = thread::spawn({
        let peer = Arc::clone(&peer);
        move || peer.read(reading)
    });
    let sent = peer.flood(flood, bytes);
    if sent.is_err() {
        let _ = closing.shutdown(Shutdown::Both);
    }
    reader.join().map_err(|_| io::Error::other("the reader has panicked"))??;
    sent
}

/// About [`WRITTEN_BYTES`] of a flood, from a stream of this id on; and how much credit they take.
fn piece(flood: Flood) -> (impl Fn(u32) -> Vec<u8>, u32) {
    let frame = move |id| match flood {
        Flood::Bulk => [&Header::data(OPEN, Flags::NONE, 16 << 10).encode()[..], &[7; 16 << 10]].concat(),
        Flood::Tiny => [&Header::data(OPEN, Flags::NONE, 1).encode()[..], &[7]].concat(),
        Flood::Credit => Header::window_update(OPEN, Flags::NONE, 0).encode().to_vec(),
        Flood::Pings => Header::ping(7).encode().to_vec(),
        Flood::Opens => {
            let (open, reset) = (Header::data(id, Flags::SYN, 0), Header::window_update(id, Flags::RST, 0));
            [open.encode(), reset.encode()].concat()
        }
        Flood::Strays => Header::window_update(STRAY, Flags::NONE, 0).encode().to_vec(),
    };
    let frames = WRITTEN_BYTES.div_ceil(frame(OPEN).len());
    let credit = match flood {
        Flood::Bulk => 16 << 10,
        Flood::Tiny => u32::try_from(frames).unwrap_or(u32::MAX),
        _ => 0,
    };
    let piece = move |from| (0..).take(frames).flat_map(|at| frame(from + 2 * at)).collect();
    (piece, credit)
}
