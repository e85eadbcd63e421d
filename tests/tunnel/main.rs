//! The example `tunnel`: what goes in at one side comes out at the other, and so does the way in which it ends.
#![cfg(unix)]
#![allow(missing_docs, reason = "test names say it")]

#[path = "../../examples/tunnel/main.rs"]
#[allow(dead_code, reason = "its main is that of the example")]
mod program;
mod side;
#[path = "../support/mod.rs"]
mod support;

use std::{io, net::SocketAddr, time::Duration};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use socket2::SockRef;
use support::{in_time, own_address, until};
use testkit::FaultProxy;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, Interest},
    net::{TcpListener, TcpSocket, TcpStream},
    time::{sleep, timeout},
};

use crate::side::Side;

const MIB: usize = 1 << 20;

/// Two sides, a link between them that can be cut, and a server behind the second.
struct Tunnel {
    /// Receives and listens.
    near: Side,
    /// Establishes and forwards.
    far: Side,
    link: FaultProxy,
    server: TcpListener,
}

impl Tunnel {
    async fn start(options: &str) -> Self {
        let server = TcpListener::bind(own_address()).await.unwrap();
        let near = Side::start(&format!("receive --mux {} --listen {} {options}", own_address(), own_address())).await;
        let link = FaultProxy::start(near.mux().parse().unwrap()).unwrap();
        let (mux, forward) = (link.addr(), server.local_addr().unwrap());
        let far = Side::start(&format!("establish --mux {mux} --forward {forward} {options}")).await;
        Self { near, far, link, server }
    }

    /// A connection through it: the client's end and the server's.
    async fn connect(&self) -> (TcpStream, TcpStream) {
        let client = in_time(TcpStream::connect(self.near.listen())).await.unwrap();
        let (server, _) = in_time(self.server.accept()).await.unwrap();
        (client, server)
    }
}

/// Bytes that are never the same for two seeds.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    ChaCha8Rng::seed_from_u64(seed).fill_bytes(&mut bytes);
    bytes
}

/// Reads until the end, which is that of the other side.
async fn read_all(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    in_time(stream.read_to_end(&mut bytes)).await.unwrap();
    bytes
}

/// Reads until a reset. Gives the bytes before it.
async fn read_reset(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let end = in_time(stream.read_to_end(&mut bytes)).await;
    assert_eq!(end.map_err(|error| error.kind()), Err(io::ErrorKind::ConnectionReset), "after {} bytes", bytes.len());
    bytes
}

/// Asserts that a connection is reset, without an answer, at whichever call comes first after that: it may be the one that
/// connects.
async fn assert_refused(address: SocketAddr, request: &[u8]) {
    let mut reply = Vec::new();
    let asking = async {
        let mut client = TcpStream::connect(address).await?;
        client.write_all(request).await?;
        client.read_to_end(&mut reply).await
    };
    let end = in_time(asking).await;
    assert_eq!(end.map_err(|error| error.kind()), Err(io::ErrorKind::ConnectionReset), "after {} bytes", reply.len());
    assert!(reply.is_empty());
}

async fn exchange(client: &mut TcpStream, server: &mut TcpStream) {
    in_time(client.write_all(b"ping")).await.unwrap();
    let mut bytes = [0; 4];
    in_time(server.read_exact(&mut bytes)).await.unwrap();
    assert_eq!(&bytes, b"ping");
    in_time(server.write_all(b"pong")).await.unwrap();
    in_time(client.read_exact(&mut bytes)).await.unwrap();
    assert_eq!(&bytes, b"pong");
}

fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(stream);
}

