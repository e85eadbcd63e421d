//! The counters count. One test, because they count the whole process.
#![cfg(target_os = "linux")]

use std::{
    fs::File,
    hint::black_box,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use testkit::count;

const MIB: usize = 1 << 20;

#[test]
fn the_counters_follow_what_the_process_holds() {
    let before = count::open_files().unwrap();
    let files = (0..10).map(|_| File::open("/proc/self/status").unwrap()).collect::<Vec<_>>();
    assert_eq!(count::open_files(), Some(before + 10));
    drop(files);
    assert_eq!(count::open_files(), Some(before));

    let before = count::threads().unwrap();
    let (stop, threads): (Vec<_>, Vec<_>) = (0..5)
        .map(|_| {
            let (sender, receiver) = mpsc::channel::<()>();
            (sender, thread::spawn(move || receiver.recv()))
        })
        .unzip();
    assert_eq!(count::threads(), Some(before + 5));
    drop(stop);
    for thread in threads {
        thread.join().unwrap().unwrap_err();
    }
    comes_to_hold(|| count::threads() == Some(before));

    let before = count::resident_bytes().unwrap();
    let memory = black_box(vec![1_u8; 64 * MIB]);
    let after = count::resident_bytes().unwrap();
    // The kernel counts in batches, so a little may be missing.
    let grown = after.saturating_sub(before);
    assert!((56 * MIB as u64..80 * MIB as u64).contains(&grown), "{grown} bytes more for 64 MiB");
    drop(memory);

    assert_eq!(count::tasks(), None);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let _context = runtime.enter();
    assert_eq!(count::tasks(), Some(0));
    let task = runtime.spawn(std::future::pending::<()>());
    assert_eq!(count::tasks(), Some(1));
    task.abort();
    assert!(runtime.block_on(task).unwrap_err().is_cancelled());
    comes_to_hold(|| count::tasks() == Some(0));
}

#[expect(clippy::disallowed_methods, reason = "it waits for the operating system, which no simulated clock drives")]
fn comes_to_hold(holds: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < deadline, "it does not come to hold");
        thread::yield_now();
    }
}
