//! Resets and closes, where they depend on what the network does. What an application sees of each is in `parity`.

use std::io::ErrorKind;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lossy::{Flags, Segment, UDP_PORT, Verdict};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep, timeout};
use turmoil::net::UdpSocket;

use crate::network::{CLIENT, Network, PORT, SERVER, TICK, bytes, expect_end, lose, read, server};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn who_drops_a_stream_with_unread_data_resets_it_and_the_peer_reads_what_it_has_first() {
    let mut network = Network::new(1);
    network.client(SERVER, |stack| async move {
        let mut stream = stack.bind(PORT)?.accept().await?;
        stream.write_all(b"unread").await?;
        sleep(SECOND * 2).await;
        assert_eq!(read(&mut stream, 5).await?, b"hello");
        assert_eq!(stream.read_u8().await.unwrap_err().kind(), ErrorKind::ConnectionReset);
        assert_eq!(stream.write(b"x").await.unwrap_err().kind(), ErrorKind::BrokenPipe);
        Ok(())
    });
    network.client(CLIENT, |stack| async move {
        let mut stream = stack.connect(server()).await?;
        stream.write_all(b"hello").await?;
        sleep(SECOND).await;
        Ok(())
    });
    network.finish(SECOND * 3);
    assert_eq!(network.count("resets sent"), 1);
}

#[test]
fn a_lost_reset_is_made_good_by_the_next_segment() {
    let mut network = Network::new(1);
    lose(&network.from_client, 0..1, |segment| segment.flags.has(Flags::RST));
    network.client(SERVER, |stack| async move {
        let mut stream = stack.bind(PORT)?.accept().await?;
        stream.write_all(b"unread").await?;
        assert!(timeout(SECOND * 5, stream.read_u8()).await.is_err(), "the reset was not lost");
        stream.write_all(b"more").await?;
        assert_eq!(stream.read_u8().await.unwrap_err().kind(), ErrorKind::ConnectionReset);
        Ok(())
    });
    network.client(CLIENT, |stack| async move {
        let _stream = stack.connect(server()).await?;
        sleep(SECOND).await;
        Ok(())
    });
    network.finish(SECOND * 7);
}

/// The reset is ahead of what the peer has: it is challenged, and the answer to that is exact.
#[test]
fn a_reset_behind_a_lost_segment_is_challenged_and_proves_itself() {
    let mut network = Network::new(1);
    lose(&network.from_client, 0..9, |segment| !segment.payload.is_empty());
    network.client(SERVER, |stack| async move {
        let mut stream = stack.bind(PORT)?.accept().await?;
        stream.write_all(b"unread").await?;
        assert_eq!(stream.read_u8().await.unwrap_err().kind(), ErrorKind::ConnectionReset);
        Ok(())
    });
    network.client(CLIENT, |stack| async move {
        let mut stream = stack.connect(server()).await?;
        sleep(SECOND).await;
        stream.write_all(b"lost").await?;
        sleep(TICK).await;
        Ok(())
    });
    network.finish(SECOND * 3);
    assert_eq!((network.count("challenge ACKs"), network.count("resets sent")), (1, 2));
}

/// Sends a forged segment three times to the server, made of the last that the client has sent, and gives what the server
/// then reads.
fn forge(forged: impl Fn(Segment) -> Segment + 'static) -> (Network, Result<u8, ErrorKind>) {
    let mut network = Network::new(1);
    let last = Arc::new(Mutex::new(None));
    let note = Arc::clone(&last);
    network.from_client.filter(move |segment| {
        *note.lock().unwrap() = Some(segment.clone());
        Verdict::Sent
    });
    let seen = Arc::new(Mutex::new(None));
    let see = Arc::clone(&seen);
    network.client(SERVER, move |stack| async move {
        let mut stream = stack.bind(PORT)?.accept().await?;
        let read = timeout(SECOND * 3, stream.read_u8()).await?;
        *see.lock().unwrap() = Some(read.map_err(|error| error.kind()));
        Ok(())
    });
    network.client(CLIENT, move |stack| async move {
        let mut stream = stack.connect(server()).await?;
        sleep(SECOND).await;
        let last = last.lock().unwrap().clone().unwrap();
        let socket = UdpSocket::bind("0.0.0.0:0").await?;
        for _ in 0..3 {
            socket.send_to(&forged(last.clone()).encode(), (server().ip(), UDP_PORT)).await?;
        }
        sleep(SECOND).await;
        stream.write_all(b"x").await
    });
    network.finish(SECOND * 5);
    let seen = seen.lock().unwrap().take();
    (network, seen.expect("the server has ended"))
}

