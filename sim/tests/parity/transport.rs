//! Three transports, and how a program of two sides runs on each.

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use lossy::{Impairments, Stack};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use sim::net::{Conditions, Kernel, Names};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::{Instant, sleep_until, timeout};

use crate::programs::Program;

const SERVER: &str = "server";
const PORT: u16 = 7000;
/// Of the kernel's sockets, which would grow them otherwise.
const BUFFER: u32 = 64 << 10;

/// A transport, as one host sees it. There is one port, the server's.
pub(crate) trait Net: Clone + 'static {
    type Listener: 'static;
    type Stream: AsyncRead + AsyncWrite + Unpin + 'static;

    /// Between two steps of a program: longer than anything takes that happens by itself.
    const STEP: Duration;

    async fn bind(&self) -> io::Result<Self::Listener>;
    async fn accept(listener: &Self::Listener) -> io::Result<Self::Stream>;
    async fn connect(&self) -> io::Result<Self::Stream>;
}

/// One side of a program, and what it has seen.
pub(crate) struct Side<N> {
    pub(crate) net: N,
    begun: Instant,
    seen: Rc<RefCell<Vec<String>>>,
}

impl<N: Net> Side<N> {
    fn new(net: N, seen: &Rc<RefCell<Vec<String>>>) -> Self {
        Self { net, begun: Instant::now(), seen: Rc::clone(seen) }
    }

    /// Waits for a step, counted from the beginning of the program.
    pub(crate) async fn at(&self, step: u32) {
        sleep_until(self.begun + N::STEP * step).await;
    }

    pub(crate) fn note(&self, what: impl Into<String>) {
        self.seen.borrow_mut().push(what.into());
    }

    /// Notes what comes of something, or that it still waits after half a step.
    pub(crate) async fn see<T>(
        &self,
        what: &str,
        action: impl Future<Output = io::Result<T>>,
        show: impl FnOnce(&T) -> String,
    ) -> Option<T> {
        let result = timeout(N::STEP / 2, action).await;
        let seen = match &result {
            Ok(Ok(value)) => show(value),
            Ok(Err(error)) => format!("{:?}", error.kind()),
            Err(_) => "waits".to_owned(),
        };
        self.note(format!("{what}: {seen}"));
        result.ok()?.ok()
    }

    pub(crate) async fn bind(&self) -> Option<N::Listener> {
        self.see("bind", self.net.bind(), |_| "ok".to_owned()).await
    }

    pub(crate) async fn accept(&self, listener: &N::Listener) -> Option<N::Stream> {
        self.see("accept", N::accept(listener), |_| "ok".to_owned()).await
    }

    pub(crate) async fn connect(&self) -> Option<N::Stream> {
        self.see("connect", self.net.connect(), |_| "ok".to_owned()).await
    }

    /// One read.
    pub(crate) async fn read(&self, stream: &mut N::Stream) {
        let mut buffer = [0; 100];
        let show = |count: &usize| if *count == 0 { "end".to_owned() } else { format!("{count} bytes") };
        self.see("read", stream.read(&mut buffer), show).await;
    }

    pub(crate) async fn write(&self, stream: &mut N::Stream, bytes: &[u8]) {
        self.see("write", stream.write_all(bytes), |()| "ok".to_owned()).await;
    }

    pub(crate) async fn shut_down(&self, stream: &mut N::Stream) {
        self.see("shutdown", stream.shutdown(), |()| "ok".to_owned()).await;
    }
}

/// What the two sides have seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) server: String,
    pub(crate) client: String,
}

type Notes = Rc<RefCell<Vec<String>>>;

fn seen((server, client): (Notes, Notes)) -> Seen {
    Seen { server: server.borrow().join(", "), client: client.borrow().join(", ") }
}

#[derive(Clone, Default)]
struct Real(Arc<AtomicU16>);

impl Real {
    fn socket(port: u16) -> io::Result<(TcpSocket, SocketAddr)> {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.set_recv_buffer_size(BUFFER)?;
        socket.set_send_buffer_size(BUFFER)?;
        Ok((socket, (Ipv4Addr::LOCALHOST, port).into()))
    }
}

impl Net for Real {
    type Listener = TcpListener;
    type Stream = TcpStream;

    const STEP: Duration = Duration::from_millis(200);

    /// The kernel chooses the port once.
    async fn bind(&self) -> io::Result<TcpListener> {
        let (socket, address) = Self::socket(self.0.load(Ordering::Relaxed))?;
        socket.bind(address)?;
        let listener = socket.listen(128)?;
        self.0.store(listener.local_addr()?.port(), Ordering::Relaxed);
        Ok(listener)
    }

