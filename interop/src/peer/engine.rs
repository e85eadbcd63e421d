//! What every peer program does, whatever its library: it makes one connection, and does what it is told.
//!
//! It is started with `--dial ADDRESS` (yamux client) or `--listen ADDRESS` (yamux server), and with `--serve` when it is
//! to echo whatever is opened to it. It says `listening ADDRESS`, `up` when it has a session, and `down WHY` when that has
//! ended. Then it reads orders from standard input, `NUMBER VERB WORDS`, each of which runs beside the others and is
//! answered by one line: `NUMBER ok WORDS`, `NUMBER fail WHY`, or `NUMBER n/a WHY` when the library has no such thing.
//!
//! | order | what it does, and what it answers |
//! | --- | --- |
//! | `serve` | from now on, accepts every stream and echoes what comes |
//! | `open`, `accept` | opens a stream, or takes the next that the other side has opened; its handle |
//! | `write H N` | writes N bytes in one write |
//! | `read H N` | reads N bytes |
//! | `end H` | reads to the end: `eof N` or `error N WHY`, after N bytes |
//! | `flood H` | writes until that fails: `error N WHY`, after N bytes |
//! | `fin H` | says that no more bytes come |
//! | `reset H` | ends both directions at once |
//! | `echo COUNT AT_ONCE SIZE SECONDS` | opens so many streams, so many at a time; on each, SIZE bytes are sent, and a FIN, at the latest when all is back; the same must come back, all within the time: how many did, how many did not, and the first failure |
//! | `ping` | a round trip, in microseconds |
//! | `go-away` | asks the library to say goodbye, as far as it has a way |
//!
//! Byte `i` of each direction of a stream is `i % 251`: who reads checks it. The end of standard input ends the program.

use std::{
    collections::BTreeMap,
    future::Future,
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{
        AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, ReadHalf, WriteHalf, split,
        stdin,
    },
    net::{TcpListener, TcpStream},
    sync::{Mutex as AsyncMutex, Semaphore},
    task::JoinSet,
    time::{Instant, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;

/// A library that speaks yamux, and one session of it.
pub(crate) trait Library: Clone + Send + Sync + 'static {
    /// Its streams.
    type Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static;

    /// Opens a stream.
    fn open(&self) -> impl Future<Output = io::Result<Self::Stream>> + Send;

    /// The next stream of the other side's.
    fn accept(&self) -> impl Future<Output = io::Result<Self::Stream>> + Send;

    /// Ends both directions of a stream at once. An error of the kind [`Unsupported`](io::ErrorKind::Unsupported) where
    /// there is no such thing.
    fn reset(stream: Self::Stream) -> io::Result<()> {
        drop(stream);
        Ok(())
    }

    /// A round trip. An error of the kind [`Unsupported`](io::ErrorKind::Unsupported) where there is no such thing.
    fn ping(&self) -> impl Future<Output = io::Result<Duration>> + Send;

    /// Says goodbye.
    fn go_away(&self) -> impl Future<Output = io::Result<()>> + Send;

    /// Waits for the end of the session, and says why it ended.
    fn closed(&self) -> impl Future<Output = String> + Send;
}

/// How soon somebody must dial: who started the program may be gone.
const DIALLED: Duration = Duration::from_secs(30);

/// Where the connection comes from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Endpoint {
    Dial(SocketAddr),
    Listen(SocketAddr),
}

impl Endpoint {
    /// Makes the one connection.
    pub(crate) async fn connect(self) -> io::Result<TcpStream> {
        let socket = match self {
            Self::Dial(address) => TcpStream::connect(address).await?,
            Self::Listen(address) => {
                let listener = TcpListener::bind(address).await?;
                say(&format!("listening {}", listener.local_addr()?));
                timeout(DIALLED, listener.accept()).await??.0
            }
        };
        socket.set_nodelay(true)?;
        Ok(socket)
    }

    /// Whether this side is the yamux client.
    pub(crate) fn is_dial(self) -> bool {
        matches!(self, Self::Dial(_))
    }
}

/// Says one line.
pub(crate) fn say(line: &str) {
    use io::Write as _;
    // Whoever gave the orders may have gone: then standard input ends as well.
    let _ = writeln!(io::stdout().lock(), "{line}");
}

/// Takes orders until standard input ends.
pub(crate) async fn play<L: Library>(library: L, serve: bool) {
    say("up");
    let program = Arc::new(Program { library, streams: Mutex::default(), next: AtomicUsize::new(1) });
    if serve {
        program.serve();
    }
    tokio::spawn({
        let program = Arc::clone(&program);
        async move { say(&format!("down {}", one_line(&program.library.closed().await))) }
    });
    let mut lines = BufReader::new(stdin()).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let program = Arc::clone(&program);
        tokio::spawn(async move {
            let (number, order) = line.split_once(' ').unwrap_or((&line, ""));
            match program.obey(order).await {
                Ok(answer) => say(&format!("{number} ok {answer}")),
                Err(error) if error.kind() == io::ErrorKind::Unsupported => say(&format!("{number} n/a {error}")),
                Err(error) => say(&format!("{number} fail {}", one_line(&error.to_string()))),
            }
        });
    }
}

