//! Handshakes: their losses and limits, and segments that come too late for them.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use lossy::{Flags, Segment, Verdict};
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, sleep, timeout};

use crate::network::{CLIENT, Network, PORT, SERVER, expect_end, lose, read, server};

const SECOND: Duration = Duration::from_secs(1);

fn is_syn(segment: &Segment) -> bool {
    segment.flags == Flags::SYN
}

#[test]
fn the_server_speaks_first_although_the_ack_of_the_handshake_is_lost() {
    let mut network = Network::new(1);
    lose(&network.from_client, 0..1, Segment::is_pure_ack);
    network.client(SERVER, |stack| async move { stack.bind(PORT)?.accept().await?.write_all(b"welcome").await });
    network.client(CLIENT, |stack| async move {
        let mut stream = stack.connect(server()).await?;
        assert_eq!(read(&mut stream, 7).await?, b"welcome");
        expect_end(&mut stream).await
    });
    network.finish(SECOND * 2);
}

#[test]
fn a_lost_syn_and_a_lost_answer_are_sent_again() {
    let mut network = Network::new(1);
    let syns = lose(&network.from_client, 0..2, is_syn);
    let answers = lose(&network.from_server, 0..1, |segment| segment.flags == Flags::SYN | Flags::ACK);
    network.client(SERVER, |stack| async move { expect_end(&mut stack.bind(PORT)?.accept().await?).await });
    network.client(CLIENT, |stack| async move {
        let begun = Instant::now();
        stack.connect(server()).await?;
        // One second and two for SYN, one for the answer.
        assert!((SECOND * 4..SECOND * 5).contains(&begun.elapsed()), "{:?}", begun.elapsed());
        Ok(())
    });
    network.finish(SECOND * 6);
    assert_eq!(syns.load(Ordering::Relaxed), 3);
    assert_eq!(answers.load(Ordering::Relaxed), 2);
}

#[test]
fn an_attempt_that_nothing_answers_times_out() {
    let mut network = Network::new(1);
    network.settings.syn_retries = 2;
    network.client(SERVER, |_| async { Ok(()) });
    let syns = lose(&network.from_client, 0..9, is_syn);
    network.client(CLIENT, |stack| async move {
        let begun = Instant::now();
        assert_eq!(stack.connect(server()).await.unwrap_err().kind(), ErrorKind::TimedOut);
        assert!((SECOND * 7..SECOND * 8).contains(&begun.elapsed()), "1 s, 2 s and 4 s: {:?}", begun.elapsed());
        Ok(())
    });
    network.finish(SECOND * 9);
    assert_eq!(syns.load(Ordering::Relaxed), 3);
}

#[test]
fn a_port_where_nobody_listens_refuses_at_once() {
    let mut network = Network::new(1);
    network.client(SERVER, |_| async { Ok(()) });
    network.client(CLIENT, |stack| async move {
        let refused = timeout(Duration::from_millis(100), stack.connect(server())).await?;
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::ConnectionRefused);
        Ok(())
    });
    network.finish(SECOND);
}

#[test]
fn an_attempt_that_is_dropped_leaves_no_connection() {
    let mut network = Network::new(1);
    network.client(SERVER, |stack| async move {
        let listener = stack.bind(PORT)?;
        assert!(timeout(SECOND * 10, listener.accept()).await.is_err(), "a connection that nobody has");
        Ok(())
    });
    network.client(CLIENT, |stack| async move {
        // The answer to SYN is on its way.
        assert!(timeout(Duration::from_millis(15), stack.connect(server())).await.is_err());
        stack.settled().await;
        sleep(SECOND).await;
        Ok(())
    });
    network.finish(SECOND * 12);
    assert_eq!(network.count("resets sent"), 1);
}

#[test]
fn a_full_backlog_drops_syns_and_takes_them_when_it_has_room() {
    let mut network = Network::new(1);
    network.settings.backlog = 2;
    network.client(SERVER, |stack| async move {
        let listener = stack.bind(PORT)?;
        sleep(Duration::from_millis(2_500)).await;
        let mut streams = Vec::new();
        for _ in 0..5 {
            streams.push(listener.accept().await?);
        }
        Ok(())
    });
    network.client(CLIENT, |stack| async move {
        let begun = Instant::now();
        let attempts = (0..5).map(|_| {
            let stack = stack.clone();
            tokio::spawn(async move {
                stack.connect(server()).await.unwrap();
                begun.elapsed() > SECOND
            })
        });
        let mut late = 0;
        for attempt in attempts.collect::<Vec<_>>() {
            late += u32::from(attempt.await.unwrap());
        }
        assert_eq!(late, 3, "those that found no room");
        Ok(())
    });
    network.finish(SECOND * 10);
    // Three at once, three after a second, and one of them again when two had taken the room of the others.
    assert!((6..9).contains(&network.count("backlog overflows")), "{:?}", network.counters);
    assert_eq!(network.count("resets sent"), 0);
}