    async fn accept(listener: &TcpListener) -> io::Result<TcpStream> {
        Ok(listener.accept().await?.0)
    }

    async fn connect(&self) -> io::Result<TcpStream> {
        let (socket, address) = Self::socket(self.0.load(Ordering::Relaxed))?;
        socket.connect(address).await
    }
}

pub(crate) fn on_kernel<P: Program>() -> Seen {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (notes, net) = (<(Notes, Notes)>::default(), Real::default());
    runtime.block_on(async {
        let server = P::server(Side::new(net.clone(), &notes.0));
        let client = P::client(Side::new(net, &notes.1));
        tokio::join!(server, client);
    });
    seen(notes)
}

/// A kernel of the simulation, as a process sees it.
#[derive(Clone)]
struct Simulated(Kernel);

impl Net for Simulated {
    type Listener = sim::net::Listener;
    type Stream = sim::net::Socket;

    const STEP: Duration = Duration::from_secs(5);

    async fn bind(&self) -> io::Result<Self::Listener> {
        sim::net::Listener::bind(self.0.clone(), PORT, Conditions::default(), false)
    }

    async fn accept(listener: &Self::Listener) -> io::Result<Self::Stream> {
        listener.accept().await
    }

    async fn connect(&self) -> io::Result<Self::Stream> {
        let address = (self.0.address_of(SERVER)?, PORT).into();
        sim::net::Socket::connect(&self.0, address, &Conditions::default()).await
    }
}

impl Simulated {
    /// A kernel on the current host, and the reactor of its process.
    fn start(tcp: Stack) -> Self {
        let names = Names::default();
        names.insert(SERVER, turmoil::lookup(SERVER));
        let kernel = Kernel::new(names);
        let (runs, turns) = (kernel.clone(), kernel.clone());
        tokio::task::spawn_local(async move { runs.run(tcp).await });
        tokio::task::spawn_local(async move {
            loop {
                tokio::time::sleep(sim::plan::TICK).await;
                turns.turn();
            }
        });
        Self(kernel)
    }
}

pub(crate) fn on_a_simulated_kernel<P: Program>() -> Seen {
    simulate::<P, _>(async |seed| {
        let kernel = Simulated::start(stack(seed).await);
        // Its TCP is there once its task has run.
        tokio::task::yield_now().await;
        kernel
    })
}

async fn stack(seed: u64) -> Stack {
    Stack::start(Impairments::default(), ChaCha8Rng::seed_from_u64(seed), Arc::new(())).await.unwrap()
}

#[derive(Clone)]
struct Lossy(Stack);

impl Net for Lossy {
    type Listener = lossy::Listener;
    type Stream = lossy::Stream;

    const STEP: Duration = Duration::from_secs(5);

    async fn bind(&self) -> io::Result<Self::Listener> {
        self.0.bind(PORT)
    }

    async fn accept(listener: &Self::Listener) -> io::Result<Self::Stream> {
        listener.accept().await
    }

    async fn connect(&self) -> io::Result<Self::Stream> {
        self.0.connect((turmoil::lookup(SERVER), PORT).into()).await
    }
}

pub(crate) fn on_lossy<P: Program>() -> Seen {
    simulate::<P, _>(async |seed| Lossy(stack(seed).await))
}

fn simulate<P: Program, N: Net>(start: impl AsyncFn(u64) -> N + Copy + 'static) -> Seen {
    let mut sim = turmoil::Builder::new()
        .epoch(UNIX_EPOCH)
        .rng_seed(1)
        .tick_duration(sim::plan::TICK)
        .simulation_duration(Duration::from_secs(600))
        .min_message_latency(Duration::from_millis(10))
        .max_message_latency(Duration::from_millis(10))
        .udp_capacity(4_096)
        .build();
    let notes = <(Notes, Notes)>::default();
    let busy = Arc::new(AtomicUsize::new(2));
    let (server, still_busy) = (Rc::clone(&notes.0), Arc::clone(&busy));
    sim.client(SERVER, async move {
        P::server(Side::new(start(1).await, &server)).await;
        end(&still_busy).await
    });
    let client = Rc::clone(&notes.1);
    sim.client("client", async move {
        P::client(Side::new(start(2).await, &client)).await;
        end(&busy).await
    });
    sim.run().unwrap();
    seen(notes)
}

/// A host answers until both sides have ended.
async fn end(busy: &AtomicUsize) -> turmoil::Result {
    busy.fetch_sub(1, Ordering::Relaxed);
    while busy.load(Ordering::Relaxed) > 0 {
        tokio::time::sleep(sim::plan::TICK).await;
    }
    Ok(())
}
