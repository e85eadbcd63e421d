//! One particular segment is lost, or everything for a while.

use std::sync::atomic::Ordering;
use std::time::Duration;

use lossy::{Flags, Segment, Settings};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, interval, sleep, timeout};

use crate::network::{CLIENT, Network, PORT, SERVER, bytes, echo, expect_end, lose, read, server};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn when_the_last_pure_ack_is_lost_the_peer_asks_once_and_then_both_are_idle() {
    let mut network = Network::new(1);
    let acks = lose(&network.from_client, 1..2, Segment::is_pure_ack);
    network.client(SERVER, |stack| async move {
        let mut stream = stack.bind(PORT)?.accept().await?;
        stream.write_all(b"hello").await?;
        assert_eq!(read(&mut stream, 5).await?, b"still");
        expect_end(&mut stream).await
    });
    let counters = network.counters.clone();
    network.client(CLIENT, move |stack| async move {
        let mut stream = stack.connect(server()).await?;
        assert_eq!(read(&mut stream, 5).await?, b"hello");
        sleep(SECOND * 30).await;
        // The first is that of the handshake.
        assert_eq!(acks.load(Ordering::Relaxed), 3);
        assert_eq!(counters.get("retransmitted segments"), 1);
        assert_eq!(counters.get("duplicate segments"), 1);
        stream.write_all(b"still").await
    });
    network.finish(SECOND * 35);
}

#[test]
fn a_slow_reader_stops_the_writer_and_a_lost_window_update_does_not_stop_it_for_ever() {
    const COUNT: usize = 300_000;
    let mut network = Network::new(1);
    network.settings.receive_buffer = 20_000;
    network.settings.send_buffer = 10_000;
    let impairments = network.from_server.clone();
    network.client(SERVER, move |stack| async move {
        let mut stream = stack.bind(PORT)?.accept().await?;
        sleep(SECOND * 10).await;
        // The window opens with the first read, of which the writer is not told.
        let updates = lose(&impairments, 0..1, |segment| segment.is_pure_ack() && segment.window > 0);
        assert!(read(&mut stream, COUNT).await? == bytes(1, COUNT));
        assert!(updates.load(Ordering::Relaxed) > 1);
        expect_end(&mut stream).await
    });
    network.client(CLIENT, |stack| async move {
        let mut stream = stack.connect(server()).await?;
        let sent = bytes(1, COUNT);
        let mut all = std::pin::pin!(stream.write_all(&sent));
        assert!(timeout(SECOND * 9, all.as_mut()).await.is_err(), "nothing stops the writer");
        all.await
    });
    let elapsed = network.finish(SECOND * 30);
    // From 200 ms on, doubling.
    assert_eq!(network.count("zero window probes"), 6);
    assert!(elapsed > Duration::from_secs(12), "the probe at 12.6 s was not needed: {elapsed:?}");
    assert_eq!(network.count("retransmitted segments"), 0);
}

#[test]
fn a_window_that_opens_is_announced() {
    let mut network = Network::new(1);
    network.client(SERVER, |stack| async move {
        let mut stream = stack.bind(PORT)?.accept().await?;
        sleep(SECOND * 10).await;
        let begun = Instant::now();
        read(&mut stream, 300_000).await?;
        assert!(begun.elapsed() < Duration::from_millis(300), "the writer waited for a probe: {:?}", begun.elapsed());
        Ok(())
    });
    network.client(CLIENT, |stack| async move { stack.connect(server()).await?.write_all(&vec![7; 300_000]).await });
    network.finish(SECOND * 30);
}

/// What is sent into it has a timeout of its own: the next probe would have been at 12.6 s.
#[test]
fn what_is_lost_when_a_window_opens_is_sent_again_soon() {
    let mut network = Network::new(1);
    network.client(SERVER, |stack| async move {
        let mut stream = stack.bind(PORT)?.accept().await?;
        sleep(SECOND * 10).await;
        assert!(read(&mut stream, 100_000).await? == bytes(1, 100_000));
        Ok(())
    });
    network.client(CLIENT, |stack| async move { stack.connect(server()).await?.write_all(&bytes(1, 100_000)).await });
    network.until(SECOND * 10);
    network.from_client.change(|it| it.loss = 1.0);
    network.until(SECOND * 10 + SECOND / 10);
    network.from_client.change(|it| it.loss = 0.0);
    let elapsed = network.finish(SECOND * 30);
    assert!(network.count("retransmitted segments") > 0);
    assert!(elapsed < SECOND * 12, "{elapsed:?}");
}

/// A reader that answers is there, however long it does not read.
#[test]
fn a_window_that_stays_closed_for_longer_than_the_abort_timeout_aborts_nothing() {
    let mut network = Network::new(1);
    network.settings.user_timeout = SECOND * 30;
    network.client(SERVER, |stack| async move {
        let mut stream = stack.bind(PORT)?.accept().await?;
        sleep(SECOND * 150).await;
        assert!(read(&mut stream, 300_000).await? == bytes(1, 300_000));
        Ok(())
    });
    network.client(CLIENT, |stack| async move { stack.connect(server()).await?.write_all(&bytes(1, 300_000)).await });
    network.finish(SECOND * 160);
}

