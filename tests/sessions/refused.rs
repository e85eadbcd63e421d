//! What the peer opens where nobody is left to take it is refused at once, and so may be repeated.

use std::{io, time::Duration};

use crate::support::{PATIENCE, in_time, read_all};
use evermux::{
    Config, MuxManager, MuxStream, Stopped, StreamError,
    manager::{Builder, ReceiveTcp},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

/// A receiver, and an establisher that has a session with it.
async fn managers(receive: impl FnOnce(Builder<ReceiveTcp>) -> Builder<ReceiveTcp>) -> (MuxManager, MuxManager) {
    let receiver = receive(MuxManager::receive("127.0.0.1:0")).start().await.unwrap();
    let address = receiver.local_addr().unwrap().to_string();
    let establisher = MuxManager::establish(address).start().await.unwrap();
    in_time(establisher.session()).await.unwrap();
    in_time(receiver.session()).await.unwrap();
    (establisher, receiver)
}

async fn shut_down(managers: [MuxManager; 2]) {
    for manager in managers {
        in_time(manager.shutdown()).await;
    }
}

fn stream_error(error: &io::Error) -> StreamError {
    *error.get_ref().unwrap().downcast_ref().unwrap_or_else(|| panic!("{error:?}"))
}

/// A request on a stream, and how it ends.
async fn ask(stream: &mut MuxStream) -> io::Result<u8> {
    stream.write_all(b"request").await?;
    stream.read_u8().await
}

async fn is_refused(manager: &MuxManager) {
    let mut stream = in_time(manager.open_stream()).await.unwrap();
    let error = in_time(ask(&mut stream)).await.unwrap_err();
    assert_eq!(stream_error(&error), StreamError::Refused);
}

#[tokio::test]
async fn a_loop_that_has_ended_leaves_no_request_hanging() {
    let (establisher, receiver) = managers(|builder| builder).await;
    let mut incoming = receiver.incoming();
    let mut served = in_time(establisher.open_stream()).await.unwrap();
    served.write_all(b"x").await.unwrap();
    let mut accepted = in_time(incoming.next()).await.unwrap();
    let mut waiting = in_time(establisher.open_stream()).await.unwrap();
    let asking = tokio::spawn(async move { ask(&mut waiting).await });
    // It waits there by now.
    in_time(establisher.session()).await.unwrap().ping().await.unwrap();

    drop(incoming);
    assert_eq!(stream_error(&in_time(asking).await.unwrap().unwrap_err()), StreamError::Refused);
    is_refused(&establisher).await;

    // What was taken goes on, and so does the session.
    accepted.write_all(b"reply").await.unwrap();
    accepted.shutdown().await.unwrap();
    assert_eq!(read_all(&mut served).await.unwrap(), b"reply");
    assert!(!establisher.try_session().unwrap().is_draining());

    // Whoever serves again is given what comes then.
    let mut incoming = receiver.incoming();
    let mut stream = in_time(establisher.open_stream()).await.unwrap();
    stream.write_all(b"x").await.unwrap();
    drop(in_time(incoming.next()).await.unwrap());
    drop((stream, served, accepted));
    shut_down([establisher, receiver]).await;
}

#[tokio::test]
async fn one_of_several_takers_that_goes_is_not_missed() {
    let (establisher, receiver) = managers(|builder| builder).await;
    let mut incoming = receiver.incoming();
    drop(receiver.incoming());
    let mut stream = in_time(establisher.open_stream()).await.unwrap();
    stream.write_all(b"x").await.unwrap();
    drop(in_time(incoming.next()).await.unwrap());
    drop(stream);
    shut_down([establisher, receiver]).await;
}

#[tokio::test]
async fn streams_wait_for_the_first_taker() {
    let (establisher, receiver) = managers(|builder| builder).await;
    let mut stream = in_time(establisher.open_stream()).await.unwrap();
    let asking = tokio::spawn(async move { ask(&mut stream).await });
    in_time(establisher.session()).await.unwrap().ping().await.unwrap();
    let mut accepted = in_time(receiver.incoming().next()).await.unwrap();
    accepted.write_u8(7).await.unwrap();
    assert_eq!(in_time(asking).await.unwrap().unwrap(), 7);
    drop(accepted);
    shut_down([establisher, receiver]).await;
}

#[tokio::test]
async fn a_side_that_serves_nothing_refuses_at_once() {
    let (establisher, receiver) = managers(|builder| builder.accept_streams(false)).await;
    is_refused(&establisher).await;
    let mut incoming = receiver.incoming();
    is_refused(&establisher).await;
    assert!(timeout(Duration::from_millis(50), incoming.next()).await.is_err());

    // The other way it opens as any other.
    let mut stream = in_time(receiver.open_stream()).await.unwrap();
    stream.write_all(b"x").await.unwrap();
    let accepted = in_time(establisher.incoming().next()).await.unwrap();
    drop((stream, accepted));
    in_time(receiver.shutdown()).await;
    assert!(in_time(incoming.next()).await.is_none());
    in_time(establisher.shutdown()).await;
}

#[tokio::test]
async fn a_shutdown_that_has_begun_has_no_limit_of_its_own() {
    let config = Config::builder().drain_timeout(Duration::from_millis(100)).build().unwrap();
    let receiver = MuxManager::receive("127.0.0.1:0").config(config).start().await.unwrap();
    let establisher = MuxManager::establish(receiver.local_addr().unwrap().to_string()).start().await.unwrap();
    let mut incoming = receiver.incoming();
    let mut stream = in_time(establisher.open_stream()).await.unwrap();
    stream.write_all(b"x").await.unwrap();
    let mut accepted = in_time(incoming.next()).await.unwrap();
    receiver.stop_accepting();
    receiver.stop_accepting();
    in_time(stream.draining()).await;
    in_time(accepted.draining()).await;
    assert!(receiver.is_shutting_down());
    assert!(in_time(incoming.next()).await.is_none());
    assert!(matches!(in_time(receiver.session()).await, Err(Stopped::ShutDown)));
    // Longer than a shutdown would have given it.
    tokio::time::sleep(Duration::from_millis(300)).await;
    accepted.write_all(b"reply").await.unwrap();
    accepted.shutdown().await.unwrap();
    assert_eq!(read_all(&mut stream).await.unwrap(), b"reply");

    in_time(receiver.shutdown()).await;
    let error = in_time(stream.closed()).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "the limit of the shutdown counts: {error:?}");
    in_time(establisher.shutdown()).await;
}

