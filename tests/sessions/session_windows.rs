//! Windows grow on long paths, and on them alone.

use std::time::Duration;

use crate::support::{in_time, next};
use evermux::{Config, Session};
use testkit::frames::{Flags, Header, Kind, Peer};
use tokio::{
    io::{AsyncReadExt, DuplexStream, duplex},
    time::sleep,
};

const WINDOW: u32 = 256 << 10;

/// A session whose pings are answered after this time, and its peer.
async fn session_over(round_trip: Duration) -> (Session, Peer<DuplexStream>) {
    session_with([round_trip; 2], &Config::default()).await
}

/// One whose proof is answered after the first of these times, and its next ping, if the proof says that the path is
/// long, after the second.
async fn session_with(round_trips: [Duration; 2], config: &Config) -> (Session, Peer<DuplexStream>) {
    let (near, far) = duplex(1 << 20);
    let mut peer = Peer::new(far);
    let pings = if round_trips[0].is_zero() { 1 } else { 2 };
    let answers = async {
        for round_trip in &round_trips[..pings] {
            let (ping, _) = peer.recv().await.unwrap();
            // Also no time at all is a millisecond to a timer.
            if !round_trip.is_zero() {
                sleep(*round_trip).await;
            }
            peer.send(Header::pong(ping.length), &[]).await.unwrap();
        }
    };
    let (session, ()) = tokio::join!(Session::server(near, config), answers);
    peer.answer_pings(true);
    (session.unwrap(), peer)
}

/// Sends all that the window allows, again and again, to an application that reads at once. Gives the largest window.
async fn largest_window(session: Session, mut peer: Peer<DuplexStream>, rounds: usize) -> u32 {
    peer.send_data(1, Flags::SYN, b"").await.unwrap();
    let mut stream = in_time(session.accept_stream()).await.unwrap();
    let reader = tokio::spawn(async move {
        let mut buffer = vec![0; 64 << 10];
        while stream.read(&mut buffer).await.is_ok_and(|n| n > 0) {}
    });
    let (mut window, mut largest) = (WINDOW, WINDOW);
    for _ in 0..rounds {
        let sent = window.min(64 << 10);
        peer.send_data(1, Flags::NONE, &vec![0; sent as usize]).await.unwrap();
        window -= sent;
        while window < WINDOW / 2 {
            let (header, _) = next(&mut peer).await;
            if header.kind == Kind::WindowUpdate {
                window += header.length;
            }
        }
        largest = largest.max(window);
    }
    reader.abort();
    largest
}

#[tokio::test]
async fn a_window_grows_on_a_long_path() {
    let (session, peer) = session_over(Duration::from_millis(50)).await;
    assert!(session.round_trip() >= Some(Duration::from_millis(50)));
    assert!(largest_window(session, peer, 400).await > WINDOW);
}

#[tokio::test]
async fn windows_grow_within_their_budget() {
    let config = Config::builder().window_growth_budget(WINDOW as usize).build().unwrap();
    let (session, peer) = session_with([Duration::from_millis(50); 2], &config).await;
    let largest = largest_window(session, peer, 400).await;
    assert!((WINDOW + 1..=2 * WINDOW).contains(&largest), "{largest}");
}

#[tokio::test(start_paused = true)]
async fn a_window_does_not_grow_on_a_short_path() {
    let (session, peer) = session_over(Duration::ZERO).await;
    assert_eq!(session.round_trip(), Some(Duration::ZERO));
    assert_eq!(largest_window(session, peer, 400).await, WINDOW);
}

/// Nor where the first answer took its time, because the peer was busy.
#[tokio::test]
async fn one_slow_answer_makes_no_long_path() {
    let short = Duration::from_millis(1);
    for _ in 0..100 {
        let (session, peer) = session_with([Duration::from_millis(15), Duration::ZERO], &Config::default()).await;
        // Until the second answer is read.
        sleep(short).await;
        // On a machine that is busy the second one is slow as well.
        if session.round_trip().is_some_and(|round_trip| round_trip < short) {
            assert_eq!(largest_window(session, peer, 400).await, WINDOW);
            return;
        }
    }
    panic!("each answer takes a millisecond here");
}