/// It ends nothing, whichever direction is cut.
#[test]
fn a_one_way_partition_of_5_seconds_is_lived_through() {
    for (from, to) in [(CLIENT, SERVER), (SERVER, CLIENT)] {
        let mut network = Network::new(1);
        network.client(SERVER, |stack| async move { echo(stack.bind(PORT)?.accept().await?).await });
        network.client(CLIENT, |stack| async move {
            let mut stream = stack.connect(server()).await?;
            for round in 0..100 {
                stream.write_all(&bytes(round, 10_000)).await?;
                assert!(read(&mut stream, 10_000).await? == bytes(round, 10_000));
                sleep(Duration::from_millis(50)).await;
            }
            stream.shutdown().await?;
            expect_end(&mut stream).await
        });
        network.until(SECOND * 3);
        network.sim.partition_oneway(from, to);
        network.until(SECOND * 8);
        network.sim.repair_oneway(from, to);
        // The last retransmission in the partition was 3.2 s after the one before at the latest.
        let elapsed = network.finish(SECOND * 60);
        assert!(elapsed > SECOND * 13 && elapsed < SECOND * 20, "{elapsed:?}");
        assert!((5..30).contains(&network.count("retransmitted segments")), "{:?}", network.counters);
    }
}

#[test]
fn the_weather_may_change_at_any_time() {
    let mut network = Network::new(1);
    network.client(SERVER, |stack| async move { echo(stack.bind(PORT)?.accept().await?).await });
    network.client(CLIENT, |stack| async move {
        let mut stream = stack.connect(server()).await?;
        let mut seconds = interval(SECOND);
        for round in 0..10 {
            seconds.tick().await;
            let begun = Instant::now();
            stream.write_all(&bytes(round, 1_000)).await?;
            assert!(read(&mut stream, 1_000).await? == bytes(round, 1_000));
            let is_storm = begun.elapsed() > SECOND * 3;
            assert_eq!(is_storm, round == 4, "round {round} took {:?}", begun.elapsed());
        }
        Ok(())
    });
    network.until(Duration::from_millis(3_500));
    network.from_client.change(|it| it.loss = 1.0);
    network.until(Duration::from_millis(8_500));
    network.from_client.change(|it| it.loss = 0.0);
    network.finish(SECOND * 20);
}

#[test]
fn a_two_way_partition_of_60_seconds_is_lived_through_by_the_settings_of_linux() {
    let mut network = Network::new(1);
    network.client(SERVER, |stack| async move { echo(stack.bind(PORT)?.accept().await?).await });
    network.client(CLIENT, |stack| async move {
        let mut stream = stack.connect(server()).await?;
        sleep(SECOND * 2).await;
        stream.write_all(b"through").await?;
        assert_eq!(read(&mut stream, 7).await?, b"through");
        Ok(())
    });
    network.until(SECOND);
    network.sim.partition(CLIENT, SERVER);
    network.until(SECOND * 61);
    network.sim.repair(CLIENT, SERVER);
    // The pauses double from 200 ms: a retransmission is due 102.2 s after the first sending.
    let elapsed = network.finish(SECOND * 120);
    assert!(elapsed > SECOND * 100, "{elapsed:?}");
    assert_eq!(network.count("RTO aborts"), 0);
}

#[test]
fn a_two_way_partition_of_60_seconds_aborts_when_the_abort_timeout_is_30() {
    let mut network = Network::new(1);
    network.settings = Settings { user_timeout: SECOND * 30, ..Settings::default() };
    for host in [SERVER, CLIENT] {
        network.client(host, move |stack| async move {
            let stream = match host {
                SERVER => stack.bind(PORT)?.accept().await?,
                _ => stack.connect(server()).await?,
            };
            sleep(SECOND * 2).await;
            let begun = Instant::now();
            let (mut reader, mut writer) = tokio::io::split(stream);
            let fill = async {
                loop {
                    if let Err(error) = writer.write(&[7; 1_000]).await {
                        return error;
                    }
                }
            };
            let (read, written) = tokio::join!(reader.read_u8(), fill);
            let waited = begun.elapsed();
            assert!(waited >= SECOND * 30 && waited < SECOND * 31, "{waited:?}");
            // One of them is told why, and the other that it is over.
            let kinds = [read.unwrap_err().kind(), written.kind()];
            assert!(kinds.contains(&std::io::ErrorKind::TimedOut), "{kinds:?}");
            Ok(())
        });
    }
    network.until(SECOND);
    network.sim.partition(CLIENT, SERVER);
    network.until(SECOND * 61);
    network.sim.repair(CLIENT, SERVER);
    network.finish(SECOND * 62);
    assert_eq!(network.count("RTO aborts"), 2);
}