#[tokio::test]
async fn a_shutdown_without_a_limit_is_given_one_by_the_token() {
    let token = CancellationToken::new();
    let config = Config::builder().drain_timeout(Duration::from_millis(100)).build().unwrap();
    let builder = MuxManager::receive("127.0.0.1:0").config(config).shutdown_on(token.clone());
    let receiver = builder.start().await.unwrap();
    // The limit of this side is none that the test would wait for.
    let patient = Config::builder().drain_timeout(2 * PATIENCE).build().unwrap();
    let address = receiver.local_addr().unwrap().to_string();
    let establisher = MuxManager::establish(address).config(patient).start().await.unwrap();
    let mut stream = in_time(establisher.open_stream()).await.unwrap();
    stream.write_all(b"x").await.unwrap();
    let accepted = in_time(receiver.incoming().next()).await.unwrap();
    receiver.stop_accepting();
    in_time(accepted.draining()).await;
    let mut finished = receiver.events();
    assert!(timeout(Duration::from_millis(300), async { while finished.next().await.is_some() {} }).await.is_err());
    token.cancel();
    in_time(async { while finished.next().await.is_some() {} }).await;
    in_time(establisher.shutdown()).await;
}

#[tokio::test]
async fn whoever_takes_from_a_session_is_not_robbed_by_a_taker_of_any_that_goes() {
    let (establisher, receiver) = managers(|builder| builder).await;
    let session = receiver.try_session().unwrap();
    let taking = tokio::spawn(async move { session.accept_stream().await });
    tokio::task::yield_now().await;
    drop(receiver.incoming());
    let mut stream = in_time(establisher.open_stream()).await.unwrap();
    stream.write_all(b"x").await.unwrap();
    in_time(taking).await.unwrap().unwrap().read_u8().await.unwrap();
    drop(stream);
    shut_down([establisher, receiver]).await;
}