/// Its connections live on; those that were not given out are reset.
#[test]
fn a_port_is_free_as_soon_as_its_listener_is_dropped() {
    let mut network = Network::new(1);
    network.client(SERVER, |stack| async move {
        let listener = stack.bind(PORT)?;
        let mut first = listener.accept().await?;
        sleep(SECOND).await;
        assert_eq!(stack.bind(PORT).unwrap_err().kind(), ErrorKind::AddrInUse);
        drop(listener);
        let listener = stack.bind(PORT)?;
        assert_eq!(read(&mut first, 5).await?, b"first");
        let mut third = listener.accept().await?;
        assert_eq!(read(&mut third, 5).await?, b"third");
        Ok(())
    });
    network.client(CLIENT, |stack| async move {
        let mut first = stack.connect(server()).await?;
        let mut second = stack.connect(server()).await?;
        sleep(SECOND * 2).await;
        let reset = read(&mut second, 1).await.unwrap_err();
        assert_eq!(reset.kind(), ErrorKind::ConnectionReset);
        first.write_all(b"first").await?;
        stack.connect(server()).await?.write_all(b"third").await
    });
    network.finish(SECOND * 4);
    assert_eq!(network.count("resets sent"), 1);
}

/// While the connection is there it is challenged; later it opens one that the client resets before anyone sees it.
#[test]
fn a_syn_that_comes_once_more_much_later_makes_no_connection() {
    for (late, what) in [(SECOND, "challenge ACKs"), (SECOND * 5, "resets sent"), (SECOND * 100, "resets sent")] {
        let mut network = Network::new(1);
        network.from_client.filter(move |segment| if is_syn(segment) { Verdict::Again(late) } else { Verdict::Sent });
        network.client(SERVER, move |stack| async move {
            let listener = stack.bind(PORT)?;
            let mut stream = listener.accept().await?;
            assert_eq!(read(&mut stream, 5).await?, b"hello");
            expect_end(&mut stream).await?;
            drop(stream);
            assert!(timeout(SECOND * 200, listener.accept()).await.is_err(), "a ghost of {late:?}");
            Ok(())
        });
        network.client(CLIENT, |stack| async move {
            let mut stream = stack.connect(server()).await?;
            sleep(SECOND * 2).await;
            stream.write_all(b"hello").await?;
            stream.shutdown().await?;
            expect_end(&mut stream).await
        });
        network.finish(SECOND * 250);
        assert!(network.count(what) > 0, "{late:?}: {:?}", network.counters);
        assert!(network.count("resets sent") < 5, "{late:?}: {:?}", network.counters);
    }
}

#[test]
fn a_host_connects_to_itself_by_either_address() {
    let mut network = Network::new(1);
    network.client(SERVER, |stack| async move {
        let listener = stack.bind(PORT)?;
        for ip in [turmoil::lookup(SERVER), std::net::Ipv4Addr::LOCALHOST.into()] {
            let (near, far) = tokio::join!(stack.connect((ip, PORT).into()), listener.accept());
            let (mut near, mut far) = (near?, far?);
            assert_eq!((near.local_addr(), near.peer_addr()), (far.peer_addr(), far.local_addr()));
            assert_eq!(far.local_addr().ip(), ip);
            near.write_all(b"hello").await?;
            assert_eq!(read(&mut far, 5).await?, b"hello");
        }
        Ok(())
    });
    network.finish(SECOND * 2);
}

#[test]
fn a_host_has_one_stack() {
    let mut network = Network::new(1);
    let another = network.stack(SERVER);
    network.client(SERVER, |stack| async move {
        assert_eq!(another().await.unwrap_err().kind(), ErrorKind::AddrInUse);
        assert_eq!(stack.open_streams(), 0);
        Ok(())
    });
    network.finish(SECOND);
}

#[test]
fn two_that_wait_for_connections_are_both_served_when_two_arrive_together() {
    let mut network = Network::new(1);
    network.client(SERVER, |stack| async move {
        let listener = Arc::new(stack.bind(PORT)?);
        let waiting = [Arc::clone(&listener), listener];
        for accepted in waiting.map(|it| tokio::spawn(async move { timeout(SECOND, it.accept()).await? })) {
            accepted.await??;
        }
        Ok(())
    });
    network.client(CLIENT, |stack| async move {
        tokio::try_join!(stack.connect(server()), stack.connect(server())).map(drop)
    });
    network.finish(SECOND * 2);
}

/// It is older than all of the connection that waits there.
#[test]
fn a_late_syn_does_not_take_a_place_in_time_wait() {
    let mut network = Network::new(1);
    network.from_client.filter(|segment| if is_syn(segment) { Verdict::Again(SECOND * 5) } else { Verdict::Sent });
    let answers = lose(&network.from_server, 0..0, |segment| segment.flags.has(Flags::SYN));
    network.client(SERVER, |stack| async move {
        let listener = stack.bind(PORT)?;
        let mut stream = listener.accept().await?;
        stream.shutdown().await?;
        expect_end(&mut stream).await?;
        sleep(SECOND * 10).await;
        Ok(())
    });
    network.client(CLIENT, |stack| async move { expect_end(&mut stack.connect(server()).await?).await });
    network.finish(SECOND * 12);
    assert_eq!(answers.load(Ordering::Relaxed), 1);
}

/// What a listener had not given out is given out with its end.
#[test]
fn a_connection_that_dies_in_the_backlog_is_accepted_and_says_so() {
    let mut network = Network::new(1);
    network.settings.backlog = 1;
    network.client(SERVER, |stack| async move {
        let listener = stack.bind(PORT)?;
        sleep(SECOND * 5).await;
        let mut dead = listener.accept().await?;
        assert_eq!(read(&mut dead, 1).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
        drop(dead);
        assert_eq!(read(&mut listener.accept().await?, 5).await?, b"alive");
        Ok(())
    });
    // Its SYN, from the same port, has the connection reset.
    network.client_that_comes_back(b"alive");
    network.finish(SECOND * 20);
}