/// With nothing to send, nobody notices.
#[test]
fn an_idle_connection_outlives_any_partition() {
    let mut network = Network::new(1);
    network.settings.user_timeout = SECOND * 30;
    network.client(SERVER, |stack| async move { echo(stack.bind(PORT)?.accept().await?).await });
    network.client(CLIENT, |stack| async move {
        let mut stream = stack.connect(server()).await?;
        sleep(SECOND * 100).await;
        stream.write_all(b"through").await?;
        assert_eq!(read(&mut stream, 7).await?, b"through");
        Ok(())
    });
    network.until(SECOND);
    network.sim.partition(CLIENT, SERVER);
    network.until(SECOND * 91);
    network.sim.repair(CLIENT, SERVER);
    network.finish(SECOND * 102);
}

#[test]
fn a_half_close_survives_the_loss_of_fin_and_of_its_ack() {
    for loses_fin in [true, false] {
        let mut network = Network::new(1);
        let mut is_sent = false;
        let fins = if loses_fin {
            lose(&network.from_client, 0..1, |segment| segment.flags.has(Flags::FIN))
        } else {
            let impairments = network.from_server.clone();
            lose(&network.from_client, 0..0, move |segment| {
                let is_fin = segment.flags.has(Flags::FIN);
                if is_fin && !std::mem::replace(&mut is_sent, true) {
                    let end = segment.end();
                    lose(&impairments, 0..1, move |segment| segment.ack == end);
                }
                is_fin
            })
        };
        network.client(SERVER, |stack| async move {
            let mut stream = stack.bind(PORT)?.accept().await?;
            expect_end(&mut stream).await?;
            sleep(SECOND * 10).await;
            stream.write_all(b"reply").await
        });
        network.client(CLIENT, |stack| async move {
            let mut stream = stack.connect(server()).await?;
            stream.shutdown().await?;
            assert_eq!(read(&mut stream, 5).await?, b"reply");
            expect_end(&mut stream).await
        });
        network.finish(SECOND * 11);
        assert_eq!(network.count("retransmitted segments"), 1, "{:?}", network.counters);
        assert_eq!(fins.load(Ordering::Relaxed), 2, "FIN is sent twice");
        assert_eq!(network.count("resets sent"), 0);
    }
}

/// The end that closed first acknowledges the FIN of the other as often as it comes.
#[test]
fn when_the_ack_of_the_last_fin_is_lost_time_wait_repeats_it() {
    let mut network = Network::new(1);
    // The first is that of the handshake.
    lose(&network.from_client, 1..3, Segment::is_pure_ack);
    network.client(SERVER, |stack| async move {
        let mut stream = stack.bind(PORT)?.accept().await?;
        expect_end(&mut stream).await
    });
    network.client(CLIENT, |stack| async move {
        let mut stream = stack.connect(server()).await?;
        stream.shutdown().await?;
        expect_end(&mut stream).await
    });
    network.finish(SECOND * 5);
    assert_eq!(network.count("retransmitted segments"), 2);
    assert_eq!(network.count("resets sent"), 0);
}

#[test]
fn after_a_power_loss_the_next_write_meets_a_reset() {
    let mut network = Network::new(1);
    network.host(SERVER, |stack| async move {
        let mut stream = stack.bind(PORT)?.accept().await?;
        stream.write_all(b"welcome").await?;
        expect_end(&mut stream).await
    });
    network.client(CLIENT, |stack| async move {
        let mut stream = stack.connect(server()).await?;
        assert_eq!(read(&mut stream, 7).await?, b"welcome");
        assert!(timeout(SECOND * 60, stream.read_u8()).await.is_err(), "a host without power says something");
        stream.write_all(b"hello").await?;
        let error = stream.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        // And there is another server at the same place.
        assert_eq!(read(&mut stack.connect(server()).await?, 7).await?, b"welcome");
        Ok(())
    });
    network.until(SECOND);
    network.sim.crash(SERVER);
    network.until(SECOND * 30);
    network.sim.bounce(SERVER);
    network.finish(SECOND * 62);
}

/// It comes back with the same port: its SYN is answered by a challenge, and it has the old connection reset.
#[test]
fn a_client_that_lost_its_power_connects_from_the_same_port_again() {
    let mut network = Network::new(1);
    network.client(SERVER, |stack| async move {
        let listener = stack.bind(PORT)?;
        let mut first = listener.accept().await?;
        let mut second = listener.accept().await?;
        assert_eq!(first.peer_addr(), second.peer_addr());
        let error = first.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        assert_eq!(read(&mut second, 5).await?, b"again");
        Ok(())
    });
    network.client_that_comes_back(b"again");
    network.finish(SECOND * 10);
    assert_eq!(network.count("challenge ACKs"), 1);
}