struct Program<L: Library> {
    library: L,
    streams: Mutex<BTreeMap<usize, Arc<Held<L::Stream>>>>,
    next: AtomicUsize,
}

/// A stream that orders name.
struct Held<S> {
    reader: AsyncMutex<Half<ReadHalf<S>>>,
    writer: AsyncMutex<Half<WriteHalf<S>>>,
    /// The stream is to be reset: whoever holds a half lets go of it.
    reset: CancellationToken,
}

struct Half<T> {
    /// None after a reset.
    io: Option<T>,
    /// How many bytes went through so far.
    at: u64,
}

impl<L: Library> Program<L> {
    async fn obey(self: &Arc<Self>, order: &str) -> io::Result<String> {
        let words: Vec<_> = order.split(' ').collect();
        let number = |at: usize| words.get(at).and_then(|word| word.parse::<usize>().ok()).ok_or_else(|| wrong(order));
        let held = || self.held(number(1)?);
        match words[0] {
            "serve" => self.serve(),
            "open" => return Ok(self.hold(self.library.open().await?)),
            "accept" => return Ok(self.hold(self.library.accept().await?)),
            "write" => held()?.write(number(2)?).await?,
            "read" => held()?.read(number(2)?).await?,
            "end" => return held()?.end().await,
            "flood" => return held()?.flood().await,
            "fin" => held()?.fin().await?,
            "reset" => held()?.reset::<L>().await?,
            "echo" => {
                let within = Duration::from_secs(number(4)? as u64);
                return self.echo(number(1)?, number(2)?, number(3)?, within).await;
            }
            "ping" => return Ok(self.library.ping().await?.as_micros().to_string()),
            "go-away" => self.library.go_away().await?,
            _ => return Err(wrong(order)),
        }
        Ok(String::new())
    }

    fn hold(&self, stream: L::Stream) -> String {
        let (reader, writer) = split(stream);
        let held = Held {
            reader: AsyncMutex::new(Half { io: Some(reader), at: 0 }),
            writer: AsyncMutex::new(Half { io: Some(writer), at: 0 }),
            reset: CancellationToken::new(),
        };
        let handle = self.next.fetch_add(1, Ordering::Relaxed);
        self.streams.lock().unwrap_or_else(PoisonError::into_inner).insert(handle, Arc::new(held));
        handle.to_string()
    }

    fn held(&self, handle: usize) -> io::Result<Arc<Held<L::Stream>>> {
        let streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        streams.get(&handle).cloned().ok_or_else(|| io::Error::other("there is no such stream"))
    }

    fn serve(&self) {
        let library = self.library.clone();
        tokio::spawn(async move {
            while let Ok(stream) = library.accept().await {
                tokio::spawn(async move {
                    let (mut reader, mut writer) = split(stream);
                    if tokio::io::copy(&mut reader, &mut writer).await.is_ok() {
                        let _ = writer.shutdown().await;
                    }
                });
            }
        });
    }

    async fn echo(&self, count: usize, at_once: usize, size: usize, within: Duration) -> io::Result<String> {
        let until = Instant::now() + within;
        let places = Arc::new(Semaphore::new(at_once));
        let mut echoes = JoinSet::new();
        for _ in 0..count {
            let (library, places) = (self.library.clone(), Arc::clone(&places));
            echoes.spawn(timeout_at(until, async move {
                let _place = places.acquire().await;
                let outcome = echo(&library, size).await;
                // A wake-up that was lost is made up for by the timer, and must not pass for an answer.
                if Instant::now() < until { outcome } else { std::future::pending().await }
            }));
        }
        let (mut done, mut lost, mut first) = (0, 0, String::new());
        while let Some(outcome) = echoes.join_next().await {
            let failure = match outcome {
                Ok(Ok(Ok(()))) => {
                    done += 1;
                    continue;
                }
                Ok(Ok(Err(error))) => error.to_string(),
                Ok(Err(_)) => format!("no end within {} s", within.as_secs()),
                Err(panic) => panic.to_string(),
            };
            lost += 1;
            if first.is_empty() {
                first = one_line(&failure);
            }
        }
        Ok(format!("{done} {lost} {first}"))
    }
}

/// What a stream may send before it is given credit.
const WINDOW: usize = 256 << 10;

