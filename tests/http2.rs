//! A restart of either side under HTTP/2, whose connections are streams that never end by themselves.
#![allow(missing_docs, reason = "test names say it")]

mod support;

use std::{
    convert::Infallible,
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use evermux::{MuxManager, MuxStream};
use http_body_util::Empty;
use hyper::{
    Request, Response,
    body::{Bytes, Incoming as Body},
    client::conn::http2::{SendRequest, handshake},
    server::conn::http2,
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use support::{PATIENCE, in_time, own_address, quick, until};
use tokio::{
    sync::Mutex,
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

const CALLERS: usize = 8;

/// How long a call takes at the server.
const CALL: Duration = Duration::from_millis(50);

/// Serves one connection of HTTP/2. When its session drains it says goodbye, and ends with the calls in flight.
async fn serve(stream: MuxStream) {
    let draining = stream.draining();
    let answer = service_fn(|_: Request<Body>| async {
        sleep(CALL).await;
        Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
    });
    let connection = http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), answer);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        _ = &mut connection => return,
        _ = draining => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

async fn server(address: &str) -> (MuxManager, JoinHandle<()>) {
    let manager = MuxManager::receive(address).config(quick().build().unwrap()).start().await.unwrap();
    let mut incoming = manager.incoming();
    let serving = tokio::spawn(async move {
        while let Some(stream) = incoming.next().await {
            tokio::spawn(serve(stream));
        }
    });
    (manager, serving)
}

/// A client that has one connection of HTTP/2 at a time, and makes the next one when its session drains.
struct Client {
    manager: MuxManager,
    connection: Arc<Mutex<Option<SendRequest<Empty<Bytes>>>>>,
}

impl Client {
    async fn start(address: &str) -> Self {
        let manager = MuxManager::establish(address).config(quick().build().unwrap()).start().await.unwrap();
        Self { manager, connection: Arc::default() }
    }

    /// The connection to send a request on. None when the manager has stopped.
    async fn connection(&self) -> Option<SendRequest<Empty<Bytes>>> {
        let mut current = self.connection.lock().await;
        if let Some(connection) = current.as_ref().filter(|connection| !connection.is_closed()) {
            return Some(connection.clone());
        }
        let stream = self.manager.open_stream().await.ok()?;
        let draining = stream.draining();
        let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await.ok()?;
        tokio::spawn(connection);
        *current = Some(sender.clone());
        let cell = Arc::clone(&self.connection);
        tokio::spawn(async move {
            draining.await;
            // The last sender that goes says goodbye; those of calls in flight are still there.
            cell.lock().await.take();
        });
        Some(sender)
    }
}

/// What became of the calls.
#[derive(Debug, Default)]
struct Counts {
    done: AtomicUsize,
    /// HTTP/2 says that they had no effect: they are made once more.
    retried: AtomicUsize,
    lost: AtomicUsize,
}

/// Calls again and again until the end.
async fn call(client: Arc<Client>, counts: Arc<Counts>, end: CancellationToken) {
    while !end.is_cancelled() {
        let Some(mut connection) = client.connection().await else {
            tokio::task::yield_now().await;
            continue;
        };
        let outcome = match connection.ready().await {
            Ok(()) => connection.try_send_request(Request::new(Empty::new())).await.map_err(|error| {
                let is_unsent = error.message().is_some();
                (is_unsent, error.into_error())
            }),
            Err(error) => Err((true, error)),
        };
        let count = match outcome {
            Ok(response) => {
                assert!(response.status().is_success());
                &counts.done
            }
            Err((true, _)) => &counts.retried,
            Err((false, error)) if is_refused(&error) => &counts.retried,
            Err((false, error)) => {
                eprintln!("lost: {error:?}");
                &counts.lost
            }
        };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

/// Whether the server says that it has not begun the call.
fn is_refused(error: &hyper::Error) -> bool {
    let cause = error.source().and_then(|source| source.downcast_ref::<h2::Error>());
    error.is_canceled()
        || cause.is_some_and(|cause| cause.is_go_away() || cause.reason() == Some(h2::Reason::REFUSED_STREAM))
}

struct Load {
    counts: Arc<Counts>,
    end: CancellationToken,
    callers: Vec<JoinHandle<()>>,
}

impl Load {
    fn begin(client: &Arc<Client>) -> Self {
        let (counts, end) = (Arc::<Counts>::default(), CancellationToken::new());
        let callers = (0..CALLERS).map(|_| tokio::spawn(call(Arc::clone(client), Arc::clone(&counts), end.clone())));
        let callers = callers.collect();
        Self { counts, end, callers }
    }

    /// Waits until each has called a few times more.
    async fn goes_on(&self) {
        let wanted = self.counts.done.load(Ordering::Relaxed) + 4 * CALLERS;
        until(|| self.counts.done.load(Ordering::Relaxed) >= wanted).await;
    }

    async fn end(self, what: &str, took: Duration) {
        self.end.cancel();
        for caller in self.callers {
            in_time(caller).await.unwrap();
        }
        let count = |count: &AtomicUsize| count.load(Ordering::Relaxed);
        let Counts { done, retried, lost } = &*self.counts;
        println!("{what}: {took:?}; {} calls, {} retried, {} lost", count(done), count(retried), count(lost));
        assert_eq!(count(lost), 0);
    }
}

/// Waits for a shutdown, which is not to wait for connections that never end by themselves.
async fn shut_down(manager: &MuxManager) -> Duration {
    let begun = Instant::now();
    timeout(PATIENCE, manager.shutdown()).await.unwrap();
    begun.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_of_the_server_loses_no_call() {
    let (mut manager, mut serving) = server(&own_address()).await;
    let address = manager.local_addr().unwrap().to_string();
    let client = Arc::new(Client::start(&address).await);
    let load = Load::begin(&client);
    let mut longest = Duration::ZERO;
    for _ in 0..5 {
        load.goes_on().await;
        longest = longest.max(shut_down(&manager).await);
        in_time(serving).await.unwrap();
        (manager, serving) = server(&address).await;
    }
    load.goes_on().await;
    load.end("five restarts of the server", longest).await;
    assert!(longest < manager_drain() / 4, "{longest:?}: it has waited for connections, not for calls");
    shut_down(&client.manager).await;
    shut_down(&manager).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_of_the_client_loses_no_call() {
    let (manager, _serving) = server(&own_address()).await;
    let address = manager.local_addr().unwrap().to_string();
    let mut longest = Duration::ZERO;
    for _ in 0..5 {
        let client = Arc::new(Client::start(&address).await);
        let load = Load::begin(&client);
        load.goes_on().await;
        longest = longest.max(shut_down(&client.manager).await);
        load.end("a restart of the client", longest).await;
    }
    assert!(longest < manager_drain() / 4, "{longest:?}: it has waited for connections, not for calls");
    shut_down(&manager).await;
}

fn manager_drain() -> Duration {
    quick().build().unwrap().drain_timeout()
}
