//! A round trip is that of the path: what is told of it, and what is decided by it (B2 of what use has shown).

use std::time::Duration;

use crate::support::{Occupied, exact, in_time, occupied};
use evermux::{Config, Event, MuxManager, Session};
use testkit::frames::{Header, Kind, Peer};
use tokio::{
    io::duplex,
    task::JoinHandle,
    time::{Instant, sleep},
};

const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

/// A session over a path of this length, at whose far end is a peer that does nothing but answer pings.
async fn session_over(round_trip: impl Fn(usize) -> Duration + Send + 'static) -> (Session, JoinHandle<()>) {
    let (near, far) = duplex(1 << 20);
    let mut peer = Peer::new(far);
    let answering = tokio::spawn(async move {
        for ping in 0.. {
            let Ok((header, _)) = peer.recv_until(|header| header.kind == Kind::Ping).await else { return };
            sleep(round_trip(ping)).await;
            if peer.send(Header::pong(header.length), &[]).await.is_err() {
                return;
            }
        }
    });
    (Session::client(near, &Config::default()).await.unwrap(), answering)
}

#[tokio::test(start_paused = true)]
async fn the_wait_for_a_place_is_no_round_trip() {
    let Occupied { connector, receiver, holder, .. } = occupied(exact()).await;
    let late = MuxManager::establish_with(connector).config(exact().build().unwrap()).start().await.unwrap();
    let mut events = late.events();
    sleep(5 * SECOND).await;
    assert!(late.try_session().is_none());
    holder.shutdown().await;
    let session = in_time(late.session()).await.unwrap();
    assert!(session.round_trip().unwrap() < 100 * MS, "{:?}", session.round_trip());
    let told = loop {
        if let Event::SessionLive { round_trip, .. } = in_time(events.next()).await.unwrap() {
            break round_trip.unwrap();
        }
    };
    assert!(told < 100 * MS, "{told:?}");
    assert!(late.status().sessions[0].round_trip.unwrap() < 100 * MS);
    late.shutdown().await;
    receiver.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn it_is_that_of_the_last_ping() {
    let times = [2, 30, 7];
    let (session, _peer) = session_over(move |ping| times[ping.min(2)] * MS).await;
    assert_eq!(session.round_trip(), Some(2 * MS));
    // The path is long, so its length was asked for once more.
    sleep(SECOND).await;
    assert_eq!(session.round_trip(), Some(30 * MS));
    assert_eq!(session.ping().await.unwrap(), 7 * MS);
    assert_eq!(session.round_trip(), Some(7 * MS));
    // And the heartbeat asks as well.
    let (session, _peer) = session_over(|ping| if ping == 0 { Duration::ZERO } else { 90 * MS }).await;
    assert_eq!(session.round_trip(), Some(Duration::ZERO));
    sleep(11 * SECOND).await;
    assert_eq!(session.round_trip(), Some(90 * MS));
}

/// Proven, and then killed every 15 s.
#[tokio::test(start_paused = true)]
async fn a_long_path_is_no_silence() {
    let (session, _peer) = session_over(|_| 6 * SECOND).await;
    let begun = Instant::now();
    tokio::select! {
        reason = session.closed() => panic!("after {:?}: {reason}", begun.elapsed()),
        () = sleep(300 * SECOND) => {}
    }
    // Whoever is dead is still found so, three round trips after he was asked.
    let (session, peer) = session_over(|ping| if ping < 2 { 6 * SECOND } else { Duration::MAX }).await;
    sleep(7 * SECOND).await;
    let begun = Instant::now();
    assert!(matches!(session.closed().await, evermux::CloseReason::HeartbeatTimeout));
    assert!(begun.elapsed() < 30 * SECOND, "{:?}", begun.elapsed());
    peer.abort();
}
