//! Why there is no session, or no more: both sides are told, and so is whoever reads the log (B14 of what use has
//! shown).

use std::{io::ErrorKind, net::SocketAddr, time::Duration};

use crate::support::{establisher, in_time, log::Log, own_address, quick, receiver};
use evermux::{CloseReason, Config, Event, Events, MuxManager, Session, StreamError};
use testkit::frames::{Flags, Header, Kind, Peer};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    net::TcpStream,
    time::{Instant, sleep},
};

const SECOND: Duration = Duration::from_secs(1);

/// What two evermux peers know each other by, and what they tell each other.
const PROOF_OF_CLIENT: u32 = 0xe576_6d63;
const PROOF_OF_SERVER: u32 = 0xe576_6d73;
const HELD_OUT: u32 = 0x6576_0001;
const NOT_ADMITTED: u32 = 0x6576_0002;
const DISPLACED: u32 = 0x6576_0003;
const TIMED_OUT: u32 = 0x6576_0004;
const FLOODED: u32 = 0x6576_0005;

/// The error of the next attempt that fails.
async fn next_failure(events: &mut Events) -> String {
    loop {
        if let Event::AttemptFailed { error, .. } = in_time(events.next()).await.unwrap() {
            return error.to_string();
        }
    }
}

/// A client of a receiver that passes for an evermux peer, once its session is live there.
async fn client_of(address: SocketAddr) -> Peer<TcpStream> {
    let mut peer = Peer::new(TcpStream::connect(address).await.unwrap());
    peer.send(Header::ping(PROOF_OF_CLIENT), &[]).await.unwrap();
    let (proof, _) = in_time(peer.recv_until(|header| header.flags == Flags::SYN)).await.unwrap();
    assert_eq!(proof, Header::ping(PROOF_OF_SERVER));
    peer.send(Header::pong(proof.length), &[]).await.unwrap();
    in_time(peer.recv_until(|header| *header == Header::pong(PROOF_OF_CLIENT))).await.unwrap();
    peer
}

/// A session, and the server that it has dialled, which passes for an evermux peer or does not.
async fn session_of(evermux: bool) -> (Session, Peer<DuplexStream>) {
    let (near, far) = duplex(1 << 20);
    let config = Config::default();
    let serving = async {
        let mut peer = Peer::new(far);
        if evermux {
            peer.send(Header::ping(PROOF_OF_SERVER), &[]).await.unwrap();
        }
        let (ping, _) = peer.recv().await.unwrap();
        peer.send(Header::pong(ping.length), &[]).await.unwrap();
        peer.answer_pings(true);
        Ok(peer)
    };
    tokio::try_join!(Session::client(near, &config), serving).unwrap()
}

/// The commonest mistake of a fleet.
#[tokio::test]
async fn two_agents_with_one_configuration_are_told_of_each_other() {
    let (log, _guard) = Log::record();
    let (receiver, address) = receiver(quick().handshake_timeout(2 * SECOND)).await;
    let mut at_receiver = receiver.events();
    let first = establisher(address, quick()).await;
    in_time(first.session()).await.unwrap();
    let holder = in_time(receiver.session()).await.unwrap().peer_addr().unwrap();
    let second = establisher(address, quick()).await;
    let mut events = second.events();
    for _ in 0..2 {
        assert_eq!(next_failure(&mut events).await, "every place of the receiver is taken by a session that is alive");
    }
    let (peer, holders) = loop {
        if let Event::HeldOut { peer, holders } = in_time(at_receiver.next()).await.unwrap() {
            break (peer.unwrap(), holders);
        }
    };
    assert_eq!(holders, [holder]);
    assert!(peer.ip().is_loopback() && peer != holder);
    assert!(receiver.status().held_out >= 2);
    let warnings = log.lines(&["WARN", "a peer is held out"]);
    assert_eq!(warnings.len(), 1, "{warnings:#?}");
    assert!(warnings[0].contains(&peer.to_string()) && warnings[0].contains(&holder.to_string()), "{warnings:#?}");
    for manager in [first, second, receiver] {
        in_time(manager.shutdown()).await;
    }
}

#[tokio::test]
async fn whoever_is_not_admitted_is_told_if_it_is_evermux() {
    let (log, _guard) = Log::record();
    let builder = MuxManager::receive(own_address()).admit(|_| false);
    let receiver = builder.start().await.unwrap();
    let address = receiver.local_addr().unwrap();
    let mut at_receiver = receiver.events();
    let agent = establisher(address, quick()).await;
    let mut events = agent.events();
    // One a second is told, so that strangers cost nothing.
    let mut told = 0;
    while told < 2 {
        told += usize::from(next_failure(&mut events).await == "the receiver does not admit the peer");
    }
    assert!(matches!(in_time(at_receiver.next()).await.unwrap(), Event::NotAdmitted { peer: Some(_) }));
    assert!(receiver.status().not_admitted >= 2);
    let warnings = log.lines(&["WARN", "a peer is not admitted"]);
    assert_eq!(warnings.len(), 1, "{warnings:#?}");
    in_time(agent.shutdown()).await;

    // Somebody else learns nothing of what is here: neither whoever is silent, nor whoever speaks another yamux.
    for words in [&[][..], &Header::ping(0).encode()] {
        // Whoever comes within a second of one that was told is not even listened to.
        sleep(Duration::from_millis(1_100)).await;
        let mut stranger = TcpStream::connect(address).await.unwrap();
        stranger.write_all(words).await.unwrap();
        match in_time(stranger.read(&mut [0])).await {
            Ok(n) => assert_eq!(n, 0),
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        }
    }
    in_time(receiver.shutdown()).await;
}