/// Writes this again and again until it fails.
async fn write_until_reset(stream: &mut TcpStream, bytes: &[u8]) {
    in_time(async {
        while stream.write_all(bytes).await.is_ok() {
            sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn bytes_arrive_as_they_were() {
    let mut tunnel = Tunnel::start("").await;
    let (mut client, mut server) = tunnel.connect().await;
    let (request, response) = (noise(1, 4 * MIB), noise(2, 5 * MIB + 17));
    let run = |mut stream: TcpStream, bytes: Vec<u8>| async move {
        let (mut reader, mut writer) = stream.split();
        let mut read = Vec::new();
        let write = async {
            writer.write_all(&bytes).await?;
            writer.shutdown().await
        };
        in_time(async { tokio::try_join!(reader.read_to_end(&mut read), write) }).await.unwrap();
        read
    };
    exchange(&mut client, &mut server).await;
    let (response_read, request_read) = tokio::join!(run(client, request.clone()), run(server, response.clone()));
    assert!(request_read == request && response_read == response);

    let (at_near, at_far) = (tunnel.near.event("closed").await, tunnel.far.event("closed").await);
    assert_eq!((&at_near["ended"], &at_far["ended"]), (&"finished".into(), &"finished".into()));
    assert_eq!((&at_near["sent_bytes"], &at_far["received_bytes"]), (&(4 * MIB + 4).into(), &(4 * MIB + 4).into()));
    assert_eq!((&at_near["received_bytes"], &at_far["sent_bytes"]), (&(5 * MIB + 21).into(), &(5 * MIB + 21).into()));
}

/// Each side listens and forwards, over three sessions.
#[tokio::test]
async fn both_sides_listen_and_forward() {
    let [first, second] =
        [TcpListener::bind(own_address()).await.unwrap(), TcpListener::bind(own_address()).await.unwrap()];
    let options = |forward: SocketAddr| format!("--listen {} --forward {forward} --sessions 3", own_address());
    let options = [options(first.local_addr().unwrap()), options(second.local_addr().unwrap())];
    let near = Side::start(&format!("receive --mux {} {}", own_address(), options[0])).await;
    let mut far = Side::start(&format!("establish --mux {} {}", near.mux(), options[1])).await;
    for _ in 0..3 {
        far.event("session_live").await;
    }
    let mut held = Vec::new();
    for _ in 0..8 {
        for (listen, server) in [(near.listen(), &second), (far.listen(), &first)] {
            let mut client = in_time(TcpStream::connect(listen)).await.unwrap();
            let (mut server, _) = in_time(server.accept()).await.unwrap();
            exchange(&mut client, &mut server).await;
            held.push((client, server));
        }
    }
}

#[tokio::test]
async fn after_the_fin_of_the_client_the_server_goes_on() {
    let tunnel = Tunnel::start("").await;
    let (mut client, mut server) = tunnel.connect().await;
    client.write_all(b"request").await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(read_all(&mut server).await, b"request");
    // Longer than anybody takes to pass on more than the FIN.
    sleep(Duration::from_millis(200)).await;
    let response = noise(3, MIB);
    in_time(server.write_all(&response)).await.unwrap();
    server.shutdown().await.unwrap();
    assert!(read_all(&mut client).await == response);
}

#[tokio::test]
async fn after_the_fin_of_the_server_the_client_goes_on() {
    let tunnel = Tunnel::start("").await;
    let (mut client, mut server) = tunnel.connect().await;
    server.write_all(b"greeting").await.unwrap();
    server.shutdown().await.unwrap();
    assert_eq!(read_all(&mut client).await, b"greeting");
    sleep(Duration::from_millis(200)).await;
    let request = noise(4, MIB);
    in_time(client.write_all(&request)).await.unwrap();
    client.shutdown().await.unwrap();
    assert!(read_all(&mut server).await == request);
}

#[tokio::test]
async fn a_reset_of_the_client_is_one_at_the_server() {
    let mut tunnel = Tunnel::start("").await;
    let (mut client, mut server) = tunnel.connect().await;
    exchange(&mut client, &mut server).await;
    reset(client);
    read_reset(&mut server).await;
    assert_eq!(tunnel.near.event("closed").await["ended"], "tcp");
    assert_eq!(tunnel.far.event("closed").await["ended"], "stream");
}

#[tokio::test]
async fn a_reset_of_the_server_is_one_at_the_client() {
    let mut tunnel = Tunnel::start("").await;
    let (mut client, mut server) = tunnel.connect().await;
    exchange(&mut client, &mut server).await;
    reset(server);
    read_reset(&mut client).await;
    assert_eq!(tunnel.near.event("closed").await["ended"], "stream");
    assert_eq!(tunnel.far.event("closed").await["ended"], "tcp");
}

/// The tunnel does not read from the client then, so it must look for the reset in another way.
#[tokio::test]
async fn a_client_that_resets_while_the_server_reads_nothing_is_noticed() {
    let mut tunnel = Tunnel::start("").await;
    let (mut client, mut server) = tunnel.connect().await;
    exchange(&mut client, &mut server).await;
    let flood = vec![7; 64 * 1024];
    while timeout(Duration::from_millis(500), client.write_all(&flood)).await.is_ok() {}
    reset(client);
    assert_eq!(tunnel.near.event("closed").await["ended"], "tcp");
    read_reset(&mut server).await;
}

/// The same after the client's FIN: neither side has anything to read then, and the server nothing to write.
#[tokio::test]
async fn a_client_that_resets_after_its_fin_is_noticed() {
    let mut tunnel = Tunnel::start("").await;
    let (mut client, mut server) = tunnel.connect().await;
    exchange(&mut client, &mut server).await;
    client.shutdown().await.unwrap();
    assert!(read_all(&mut server).await.is_empty());
    reset(client);
    assert_eq!(tunnel.near.event("closed").await["ended"], "tcp");
    in_time(async {
        while server.take_error().unwrap().is_none() {
            sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
    assert_eq!(tunnel.far.event("closed").await["ended"], "stream");
}

/// A response that ends where the connection does looks complete when that end is a FIN.
async fn a_cut_ends_in_a_reset(options: &str, cut: impl Fn(&FaultProxy), mend: impl Fn(&FaultProxy)) {
    let mut tunnel = Tunnel::start(options).await;
    let (mut downloader, mut download) = tunnel.connect().await;
    let (mut upload, mut uploader) = tunnel.connect().await;
    let (mut waiting, mut thinking) = tunnel.connect().await;
    exchange(&mut waiting, &mut thinking).await;
    waiting.shutdown().await.unwrap();
    assert!(read_all(&mut thinking).await.is_empty());
    let writers = [
        tokio::spawn(async move { write_until_reset(&mut download, &[0; 2048]).await }),
        tokio::spawn(async move { write_until_reset(&mut upload, &[0; 2048]).await }),
    ];
    let mut begin = vec![0; 10 * 1024];
    in_time(downloader.read_exact(&mut begin)).await.unwrap();
    in_time(uploader.read_exact(&mut begin)).await.unwrap();

    cut(&tunnel.link);
    read_reset(&mut downloader).await;
    read_reset(&mut uploader).await;
    read_reset(&mut waiting).await;
    // It has read the client's FIN, so that a read would tell of nothing else.
    in_time(thinking.ready(Interest::ERROR)).await.unwrap();
    for writer in writers {
        in_time(writer).await.unwrap();
    }

    mend(&tunnel.link);
    tunnel.near.event("session_closed").await;
    let (mut client, mut server) = tunnel.connect().await;
    exchange(&mut client, &mut server).await;
}

#[tokio::test]
async fn a_link_cut_by_fin_ends_transfers_in_a_reset() {
    a_cut_ends_in_a_reset("", FaultProxy::cut_fin, |_| {}).await;
}

#[tokio::test]
async fn a_link_cut_by_rst_ends_transfers_in_a_reset() {
    a_cut_ends_in_a_reset("", FaultProxy::cut_rst, |_| {}).await;
}

#[tokio::test]
async fn a_frozen_link_ends_transfers_in_a_reset() {
    a_cut_ends_in_a_reset("--dead-after 2", FaultProxy::freeze, FaultProxy::thaw).await;
}

#[tokio::test]
async fn a_side_that_is_killed_ends_transfers_in_a_reset() {
    for kill_near in [true, false] {
        let tunnel = Tunnel::start("").await;
        let (mut client, mut server) = tunnel.connect().await;
        exchange(&mut client, &mut server).await;
        if kill_near { &tunnel.near } else { &tunnel.far }.signal("-KILL");
        read_reset(&mut client).await;
        read_reset(&mut server).await;
    }
}

#[tokio::test]
async fn a_connection_accepted_without_a_session_waits_for_one() {
    let server = TcpListener::bind(own_address()).await.unwrap();
    let mut near = Side::start(&format!("receive --mux {} --listen {}", own_address(), own_address())).await;
    let mut client = in_time(TcpStream::connect(near.listen())).await.unwrap();
    client.write_all(b"early").await.unwrap();
    client.shutdown().await.unwrap();
    near.event("opened").await;
    assert_eq!(near.count("closed"), 0);

    let forward = server.local_addr().unwrap();
    let _far = Side::start(&format!("establish --mux {} --forward {forward}", near.mux())).await;
    let (mut accepted, _) = in_time(server.accept()).await.unwrap();
    assert_eq!(read_all(&mut accepted).await, b"early");
    accepted.write_all(b"late").await.unwrap();
    drop(accepted);
    assert_eq!(read_all(&mut client).await, b"late");
}

#[tokio::test]
async fn a_client_that_resets_while_it_waits_for_a_session_is_let_go() {
    let mut near = Side::start(&format!("receive --mux {} --listen {}", own_address(), own_address())).await;
    let client = in_time(TcpStream::connect(near.listen())).await.unwrap();
    near.event("opened").await;
    reset(client);
    assert_eq!(near.event("closed").await["ended"], "tcp");
}

#[tokio::test]
async fn a_forward_address_that_refuses_is_a_reset() {
    let mut tunnel = Tunnel::start("").await;
    let forward = tunnel.server.local_addr().unwrap();
    drop(tunnel.server);
    // A process that another test starts has a copy of the listener until it runs its program.
    until(|| std::net::TcpStream::connect(forward).is_err()).await;
    assert_refused(tunnel.near.listen(), b"").await;
    assert_eq!(tunnel.far.event("closed").await["ended"], "connect");
}

#[tokio::test]
async fn a_side_that_forwards_nothing_refuses_at_once() {
    let near = Side::start(&format!("receive --mux {} --listen {}", own_address(), own_address())).await;
    let far = format!("establish --mux {} --listen {}", near.mux(), own_address());
    let far = Side::start(&far).await;
    for side in [&near, &far] {
        assert_refused(side.listen(), b"request").await;
    }
}

/// Those that are too many wait in the kernel, and get their turn.
#[tokio::test]
async fn one_connection_too_many_waits_for_the_end_of_another() {
    let mut tunnel = Tunnel::start("--max-connections 2").await;
    let (mut first, mut at_first) = tunnel.connect().await;
    let (mut second, mut at_second) = tunnel.connect().await;
    exchange(&mut first, &mut at_first).await;
    exchange(&mut second, &mut at_second).await;
    let mut third = in_time(TcpStream::connect(tunnel.near.listen())).await.unwrap();
    third.write_all(b"third").await.unwrap();
    assert!(timeout(Duration::from_millis(300), tunnel.server.accept()).await.is_err(), "there are two places");
    exchange(&mut first, &mut at_first).await;
    drop((first, at_first));
    assert_eq!(tunnel.near.event("closed").await["ended"], "finished");
    let (mut at_third, _) = in_time(tunnel.server.accept()).await.unwrap();
    let mut bytes = [0; 5];
    in_time(at_third.read_exact(&mut bytes)).await.unwrap();
    assert_eq!(&bytes, b"third");
    exchange(&mut second, &mut at_second).await;
}

#[tokio::test]
async fn a_drain_lets_a_transfer_finish() {
    for (drain_near, signal) in [(true, "-TERM"), (false, "-INT")] {
        // Longer than a test waits: a drain that uses its time up fails.
        let mut tunnel = Tunnel::start("--drain 60").await;
        // The kernel holds little for the client, so that the tunnel has to.
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(16 * 1024).unwrap();
        let mut client = in_time(socket.connect(tunnel.near.listen())).await.unwrap();
        let (mut server, _) = in_time(tunnel.server.accept()).await.unwrap();
        exchange(&mut client, &mut server).await;
        let (side, other) = if drain_near { (&mut tunnel.near, &tunnel.far) } else { (&mut tunnel.far, &tunnel.near) };
        side.signal(signal);
        assert_eq!(side.event("draining").await["connections"], 1);
        if drain_near {
            // A connection, to see whether it is refused, might still be accepted.
            until(|| std::net::TcpListener::bind(side.listen()).is_ok()).await;
        }
        let response = noise(5, 8 * MIB);
        let written = tokio::spawn({
            let response = response.clone();
            async move {
                server.write_all(&response).await.unwrap();
                server.shutdown().await.unwrap();
                read_all(&mut server).await
            }
        });
        client.write_all(b"thanks").await.unwrap();
        client.shutdown().await.unwrap();
        // Slowly, so that the end of the response is on its way for a while.
        let (mut read, mut piece) = (Vec::new(), vec![0; 64 * 1024]);
        loop {
            let count = in_time(client.read(&mut piece)).await.unwrap();
            if count == 0 {
                break;
            }
            read.extend_from_slice(&piece[..count]);
            sleep(Duration::from_millis(5)).await;
        }
        assert!(read == response, "{} of {} bytes", read.len(), response.len());
        assert_eq!(in_time(written).await.unwrap(), b"thanks");
        let closed = side.event("closed").await;
        assert_eq!(closed["ended"], "finished", "{closed}");
        assert_eq!(side.exit().await, Some(0));
        other.signal("-TERM");
    }
}

#[tokio::test]
async fn when_the_time_to_drain_is_over_connections_are_reset() {
    let mut tunnel = Tunnel::start("--drain 1").await;
    let (mut client, mut server) = tunnel.connect().await;
    exchange(&mut client, &mut server).await;
    tunnel.near.signal("-TERM");
    read_reset(&mut client).await;
    read_reset(&mut server).await;
    assert_eq!(tunnel.near.event("ended").await["cut_off"], 1);
    assert_eq!(tunnel.near.exit().await, Some(1));
}

#[tokio::test]
async fn a_second_signal_ends_at_once() {
    let mut tunnel = Tunnel::start("--drain 600").await;
    let (mut client, mut server) = tunnel.connect().await;
    exchange(&mut client, &mut server).await;
    tunnel.near.signal("-TERM");
    tunnel.near.event("draining").await;
    tunnel.near.signal("-INT");
    read_reset(&mut client).await;
    read_reset(&mut server).await;
    assert_eq!(tunnel.near.exit().await, Some(1));
}

#[tokio::test]
async fn a_drain_resets_who_waits_for_a_session() {
    let mut near = Side::start(&format!("receive --mux {} --listen {}", own_address(), own_address())).await;
    let mut client = in_time(TcpStream::connect(near.listen())).await.unwrap();
    near.event("opened").await;
    near.signal("-TERM");
    assert!(read_reset(&mut client).await.is_empty());
    assert_eq!(near.exit().await, Some(1));
}

#[test]
fn wrong_usage_is_refused() {
    for (line, message) in [
        ("receive --mux 127.0.0.1:0", "--listen"),
        ("establish --listen 127.0.0.1:0", "--mux"),
        ("establish --mux nowhere --listen 127.0.0.1:0", "HOST:PORT"),
        ("receive --mux 127.0.0.1:0 --forward 127.0.0.1:66666", "HOST:PORT"),
        ("receive --mux 127.0.0.1:0 --forward 127.0.0.1:1 --sessions 0", "--sessions"),
        ("receive --mux 127.0.0.1:0 --forward 127.0.0.1:1 --max-connections 0", "--max-connections"),
        ("", "Usage"),
    ] {
        let output = side::run(line);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{line}: {text}");
        assert!(text.contains(message), "{line}: {text}");
    }
}

#[tokio::test]
async fn an_address_that_is_taken_is_told() {
    let taken = TcpListener::bind(own_address()).await.unwrap();
    let taken = taken.local_addr().unwrap();
    for line in [
        format!("receive --mux {taken} --forward 127.0.0.1:1"),
        format!("receive --mux {} --listen {taken}", own_address()),
    ] {
        let output = side::run(&line);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{line}: {text}");
        assert!(text.contains(&format!("cannot listen on {taken}")), "{line}: {text}");
    }
}
