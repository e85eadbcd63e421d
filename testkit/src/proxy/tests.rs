use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{Instant, timeout},
};

use super::*;

/// Long enough for anything that must happen, on a loaded machine.
const SOON: Duration = Duration::from_secs(10);

/// How long a test looks for what must not happen.
const WHILE: Duration = Duration::from_millis(100);

struct Rig {
    proxy: FaultProxy,
    target: TcpListener,
}

impl Rig {
    async fn start() -> Self {
        let target = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = FaultProxy::start(target.local_addr().unwrap()).unwrap();
        Self { proxy, target }
    }

    async fn dial(&self) -> TcpStream {
        TcpStream::connect(self.proxy.addr()).await.unwrap()
    }

    async fn accept(&self) -> TcpStream {
        timeout(SOON, self.target.accept()).await.expect("the target is dialled").unwrap().0
    }

    /// A link that the proxy may still be making: the target's kernel has it, the proxy has perhaps not been told.
    async fn young_link(&self) -> (TcpStream, TcpStream) {
        let dialler = self.dial().await;
        (dialler, self.accept().await)
    }

    /// A link that forwards: four bytes went each way.
    async fn link(&self) -> (TcpStream, TcpStream) {
        let (mut dialler, mut target) = self.young_link().await;
        dialler.write_all(b"ping").await.unwrap();
        arrives(&mut target, b"ping").await;
        target.write_all(b"pong").await.unwrap();
        arrives(&mut dialler, b"pong").await;
        (dialler, target)
    }

    async fn links_are(&self, count: usize) {
        until(|| self.proxy.links() == count).await;
    }
}

async fn closed_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

