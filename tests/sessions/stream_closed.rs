//! What [`MuxStream::closed`](evermux::MuxStream::closed) tells, and when (G17).

use std::{error::Error as _, io, time::Duration};

use crate::support::{client_against_peer, in_time, next, pair, pair_with, read_all, send_all};
use evermux::{CloseReason, Config, MuxStream, Session, StreamError};
use testkit::frames::{Flags, Header};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional, duplex},
    net::{TcpListener, TcpStream},
    time::timeout,
};

/// Over real sockets: a session that dialled, and one that was dialled.
async fn tcp_pair() -> (Session, Session) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dialled = TcpStream::connect(listener.local_addr().unwrap());
    let ((accepted, _), dialled) = tokio::try_join!(listener.accept(), dialled).unwrap();
    let config = Config::default();
    tokio::try_join!(Session::client(dialled, &config), Session::server(accepted, &config)).unwrap()
}

/// A stream whose opener has sent a request and said FIN, and the same stream at its acceptor, who has read to the end.
async fn half_closed(client: &Session, server: &Session) -> (MuxStream, MuxStream) {
    let mut opened = client.open_stream().await.unwrap();
    send_all(&mut opened, b"request").await.unwrap();
    let mut accepted = in_time(server.accept_stream()).await.unwrap();
    assert_eq!(read_all(&mut accepted).await.unwrap(), b"request");
    (opened, accepted)
}

fn stream_error(error: &io::Error) -> StreamError {
    *error.get_ref().unwrap().downcast_ref().unwrap_or_else(|| panic!("{error:?}"))
}

fn close_reason(error: &io::Error) -> CloseReason {
    error.get_ref().unwrap().downcast_ref::<CloseReason>().unwrap_or_else(|| panic!("{error:?}")).clone()
}

#[tokio::test]
async fn a_reset_is_seen_by_whoever_has_read_to_the_end() {
    let (client, server) = tcp_pair().await;
    let (opened, accepted) = half_closed(&client, &server).await;
    let waits: Vec<_> = (0..3).map(|_| tokio::spawn(accepted.closed())).collect();
    tokio::task::yield_now().await;
    opened.reset();
    for wait in waits {
        let error = in_time(wait).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        assert_eq!(stream_error(&error), StreamError::ResetByPeer);
    }
    // Whoever asks later is told the same.
    assert_eq!(stream_error(&in_time(accepted.closed()).await.unwrap_err()), StreamError::ResetByPeer);
    let (read, write) = accepted.into_split();
    assert_eq!(stream_error(&in_time(read.closed()).await.unwrap_err()), StreamError::ResetByPeer);
    assert_eq!(stream_error(&in_time(write.closed()).await.unwrap_err()), StreamError::ResetByPeer);
}

#[tokio::test]
async fn a_copy_both_ways_ends_with_the_reset_of_the_stream() {
    let (client, server) = tcp_pair().await;
    let (opened, mut accepted) = half_closed(&client, &server).await;
    let (mut service, mut other) = duplex(4096);
    let carrying = tokio::spawn(async move {
        let closed = accepted.closed();
        tokio::select! {
            copied = copy_bidirectional(&mut accepted, &mut other) => copied.map(drop),
            Err(error) = closed => Err(error),
        }
    });
    // The service has heard the end, and takes its time.
    assert_eq!(in_time(service.read(&mut [0; 8])).await.unwrap(), 0);
    opened.reset();
    let error = in_time(carrying).await.unwrap().unwrap_err();
    assert_eq!(stream_error(&error), StreamError::ResetByPeer);
}

#[tokio::test]
async fn two_ends_are_a_good_end_whatever_is_unread() {
    let (client, server) = tcp_pair().await;
    let (mut opened, mut accepted) = half_closed(&client, &server).await;
    let at_opener = opened.closed();
    let at_acceptor = accepted.closed();
    send_all(&mut accepted, b"reply").await.unwrap();
    in_time(at_acceptor).await.unwrap();
    in_time(at_opener).await.unwrap();
    assert_eq!(read_all(&mut opened).await.unwrap(), b"reply", "it was there to be read all the time");
}

#[tokio::test]
async fn one_end_is_no_end() {
    let (client, server) = tcp_pair().await;
    let (opened, accepted) = half_closed(&client, &server).await;
    for closed in [opened.closed(), accepted.closed()] {
        assert!(timeout(Duration::from_millis(50), closed).await.is_err());
    }
}