/// One stream, and one reply, which is the request.
async fn echo<L: Library>(library: &L, size: usize) -> io::Result<()> {
    let (mut reader, mut writer) = split(library.open().await?);
    // Some libraries take no credit after the other side's FIN: another behaviour looks at that.
    let is_fin_late = size > WINDOW;
    let asks = async {
        writer.write_all(&pattern(0, size)).await?;
        if is_fin_late { Ok(()) } else { writer.shutdown().await }
    };
    let size = size as u64;
    let mut at = 0;
    let hears = async {
        while at < size {
            let left = size - at;
            if next(&mut reader, &mut at, left).await? == 0 {
                return Err(io::Error::other(format!("end of file after {at} bytes")));
            }
        }
        Ok(())
    };
    tokio::try_join!(asks, hears)?;
    if is_fin_late {
        writer.shutdown().await?;
    }
    match next(&mut reader, &mut at, u64::MAX).await? {
        0 => Ok(()),
        more => Err(io::Error::other(format!("{more} bytes more than were sent"))),
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Held<S> {
    async fn write(&self, count: usize) -> io::Result<()> {
        let mut half = self.writer.lock().await;
        let at = half.at;
        half.at += count as u64;
        let writer = half.io.as_mut().ok_or_else(was_reset)?;
        let write = async {
            writer.write_all(&pattern(at, count)).await?;
            writer.flush().await
        };
        tokio::select! {
            biased;
            () = self.reset.cancelled() => Err(was_reset()),
            written = write => written,
        }
    }

    async fn flood(&self) -> io::Result<String> {
        let mut half = self.writer.lock().await;
        let writer = half.io.as_mut().ok_or_else(was_reset)?;
        let mut at = 0;
        // More than any window can hold: the other side does not read it.
        while at < 64 << 20 {
            let written = async {
                writer.write_all(&pattern(at, 4096)).await?;
                writer.flush().await
            };
            if let Err(error) = written.await {
                return Ok(format!("error {at} {}", one_line(&error.to_string())));
            }
            at += 4096;
        }
        Ok(format!("no-error {at}"))
    }

    async fn read(&self, mut count: usize) -> io::Result<()> {
        let mut half = self.reader.lock().await;
        let Half { io, at } = &mut *half;
        let reader = io.as_mut().ok_or_else(was_reset)?;
        while count > 0 {
            match self.next(reader, at, count as u64).await? {
                0 => return Err(io::Error::other(format!("end of file after {at} bytes"))),
                read => count -= read,
            }
        }
        Ok(())
    }

    async fn end(&self) -> io::Result<String> {
        let mut half = self.reader.lock().await;
        let Half { io, at } = &mut *half;
        let reader = io.as_mut().ok_or_else(was_reset)?;
        let begun = *at;
        loop {
            match self.next(reader, at, u64::MAX).await {
                Ok(0) => return Ok(format!("eof {}", *at - begun)),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::InvalidData => return Err(error),
                Err(error) => return Ok(format!("error {} {}", *at - begun, one_line(&error.to_string()))),
            }
        }
    }

    async fn next(&self, reader: &mut ReadHalf<S>, at: &mut u64, most: u64) -> io::Result<usize> {
        tokio::select! {
            biased;
            () = self.reset.cancelled() => Err(was_reset()),
            read = next(reader, at, most) => read,
        }
    }

    async fn fin(&self) -> io::Result<()> {
        self.writer.lock().await.io.as_mut().ok_or_else(was_reset)?.shutdown().await
    }

    async fn reset<L: Library<Stream = S>>(&self) -> io::Result<()> {
        self.reset.cancel();
        match (self.reader.lock().await.io.take(), self.writer.lock().await.io.take()) {
            (Some(reader), Some(writer)) => L::reset(reader.unsplit(writer)),
            _ => Ok(()),
        }
    }
}

/// How much is read at once.
const CHUNK: usize = 64 << 10;

/// Reads some bytes and checks them. 0 at end of file.
async fn next(reader: &mut (impl AsyncRead + Unpin), at: &mut u64, most: u64) -> io::Result<usize> {
    let mut buffer = vec![0; usize::try_from(most).map_or(CHUNK, |most| most.min(CHUNK))];
    let read = reader.read(&mut buffer).await?;
    if buffer[..read] != pattern(*at, read)[..] {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("wrong bytes after {at} bytes")));
    }
    *at += read as u64;
    Ok(read)
}

/// What one direction of a stream carries from byte `at` on.
fn pattern(at: u64, count: usize) -> Vec<u8> {
    let begin = u8::try_from(at % 251).expect("it is below 251");
    (0..=250).cycle().skip(begin.into()).take(count).collect()
}

fn wrong(order: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("`{order}` is no order"))
}

fn was_reset() -> io::Error {
    io::Error::other("the stream was reset on this side")
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
