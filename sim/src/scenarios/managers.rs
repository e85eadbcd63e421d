//! What scenarios with managers share: a receiver that serves, an establisher with callers, and what must hold.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use evermux::{Config, MuxManager, Session, SessionId, Stopped};
use rand::{Rng, RngExt};
use rand_chacha::ChaCha8Rng;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tracing::info;

use crate::net::{Connector, Listener};
use crate::run::{Broken, Counters, Run};

pub(super) const RECEIVER: &str = "receiver";
pub(super) const ESTABLISHER: &str = "establisher";
const PORT: u16 = 7233;

const CALLERS: usize = 4;
/// Over the first window of a stream, so that credit is needed within a request.
const REQUEST_MAX: usize = 300 << 10;
/// What a request takes at the most while nothing fails.
const REQUEST_TIME: Duration = Duration::from_secs(5);

/// The settings of both sides: the defaults, with this seed.
fn config(seed: u64) -> Config {
    Config::builder().seed(Some(seed)).build().expect("the defaults are valid")
}

/// How long after the last fault every caller has been served, by the settings.
///
/// In the worst case a silent loss is found by the heartbeats, of our side or of the receiver, whose ghost holds the place
/// meanwhile; an attempt was under way and fails; then comes the longest pause, an attempt whose candidate waits in vain for
/// the ghost's place, and the longest pause once more.
pub(super) fn recovery_bound() -> Duration {
    let config = config(0);
    let detection = config.heartbeat_idle() + config.heartbeat_timeout();
    let attempt = config.resolve_timeout() + config.connect_timeout() + config.handshake_timeout();
    let pause = config.backoff_max().mul_f32(1.0 + config.backoff_jitter());
    detection + attempt + pause + config.handshake_timeout() + pause + REQUEST_TIME
}

/// Serves every stream of every session with an echo.
pub(super) async fn receive(seed: u64) -> turmoil::Result {
    let manager = MuxManager::receive_with(Listener::bind(PORT).await?).name("receiver").config(config(seed));
    serve(&manager.start().await?).await;
    Ok(())
}

/// [`receive`], until it is told to end; then it shuts down, and finds its port free (G5).
pub(super) async fn receive_until(seed: u64, mut end: watch::Receiver<bool>) -> turmoil::Result {
    let manager = MuxManager::receive_with(Listener::bind(PORT).await?).name("receiver").config(config(seed));
    let manager = manager.start().await?;
    let serving = serve(&manager);
    tokio::select! {
        biased;
        () = serving => {}
        _ = end.wait_for(|end| *end) => {}
    }
    shut_down(&manager).await?;
    Listener::bind(PORT).await.map_err(|error| Broken::new("G5", format!("the port is not free: {error}")))?;
    Ok(())
}

async fn serve(manager: &MuxManager) {
    while let Ok(session) = manager.session().await {
        while let Ok(stream) = session.accept_stream().await {
            tokio::spawn(async move {
                let (mut reader, mut writer) = stream.into_split();
                tokio::io::copy(&mut reader, &mut writer).await?;
                writer.shutdown().await
            });
        }
    }
}

async fn shut_down(manager: &MuxManager) -> Result<(), Broken> {
    let bound = config(0).drain_timeout() + Duration::from_secs(1);
    let finished = timeout(bound, manager.shutdown()).await;
    finished.map_err(|_| Broken::new("G5", format!("a shutdown took longer than {bound:?}")))?;
    match manager.session().await {
        Err(Stopped::ShutDown) => Ok(()),
        other => Err(Broken::new("G4", format!("after the shutdown a caller was given {other:?}"))),
    }
}

/// The sessions whose end somebody has learnt of. Hosts of a run share a thread.
type Dead = Rc<RefCell<Vec<SessionId>>>;

/// Dials the receiver, and lets callers work until all faults are over and each has been served once more, which must
/// happen within [`recovery_bound`].
pub(super) struct Establisher {
    seed: u64,
    counters: Counters,
    callers: Vec<ChaCha8Rng>,
    /// When the last fault is over, from the beginning.
    faults_end: Duration,
}

