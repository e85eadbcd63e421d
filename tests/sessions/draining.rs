//! A closing that can be seen: [`Session::draining`](evermux::Session::draining),
//! [`MuxStream::draining`](evermux::MuxStream::draining),
//! [`Event::SessionDraining`].

use std::time::Duration;

use crate::support::{in_time, pair, pair_with, read_all, send_all};
use evermux::{CloseReason, Config, Event, Events, MuxManager};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, timeout},
};

const A_MOMENT: Duration = Duration::from_millis(50);

#[tokio::test]
async fn a_session_that_closes_says_so_before_it_is_closed() {
    let (client, server) = pair(4096).await;
    let mut opened = client.open_stream().await.unwrap();
    let mut accepted = in_time(server.accept_stream()).await.unwrap();
    let by_stream = [opened.draining(), accepted.draining()];
    assert!(timeout(A_MOMENT, client.draining()).await.is_err());
    assert!(!client.is_draining() && !server.is_draining());

    let closing = tokio::spawn({
        let client = client.clone();
        async move { client.close().await }
    });
    assert!(matches!(in_time(client.draining()).await, CloseReason::Closed));
    assert!(matches!(in_time(server.draining()).await, CloseReason::PeerClosed));
    for draining in by_stream {
        assert!(matches!(in_time(draining).await, CloseReason::Closed | CloseReason::PeerClosed));
    }
    assert!(client.is_draining() && server.is_draining());
    assert!(!client.is_closed() && !server.is_closed(), "the stream may still finish");

    // What its owner does when he is told: the closing waits for nothing else.
    send_all(&mut opened, b"goodbye").await.unwrap();
    assert_eq!(read_all(&mut accepted).await.unwrap(), b"goodbye");
    accepted.shutdown().await.unwrap();
    assert!(read_all(&mut opened).await.unwrap().is_empty());
    assert!(matches!(in_time(closing).await.unwrap(), CloseReason::Closed));
    assert!(matches!(in_time(server.closed()).await, CloseReason::PeerClosed));
    assert!(matches!(client.draining().await, CloseReason::Closed));
}

#[tokio::test]
async fn a_session_that_is_lost_drains_no_more() {
    let (client, server) = pair(4096).await;
    client.abort();
    assert!(matches!(in_time(client.draining()).await, CloseReason::Aborted));
    assert!(matches!(in_time(server.draining()).await, CloseReason::Lost(_)));
    assert!(server.is_draining());
}

/// Nobody holds the session but the task that waits.
#[tokio::test]
async fn whoever_waits_by_a_stream_keeps_no_session_running() {
    let (client, server) = pair_with(4096, Config::builder()).await;
    let opened = client.open_stream().await.unwrap();
    let draining = tokio::spawn(opened.draining());
    drop((opened, client));
    assert!(matches!(in_time(draining).await.unwrap(), CloseReason::Closed));
    in_time(server.closed()).await;
}

async fn managers() -> (MuxManager, MuxManager) {
    let receiver = MuxManager::receive("127.0.0.1:0").start().await.unwrap();
    let address = receiver.local_addr().unwrap().to_string();
    (MuxManager::establish(address).start().await.unwrap(), receiver)
}

/// The events of sessions up to the end of the first one.
async fn to_the_end(mut events: Events) -> Vec<&'static str> {
    let mut seen = Vec::new();
    while let Some(event) = in_time(events.next()).await {
        match event {
            Event::SessionLive { .. } => seen.push("live"),
            Event::SessionDraining { within, .. } => {
                assert_eq!(within, Config::default().drain_timeout());
                seen.push("draining");
            }
            Event::SessionClosed { .. } => {
                seen.push("closed");
                break;
            }
            _ => {}
        }
    }
    seen
}

#[tokio::test]
async fn whoever_reads_the_events_is_told_once_on_both_sides() {
    let (establisher, receiver) = managers().await;
    let (session, _) = in_time(async { tokio::join!(establisher.session(), receiver.session()) }).await;
    let session = session.unwrap();
    let events = [establisher.events(), receiver.events()];
    let stream = session.open_stream().await.unwrap();
    let draining = stream.draining();
    let closing = tokio::spawn(async move { session.close().await });
    in_time(draining).await;
    // A moment in which nothing ends: the other side is told as well.
    tokio::time::sleep(A_MOMENT).await;
    drop(stream);
    in_time(closing).await.unwrap();
    for events in events {
        let seen = to_the_end(events).await;
        // The next session may be live before the old one has ended.
        let of_the_old: Vec<_> = seen.into_iter().filter(|event| *event != "live").collect();
        assert_eq!(of_the_old, ["draining", "closed"]);
    }
    establisher.shutdown().await;
    receiver.shutdown().await;
}

#[tokio::test]
async fn a_lost_session_is_told_to_have_closed_alone() {
    let (establisher, receiver) = managers().await;
    let session = in_time(establisher.session()).await.unwrap();
    in_time(receiver.session()).await.unwrap();
    let events = [establisher.events(), receiver.events()];
    session.abort();
    for events in events {
        assert_eq!(
            to_the_end(events).await.into_iter().filter(|event| *event != "live").collect::<Vec<_>>(),
            ["closed"]
        );
    }
    establisher.shutdown().await;
    receiver.shutdown().await;
}

#[tokio::test]
async fn the_shutdown_of_a_manager_is_told_to_its_streams() {
    let (establisher, receiver) = managers().await;
    let mut incoming = receiver.incoming();
    let mut stream = in_time(establisher.open_stream()).await.unwrap();
    stream.write_all(b"x").await.unwrap();
    let mut accepted = in_time(incoming.next()).await.unwrap();
    // Each side would serve forever.
    let serving = tokio::spawn(async move {
        in_time(accepted.draining()).await;
        accepted.shutdown().await.unwrap();
        let _ = accepted.read_to_end(&mut Vec::new()).await;
    });
    let using = tokio::spawn(async move {
        in_time(stream.draining()).await;
        stream.shutdown().await.unwrap();
        let _ = stream.read_to_end(&mut Vec::new()).await;
    });
    let begun = Instant::now();
    in_time(receiver.shutdown()).await;
    assert!(begun.elapsed() < Config::default().drain_timeout() / 2, "it waited for streams whose owners were told");
    in_time(serving).await.unwrap();
    in_time(using).await.unwrap();
    in_time(establisher.shutdown()).await;
}

#[tokio::test]
async fn a_goodbye_counts_as_a_flap() {
    let (establisher, receiver) = managers().await;
    let session = in_time(establisher.session()).await.unwrap();
    in_time(receiver.session()).await.unwrap();
    // The goodbye and the end of the connection come together here.
    in_time(receiver.session()).await.unwrap().close().await;
    let next = in_time(establisher.session()).await.unwrap();
    assert_ne!(next.id(), session.id());
    assert_eq!(establisher.status().backoff_slept, Duration::ZERO);
    establisher.shutdown().await;
    receiver.shutdown().await;
}
