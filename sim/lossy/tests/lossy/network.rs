//! Two hosts, `client` and `server`, and the network between them.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};

use lossy::{Conditions, Count, Impairments, Segment, Settings, Stack, Stream, Verdict};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

pub(crate) const CLIENT: &str = "client";
pub(crate) const SERVER: &str = "server";
pub(crate) const PORT: u16 = 7000;
/// By how much time moves in one step.
pub(crate) const TICK: Duration = Duration::from_millis(5);
/// How long a segment travels, in turmoil.
pub(crate) const LATENCY: Duration = Duration::from_millis(10);
/// What each client does after its work is done must end in this time, without faults.
const SETTLE: Duration = Duration::from_secs(120);

/// What happened, by its name. Clones count together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counters(Arc<Mutex<BTreeMap<&'static str, u64>>>);

impl Counters {
    pub(crate) fn get(&self, name: &str) -> u64 {
        self.0.lock().unwrap().get(name).copied().unwrap_or_default()
    }
}

impl Count for Counters {
    fn count(&self, what: &'static str) {
        *self.0.lock().unwrap().entry(what).or_default() += 1;
    }
}

pub(crate) struct Network {
    pub(crate) sim: turmoil::Sim<'static>,
    pub(crate) counters: Counters,
    pub(crate) settings: Settings,
    /// On the way from the client, and from the server.
    pub(crate) from_client: Impairments,
    pub(crate) from_server: Impairments,
    seed: u64,
    /// How many clients have work to do, or connections.
    busy: Arc<AtomicUsize>,
}

/// When a client is back that comes back.
const BACK: Duration = Duration::from_secs(2);

impl Network {
    pub(crate) fn new(seed: u64) -> Self {
        let sim = turmoil::Builder::new()
            .epoch(UNIX_EPOCH)
            .rng_seed(seed)
            .tick_duration(TICK)
            .simulation_duration(Duration::from_secs(10_000))
            .min_message_latency(LATENCY)
            .max_message_latency(LATENCY)
            .udp_capacity(4_096)
            .build();
        Self {
            sim,
            counters: Counters::default(),
            settings: Settings::default(),
            from_client: Impairments::default(),
            from_server: Impairments::default(),
            seed,
            busy: Arc::default(),
        }
    }

    /// The same conditions both ways.
    pub(crate) fn with(seed: u64, conditions: &Conditions) -> Self {
        let network = Self::new(seed);
        network.from_client.change(|it| it.clone_from(conditions));
        network.from_server.change(|it| it.clone_from(conditions));
        network
    }

    pub(crate) fn impairments(&self, host: &str) -> Impairments {
        if host == CLIENT { self.from_client.clone() } else { self.from_server.clone() }
    }

    /// How to start the stack of a host.
    pub(crate) fn stack(&self, host: &'static str) -> impl Fn() -> StackFuture + 'static {
        let (settings, impairments, counters) = (self.settings.clone(), self.impairments(host), self.counters.clone());
        let rng = ChaCha8Rng::seed_from_u64(self.seed ^ host.len() as u64 ^ u64::from(host.as_bytes()[0]));
        move || {
            let start =
                Stack::start_with(settings.clone(), impairments.clone(), rng.clone(), Arc::new(counters.clone()));
            Box::pin(start)
        }
    }

    /// A client that connects, and waits for the end. After a second its host is gone; after another one it is back, connects
    /// from the same port, and says this as well.
    pub(crate) fn client_that_comes_back(&mut self, word: &'static [u8]) {
        self.host(CLIENT, move |stack| async move {
            let mut stream = stack.connect(server()).await?;
            if turmoil::sim_elapsed().unwrap() > BACK / 2 {
                stream.write_all(word).await?;
            }
            expect_end(&mut stream).await
        });
        self.until(BACK / 2);
        self.sim.crash(CLIENT);
        self.until(BACK);
        self.sim.bounce(CLIENT);
    }

    /// Adds a host that the run waits for, and for its connections.
    pub(crate) fn client<F, Fut>(&mut self, name: &'static str, software: F)
    where
        F: FnOnce(Stack) -> Fut + 'static,
        Fut: Future<Output = io::Result<()>>,
    {
        let (stack, busy) = (self.stack(name), Arc::clone(&self.busy));
        busy.fetch_add(1, Ordering::Relaxed);
        self.sim.client(name, async move {
            let stack = stack().await?;
            software(stack.clone()).await.map_err(|error| format!("{name}: {error}"))?;
            let settled = tokio::time::timeout(SETTLE, stack.settled()).await;
            settled.map_err(|_| format!("{name}: connections are left over"))?;
            // A host that has ended does not acknowledge the last words of the others.
            busy.fetch_sub(1, Ordering::Relaxed);
            while busy.load(Ordering::Relaxed) > 0 {
                tokio::time::sleep(TICK).await;
            }
            Ok(())
        });
    }

    /// Adds a host that can lose its power.
    pub(crate) fn host<F, Fut>(&mut self, name: &'static str, software: F)
    where
        F: Fn(Stack) -> Fut + Clone + 'static,
        Fut: Future<Output = io::Result<()>>,
    {
        let stack = self.stack(name);
        self.sim.host(name, move || {
            let (start, software) = (stack(), software.clone());
            async move {
                software(start.await?).await?;
                // A stack ends with its host.
                std::future::pending().await
            }
        });
    }

    /// Moves time until `at`.
    pub(crate) fn until(&mut self, at: Duration) -> bool {
        while self.sim.elapsed() < at {
            if self.sim.step().unwrap() {
                return true;
            }
        }
        false
    }

    /// Runs until the clients have ended, which must happen before `limit`, and says when.
    #[track_caller]
    pub(crate) fn finish(&mut self, limit: Duration) -> Duration {
        let seed = self.seed;
        assert!(self.until(limit), "seed {seed}: a client hangs; {:?}", self.counters);
        self.sim.elapsed()
    }

    pub(crate) fn count(&self, name: &str) -> u64 {
        self.counters.get(name)
    }
}

type StackFuture = std::pin::Pin<Box<dyn Future<Output = io::Result<Stack>>>>;

/// The address of the server's port, for a host that is running.
pub(crate) fn server() -> SocketAddr {
    SocketAddr::new(turmoil::lookup(SERVER), PORT)
}

/// Bytes that no two seeds share.
pub(crate) fn bytes(seed: u64, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    ChaCha8Rng::seed_from_u64(seed).fill_bytes(&mut bytes);
    bytes
}

pub(crate) async fn read(stream: &mut Stream, count: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; count];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

/// The peer has closed, and sent nothing more.
pub(crate) async fn expect_end(stream: &mut Stream) -> io::Result<()> {
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await?;
    assert_eq!(rest, b"", "more than was expected");
    Ok(())
}

/// Sends back what comes, to its end.
pub(crate) async fn echo(stream: Stream) -> io::Result<()> {
    let (mut reader, mut writer) = tokio::io::split(stream);
    tokio::io::copy(&mut reader, &mut writer).await?;
    writer.shutdown().await
}

/// Loses the segments whose turn, counted among those that `is_meant`, is in `turns`. The count of those that were meant
/// is given back.
pub(crate) fn lose(
    impairments: &Impairments,
    turns: std::ops::Range<usize>,
    mut is_meant: impl FnMut(&Segment) -> bool + Send + 'static,
) -> Arc<AtomicUsize> {
    let seen = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&seen);
    impairments.filter(move |segment| {
        let is_lost = is_meant(segment) && turns.contains(&count.fetch_add(1, Ordering::Relaxed));
        if is_lost { Verdict::Lost } else { Verdict::Sent }
    });
    seen
}