impl Establisher {
    pub(super) fn new(run: &Run, faults_end: Duration) -> Self {
        let callers = (0..CALLERS).map(|caller| run.rng(&format!("caller {caller}"))).collect();
        Self { seed: run.seed(), counters: run.counters(), callers, faults_end }
    }

    pub(super) async fn run(self) -> turmoil::Result {
        let connector = Connector::new(RECEIVER, PORT);
        let manager = MuxManager::establish_with(connector.clone()).name("establisher").config(config(self.seed));
        let manager = manager.start().await?;
        let dead = Dead::default();
        let faults_end = Instant::now() + self.faults_end;

        tokio::task::spawn_local(mourn(manager.clone(), Rc::clone(&dead)));
        let callers = self.callers.into_iter().map(|rng| {
            let (manager, dead, counters) = (manager.clone(), Rc::clone(&dead), self.counters.clone());
            tokio::task::spawn_local(Caller { manager, dead, counters, rng, faults_end }.work())
        });
        let mut worst = Duration::ZERO;
        for caller in callers.collect::<Vec<_>>() {
            worst = worst.max(caller.await??);
        }
        info!(?worst, bound = ?recovery_bound(), "every caller was served after the last fault");

        self.counters.add("sessions", manager.status().sessions_so_far);
        shut_down(&manager).await?;
        match connector.sockets().count() {
            0 => Ok(()),
            open => Err(Broken::new("G5", format!("{open} sockets are open after the shutdown")).into()),
        }
    }
}

/// Notes each session whose end has been published.
async fn mourn(manager: MuxManager, dead: Dead) {
    while let Ok(session) = manager.session().await {
        let id = session.id();
        let reason = session.closed().await;
        info!(session = %id, %reason, "the end of a session is known");
        dead.borrow_mut().push(id);
        // A slot that still has it would keep this loop from ever waiting.
        tokio::task::yield_now().await;
    }
}

struct Caller {
    manager: MuxManager,
    dead: Dead,
    counters: Counters,
    rng: ChaCha8Rng,
    faults_end: Instant,
}

impl Caller {
    /// Sends requests, and gives how long after the last fault it was served again.
    async fn work(mut self) -> Result<Duration, Broken> {
        let bound = recovery_bound();
        loop {
            sleep(Duration::from_millis(self.rng.random_range(0..3_000))).await;
            let begun = Instant::now();
            let mut bytes = vec![0; self.rng.random_range(1..REQUEST_MAX)];
            self.rng.fill_bytes(&mut bytes);
            let deadline = begun.max(self.faults_end) + bound;
            let Ok(served) = tokio::time::timeout_at(deadline, self.request(&bytes)).await else {
                return Err(Broken::new(
                    "G1",
                    format!("a caller was not served within {bound:?} after the last fault"),
                ));
            };
            served?;
            if begun >= self.faults_end {
                return Ok(self.faults_end.elapsed());
            }
        }
    }

    /// Sends a request until it has its reply.
    async fn request(&self, bytes: &[u8]) -> Result<(), Broken> {
        loop {
            let session = match self.manager.session().await {
                Ok(session) => session,
                Err(stopped) => return Err(Broken::new("G12", format!("the manager stopped: {stopped}"))),
            };
            if self.dead.borrow().contains(&session.id()) {
                return Err(Broken::new(
                    "G3",
                    format!("session {} was given out after its end was known", session.id()),
                ));
            }
            match ask(&session, bytes).await {
                Ok(reply) if reply == bytes => {
                    self.counters.add("requests", 1);
                    return Ok(());
                }
                Ok(reply) if bytes.starts_with(&reply) => {
                    let text = format!("a reply of {} bytes ended in good order after {}", bytes.len(), reply.len());
                    return Err(Broken::new("G17", text));
                }
                Ok(_) => return Err(Broken::new("G18", "a reply differs from what was sent")),
                Err(error) => {
                    info!(session = %session.id(), %error, "interrupted");
                    self.counters.add("interrupted", 1);
                    // Whoever notes the end of the session is let in, so that asking again is asking too late.
                    tokio::task::yield_now().await;
                }
            }
        }
    }
}

async fn ask(session: &Session, bytes: &[u8]) -> io::Result<Vec<u8>> {
    let (mut reader, mut writer) = session.open_stream().await?.into_split();
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