#[test]
fn only_a_reset_with_the_exact_number_resets_and_challenges_are_rare() {
    const WINDOW: u64 = 65_536;
    for (offset, challenges, is_reset) in [(0, 0, true), (1, 1, false), (WINDOW, 1, false), (WINDOW + 1, 0, false)] {
        let (network, seen) = forge(move |last| Segment { flags: Flags::RST, seq: last.end() + offset, ..last });
        assert_eq!(seen, if is_reset { Err(ErrorKind::ConnectionReset) } else { Ok(b'x') }, "{offset}");
        assert_eq!(network.count("challenge ACKs"), challenges, "{offset}");
    }
}

#[test]
fn an_acknowledgement_of_what_was_not_sent_is_not_taken() {
    let (_, seen) = forge(|last| Segment { ack: last.ack + 1, payload: b"forged".to_vec(), ..last });
    assert_eq!(seen, Ok(b'x'), "what the client has written");
}

/// Nobody would read it: without the reset the writer would believe that it arrived.
#[test]
fn data_for_a_stream_that_was_dropped_is_answered_by_a_reset() {
    let mut network = Network::new(1);
    network.client(SERVER, |stack| async move {
        let mut stream = stack.bind(PORT)?.accept().await?;
        sleep(SECOND).await;
        stream.write_all(b"hello").await?;
        sleep(SECOND).await;
        assert_eq!(stream.write(b"again").await.unwrap_err().kind(), ErrorKind::BrokenPipe);
        expect_end(&mut stream).await
    });
    network.client(CLIENT, |stack| async move { stack.connect(server()).await.map(drop) });
    network.finish(SECOND * 3);
    assert_eq!(network.count("resets sent"), 1);
}

/// Otherwise a peer that never closes would keep the connections of a host forever.
#[test]
fn a_connection_that_nobody_has_waits_for_a_minute_for_the_fin_of_the_peer() {
    let mut network = Network::new(1);
    network.client(SERVER, |stack| async move {
        let _stream = stack.bind(PORT)?.accept().await?;
        sleep(SECOND * 100).await;
        Ok(())
    });
    network.client(CLIENT, |stack| async move {
        let begun = Instant::now();
        let mut stream = stack.connect(server()).await?;
        stream.shutdown().await?;
        sleep(SECOND).await;
        drop(stream);
        stack.settled().await;
        assert!((SECOND * 60..SECOND * 62).contains(&begun.elapsed()), "{:?}", begun.elapsed());
        Ok(())
    });
    network.finish(SECOND * 102);
}

#[test]
fn both_close_at_once_while_both_first_fins_are_lost() {
    let mut network = Network::new(1);
    for impairments in [&network.from_client, &network.from_server] {
        lose(impairments, 0..1, |segment| segment.flags.has(Flags::FIN));
    }
    for host in [SERVER, CLIENT] {
        network.client(host, move |stack| async move {
            let mut stream = match host {
                SERVER => stack.bind(PORT)?.accept().await?,
                _ => stack.connect(server()).await?,
            };
            sleep(SECOND).await;
            stream.write_all(&bytes(1, 3_000)).await?;
            stream.shutdown().await?;
            assert_eq!(read(&mut stream, 3_000).await?, bytes(1, 3_000));
            expect_end(&mut stream).await
        });
    }
    network.finish(SECOND * 3);
    assert_eq!(network.count("resets sent"), 0);
}

/// Its first number is beyond all of the old connection, so that nothing of that can be taken for its own.
#[test]
fn a_new_connection_may_take_the_place_of_one_in_time_wait() {
    let mut network = Network::new(1);
    network.client(SERVER, |stack| async move {
        let listener = stack.bind(PORT)?;
        let mut first = listener.accept().await?;
        first.shutdown().await?;
        expect_end(&mut first).await?;
        let mut second = listener.accept().await?;
        assert_eq!(first.peer_addr(), second.peer_addr());
        assert_eq!(read(&mut second, 5).await?, b"again");
        assert_eq!(first.read(&mut [0]).await?, 0);
        Ok(())
    });
    network.client_that_comes_back(b"again");
    network.finish(SECOND * 5);
    assert_eq!((network.count("challenge ACKs"), network.count("resets sent")), (0, 0));
}
