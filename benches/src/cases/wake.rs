//! How long it takes until the last of many waiting tasks runs.

use std::{
    future::poll_fn,
    io,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use evermux::{Config, Connected, MuxManager, Session, sync::SessionSlot};
use tokio::{
    io::duplex,
    sync::{Notify, mpsc},
    task::JoinSet,
};

use super::{Setup, bulk::wrong};
use crate::{
    measure::{Cost, Meter, Sample},
    rig::Rig,
};

/// `MuxManager::session`. The time has the connection's handshake in it.
const MANAGER: &str = "manager";
const SLOT: &str = "slot";
pub(super) const NOTIFY: &str = "notify";

pub(super) const ALL: &[&str] = &[MANAGER, SLOT, NOTIFY];

pub(super) fn run(contestant: &str, setup: &Setup) -> io::Result<Sample> {
    let rig = Rig::new(setup.workers)?;
    let (waiters, wakes) = (setup.scale.waiters, setup.scale.wakes);
    let mut costs = Vec::new();
    for _ in 0..wakes {
        costs.push(match contestant {
            MANAGER => rig.run(manager(waiters))?,
            SLOT => rig.run(slot(waiters))?,
            NOTIFY => rig.run(notify(waiters))?,
            other => return Err(io::Error::other(format!("there is no contestant `{other}`"))),
        });
    }
    let all = Cost {
        wall: costs.iter().map(|cost| cost.wall).sum(),
        cpu: costs.iter().map(|cost| cost.cpu).sum(),
        switches: costs.iter().map(|cost| cost.switches).sum(),
    };
    Ok(all.each(f64::from(u32::try_from(wakes).map_err(io::Error::other)?)))
}

async fn manager(waiters: usize) -> io::Result<Cost> {
    let gate = Arc::new(Notify::new());
    let connector = {
        let gate = Arc::clone(&gate);
        move || {
            let gate = Arc::clone(&gate);
            async move {
                gate.notified().await;
                let (near, far) = duplex(64 << 10);
                tokio::spawn(async move {
                    let peer = Session::server(far, &Config::default()).await?;
                    io::Result::Ok(peer.closed().await)
                });
                Ok(Connected::anonymous(near))
            }
        }
    };
    let manager = MuxManager::establish_with(connector).start().await.map_err(io::Error::other)?;
    let crowd = Crowd::gather(waiters, || {
        let manager = manager.clone();
        async move { manager.session().await.is_ok() }
    })
    .await;
    let cost = crowd.wake(|| gate.notify_one()).await?;
    manager.shutdown().await;
    Ok(cost)
}

async fn slot(waiters: usize) -> io::Result<Cost> {
    let slot = Arc::new(SessionSlot::<Arc<str>, ()>::new(1));
    let crowd = Crowd::gather(waiters, || {
        let slot = Arc::clone(&slot);
        async move { slot.wait().await.is_ok() }
    })
    .await;
    let mut reservation = slot.reserve();
    let session = Arc::from("a session");
    crowd.wake(|| drop(slot.install(&mut reservation, session, Arc::default()))).await
}

async fn notify(waiters: usize) -> io::Result<Cost> {
    let notify = Arc::new(Notify::new());
    let crowd = Crowd::gather(waiters, || {
        let notify = Arc::clone(&notify);
        async move {
            notify.notified().await;
            true
        }
    })
    .await;
    crowd.wake(|| notify.notify_waiters()).await
}

/// Tasks that wait.
struct Crowd {
    tasks: JoinSet<bool>,
    last: mpsc::UnboundedReceiver<Instant>,
}

impl Crowd {
    /// Starts so many, and returns when all wait. Each says at its end whether it got what it waited for.
    async fn gather<Fut>(size: usize, wait: impl Fn() -> Fut) -> Self
    where
        Fut: Future<Output = bool> + Send + 'static,
    {
        let (tell, last) = mpsc::unbounded_channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let left = Arc::new(AtomicUsize::new(size));
        let mut tasks = JoinSet::new();
        for _ in 0..size {
            let (wait, waiting, left, tell) = (wait(), Arc::clone(&waiting), Arc::clone(&left), tell.clone());
            tasks.spawn(async move {
                let mut wait = pin!(wait);
                let mut counted = false;
                let got = poll_fn(|cx| {
                    let polled = wait.as_mut().poll(cx);
                    if polled.is_pending() && !counted {
                        counted = true;
                        waiting.fetch_add(1, Ordering::AcqRel);
                    }
                    polled
                })
                .await;
                if left.fetch_sub(1, Ordering::AcqRel) == 1 {
                    let _ = tell.send(Instant::now());
                }
                got
            });
        }
        while waiting.load(Ordering::Acquire) < size {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Self { tasks, last }
    }

    /// The cost from before the broadcast until the last of them has run.
    async fn wake(mut self, broadcast: impl FnOnce()) -> io::Result<Cost> {
        let meter = Meter::start()?;
        broadcast();
        let last = self.last.recv().await.ok_or(io::ErrorKind::BrokenPipe)?;
        let cost = meter.stop_at(last)?;
        if self.tasks.join_all().await.into_iter().all(|got| got) {
            Ok(cost)
        } else {
            Err(wrong("a waiter got nothing".into()))
        }
    }
}
