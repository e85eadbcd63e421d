//! A peer that comes back takes the place of its own ghost; nobody else loses a place by it (G14).

use std::{net::SocketAddr, time::Duration};

use crate::support::{
    Occupied, client, echo, establisher, exact, half_prove, in_time, network, occupied, quick, receiver, request,
    session_after, until,
};
use evermux::{CloseReason, ConfigBuilder, Event, MuxManager, SessionId};
use testkit::{FaultProxy, frames::Peer};
use tokio::{
    io::AsyncWriteExt,
    net::TcpStream,
    time::{Instant, sleep, timeout},
};

const SECOND: Duration = Duration::from_secs(1);

/// A receiver that would not find a ghost by its own heartbeat within the patience of a test.
fn patient() -> ConfigBuilder {
    quick().heartbeat_idle(600 * SECOND).takeover_probe_timeout(SECOND / 2)
}

/// A client that proves itself and then says nothing by itself, but answers pings while it is driven.
async fn quiet_client(address: SocketAddr) -> Peer<TcpStream> {
    let mut peer = Peer::new(TcpStream::connect(address).await.unwrap());
    half_prove(&mut peer).await;
    peer
}

/// Lets a quiet client answer what it is asked, until its connection ends.
fn answers(mut peer: Peer<TcpStream>) -> tokio::task::JoinHandle<std::io::Error> {
    peer.answer_pings(true);
    tokio::spawn(async move { peer.recv_until(|_| false).await.unwrap_err() })
}

fn live_id(manager: &MuxManager) -> Option<SessionId> {
    manager.try_session().map(|session| session.id())
}