#[tokio::test]
async fn the_end_of_the_session_is_the_end_of_the_stream() {
    let (client, server) = tcp_pair().await;
    let (opened, accepted) = half_closed(&client, &server).await;
    let (at_opener, at_acceptor) = (opened.closed(), accepted.closed());
    client.abort();
    let error = in_time(at_opener).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    assert!(matches!(close_reason(&error), CloseReason::Aborted));
    let error = in_time(at_acceptor).await.unwrap_err();
    assert!(matches!(close_reason(&error), CloseReason::Lost(_)), "{error:?}");
    assert!(error.source().is_none() || error.to_string().contains("lost"), "{error}");
}

#[tokio::test]
async fn a_session_that_closes_cuts_a_stream_and_says_so() {
    let config = Config::builder().drain_timeout(Duration::from_millis(200));
    let (client, server) = pair_with(4096, config).await;
    let (opened, _accepted) = half_closed(&client, &server).await;
    let closed = opened.closed();
    client.close().await;
    let reason = close_reason(&in_time(closed).await.unwrap_err());
    assert!(matches!(reason, CloseReason::DrainTimedOut { streams: 1 }), "{reason:?}");
}

#[tokio::test]
async fn the_last_frame_before_the_end_of_the_connection_counts() {
    let (session, mut peer) = client_against_peer(Config::builder()).await;
    let mut stream = session.open_stream().await.unwrap();
    let closed = stream.closed();
    stream.shutdown().await.unwrap();
    loop {
        let (header, _) = next(&mut peer).await;
        if header.flags.contains(Flags::FIN) {
            break;
        }
    }
    // Both come in one read.
    peer.send_data(1, Flags::ACK | Flags::FIN, b"reply").await.unwrap();
    drop(peer);
    in_time(closed).await.unwrap();
    assert!(matches!(session.closed().await, CloseReason::Lost(_)));
}

#[tokio::test]
async fn what_this_side_resets_is_reset_here() {
    let (client, server) = pair(4096).await;
    let mut stream = client.open_stream().await.unwrap();
    stream.write_all(b"x").await.unwrap();
    let accepted = in_time(server.accept_stream()).await.unwrap();
    let (closed, at_acceptor) = (stream.closed(), accepted.closed());
    drop(stream);
    assert_eq!(stream_error(&in_time(closed).await.unwrap_err()), StreamError::ResetHere);
    assert_eq!(stream_error(&in_time(at_acceptor).await.unwrap_err()), StreamError::ResetByPeer);
}

/// After its FIN a stream that is dropped leaves the peer time to finish.
#[tokio::test(start_paused = true)]
async fn a_stream_that_was_dropped_after_its_end_ends_with_the_peers() {
    let (session, mut peer) = client_against_peer(Config::builder()).await;
    for finishes in [true, false] {
        let mut stream = session.open_stream().await.unwrap();
        let id = stream.id();
        let closed = tokio::spawn(stream.closed());
        stream.shutdown().await.unwrap();
        drop(stream);
        let is_end = |header: &Header| header.stream_id == id && header.flags.contains(Flags::FIN);
        in_time(peer.recv_until(is_end)).await.unwrap();
        if finishes {
            peer.send_data(id, Flags::ACK | Flags::FIN, b"late").await.unwrap();
            in_time(closed).await.unwrap().unwrap();
        } else {
            assert_eq!(stream_error(&in_time(closed).await.unwrap().unwrap_err()), StreamError::ResetHere);
        }
    }
}

#[tokio::test]
async fn a_refusal_is_told_as_one() {
    let config = Config::builder().accept_backlog(1);
    let (client, _server) = pair_with(4096, config).await;
    let first = client.open_stream().await.unwrap();
    let second = client.open_stream().await.unwrap();
    assert_eq!(stream_error(&in_time(second.closed()).await.unwrap_err()), StreamError::Refused);
    drop(first);
}

#[tokio::test]
async fn whoever_waits_keeps_no_session_running() {
    let (client, server) = tcp_pair().await;
    let (opened, accepted) = half_closed(&client, &server).await;
    let closed = opened.closed();
    drop((opened, client, accepted));
    assert!(matches!(in_time(server.closed()).await, CloseReason::PeerClosed));
    assert_eq!(stream_error(&in_time(closed).await.unwrap_err()), StreamError::ResetByPeer);
}
