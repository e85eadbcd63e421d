//! More connections in their handshake than there may be: whoever is honest gets his turn, and who is silent makes room
//! (G13).

use std::{
    future::pending,
    net::SocketAddr,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use crate::support::{MemoryAcceptor, establisher, exact, in_time, log::Log, network, own_address, quick, receiver};
use evermux::{Accept, Connect, Connected, Event, Events, MuxManager, error::AcceptError};
use testkit::frames::{Flags, Header, Kind, Peer};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    net::TcpStream,
    time::{Instant, sleep, timeout},
};

const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

/// How many sessions fit into this process: both ends of each are sockets of it.
fn as_many_as_fit(wanted: usize) -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let files = limits.lines().find(|line| line.starts_with("Max open files"));
    let soft = files.and_then(|line| line.split_whitespace().nth(3)?.parse().ok()).unwrap_or(256_usize);
    wanted.min(soft.saturating_sub(200) / 2)
}

/// The events that are there by now.
async fn so_far(events: &mut Events) -> Vec<Event> {
    let mut all = Vec::new();
    while let Ok(Some(event)) = timeout(Duration::ZERO, events.next()).await {
        all.push(event);
    }
    all
}

fn crowded_out(events: &[Event]) -> Vec<(Option<SocketAddr>, Duration)> {
    let crowded = events.iter().filter_map(|event| match event {
        Event::CrowdedOut { peer, silent_for } => Some((*peer, *silent_for)),
        _ => None,
    });
    crowded.collect()
}

/// A fleet whose receiver was restarted comes back all at once.
#[tokio::test]
async fn a_burst_of_a_thousand_honest_agents_loses_nobody() {
    let many = as_many_as_fit(1000);
    let config = quick().handshake_timeout(60 * SECOND).connect_timeout(60 * SECOND);
    let receiver = MuxManager::receive(own_address()).config(config.build().unwrap()).sessions(many);
    let receiver = receiver.start().await.unwrap();
    let address = receiver.local_addr().unwrap();
    let mut agents = Vec::new();
    for _ in 0..many {
        let config = quick().handshake_timeout(60 * SECOND).connect_timeout(60 * SECOND);
        // Heartbeats of a thousand sessions are work that this is not about.
        let agent = establisher(address, config.heartbeat_idle(60 * SECOND)).await;
        let events = agent.events();
        agents.push((agent, events));
    }
    for (agent, events) in &mut agents {
        timeout(60 * SECOND, agent.session()).await.expect("everybody gets his turn").unwrap();
        let events = so_far(events).await;
        assert!(!events.iter().any(|event| matches!(event, Event::AttemptFailed { .. })), "{events:?}");
    }
    assert_eq!(receiver.status().crowded_out, 0);
    assert_eq!(receiver.status().sessions_so_far, many as u64);
    receiver.shutdown_within(10 * SECOND).await;
}

