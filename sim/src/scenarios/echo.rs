//! The yamux crate alone, without evermux: what is determined by the seed must be determined here first.
//!
//! The crate measures round trips and tunes its windows by `std::time::Instant`, pings every 10 seconds by it, and sends
//! what it has tuned. So the trace shows at once when that clock is real: given bulk, a round trip over 1 ms, and more than
//! 10 seconds.

use std::future::poll_fn;
use std::io;
use std::task::Poll;
use std::time::Duration;

use proptest::prelude::{Strategy, any};
use rand::{Rng, RngExt};
use rand_chacha::ChaCha8Rng;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};
use tokio_util::compat::{Compat, FuturesAsyncReadCompatExt, TokioAsyncReadCompatExt};
use tracing::info;
use yamux::{Config, Connection, Mode};

use super::scenario::{Group, Scenario};
use crate::net::{Conditions, Kernel, Listener, Socket};
use crate::plan::{Network, Plan, Settings};
use crate::process::Ended;
use crate::stage::Run;
use crate::verdict::Violation;

pub(super) static SCENARIO: Scenario = Scenario {
    name: "echo",
    about: "The yamux crate alone: three callers get their bytes back, while the link is frozen for a while",
    group: Group::Alone,
    plans: || {
        (2..=20_u64, any::<bool>())
            .prop_map(|(latency_ms, random_order)| Plan {
                network: Network { latency_ms, random_order, ..Network::default() },
                settings: Settings::default(),
                foreign: None,
                callers: Vec::new(),
                faults: Vec::new(),
                calm_ms: 0,
            })
            .boxed()
    },
    run,
};

const PORT: u16 = 7000;
const CALLERS: u64 = 3;
const REQUESTS: u64 = 12;
/// Over the first window of a stream, which is 256 KiB, so that windows are updated within a request.
const REQUEST_MAX: usize = 400 << 10;
/// The freeze is at most 3 s, and no request takes longer than 5 s beside it.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(8);
const LIMIT: Duration = Duration::from_secs(120);

type Stream = Compat<yamux::Stream>;
type Open = oneshot::Sender<Stream>;

fn run(run: &mut Run) -> Result<(), Violation> {
    let mut faults = run.rng("faults");
    let freeze_at = Duration::from_millis(faults.random_range(2_000..6_000));
    let thaw_at = freeze_at + Duration::from_millis(faults.random_range(500..3_000));

    let kernel = run.kernel();
    let serving = kernel.clone();
    run.server("server", &kernel, move || serve(serving.clone()));
    let kernel = run.kernel();
    let counters = run.counters();
    let callers = (0..CALLERS).map(|caller| run.rng(&format!("caller {caller}"))).collect::<Vec<_>>();
    run.client("client", &kernel.clone(), async move {
        let socket = Socket::connect(&kernel, "server", PORT, &Conditions::default()).await?;
        let (open, opens) = mpsc::channel(1);
        let driver = tokio::spawn(drive(socket, Mode::Client, opens));
        let callers = callers.into_iter().map(|rng| tokio::spawn(call(open.clone(), rng))).collect::<Vec<_>>();
        drop(open);
        for caller in callers {
            counters.add("requests", caller.await??);
        }
        driver.await?;
        Ok(())
    });

    run.until(freeze_at)?;
    run.hold("server", "client");
    run.until(thaw_at)?;
    run.release("server", "client");
    run.finish_before(LIMIT)
}

async fn serve(kernel: Kernel) -> Ended {
    let listener = Listener::bind(kernel, PORT, Conditions::default(), false)?;
    loop {
        let socket = listener.accept().await?;
        let (_, opens) = mpsc::channel(1);
        tokio::spawn(drive(socket, Mode::Server, opens));
    }
}

/// Owns a connection: opens streams for those who ask, and gives inbound ones their bytes back. Ends when the connection
/// does, which a client ends when nobody can ask any more.
async fn drive(socket: Socket, mode: Mode, mut opens: mpsc::Receiver<Open>) {
    let mut connection = Connection::new(socket.compat(), Config::default(), mode);
    let mut asked: Option<Open> = None;
    let mut closing = false;
    poll_fn(|cx| {
        loop {
            if closing {
                return connection.poll_close(cx).map(|_| ());
            }
            match connection.poll_next_inbound(cx) {
                Poll::Ready(Some(Ok(stream))) => {
                    tokio::spawn(give_back(stream.compat()));
                    continue;
                }
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => {}
            }
            if asked.is_none() {
                match opens.poll_recv(cx) {
                    Poll::Ready(Some(open)) => asked = Some(open),
                    Poll::Ready(None) if mode == Mode::Client => {
                        closing = true;
                        continue;
                    }
                    _ => {}
                }
            }
            if asked.is_none() {
                return Poll::Pending;
            }
            match connection.poll_new_outbound(cx) {
                Poll::Ready(Ok(stream)) => {
                    let _ = asked.take().map(|open| open.send(stream.compat()));
                }
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
    })
    .await;
}

async fn give_back(stream: Stream) -> io::Result<()> {
    let (mut reader, mut writer) = tokio::io::split(stream);
    tokio::io::copy(&mut reader, &mut writer).await?;
    writer.shutdown().await
}

async fn call(open: mpsc::Sender<Open>, mut rng: ChaCha8Rng) -> Result<u64, Violation> {
    for request in 0..REQUESTS {
        sleep(Duration::from_millis(rng.random_range(100..2_000))).await;
        let mut bytes = vec![0; rng.random_range(1..REQUEST_MAX)];
        rng.fill_bytes(&mut bytes);
        let lost = |error: io::Error| Violation::new("scenario", format!("request {request} failed: {error}"));
        let reply = timeout(REQUEST_TIMEOUT, ask(&open, &bytes))
            .await
            .map_err(|_| Violation::new("hang", format!("request {request} had no reply in {REQUEST_TIMEOUT:?}")))?
            .map_err(lost)?;
        if reply != bytes {
            return Err(Violation::new("G18", format!("the reply to request {request} is not what was sent")));
        }
        info!(request, bytes = bytes.len(), "served");
    }
    Ok(REQUESTS)
}

async fn ask(open: &mpsc::Sender<Open>, bytes: &[u8]) -> io::Result<Vec<u8>> {
    let gone = || io::Error::from(io::ErrorKind::ConnectionAborted);
    let (answer, stream) = oneshot::channel();
    open.send(answer).await.map_err(|_| gone())?;
    let (mut reader, mut writer) = tokio::io::split(stream.await.map_err(|_| gone())?);
    let mut reply = Vec::with_capacity(bytes.len());
    let write = async {
        writer.write_all(bytes).await?;
        writer.shutdown().await
    };
    let (written, read) = tokio::join!(write, reader.read_to_end(&mut reply));
    written?;
    read?;
    Ok(reply)
}