/// It takes a handshake of the transport to tell it, so not everybody is told.
#[tokio::test(start_paused = true)]
async fn a_crowd_that_is_not_admitted_costs_one_handshake_a_second() {
    let (connector, acceptor) = crate::support::network();
    let receiver = MuxManager::receive_with(acceptor).admit(|_| false).start().await.unwrap();
    let mut crowd = Vec::new();
    for _ in 0..100 {
        crowd.push(evermux::Connect::connect(&connector).await.unwrap().io);
    }
    let began = Instant::now();
    let ends = crowd.into_iter().map(|mut stranger| async move {
        let _ = in_time(stranger.read(&mut [0])).await;
        began.elapsed()
    });
    let ends = futures_util::future::join_all(ends).await;
    assert_eq!(ends.iter().filter(|end| **end == Duration::ZERO).count(), 99);
    assert_eq!(ends.iter().filter(|end| **end == SECOND).count(), 1, "one is waited for, and says nothing");
    assert_eq!(receiver.status().not_admitted, 100);
    in_time(receiver.shutdown()).await;
}

/// A peer that stood still while another took its place.
#[tokio::test]
async fn the_ghost_that_lives_is_told_who_has_its_place() {
    let (receiver, address) = receiver(quick().heartbeat_idle(600 * SECOND).takeover_probe_timeout(SECOND / 5)).await;
    let mut ghost = client_of(address).await;
    let newcomer = establisher(address, quick()).await;
    in_time(newcomer.session()).await.unwrap();
    let (go_away, _) = in_time(ghost.recv_until(|header| header.kind == Kind::GoAway)).await.unwrap();
    assert_eq!(go_away, Header::go_away(DISPLACED));
    in_time(newcomer.shutdown()).await;
    in_time(receiver.shutdown()).await;
}

#[tokio::test]
async fn whoever_was_not_heard_of_is_told() {
    let (receiver, address) = receiver(quick().heartbeat_timeout(SECOND / 5)).await;
    let mut mute = client_of(address).await;
    let session = in_time(receiver.session()).await.unwrap();
    assert!(matches!(in_time(session.closed()).await, CloseReason::HeartbeatTimeout));
    let (go_away, _) = in_time(mute.recv_until(|header| header.kind == Kind::GoAway)).await.unwrap();
    assert_eq!(go_away, Header::go_away(TIMED_OUT));
    in_time(receiver.shutdown()).await;
}

#[tokio::test]
async fn what_an_evermux_peer_tells_is_understood() {
    for (code, text) in [
        (HELD_OUT, "every place of the receiver is taken by a session that is alive"),
        (NOT_ADMITTED, "the receiver does not admit the peer"),
        (DISPLACED, "the receiver gave the place of the session to another one"),
        (TIMED_OUT, "the peer heard nothing of this side for too long, and gave the session up"),
    ] {
        let (session, mut peer) = session_of(true).await;
        peer.send(Header::go_away(code), &[]).await.unwrap();
        assert_eq!(in_time(session.closed()).await.to_string(), text);
        let (session, mut peer) = session_of(false).await;
        peer.send(Header::go_away(code), &[]).await.unwrap();
        let reason = in_time(session.closed()).await;
        assert!(matches!(reason, CloseReason::PeerError(stranger) if stranger == code), "{reason:?}");
    }
}

/// Both ends of a stream that was reset for its small frames know whose they were.
#[tokio::test]
async fn whoever_floods_is_told() {
    let (near, far) = duplex(1 << 20);
    let config = Config::default();
    let (client, server) = tokio::try_join!(Session::client(near, &config), Session::server(far, &config)).unwrap();
    let mut stream = client.open_stream().await.unwrap();
    let mut slow = in_time(server.accept_stream()).await.unwrap();
    let error = in_time(async {
        loop {
            if let Err(error) = stream.write_all(b"x").await {
                return error;
            }
            // Each byte is a frame.
            tokio::task::yield_now().await;
        }
    })
    .await;
    let of = |error: &std::io::Error| *error.get_ref().unwrap().downcast_ref::<StreamError>().unwrap();
    assert_eq!(of(&error), StreamError::Flooding);
    assert_eq!(of(&in_time(stream.closed()).await.unwrap_err()), StreamError::Flooding);
    assert_eq!(of(&in_time(slow.read(&mut [0])).await.unwrap_err()), StreamError::Flooded);
    assert!(!client.is_closed() && !server.is_closed());

    // Somebody else's RST is an RST, whatever stands in it.
    for evermux in [true, false] {
        let (session, mut peer) = session_of(evermux).await;
        let mut stream = session.open_stream().await.unwrap();
        peer.send(Header::window_update(1, Flags::ACK, 0), &[]).await.unwrap();
        peer.send(Header::window_update(1, Flags::RST, FLOODED), &[]).await.unwrap();
        let error = in_time(stream.read(&mut [0])).await.unwrap_err();
        assert_eq!(of(&error), if evermux { StreamError::Flooding } else { StreamError::ResetByPeer });
    }
}

/// A receiver that has no place says so while the other still listens, whose time is as long.
#[tokio::test(start_paused = true)]
async fn the_word_comes_before_the_deadline() {
    let (connector, acceptor) = crate::support::network();
    let receiver = MuxManager::receive_with(acceptor).start().await.unwrap();
    let first = MuxManager::establish_with(connector.clone()).start().await.unwrap();
    in_time(first.session()).await.unwrap();
    let second = MuxManager::establish_with(connector).start().await.unwrap();
    let mut events = second.events();
    let began = Instant::now();
    assert_eq!(next_failure(&mut events).await, CloseReason::HeldOut.to_string());
    assert_eq!(began.elapsed().as_secs(), 9);
    sleep(SECOND).await;
    for manager in [first, second, receiver] {
        in_time(manager.shutdown()).await;
    }
}