/// The establisher's host loses power and comes back. The receiver's socket knows nothing of it.
#[tokio::test]
async fn ghost_locks_out_peer() {
    let (receiver, address) = receiver(patient()).await;
    let proxy = FaultProxy::start(address).unwrap();
    let served = echo(&receiver);
    let before = establisher(proxy.addr(), quick()).await;
    let ghost = in_time(receiver.session()).await.unwrap();
    in_time(request(&in_time(before.session()).await.unwrap())).await.unwrap();
    // The link stays as it is and carries nothing: not even the end of who was there.
    proxy.freeze_links();
    drop(before);
    // Silent clients hold the receiver's backlog.
    let mut silent = Vec::new();
    for _ in 0..70 {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    let after = establisher(address, quick()).await;
    in_time(request(&in_time(after.session()).await.unwrap())).await.unwrap();
    let session = in_time(receiver.session()).await.unwrap();
    assert_ne!(session.id(), ghost.id());
    assert!(matches!(in_time(ghost.closed()).await, CloseReason::Replaced));
    in_time(after.shutdown()).await;
    in_time(receiver.shutdown()).await;
    served.await.unwrap();
    proxy.shutdown().await;
}

/// The candidate is published at its far end only when it has the place.
#[tokio::test]
async fn doomed_newcomer_published() {
    let (receiver, address) = receiver(patient()).await;
    let holder = quiet_client(address).await;
    let held = in_time(receiver.session()).await.unwrap();
    let driven = answers(holder);
    // Its handshake ends after a second, while the holder is alive: it must never have been live.
    let newcomer = establisher(address, quick().handshake_timeout(SECOND)).await;
    let mut events = newcomer.events();
    let mut failed = 0;
    while failed < 3 {
        match in_time(events.next()).await.unwrap() {
            Event::AttemptFailed { .. } => failed += 1,
            Event::SessionLive { .. } => panic!("a session without a place was published"),
            _ => {}
        }
    }
    assert!(!held.is_closed() && live_id(&receiver) == Some(held.id()));
    in_time(newcomer.shutdown()).await;
    in_time(receiver.shutdown()).await;
    driven.await.unwrap();
}

/// Nothing that does not speak yamux starts a probe: a live session that stalls keeps its place.
#[tokio::test]
async fn health_check_evicts_stalled_session() {
    let (receiver, address) = receiver(patient().max_handshakes_in_flight(8)).await;
    // It would lose its place to a probe: it answers nothing.
    let stalled = quiet_client(address).await;
    let held = in_time(receiver.session()).await.unwrap();
    let begun = Instant::now();
    while begun.elapsed() < 2 * SECOND {
        let check = TcpStream::connect(address).await.unwrap();
        sleep(SECOND / 20).await;
        drop(check);
    }
    assert!(!held.is_closed() && live_id(&receiver) == Some(held.id()));
    drop(stalled);
    in_time(receiver.shutdown()).await;
}

/// Two live clients and one place: for fifty probes the first keeps it, and the second tries.
#[tokio::test]
async fn takeover_ping_pong() {
    let (receiver, address) = receiver(patient().takeover_probe_timeout(SECOND / 10)).await;
    let served = echo(&receiver);
    let first = establisher(address, quick()).await;
    in_time(first.session()).await.unwrap();
    let held = in_time(receiver.session()).await.unwrap();
    let second = establisher(address, quick().handshake_timeout(SECOND)).await;
    assert!(timeout(5 * SECOND, second.session()).await.is_err(), "there is one place");
    assert!(second.status().attempts > 1, "its candidates end with the time of their handshake");
    assert!(!held.is_closed() && live_id(&receiver) == Some(held.id()));
    in_time(request(&in_time(first.session()).await.unwrap())).await.unwrap();
    // When the first goes, the second has the place.
    in_time(first.shutdown()).await;
    in_time(second.session()).await.unwrap();
    session_after(&receiver, &held).await;
    in_time(second.shutdown()).await;
    in_time(receiver.shutdown()).await;
    served.await.unwrap();
}

/// The same for an hour.
#[tokio::test(start_paused = true)]
async fn two_live_clients_never_evict_each_other() {
    let Occupied { connector, receiver, holder, session } = occupied(exact()).await;
    let second = MuxManager::establish_with(connector).config(exact().build().unwrap()).start().await.unwrap();
    assert!(timeout(3_600 * SECOND, second.session()).await.is_err(), "there is one place");
    assert!(second.status().attempts > 100, "{:?}", second.status());
    assert!(!session.is_closed() && live_id(&receiver) == Some(session.id()));
    in_time(holder.shutdown()).await;
    in_time(second.session()).await.unwrap();
    in_time(second.shutdown()).await;
    in_time(receiver.shutdown()).await;
}

/// A slow path holds the ping of a probe back behind what was written before it. The holder lives: it makes room.
#[tokio::test]
async fn probe_stuck_behind_a_slow_upload() {
    let patient = || patient().handshake_timeout(10 * SECOND).takeover_probe_timeout(2 * SECOND);
    let (receiver, address) = receiver(patient()).await;
    let proxy = FaultProxy::start(address).unwrap();
    let holder = establisher(proxy.addr(), patient()).await;
    in_time(holder.session()).await.unwrap();
    let held = in_time(receiver.session()).await.unwrap();
    let mut streams = Vec::new();
    for _ in 0..8 {
        streams.push(in_time(held.open_stream()).await.unwrap());
    }
    sleep(SECOND / 2).await;
    // More than the path carries in all this time, and nobody reads it: nothing comes back but answers to pings.
    proxy.throttle(100_000);
    let writers: Vec<_> = streams
        .into_iter()
        .map(|mut stream| tokio::spawn(async move { stream.write_all(&vec![7; 256 << 10]).await }))
        .collect();
    sleep(SECOND).await;
    let rival = establisher(address, patient()).await;
    assert!(timeout(6 * SECOND, rival.session()).await.is_err(), "there is one place");
    assert!(!held.is_closed() && live_id(&receiver) == Some(held.id()));
    held.abort();
    in_time(rival.session()).await.unwrap();
    for writer in writers {
        drop(writer.await.unwrap());
    }
    for manager in [rival, holder, receiver] {
        in_time(manager.shutdown()).await;
    }
    proxy.shutdown().await;
}

/// A candidate has until its handshake is over, and that is enough for a probe, however long it may take.
#[tokio::test(start_paused = true)]
async fn a_probe_longer_than_a_handshake_finds_the_ghost_all_the_same() {
    let (connector, acceptor) = network();
    let settings =
        || exact().heartbeat_idle(600 * SECOND).handshake_timeout(10 * SECOND).takeover_probe_timeout(60 * SECOND);
    let config = settings().build().unwrap();
    let receiver = MuxManager::receive_with(acceptor).config(config.clone()).start().await.unwrap();
    let mut ghost = client(&connector).await;
    half_prove(&mut ghost).await;
    let held = in_time(receiver.session()).await.unwrap();
    let rival = MuxManager::establish_with(connector).config(config).start().await.unwrap();
    in_time(rival.session()).await.unwrap();
    assert!(matches!(in_time(held.closed()).await, CloseReason::Replaced));
    drop(ghost);
    in_time(rival.shutdown()).await;
    in_time(receiver.shutdown()).await;
}

/// Of several holders only the silent one is replaced, by the oldest candidate.
#[tokio::test]
async fn only_the_silent_session_is_replaced() {
    let config = patient().build().unwrap();
    let receiver = MuxManager::receive(crate::support::own_address()).config(config).sessions(3).start().await.unwrap();
    let address = receiver.local_addr().unwrap();
    let mut driven = Vec::new();
    let mut ghost = None;
    for client in 0..3 {
        let peer = quiet_client(address).await;
        until(|| receiver.status().sessions.len() == client + 1).await;
        match client {
            1 => ghost = Some(peer),
            _ => driven.push(answers(peer)),
        }
    }
    let before: Vec<_> = receiver.status().sessions.iter().map(|session| session.id).collect();
    let (older, _newer) = (quiet_client(address).await, sleep(SECOND / 10).await);
    let younger = quiet_client(address).await;
    let older_address = older.io().local_addr().unwrap();
    driven.extend([answers(older), answers(younger)]);
    until(|| receiver.status().sessions.iter().any(|session| session.peer == Some(older_address))).await;
    sleep(SECOND).await;
    let after = receiver.status().sessions;
    assert_eq!(after.len(), 3);
    assert_eq!((after[0].id, after[2].id), (before[0], before[2]), "who answers keeps its place");
    assert_eq!(after[1].peer, Some(older_address));
    drop(ghost);
    in_time(receiver.shutdown()).await;
    for client in driven {
        in_time(client).await.unwrap();
    }
}

/// A candidate that waits is probed for again and again: a holder that dies later loses its place as well.
#[tokio::test]
async fn a_holder_that_falls_silent_later_is_found() {
    let (receiver, address) = receiver(patient()).await;
    let proxy = FaultProxy::start(address).unwrap();
    let first = establisher(proxy.addr(), quick()).await;
    in_time(first.session()).await.unwrap();
    let held = in_time(receiver.session()).await.unwrap();
    let second = establisher(address, quick()).await;
    assert!(timeout(SECOND, second.session()).await.is_err());
    proxy.freeze_links();
    in_time(second.session()).await.unwrap();
    assert!(matches!(in_time(held.closed()).await, CloseReason::Replaced));
    in_time(second.shutdown()).await;
    in_time(receiver.shutdown()).await;
    drop(first);
    proxy.shutdown().await;
}