async fn until(mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !holds() {
        assert!(Instant::now() < deadline, "it does not come to hold");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn arrives(from: &mut TcpStream, expected: &[u8]) {
    let mut bytes = vec![0; expected.len()];
    timeout(SOON, from.read_exact(&mut bytes)).await.expect("bytes arrive").unwrap();
    assert_eq!(bytes, expected);
}

/// What ends the reading: end of file or an error.
async fn end_of(socket: &mut TcpStream) -> io::Result<()> {
    timeout(SOON, async {
        while socket.read(&mut [0; 1024]).await? > 0 {}
        Ok(())
    })
    .await
    .expect("the socket ends")
}

async fn is_silent(socket: &mut TcpStream) {
    assert!(timeout(WHILE, socket.read(&mut [0; 1])).await.is_err(), "nothing arrives and nothing ends");
}

fn is_reset(end: &io::Result<()>) -> bool {
    end.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::ConnectionReset)
}

#[tokio::test]
async fn bytes_go_both_ways_and_are_counted() {
    let rig = Rig::start().await;
    let (mut dialler, mut target) = rig.link().await;
    let bulk = (0..300_000_u32).map(|at| at.to_le_bytes()[0] ^ at.to_le_bytes()[1]).collect::<Vec<_>>();
    tokio::join!(async { dialler.write_all(&bulk).await.unwrap() }, arrives(&mut target, &bulk));
    target.write_all(b"answer").await.unwrap();
    arrives(&mut dialler, b"answer").await;
    until(|| rig.proxy.bytes_upstream() == 300_004 && rig.proxy.bytes_downstream() == 10).await;
    assert_eq!((rig.proxy.connections(), rig.proxy.links(), rig.proxy.refused()), (1, 1, 0));
}

#[tokio::test]
async fn a_half_close_goes_through_and_the_other_way_stays_open() {
    let rig = Rig::start().await;
    let (mut dialler, mut target) = rig.link().await;
    dialler.shutdown().await.unwrap();
    end_of(&mut target).await.unwrap();
    target.write_all(b"late").await.unwrap();
    arrives(&mut dialler, b"late").await;
    drop(target);
    end_of(&mut dialler).await.unwrap();
    rig.links_are(0).await;
}

#[tokio::test]
async fn a_reset_of_one_end_resets_the_other() {
    let rig = Rig::start().await;
    let (dialler, mut target) = rig.link().await;
    socket2::SockRef::from(&dialler).set_linger(Some(Duration::ZERO)).unwrap();
    drop(dialler);
    assert!(is_reset(&end_of(&mut target).await));
}

#[tokio::test]
async fn cut_fin_ends_both_ends_in_good_order() {
    let rig = Rig::start().await;
    let (mut dialler, mut target) = rig.link().await;
    rig.proxy.cut_fin();
    assert_eq!(rig.proxy.links(), 0);
    end_of(&mut dialler).await.unwrap();
    end_of(&mut target).await.unwrap();
}

#[tokio::test]
async fn cut_fin_destroys_nothing_that_was_forwarded() {
    let rig = Rig::start().await;
    let (mut dialler, mut target) = rig.link().await;
    let bulk = vec![3; 16 << 20];
    assert!(
        timeout(WHILE, target.write_all(&bulk)).await.is_err(),
        "the dialler does not read, so all buffers are full"
    );
    // Unread bytes on the proxy's socket would turn a plain close into a reset, which destroys what is on its way.
    rig.proxy.freeze();
    dialler.write_all(b"unread").await.unwrap();
    let forwarded = rig.proxy.bytes_downstream() - 4;
    rig.proxy.cut_fin();
    let mut arrived = Vec::new();
    timeout(SOON, dialler.read_to_end(&mut arrived)).await.expect("it ends").unwrap();
    assert!(arrived.len() as u64 >= forwarded, "{} of {forwarded} bytes arrived", arrived.len());
}

#[tokio::test]
async fn cut_rst_resets_both_ends() {
    let rig = Rig::start().await;
    let (mut dialler, mut target) = rig.link().await;
    rig.proxy.cut_rst();
    assert_eq!(rig.proxy.links(), 0);
    assert!(is_reset(&end_of(&mut dialler).await));
    assert!(is_reset(&end_of(&mut target).await));
}

#[tokio::test]
async fn a_cut_hits_a_link_that_is_being_made() {
    let rig = Rig::start().await;
    let (mut dialler, mut target) = rig.young_link().await;
    rig.proxy.cut_rst();
    assert!(is_reset(&end_of(&mut dialler).await));
    assert!(is_reset(&end_of(&mut target).await));

    let (mut dialler, mut target) = rig.young_link().await;
    target.write_all(b"unread").await.unwrap();
    rig.proxy.cut_fin();
    end_of(&mut dialler).await.unwrap();
    end_of(&mut target).await.unwrap();
}

#[tokio::test]
async fn the_first_cut_counts() {
    let rig = Rig::start().await;
    let (mut dialler, _target) = rig.link().await;
    rig.proxy.cut_fin();
    rig.proxy.cut_rst();
    end_of(&mut dialler).await.unwrap();
}

#[tokio::test]
async fn a_cut_hits_a_link_that_the_proxy_has_not_seen_yet() {
    let rig = Rig::start().await;
    // On a runtime of one thread nothing of the proxy runs between this connect and the cut.
    let dialler = std::net::TcpStream::connect(rig.proxy.addr()).unwrap();
    rig.proxy.cut_rst();
    dialler.set_nonblocking(true).unwrap();
    let mut dialler = TcpStream::from_std(dialler).unwrap();
    assert!(is_reset(&end_of(&mut dialler).await));
    assert_eq!((rig.proxy.connections(), rig.proxy.links()), (1, 0));
    // And not one that is made later.
    let (mut dialler, mut target) = rig.link().await;
    dialler.write_all(b"alive").await.unwrap();
    arrives(&mut target, b"alive").await;
}

#[tokio::test]
async fn a_cut_hits_a_link_that_has_not_reached_its_target() {
    let rig = Rig::start().await;
    rig.proxy.freeze();
    let mut dialler = rig.dial().await;
    rig.links_are(1).await;
    rig.proxy.cut_fin();
    end_of(&mut dialler).await.unwrap();
    rig.proxy.thaw();
    assert!(timeout(WHILE, rig.target.accept()).await.is_err(), "the target is never dialled");
}

#[tokio::test]
async fn a_freeze_forwards_nothing_closes_nothing_and_holds_bytes_back_in_order() {
    let rig = Rig::start().await;
    let (mut dialler, mut target) = rig.link().await;
    rig.proxy.freeze();
    dialler.write_all(b"held ").await.unwrap();
    target.write_all(b"held too").await.unwrap();
    is_silent(&mut target).await;
    is_silent(&mut dialler).await;
    dialler.write_all(b"back").await.unwrap();
    dialler.shutdown().await.unwrap();
    is_silent(&mut target).await;
    rig.proxy.thaw();
    arrives(&mut target, b"held back").await;
    end_of(&mut target).await.unwrap();
    arrives(&mut dialler, b"held too").await;
}

#[tokio::test]
async fn a_connection_made_in_a_freeze_is_silent_until_the_thaw() {
    let rig = Rig::start().await;
    rig.proxy.freeze();
    let mut dialler = rig.dial().await;
    dialler.write_all(b"early").await.unwrap();
    assert!(timeout(WHILE, rig.target.accept()).await.is_err(), "the target is not dialled");
    is_silent(&mut dialler).await;
    rig.proxy.thaw();
    arrives(&mut rig.accept().await, b"early").await;
}

#[tokio::test]
async fn a_dead_path_stays_dead_while_new_connections_go_through() {
    let rig = Rig::start().await;
    let (mut dead, mut dead_target) = rig.link().await;
    rig.proxy.freeze_links();
    dead.write_all(b"lost").await.unwrap();
    rig.proxy.thaw();
    let (mut dialler, mut target) = rig.link().await;
    dialler.write_all(b"through").await.unwrap();
    arrives(&mut target, b"through").await;
    is_silent(&mut dead_target).await;
    rig.proxy.cut_fin();
    end_of(&mut dead).await.unwrap();
}

#[tokio::test]
async fn a_dead_path_takes_a_link_that_the_proxy_has_not_seen_yet() {
    let rig = Rig::start().await;
    let _dead = std::net::TcpStream::connect(rig.proxy.addr()).unwrap();
    rig.proxy.freeze_links();
    assert!(timeout(WHILE, rig.target.accept()).await.is_err(), "the target is never dialled");
    rig.link().await;
}

#[tokio::test]
async fn a_freeze_of_one_way_leaves_the_other_open() {
    let rig = Rig::start().await;
    let (mut dialler, mut target) = rig.link().await;
    rig.proxy.freeze_upstream();
    dialler.write_all(b"up").await.unwrap();
    target.write_all(b"down").await.unwrap();
    arrives(&mut dialler, b"down").await;
    is_silent(&mut target).await;
    rig.proxy.thaw();
    arrives(&mut target, b"up").await;

    rig.proxy.freeze_downstream();
    dialler.write_all(b"up").await.unwrap();
    target.write_all(b"down").await.unwrap();
    arrives(&mut target, b"up").await;
    is_silent(&mut dialler).await;
    rig.proxy.thaw();
    arrives(&mut dialler, b"down").await;
}

#[tokio::test]
async fn the_news_of_a_lost_target_does_not_pass_a_frozen_way_back() {
    let rig = Rig::start().await;
    let (mut dialler, target) = rig.link().await;
    rig.proxy.freeze_downstream();
    socket2::SockRef::from(&target).set_linger(Some(Duration::ZERO)).unwrap();
    drop(target);
    dialler.write_all(b"learns of it").await.unwrap();
    is_silent(&mut dialler).await;
    rig.proxy.thaw();
    assert!(is_reset(&end_of(&mut dialler).await));
}

#[tokio::test]
async fn the_news_that_the_target_does_not_listen_does_not_pass_a_frozen_way_back() {
    let rig = Rig::start().await;
    rig.proxy.set_target(closed_port().await);
    rig.proxy.freeze_downstream();
    let mut dialler = rig.dial().await;
    is_silent(&mut dialler).await;
    rig.proxy.thaw();
    assert!(is_reset(&end_of(&mut dialler).await));
}

#[tokio::test]
async fn refused_connections_end_at_once_and_existing_links_stay() {
    let rig = Rig::start().await;
    let (mut dialler, mut target) = rig.link().await;
    rig.proxy.refuse();
    // The kernel has accepted this one before the refusal ends: it is refused.
    let refused = std::net::TcpStream::connect(rig.proxy.addr()).unwrap();
    rig.proxy.accept_again();
    refused.set_nonblocking(true).unwrap();
    end_of(&mut TcpStream::from_std(refused).unwrap()).await.unwrap();
    assert_eq!((rig.proxy.refused(), rig.proxy.connections()), (1, 1));
    dialler.write_all(b"stays").await.unwrap();
    arrives(&mut target, b"stays").await;
    rig.link().await;
}

#[tokio::test]
async fn a_throttle_holds_the_rate_until_it_is_lifted() {
    let rig = Rig::start().await;
    let (mut dialler, mut target) = rig.link().await;
    rig.proxy.throttle(20_000);
    let bytes = vec![7; 10_000];
    dialler.write_all(&bytes).await.unwrap();
    let start = Instant::now();
    arrives(&mut target, &bytes).await;
    // The first of the 25 pieces goes at once, so 24 pieces of 20 ms are the least time.
    assert!(start.elapsed() >= Duration::from_millis(470), "{:?}", start.elapsed());

    // At one byte a second this would take hours.
    rig.proxy.throttle(1);
    dialler.write_all(&bytes).await.unwrap();
    arrives(&mut target, &[7]).await;
    rig.proxy.unthrottle();
    arrives(&mut target, &bytes[1..]).await;
}

#[tokio::test]
async fn a_new_target_is_for_links_that_have_not_reached_the_old_one() {
    let rig = Rig::start().await;
    let (mut old, mut old_target) = rig.link().await;
    rig.proxy.freeze();
    let _waiting = rig.dial().await;
    rig.links_are(2).await;
    let other = TcpListener::bind("127.0.0.1:0").await.unwrap();
    rig.proxy.set_target(other.local_addr().unwrap());
    rig.proxy.thaw();
    timeout(SOON, other.accept()).await.expect("the new target is dialled").unwrap();
    old.write_all(b"stays").await.unwrap();
    arrives(&mut old_target, b"stays").await;
}

#[tokio::test]
async fn a_target_that_does_not_listen_resets_the_dialler() {
    let rig = Rig::start().await;
    rig.proxy.set_target(closed_port().await);
    let mut dialler = rig.dial().await;
    assert!(is_reset(&end_of(&mut dialler).await));
    rig.links_are(0).await;
}

#[tokio::test]
async fn shutdown_ends_every_task_and_closes_every_socket() {
    let rig = Rig::start().await;
    let addr = rig.proxy.addr();
    // This one is in the middle of its polite end: it waits for its ends.
    let (mut polite, _polite_target) = rig.link().await;
    rig.proxy.cut_fin();
    end_of(&mut polite).await.unwrap();
    let (mut dialler, mut target) = rig.link().await;
    rig.proxy.freeze();
    let mut silent = rig.dial().await;
    rig.links_are(2).await;
    // A polite end alone would take twice as long.
    timeout(SOON / 2, async { tokio::join!(rig.proxy.shutdown(), rig.proxy.shutdown()) }).await.expect("it ends");
    assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), 0);
    for socket in [&mut dialler, &mut target, &mut silent] {
        assert!(is_reset(&end_of(socket).await));
    }
    TcpListener::bind(addr).await.expect("the port is free");
    rig.proxy.cut_rst();
    rig.proxy.shutdown().await;
}

