//! A thousand starts and shutdowns leave nothing behind (G5). Alone in its process, since it counts what that holds.
#![allow(missing_docs, reason = "test names say it")]

mod support;

use std::net::SocketAddr;

use evermux::MuxManager;
use support::{echo, establisher, in_time, own_address, quick, request, until};
use testkit::count::{open_files, resident_bytes, tasks};

const ROUNDS: usize = 1000;
/// Rounds after which what is allocated once is there.
const WARM_UP: usize = 200;
/// A session holds 256 KiB of buffers on both sides: one that leaked in each round would be 200 MiB.
const MAX_GROWTH_BYTES: u64 = 16 << 20;

/// Starts both sides on the same port as before, uses them, and shuts them down: the one, the other, or both at once.
async fn round(number: usize, address: &str) -> SocketAddr {
    let config = quick().build().unwrap();
    let receiver = MuxManager::receive(address).config(config).start().await.expect("the port is free");
    let address = receiver.local_addr().unwrap();
    let establisher = establisher(address, quick()).await;
    let echo = echo(&receiver);
    in_time(request(&in_time(establisher.session()).await.unwrap())).await.unwrap();
    match number % 3 {
        0 => in_time(establisher.shutdown()).await,
        1 => in_time(receiver.shutdown()).await,
        _ => {}
    }
    in_time(async { tokio::join!(establisher.shutdown(), receiver.shutdown()) }).await;
    in_time(echo).await.unwrap();
    address
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_starts_and_shutdowns_leave_nothing_behind() {
    let address = round(0, &own_address()).await.to_string();
    let mut files = None;
    let mut memory = None;
    for done in 1..=ROUNDS {
        round(done, &address).await;
        // A task that has ended is counted until its scheduler has let go of it.
        until(|| tasks() == Some(0)).await;
        let now = open_files();
        assert_eq!(*files.get_or_insert(now), now, "descriptors after {done} rounds");
        if done == WARM_UP {
            memory = resident_bytes();
        }
    }
    if let (Some(before), Some(after)) = (memory, resident_bytes()) {
        assert!(after < before + MAX_GROWTH_BYTES, "{before} bytes grew to {after}");
    }
}
