//! One change frees everyone who waits, however many they are (G2, G4).

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use evermux::sync::SessionSlot;
use tokio::{
    runtime,
    task::JoinSet,
    time::{sleep, timeout},
};

type Slot = SessionSlot<&'static str, &'static str>;

const FUTURES: usize = 10_000;
const THREADS: usize = 200;
const PATIENCE: Duration = Duration::from_secs(60);

/// Lets everyone wait, makes one change, and returns once everyone has seen `expected`.
fn everyone_is_freed_by(change: impl FnOnce(&Arc<Slot>), expected: Result<&'static str, &'static str>) {
    let slot: Arc<Slot> = Arc::new(SessionSlot::new(1));
    #[expect(clippy::disallowed_methods, reason = "threads wait by the real clock")]
    let deadline = Instant::now() + PATIENCE;
    let threads: Vec<_> = (0..THREADS)
        .map(|_| {
            let slot = Arc::clone(&slot);
            thread::Builder::new().stack_size(64 << 10).spawn(move || slot.wait_until(deadline)).unwrap()
        })
        .collect();
    let runtime = runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let mut tasks = JoinSet::new();
        for _ in 0..FUTURES {
            let slot = Arc::clone(&slot);
            tasks.spawn(async move { slot.wait().await });
        }
        while slot.waiting() < FUTURES + THREADS {
            sleep(Duration::from_millis(1)).await;
        }
        change(&slot);
        let results = timeout(PATIENCE, tasks.join_all()).await.expect("a future still waits");
        assert!(results.into_iter().all(|result| result == expected));
    });
    for thread in threads {
        assert_eq!(thread.join().unwrap().ok(), expected.ok(), "a thread still waits");
    }
    assert_eq!(slot.waiting(), 0);
}

#[test]
fn one_install_frees_ten_thousand_futures_and_two_hundred_threads() {
    everyone_is_freed_by(|slot| slot.install(&mut slot.reserve(), "a", Arc::default()).unwrap(), Ok("a"));
}

#[test]
fn one_stop_frees_ten_thousand_futures_and_two_hundred_threads() {
    everyone_is_freed_by(|slot| drop(slot.stop("shut down")), Err("shut down"));
}
