//! A thousand managers come and go, and nothing of them is left (G5, G9, G19). The only test of its process: it counts.
#![allow(missing_docs, reason = "test names say it")]

mod common;

use common::in_time;
use evermux::{Config, MuxManager};
use testkit::count;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    task::yield_now,
};

const ROUNDS: usize = 1000;
/// Managers that come and go before anything is counted: pools and caches fill up.
const WARM_UP: usize = 200;
/// An allocator keeps some. A leak of one task for each round would be more.
const SLACK_BYTES: u64 = 4 << 20;

async fn live_once(address: &str) -> String {
    let config = Config::builder().seed(Some(7)).build().unwrap();
    let receiver = MuxManager::receive(address).config(config.clone()).start().await.unwrap();
    let bound = receiver.local_addr().unwrap().to_string();
    let establisher = MuxManager::establish(&*bound).config(config).start().await.unwrap();
    let mut stream = in_time(establisher.open_stream()).await.unwrap();
    stream.write_all(b"hello").await.unwrap();
    let session = in_time(receiver.session()).await.unwrap();
    let mut inbound = in_time(session.accept_stream()).await.unwrap();
    let mut bytes = [0; 5];
    in_time(inbound.read_exact(&mut bytes)).await.unwrap();
    // A caller that gives up, and one stream that is left in the middle.
    drop(Box::pin(establisher.session()));
    drop((stream, inbound));
    tokio::join!(in_time(establisher.shutdown()), in_time(receiver.shutdown()));
    bound
}

#[tokio::test]
async fn a_thousand_starts_and_shutdowns_leave_nothing() {
    // The same port each time: it can be bound again at once.
    let address = live_once("127.0.0.1:0").await;
    for _ in 0..WARM_UP {
        live_once(&address).await;
    }
    let tasks = count::tasks().expect("tokio counts tasks");
    let (files, memory) = (count::open_files(), count::resident_bytes());
    for _ in 0..ROUNDS {
        live_once(&address).await;
    }
    in_time(async {
        while count::tasks() > Some(tasks) {
            yield_now().await;
        }
    })
    .await;
    assert_eq!(count::tasks(), Some(tasks));
    assert_eq!(count::open_files(), files);
    if let (Some(before), Some(after)) = (memory, count::resident_bytes()) {
        let grown = after.saturating_sub(before);
        println!("{ROUNDS} rounds: {tasks} tasks, {files:?} files as before, {grown} bytes of memory more");
        assert!(grown < SLACK_BYTES, "{grown} bytes after {ROUNDS} rounds");
    }
}
