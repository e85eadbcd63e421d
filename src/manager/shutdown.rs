//! How a manager ends.
//!
//! One task of its own carries the shutdown out, so that dropping a `shutdown()` future stops nothing.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::{
    error::{GaveUp, Stopped},
    provider::{
        installer::{Slot, Tasks},
        progress::{Activity, Progress},
    },
};

/// What sessions that close have over their deadline before their tasks are dropped. They keep it by themselves.
const GRACE: Duration = Duration::from_millis(500);

/// Asks for the shutdown, and waits for it.
#[derive(Clone)]
pub(super) struct Shutdown {
    deadline: Arc<watch::Sender<Option<Instant>>>,
    finished: CancellationToken,
}

impl Shutdown {
    pub(super) fn new() -> Self {
        Self { deadline: Arc::new(watch::Sender::new(None)), finished: CancellationToken::new() }
    }

    /// Asks for the shutdown within this time. Of several requests the earliest deadline counts.
    pub(super) fn request(&self, within: Duration) {
        let deadline = Instant::now() + within;
        self.deadline.send_if_modified(|earliest| {
            let earlier = earliest.is_none_or(|earliest| deadline < earliest);
            if earlier {
                *earliest = Some(deadline);
            }
            earlier
        });
    }

    pub(super) fn is_requested(&self) -> bool {
        self.deadline.borrow().is_some()
    }

    /// Waits until nothing of the manager is left.
    pub(super) async fn finished(&self) {
        self.finished.cancelled().await;
    }
}

/// What a provider's task gives back: `None` when it was dropped.
pub(super) type Ended = Option<Result<(), Arc<GaveUp>>>;

/// Watches over a manager, and shuts it down.
pub(super) struct Supervisor {
    pub(super) slot: Arc<Slot>,
    pub(super) tasks: Tasks,
    pub(super) progress: Arc<Progress>,
    pub(super) shutdown: Shutdown,
    pub(super) external: Option<CancellationToken>,
    pub(super) drain_timeout: Duration,
}

impl Supervisor {
    pub(super) async fn run(self, mut provider: JoinHandle<Ended>) {
        // However this task ends, nobody waits for it in vain.
        let _finished = self.shutdown.finished.clone().drop_guard();
        let mut deadline = self.shutdown.deadline.subscribe();
        let external = async {
            match &self.external {
                Some(token) => token.cancelled().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            _ = deadline.wait_for(Option::is_some) => {}
            () = external => self.shutdown.request(self.drain_timeout),
            ended = &mut provider => match ended {
                Ok(Some(Err(gave_up))) => error!(error = %gave_up, "the manager gives up"),
                Err(failed) if failed.is_panic() => error!("the provider panicked: the manager gives up"),
                _ => {}
            },
        }
        self.close(deadline).await;
        info!("the manager has stopped");
        self.progress.set(Activity::Stopped);
    }

    async fn close(&self, mut deadline: watch::Receiver<Option<Instant>>) {
        self.progress.set(Activity::ShuttingDown);
        // No session is installed after this; whoever waits is freed.
        let sessions = self.slot.stop(Stopped::ShutDown);
        self.tasks.stop();
        loop {
            let until = deadline.borrow_and_update().unwrap_or_else(|| Instant::now() + self.drain_timeout);
            let within = until.saturating_duration_since(Instant::now());
            let closed = async {
                join_all(sessions.iter().map(|session| session.close_within(within))).await;
                self.tasks.join().await;
            };
            tokio::select! {
                biased;
                () = closed => return,
                // An earlier deadline: sessions are told anew.
                Ok(()) = deadline.changed() => {}
                () = sleep_until(until + GRACE) => break,
            }
        }
        self.tasks.kill();
        self.tasks.join().await;
    }
}