/// As a port scan does, or an attacker.
#[tokio::test]
async fn two_hundred_silent_clients_keep_an_honest_agent_out_for_seconds_only() {
    let (log, _guard) = Log::record();
    let (receiver, address) = receiver(quick().handshake_timeout(600 * SECOND)).await;
    let mut events = receiver.events();
    let mut silent = Vec::new();
    for _ in 0..200 {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    let began = Instant::now();
    let agent = establisher(address, quick()).await;
    in_time(agent.session()).await.unwrap();
    // 64 make room for the next 64 in a second, and so on: the agent is the 201st.
    assert!(began.elapsed() < 15 * SECOND, "{:?}", began.elapsed());
    assert_eq!(agent.status().attempts, 0);
    assert_eq!(receiver.status().crowded_out, 200 - 63);
    let crowded = crowded_out(&so_far(&mut events).await);
    assert_eq!(crowded.len(), 200 - 63);
    for (client, (peer, silent_for)) in silent.iter().zip(crowded) {
        assert_eq!(peer, Some(client.local_addr().unwrap()), "in the order of their coming");
        assert!(silent_for >= SECOND, "{silent_for:?}");
    }
    let reason =
        "more handshakes were in flight than max_handshakes_in_flight allows, and the peer had said nothing for 1.";
    assert!(!log.lines(&["session closed", reason]).is_empty(), "{:#?}", log.lines(&["session"]));
    let warnings = log.lines(&["WARN", "too many handshakes"]);
    assert_eq!(warnings.len(), 1, "an attacker does not fill the log: {warnings:#?}");
    assert!(warnings[0].contains("limit=64") && warnings[0].contains("max_handshakes_in_flight"), "{warnings:#?}");
    in_time(agent.shutdown()).await;
    in_time(receiver.shutdown()).await;
}

#[tokio::test]
async fn one_handshake_at_a_time_is_enough() {
    let config = quick().max_handshakes_in_flight(1).build().unwrap();
    let receiver = MuxManager::receive(own_address()).config(config).sessions(20).start().await.unwrap();
    let address = receiver.local_addr().unwrap();
    let _silent = TcpStream::connect(address).await.unwrap();
    let mut agents = Vec::new();
    for _ in 0..20 {
        agents.push(establisher(address, quick()).await);
    }
    for agent in &agents {
        in_time(agent.session()).await.unwrap();
        assert_eq!(agent.status().attempts, 0);
    }
    assert_eq!(receiver.status().crowded_out, 1, "the silent one alone");
    in_time(receiver.shutdown()).await;
}

/// Sends a ping again and again, a byte in so long, until the connection ends.
async fn trickle(mut io: DuplexStream, every: Duration) -> Instant {
    loop {
        for byte in Header::ping(7).encode() {
            sleep(every).await;
            if io.write_all(&[byte]).await.is_err() {
                return Instant::now();
            }
        }
    }
}

/// Says nothing, until the connection ends.
async fn say_nothing(mut io: DuplexStream) -> Instant {
    let _ = io.read_to_end(&mut Vec::new()).await;
    Instant::now()
}

async fn crowd(limit: usize) -> (MuxManager, impl Connect<Io = DuplexStream> + Clone) {
    let (connector, acceptor) = network();
    let config = exact().max_handshakes_in_flight(limit).handshake_timeout(600 * SECOND).build().unwrap();
    (MuxManager::receive_with(acceptor).config(config).start().await.unwrap(), connector)
}

#[tokio::test(start_paused = true)]
async fn who_trickles_is_not_dropped_while_a_silent_one_is_there() {
    let (receiver, connector) = crowd(2).await;
    let mut events = receiver.events();
    let began = Instant::now();
    let trickles = tokio::spawn(trickle(connector.connect().await.unwrap().io, 300 * MS));
    sleep(100 * MS).await;
    let silent = tokio::spawn(say_nothing(connector.connect().await.unwrap().io));
    sleep(500 * MS).await;
    let agent = MuxManager::establish_with(connector).config(exact().build().unwrap()).start().await.unwrap();
    agent.session().await.unwrap();
    assert_eq!(began.elapsed() / 10, 110 * MS, "the younger one, after a second of silence: {:?}", began.elapsed());
    assert_eq!(silent.await.unwrap(), Instant::now());
    assert!(!trickles.is_finished());
    assert_eq!(crowded_out(&so_far(&mut events).await).len(), 1);
    assert_eq!(agent.status().attempts, 0);
    receiver.shutdown().await;
}

/// The word of a peer counts also when it is no proof, and so does the last one.
#[tokio::test(start_paused = true)]
async fn of_two_that_are_silent_the_one_is_dropped_that_has_been_for_longer() {
    let (receiver, connector) = crowd(2).await;
    let mut first = connector.connect().await.unwrap().io;
    sleep(100 * MS).await;
    let second = tokio::spawn(say_nothing(connector.connect().await.unwrap().io));
    sleep(300 * MS).await;
    first.write_all(&Header::ping(7).encode()[..5]).await.unwrap();
    let first = tokio::spawn(say_nothing(first));
    sleep(5 * SECOND).await;
    assert!(!first.is_finished() && !second.is_finished(), "while nobody wants their room they keep it");
    assert_eq!(receiver.status().crowded_out, 0);
    let mut third = connector.connect().await.unwrap().io;
    sleep(100 * MS).await;
    assert!(second.is_finished() && !first.is_finished());
    third.read_exact(&mut [0; 12]).await.expect("its proof is asked for");
    receiver.shutdown().await;
}

/// All of them speak and none comes to the point: accepting goes on all the same.
#[tokio::test(start_paused = true)]
async fn a_crowd_that_trickles_keeps_nobody_out_for_long() {
    let (receiver, connector) = crowd(8).await;
    let mut crowd = Vec::new();
    for _ in 0..8 {
        crowd.push(tokio::spawn(trickle(connector.connect().await.unwrap().io, 100 * MS)));
        sleep(MS).await;
    }
    let began = Instant::now();
    let agent = MuxManager::establish_with(connector).config(exact().build().unwrap()).start().await.unwrap();
    agent.session().await.unwrap();
    assert!((SECOND..SECOND + 100 * MS).contains(&began.elapsed()), "{:?}", began.elapsed());
    sleep(SECOND).await;
    let gone: Vec<_> = crowd.iter().map(tokio::task::JoinHandle::is_finished).collect();
    assert_eq!(gone, [true, false, false, false, false, false, false, false], "the oldest");
    assert_eq!(agent.status().attempts, 0);
    receiver.shutdown().await;
}

/// Its first handshakes hang, and the one after them says that nothing will ever be accepted.
struct Hangs {
    inner: MemoryAcceptor,
    begun: AtomicUsize,
    hang: usize,
    fatal_after: Option<Duration>,
}

impl Accept for Hangs {
    type Io = DuplexStream;
    type Pending = DuplexStream;

    async fn accept(&self) -> Result<DuplexStream, AcceptError> {
        self.inner.accept().await
    }

    async fn finish(&self, io: DuplexStream) -> Result<Connected<DuplexStream>, AcceptError> {
        if self.begun.fetch_add(1, Ordering::Relaxed) >= self.hang {
            return self.inner.finish(io).await;
        }
        match self.fatal_after {
            Some(after) => {
                sleep(after).await;
                Err(AcceptError::fatal("the key is gone"))
            }
            None => pending().await,
        }
    }

    fn local_addr(&self) -> Option<SocketAddr> {
        None
    }
}

async fn hangs(hang: usize, fatal_after: Option<Duration>) -> (MuxManager, impl Connect<Io = DuplexStream> + Clone) {
    let (connector, inner) = network();
    let acceptor = Hangs { inner, begun: AtomicUsize::new(0), hang, fatal_after };
    let config = exact().max_handshakes_in_flight(1).handshake_timeout(600 * SECOND).build().unwrap();
    (MuxManager::receive_with(acceptor).config(config).start().await.unwrap(), connector)
}

/// Nobody can look into it: it counts as silent from its accept on.
#[tokio::test(start_paused = true)]
async fn a_handshake_of_the_transport_that_hangs_makes_room_too() {
    let (receiver, connector) = hangs(1, None).await;
    let mut events = receiver.events();
    let hanging = tokio::spawn(say_nothing(connector.connect().await.unwrap().io));
    sleep(300 * MS).await;
    let agent = MuxManager::establish_with(connector).config(exact().build().unwrap()).start().await.unwrap();
    let began = Instant::now();
    agent.session().await.unwrap();
    assert_eq!(began.elapsed(), 700 * MS);
    assert!(hanging.await.unwrap() <= Instant::now());
    assert_eq!(crowded_out(&so_far(&mut events).await), [(None, SECOND)]);
    receiver.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_fatal_handshake_is_heard_while_accepting_pauses() {
    let (receiver, connector) = hangs(1, Some(500 * MS)).await;
    let began = Instant::now();
    let _first = connector.connect().await.unwrap().io;
    let waits = tokio::spawn(say_nothing(connector.connect().await.unwrap().io));
    receiver.session().await.unwrap_err();
    assert_eq!(began.elapsed(), 500 * MS);
    assert_eq!(waits.await.unwrap(), Instant::now(), "what waited is closed");
    receiver.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_does_not_wait_while_accepting_pauses() {
    let (receiver, connector) = hangs(1, None).await;
    let hanging = tokio::spawn(say_nothing(connector.connect().await.unwrap().io));
    let waits = tokio::spawn(say_nothing(connector.connect().await.unwrap().io));
    sleep(300 * MS).await;
    let began = Instant::now();
    receiver.shutdown().await;
    assert_eq!(began.elapsed(), Duration::ZERO);
    assert_eq!((hanging.await.unwrap(), waits.await.unwrap()), (began, began));
}

/// The room of one that has passed is free at once, whether or not there is a place for its session.
#[tokio::test(start_paused = true)]
async fn who_waits_for_a_place_is_in_no_handshake() {
    let (receiver, connector) = crowd(1).await;
    for _ in 0..10 {
        let mut peer = Peer::new(connector.connect().await.unwrap().io);
        let (ping, _) =
            peer.recv_until(|header| header.kind == Kind::Ping && header.flags == Flags::SYN).await.unwrap();
        peer.send(Header::pong(ping.length), &[]).await.unwrap();
        tokio::spawn(async move { while peer.recv().await.is_ok() {} });
    }
    sleep(500 * MS).await;
    assert_eq!((receiver.status().crowded_out, receiver.status().sessions_so_far), (0, 1));
    receiver.shutdown().await;
}

/// Where the process stood still the bytes of an honest agent wait to be read: that is not its silence.
#[tokio::test]
async fn a_process_that_stood_still_drops_nobody_for_it() {
    let config = quick().max_handshakes_in_flight(1).build().unwrap();
    let receiver = MuxManager::receive(own_address()).config(config).sessions(2).start().await.unwrap();
    let address = receiver.local_addr().unwrap();
    for _ in 0..3 {
        let mut peer = Peer::new(TcpStream::connect(address).await.unwrap());
        let (ping, _) = in_time(peer.recv()).await.unwrap();
        let waits = TcpStream::connect(address).await.unwrap();
        sleep(100 * MS).await;
        peer.send(Header::pong(ping.length), &[]).await.unwrap();
        #[expect(clippy::disallowed_methods, reason = "nothing of this runtime runs meanwhile")]
        std::thread::sleep(1500 * MS);
        in_time(peer.recv_until(|header| header.kind == Kind::Data || header.kind == Kind::Ping)).await.ok();
        sleep(100 * MS).await;
        assert_eq!(receiver.status().crowded_out, 0);
        drop((peer, waits));
        sleep(100 * MS).await;
    }
    in_time(receiver.shutdown()).await;
}
