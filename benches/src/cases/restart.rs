//! A restart of either side under gRPC, in the natural order: the one that stops ends what it serves, and callers go on.
//!
//! Connections of HTTP/2 are streams that never end by themselves. Whoever serves one says goodbye on it when its session
//! drains; the calls in flight end, and with them the connection. Over TCP that is done by hand.

use std::{
    collections::BTreeSet,
    convert::Infallible,
    io,
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use evermux::MuxManager;
use hyper::{
    Uri,
    body::Incoming,
    http::{self, uri::PathAndQuery},
    server::conn::http2,
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::Handle,
    task::JoinHandle,
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{
    Request, Response, Status,
    client::Grpc,
    server,
    transport::{Channel, Endpoint},
};
use tonic_prost::ProstCodec;

use super::Setup;
use crate::{
    measure::{Meter, Sample, nanos},
    mux::{EVERMUX, Io, TCP},
    rig::Rig,
};

pub(super) const ALL: &[&str] = &[TCP, EVERMUX];

const CALLERS: u64 = 8;
/// How long a call takes at the server.
const CALL: Duration = Duration::from_millis(50);
/// How many calls each caller makes between two restarts, at least.
const CALLS: u64 = 4;
/// A restart that is not over by then has failed.
const LIMIT: Duration = Duration::from_secs(30);
/// How long whoever found nobody waits, before it asks again.
const PAUSE: Duration = Duration::from_millis(1);
const PATH: &str = "/bench.Restart/Call";

/// Who is restarted.
#[derive(Clone, Copy)]
pub(super) enum Side {
    Server,
    Client,
}

pub(super) fn run(contestant: &str, setup: &Setup, side: Side) -> io::Result<Sample> {
    let rig = Rig::new(setup.workers)?;
    let (restarts, server) = (setup.scale.restarts, rig.server());
    match contestant {
        EVERMUX => rig.run(measure::<Managers>(server, side, restarts)),
        TCP => rig.run(measure::<OverTcp>(server, side, restarts)),
        other => Err(io::Error::other(format!("there is no contestant `{other}`"))),
    }
}

/// How a client and a server are connected.
trait Link: Sized + Send + 'static {
    type Server: Send + 'static;

    /// Serves there, on the current runtime.
    fn serve(
        address: SocketAddr,
        calls: Arc<Calls>,
    ) -> impl Future<Output = io::Result<(SocketAddr, Self::Server)>> + Send;

    /// Waits until no call is in flight any more.
    fn stop_serving(server: Self::Server) -> impl Future<Output = ()> + Send;

    fn dial(address: SocketAddr) -> impl Future<Output = io::Result<Self>> + Send;

    fn channel(&self) -> Channel;

    /// Stops, and the load with it. Gives how long it took until no call was in flight any more.
    fn stop(self, load: Load) -> impl Future<Output = io::Result<Duration>> + Send;
}

async fn measure<L: Link>(server: Handle, side: Side, restarts: u64) -> io::Result<Sample> {
    let calls = Arc::<Calls>::default();
    let serve = |address, calls: &Arc<Calls>| {
        let calls = Arc::clone(calls);
        server.spawn(async move { L::serve(address, calls).await })
    };
    let (address, mut serving) = serve(SocketAddr::from(([127, 0, 0, 1], 0)), &calls).await??;
    let mut client = L::dial(address).await?;
    let mut load = Load::begin(&client.channel(), &calls);
    let (mut longest, mut cpu, mut switches) = (Duration::ZERO, 0.0, 0.0);
    for _ in 0..restarts {
        load.goes_on(&calls).await?;
        let meter = Meter::start()?;
        let took = match side {
            Side::Server => {
                let begun = Instant::now();
                timeout(LIMIT, server.spawn(L::stop_serving(serving))).await??;
                let took = begun.elapsed();
                (_, serving) = serve(address, &calls).await??;
                took
            }
            Side::Client => {
                let took = timeout(LIMIT, client.stop(load)).await??;
                client = L::dial(address).await?;
                load = Load::begin(&client.channel(), &calls);
                took
            }
        };
        let cost = meter.stop()?.each(1.0);
        (longest, cpu, switches) = (longest.max(took), cpu + cost.cpu_ns, switches + cost.switches);
    }
    load.goes_on(&calls).await?;
    timeout(LIMIT, client.stop(load)).await??;
    timeout(LIMIT, server.spawn(L::stop_serving(serving))).await??;
    let lost = calls.begun().len();
    if lost > 0 {
        return Err(super::bulk::wrong(format!("{lost} calls were begun, and their callers got no answer")));
    }
    #[expect(clippy::cast_precision_loss, reason = "there are few")]
    let [restarts, retried] = [restarts as f64, calls.retried.load(Ordering::Relaxed) as f64];
    Ok(Sample {
        wall_ns: nanos(longest),
        cpu_ns: cpu / restarts,
        switches: switches / restarts,
        p50_ns: None,
        p99_ns: None,
        bulk_mib_per_s: None,
        retried: Some(retried / restarts),
    })
}

/// What became of the calls.
#[derive(Default)]
struct Calls {
    /// Those that the server has begun, and whose callers have no answer.
    begun: Mutex<BTreeSet<u64>>,
    next: AtomicU64,
    done: AtomicU64,
    /// How often a call failed before the server had begun it, and was made again.
    retried: AtomicU64,
}

impl Calls {
    fn begun(&self) -> std::sync::MutexGuard<'_, BTreeSet<u64>> {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Callers that call again and again.
struct Load {
    end: CancellationToken,
    callers: Vec<JoinHandle<()>>,
}

impl Load {
    fn begin(channel: &Channel, calls: &Arc<Calls>) -> Self {
        let end = CancellationToken::new();
        let caller = |_| tokio::spawn(call_on(channel.clone(), Arc::clone(calls), end.clone()));
        Self { callers: (0..CALLERS).map(caller).collect(), end }
    }

    /// Waits until all have called a few times more.
    async fn goes_on(&self, calls: &Calls) -> io::Result<()> {
        let wanted = calls.done.load(Ordering::Relaxed) + CALLS * CALLERS;
        let begun = Instant::now();
        while calls.done.load(Ordering::Relaxed) < wanted {
            if begun.elapsed() > LIMIT {
                return Err(super::bulk::wrong("the calls do not go on".into()));
            }
            sleep(PAUSE).await;
        }
        Ok(())
    }

    async fn end(self) -> io::Result<()> {
        self.end.cancel();
        for caller in self.callers {
            caller.await?;
        }
        Ok(())
    }
}

async fn call_on(channel: Channel, calls: Arc<Calls>, end: CancellationToken) {
    let mut client = Grpc::new(channel);
    while !end.is_cancelled() {
        let number = calls.next.fetch_add(1, Ordering::Relaxed);
        loop {
            match call(&mut client, number).await {
                Ok(()) => {
                    calls.begun().remove(&number);
                    calls.done.fetch_add(1, Ordering::Relaxed);
                    break;
                }
                // It is lost, or there is nobody to call any more.
                Err(_) if end.is_cancelled() || calls.begun().contains(&number) => break,
                Err(_) => {
                    calls.retried.fetch_add(1, Ordering::Relaxed);
                    sleep(PAUSE).await;
                }
            }
        }
    }
}

async fn call(client: &mut Grpc<Channel>, number: u64) -> Result<(), Status> {
    client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let codec = ProstCodec::<u64, u64>::default();
    let answer = client.unary(Request::new(number), PathAndQuery::from_static(PATH), codec).await?.into_inner();
    if answer == number { Ok(()) } else { Err(Status::data_loss("another answer came")) }
}

/// Serves one connection to its end. When `stopping` is ready it says goodbye, and ends with the calls in flight.
async fn serve(io: impl Io, stopping: impl Future, calls: Arc<Calls>) {
    let answer = service_fn(|request: http::Request<Incoming>| {
        let calls = Arc::clone(&calls);
        async move {
            let call = tower::service_fn(|request: Request<u64>| async {
                let number = request.into_inner();
                calls.begun().insert(number);
                sleep(CALL).await;
                Ok::<_, Status>(Response::new(number))
            });
            let codec = ProstCodec::<u64, u64>::default();
            Ok::<_, Infallible>(server::Grpc::new(codec).unary(call, request).await)
        }
    });
    let mut connection = pin!(http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(io), answer));
    tokio::select! {
        _ = &mut connection => return,
        _ = stopping => connection.as_mut().graceful_shutdown(),
    }
    // An error when the peer is gone: then there is nobody to serve.
    let _ = connection.await;
}

/// gRPC over connections that `connect` makes, whenever there is none.
fn channel<T: Io, Fut>(connect: impl Fn() -> Fut + Clone + Send + Sync + 'static) -> Channel
where
    Fut: Future<Output = io::Result<T>> + Send + 'static,
{
    let connector = tower::service_fn(move |_: Uri| {
        let connecting = connect();
        async move { connecting.await.map(TokioIo::new) }
    });
    Endpoint::from_static("http://bench").connect_with_connector_lazy(connector)
}

/// Two managers.
struct Managers {
    manager: MuxManager,
    channel: Channel,
}

impl Link for Managers {
    type Server = MuxManager;

    async fn serve(address: SocketAddr, calls: Arc<Calls>) -> io::Result<(SocketAddr, MuxManager)> {
        let manager = MuxManager::receive(address.to_string()).start().await.map_err(io::Error::other)?;
        let address = manager.local_addr().ok_or(io::ErrorKind::AddrNotAvailable)?;
        let mut incoming = manager.incoming();
        tokio::spawn(async move {
            while let Some(stream) = incoming.next().await {
                let draining = stream.draining();
                tokio::spawn(serve(stream, draining, Arc::clone(&calls)));
            }
        });
        Ok((address, manager))
    }

    async fn stop_serving(server: MuxManager) {
        server.shutdown().await;
    }

    async fn dial(address: SocketAddr) -> io::Result<Self> {
        let manager = MuxManager::establish(address.to_string()).start().await.map_err(io::Error::other)?;
        let opener = manager.clone();
        let channel = channel(move || {
            let opener = opener.clone();
            async move { opener.open_stream().await.map_err(io::Error::from) }
        });
        Ok(Self { manager, channel })
    }

    fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// Its callers learn of it by the calls that fail.
    async fn stop(self, load: Load) -> io::Result<Duration> {
        let begun = Instant::now();
        self.manager.shutdown().await;
        let took = begun.elapsed();
        load.end().await?;
        Ok(took)
    }
}

/// A connection of TCP for each of HTTP/2, and who serves it to be told by hand.
struct OverTcp(Channel);

impl Link for OverTcp {
    type Server = (CancellationToken, TaskTracker);

    async fn serve(address: SocketAddr, calls: Arc<Calls>) -> io::Result<(SocketAddr, Self::Server)> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let (stop, serving) = (CancellationToken::new(), TaskTracker::new());
        let (stopping, tracker) = (stop.clone(), serving.clone());
        serving.spawn(async move {
            while let Some(accepted) = stopping.run_until_cancelled(listener.accept()).await {
                let (socket, _) = accepted?;
                socket.set_nodelay(true)?;
                tracker.spawn(serve(socket, stopping.clone().cancelled_owned(), Arc::clone(&calls)));
            }
            io::Result::Ok(())
        });
        Ok((address, (stop, serving)))
    }

    async fn stop_serving((stop, serving): Self::Server) {
        stop.cancel();
        serving.close();
        serving.wait().await;
    }

    async fn dial(address: SocketAddr) -> io::Result<Self> {
        Ok(Self(channel(move || async move {
            let socket = TcpStream::connect(address).await?;
            socket.set_nodelay(true)?;
            Ok(socket)
        })))
    }

    fn channel(&self) -> Channel {
        self.0.clone()
    }

    /// Nobody tells the callers but whoever stops them.
    async fn stop(self, load: Load) -> io::Result<Duration> {
        let begun = Instant::now();
        load.end().await?;
        Ok(begun.elapsed())
    }
}
