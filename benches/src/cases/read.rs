//! How long a look at the live session takes.

use std::{
    hint::black_box,
    io,
    sync::{Arc, Barrier},
    thread,
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use evermux::{MuxManager, Session};
use tokio::sync::watch;

use super::{Setup, bulk::wrong};
use crate::{
    measure::{Meter, Sample, nanos},
    rig::Rig,
};

pub(super) const READER: &str = "reader";
const TRY_SESSION: &str = "try_session";
const SESSION: &str = "session";
pub(super) const ARC_SWAP: &str = "arc-swap";
const WATCH: &str = "watch";

pub(super) const ALL: &[&str] = &[READER, TRY_SESSION, SESSION, ARC_SWAP, WATCH];

/// How many looks there are between two looks at the clock.
const BATCH: u32 = 10_000;

pub(super) fn run(contestant: &str, setup: &Setup, threads: usize) -> io::Result<Sample> {
    let rig = Rig::new(setup.workers)?;
    let server = rig.server();
    let (manager, session, _receiver) = rig.run(async move {
        let receiver = server.spawn(MuxManager::receive("127.0.0.1:0").start()).await?.map_err(io::Error::other)?;
        let address = receiver.local_addr().ok_or(io::ErrorKind::AddrNotAvailable)?;
        let manager = MuxManager::establish(address.to_string()).start().await.map_err(io::Error::other)?;
        let session = manager.session().await?;
        Ok((manager, session, receiver))
    })?;
    let time = setup.scale.reading;
    let together = |look: &(dyn Fn() -> Looks + Sync)| on_threads(threads, look);
    match contestant {
        READER => together(&|| {
            let mut reader = manager.reader();
            spin(time, || black_box(reader.session()).is_some())
        }),
        TRY_SESSION => together(&|| spin(time, || black_box(manager.try_session()).is_some())),
        SESSION => together(&|| rig.wait(spin_waiting(time, &manager))),
        ARC_SWAP => {
            let shared = ArcSwap::from_pointee(Some(session));
            together(&|| spin(time, || black_box(shared.load()).is_some()))
        }
        WATCH => {
            let (_sender, receiver) = watch::channel(Some::<Session>(session));
            together(&|| {
                let receiver = receiver.clone();
                spin(time, || black_box(receiver.borrow()).is_some())
            })
        }
        other => Err(io::Error::other(format!("there is no contestant `{other}`"))),
    }
}

/// What one thread did.
struct Looks {
    count: f64,
    took: Duration,
    all_found: bool,
}

fn on_threads(threads: usize, look: &(dyn Fn() -> Looks + Sync)) -> io::Result<Sample> {
    let barrier = Arc::new(Barrier::new(threads + 1));
    let (looks, cost) = thread::scope(|scope| {
        let running: Vec<_> = (0..threads)
            .map(|_| {
                let barrier = Arc::clone(&barrier);
                scope.spawn(move || {
                    barrier.wait();
                    look()
                })
            })
            .collect();
        let meter = Meter::start()?;
        barrier.wait();
        let looks: Vec<_> = running
            .into_iter()
            .map(|thread| thread.join().map_err(|_| io::Error::other("a reading thread panicked")))
            .collect::<io::Result<_>>()?;
        io::Result::Ok((looks, meter.stop()?))
    })?;
    if !looks.iter().all(|looks| looks.all_found) {
        return Err(wrong("a look found no session".into()));
    }
    let count: f64 = looks.iter().map(|looks| looks.count).sum();
    let took: f64 = looks.iter().map(|looks| nanos(looks.took)).sum();
    Ok(Sample { wall_ns: took / count, ..cost.each(count) })
}

fn spin(time: Duration, mut look: impl FnMut() -> bool) -> Looks {
    let begun = Instant::now();
    let (mut count, mut all_found) = (0.0, true);
    loop {
        for _ in 0..BATCH {
            all_found &= look();
        }
        count += f64::from(BATCH);
        let took = begun.elapsed();
        if took >= time {
            return Looks { count, took, all_found };
        }
    }
}

/// As [`spin`], for the call that waits.
async fn spin_waiting(time: Duration, manager: &MuxManager) -> Looks {
    let begun = Instant::now();
    let (mut count, mut all_found) = (0.0, true);
    loop {
        for _ in 0..BATCH {
            all_found &= black_box(manager.session().await).is_ok();
        }
        count += f64::from(BATCH);
        let took = begun.elapsed();
        if took >= time {
            return Looks { count, took, all_found };
        }
    }
}
