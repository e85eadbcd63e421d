//! What the tests share.
#![allow(dead_code, reason = "each test program uses its part")]

pub(crate) mod log;
mod managers;
mod network;
mod sessions;

use std::{
    future::Future,
    net::SocketAddr,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use evermux::{Config, ConfigBuilder, MuxManager, MuxStream, Session};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, sleep, timeout},
};

#[allow(unused_imports, reason = "each test program uses its part")]
pub(crate) use self::{managers::*, network::*, sessions::*};

/// How long a test waits for what must come. Nothing takes so long; a loaded machine may.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Settings for tests on the real clock: faults are found and mended within a second. A shutdown has longer than a test
/// has patience: one that uses its time up fails.
pub(crate) fn quick() -> ConfigBuilder {
    Config::builder()
        .handshake_timeout(Duration::from_secs(10))
        .backoff_initial(Duration::from_millis(5))
        .backoff_max(Duration::from_millis(50))
        .stable_after(Duration::from_millis(1))
        .heartbeat_idle(Duration::from_millis(200))
        .heartbeat_timeout(Duration::from_secs(2))
        .drain_timeout(2 * PATIENCE)
        .seed(Some(7))
}

/// Settings for tests in paused time: pauses of 1 s, 2 s, 4 s and then 8 s, exactly.
pub(crate) fn exact() -> ConfigBuilder {
    Config::builder()
        .backoff_initial(Duration::from_secs(1))
        .backoff_factor(2.0)
        .backoff_max(Duration::from_secs(8))
        .backoff_jitter(0.0)
        .stable_after(Duration::from_secs(10))
        .seed(Some(7))
}

/// Nothing may hang.
pub(crate) async fn in_time<T>(future: impl Future<Output = T>) -> T {
    let begun = Instant::now();
    let output = timeout(PATIENCE, future).await.expect("nothing happened in time");
    // At its end the timeout asks once more, and would hide a wake-up that was lost.
    assert!(begun.elapsed() < PATIENCE, "it was ready, and nobody was woken for it");
    output
}

/// Waits until something is so.
pub(crate) async fn until(mut is_so: impl FnMut() -> bool) {
    in_time(async {
        while !is_so() {
            sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

/// An address of loopback with a port to be chosen. Where all of 127.0.0.0/8 is loopback nobody else has the address,
/// and so nobody is given its port when it becomes free.
pub(crate) fn own_address() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    if !cfg!(target_os = "linux") {
        return "127.0.0.1:0".to_owned();
    }
    let (process, next) = (std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    format!("127.{}.{}.{}:0", 1 + process / 250 % 250, process % 250, 1 + next % 250)
}

pub(crate) async fn receiver(config: ConfigBuilder) -> (MuxManager, SocketAddr) {
    let manager = MuxManager::receive(own_address()).config(config.build().unwrap()).start().await.unwrap();
    let address = manager.local_addr().unwrap();
    (manager, address)
}

pub(crate) async fn establisher(address: SocketAddr, config: ConfigBuilder) -> MuxManager {
    MuxManager::establish(address.to_string()).config(config.build().unwrap()).start().await.unwrap()
}

/// Waits for another session than this one.
pub(crate) async fn session_after(manager: &MuxManager, old: &Session) -> Session {
    in_time(async {
        loop {
            let session = manager.session().await.unwrap();
            if session.id() != old.id() {
                return session;
            }
            old.closed().await;
        }
    })
    .await
}

/// Sends back what comes, on every stream of every session, until the manager stops.
pub(crate) fn echo(manager: &MuxManager) -> tokio::task::JoinHandle<()> {
    let manager = manager.clone();
    tokio::spawn(async move {
        while let Ok(session) = manager.session().await {
            while let Ok(stream) = session.accept_stream().await {
                tokio::spawn(echo_stream(stream));
            }
        }
    })
}

async fn echo_stream(stream: MuxStream) {
    let (mut reader, mut writer) = tokio::io::split(stream);
    if tokio::io::copy(&mut reader, &mut writer).await.is_ok() {
        let _ = writer.shutdown().await;
    }
}

/// One request and its reply, checked.
pub(crate) async fn request(session: &Session) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let mut stream = session.open_stream().await?;
    stream.write_all(b"hello").await?;
    stream.shutdown().await?;
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply).await?;
    assert_eq!(reply, b"hello");
    Ok(())
}
