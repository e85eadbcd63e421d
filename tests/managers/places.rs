//! Several sessions at once: each place is a life of its own.

use std::{collections::BTreeSet, time::Duration};

use crate::support::{exact, in_time, log::Log, own_address, quick, request, until};
use evermux::{
    CloseReason, Config, MuxManager, Session, StartError, Stopped,
    error::{ConnectError, GaveUpCause},
};
use tokio::time::Instant;

async fn pair(places: usize) -> (MuxManager, MuxManager) {
    let config = || quick().build().unwrap();
    let receiver = MuxManager::receive(own_address()).config(config()).sessions(places).start().await.unwrap();
    let address = receiver.local_addr().unwrap().to_string();
    let establisher = MuxManager::establish(address).config(config()).sessions(places).start().await.unwrap();
    (establisher, receiver)
}

fn sessions(manager: &MuxManager) -> BTreeSet<u64> {
    manager.status().sessions.iter().map(|session| session.id.as_u64()).collect()
}

async fn all_live(manager: &MuxManager, places: usize) {
    until(|| sessions(manager).len() == places).await;
}

#[tokio::test]
async fn every_place_has_its_session_and_the_least_loaded_is_given() {
    let (establisher, receiver) = pair(4).await;
    all_live(&establisher, 4).await;
    all_live(&receiver, 4).await;
    let served = crate::support::echo(&receiver);
    // Each stream stays open, so the next goes to another session: two for each.
    let mut streams = Vec::new();
    for _ in 0..8 {
        streams.push(in_time(establisher.open_stream()).await.unwrap());
    }
    let status = establisher.status();
    assert_eq!(status.sessions.iter().map(|session| session.open_streams).collect::<Vec<_>>(), [2; 4]);
    drop(streams);
    until(|| establisher.status().sessions.iter().all(|session| session.open_streams == 0)).await;
    in_time(establisher.shutdown()).await;
    in_time(receiver.shutdown()).await;
    in_time(served).await.unwrap();
}

#[tokio::test]
async fn one_lost_session_does_not_touch_the_others() {
    let (establisher, receiver) = pair(3).await;
    all_live(&establisher, 3).await;
    all_live(&receiver, 3).await;
    let before = sessions(&establisher);
    let lost: Session = in_time(establisher.session()).await.unwrap();
    lost.abort();
    assert!(matches!(in_time(lost.closed()).await, CloseReason::Aborted));
    // Nobody waits while another place is live (scenario waits_beside_a_live_place).
    let other = establisher.try_session().expect("two are live");
    assert_ne!(other.id(), lost.id());
    let served = crate::support::echo(&receiver);
    in_time(request(&other)).await.ok();
    all_live(&establisher, 3).await;
    let after = sessions(&establisher);
    assert_eq!(before.intersection(&after).count(), 2, "{before:?} and {after:?}");
    in_time(establisher.shutdown()).await;
    in_time(receiver.shutdown()).await;
    in_time(served).await.unwrap();
}

/// What one reads in a log when there are several: which of them it is that dials.
#[tokio::test]
async fn what_is_traced_of_an_attempt_names_its_place() {
    let (log, _guard) = Log::record();
    let (establisher, receiver) = pair(2).await;
    all_live(&establisher, 2).await;
    in_time(establisher.shutdown()).await;
    in_time(receiver.shutdown()).await;
    for place in ["place{ index=0 }", "place{ index=1 }"] {
        for said in ["connecting", "session live", "session closed"] {
            assert_eq!(log.lines(&["establisher{ }", place, said]).len(), 1, "{place} {said}: {:#?}", log.lines(&[]));
        }
    }
}

/// Attempts that fail beside a live session count for no limit; without one they do.
#[tokio::test(start_paused = true)]
async fn limits_count_only_while_no_place_is_live() {
    let (connector, acceptor) = crate::support::network();
    let config = exact().max_attempts(Some(3)).build().unwrap();
    let receiver = MuxManager::receive_with(acceptor).config(Config::default()).start().await.unwrap();
    let establisher = MuxManager::establish_with(connector).config(config).sessions(2).start().await.unwrap();
    let session = establisher.session().await.unwrap();
    // The receiver has one place: the second never gets one, for far more than three attempts.
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert!(establisher.status().attempts > 3, "{:?}", establisher.status());
    assert!(establisher.status().stopped.is_none());
    receiver.shutdown().await;
    session.closed().await;
    drop(receiver);
    let begun = Instant::now();
    match establisher.session().await {
        Err(Stopped::GaveUp(gave_up)) => assert!(matches!(gave_up.cause, GaveUpCause::Exhausted), "{gave_up:?}"),
        other => panic!("{other:?}"),
    }
    assert!(begun.elapsed() < Duration::from_secs(60));
    establisher.shutdown().await;
}

/// A fatal error in one place ends all.
#[tokio::test]
async fn a_fatal_error_ends_every_place() {
    let (connector, acceptor) = crate::support::network();
    let receiver = MuxManager::receive_with(acceptor).start().await.unwrap();
    let calls = std::sync::atomic::AtomicU32::new(0);
    let connector = move || {
        let call = calls.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let connector = connector.clone();
        async move {
            match call {
                0 => evermux::Connect::connect(&connector).await,
                _ => {
                    tokio::time::sleep(Duration::from_millis(200)).await;
                    Err(ConnectError::fatal("no more"))
                }
            }
        }
    };
    let establisher =
        MuxManager::establish_with(connector).config(quick().build().unwrap()).sessions(2).start().await.unwrap();
    let session = in_time(establisher.session()).await.unwrap();
    assert!(matches!(in_time(session.closed()).await, CloseReason::Aborted));
    assert!(matches!(in_time(establisher.session()).await, Err(Stopped::GaveUp(_))));
    in_time(establisher.shutdown()).await;
    in_time(receiver.shutdown()).await;
}

#[tokio::test]
async fn a_number_of_sessions_that_cannot_be_is_refused() {
    for sessions in [0, 1025] {
        let error = MuxManager::receive("127.0.0.1:0").sessions(sessions).start().await.unwrap_err();
        assert!(matches!(error, StartError::Sessions { sessions: given } if given == sessions));
        assert!(error.to_string().contains("from 1 to 1,024"), "{error}");
    }
}