#[tokio::test]
async fn dropping_the_proxy_ends_it() {
    let rig = Rig::start().await;
    let (mut dialler, _target) = rig.link().await;
    drop(rig.proxy);
    assert!(is_reset(&end_of(&mut dialler).await));
    until(|| tokio::runtime::Handle::current().metrics().num_alive_tasks() == 0).await;
}

#[test]
fn a_start_without_a_runtime_is_an_error() {
    assert!(FaultProxy::start(SocketAddr::from((Ipv4Addr::LOCALHOST, 1))).is_err());
}

#[tokio::test]
async fn a_delay_makes_the_round_trip_longer_and_loses_nothing() {
    let rig = Rig::start().await;
    let delay = Duration::from_millis(40);
    rig.proxy.delay(delay);
    let (mut dialler, mut target) = rig.young_link().await;
    let begun = Instant::now();
    dialler.write_all(b"ping").await.unwrap();
    arrives(&mut target, b"ping").await;
    assert!(begun.elapsed() >= delay, "one way took {:?}", begun.elapsed());
    target.write_all(b"pong").await.unwrap();
    arrives(&mut dialler, b"pong").await;
    assert!(begun.elapsed() >= 2 * delay, "both took {:?}", begun.elapsed());

    let bulk = (0..3_000_000_u32).map(|at| at.to_le_bytes()[0] ^ at.to_le_bytes()[1]).collect::<Vec<_>>();
    let begun = Instant::now();
    let sends = async {
        dialler.write_all(&bulk).await.unwrap();
        dialler.shutdown().await.unwrap();
    };
    tokio::join!(sends, arrives(&mut target, &bulk));
    end_of(&mut target).await.unwrap();
    // 183 pieces one after the other would take seven seconds.
    assert!(begun.elapsed() < Duration::from_secs(4), "pieces travel one by one: {:?}", begun.elapsed());
    drop(target);
    end_of(&mut dialler).await.unwrap();
    rig.links_are(0).await;
}

#[tokio::test]
async fn a_delay_keeps_what_a_freeze_holds_back_and_is_of_new_links_alone() {
    let rig = Rig::start().await;
    let (mut old, mut old_target) = rig.link().await;
    rig.proxy.delay(Duration::from_secs(3600));
    old.write_all(b"at once").await.unwrap();
    arrives(&mut old_target, b"at once").await;
    rig.proxy.delay(Duration::from_millis(20));
    let (mut dialler, mut target) = rig.young_link().await;
    dialler.write_all(b"before").await.unwrap();
    arrives(&mut target, b"before").await;
    dialler.write_all(b"after").await.unwrap();
    rig.proxy.freeze();
    is_silent(&mut target).await;
    rig.proxy.thaw();
    arrives(&mut target, b"after").await;
    rig.proxy.cut_rst();
    assert!(is_reset(&end_of(&mut dialler).await));
    assert!(is_reset(&end_of(&mut target).await));
}
