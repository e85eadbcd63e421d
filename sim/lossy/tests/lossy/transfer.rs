//! Every byte arrives, once and in order, whatever the network does that passes.

use std::io;
use std::ops::Range;
use std::time::Duration;

use lossy::{Conditions, Stack, Stream, Verdict};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::network::{CLIENT, Network, PORT, SERVER, bytes, echo, expect_end, lose, read, server};

const SECOND: Duration = Duration::from_secs(1);

fn bad(share: f64) -> Conditions {
    Conditions { loss: share, duplication: share, reordering: share, ..Conditions::default() }
}

async fn ask(stream: &mut Stream, seed: u64, count: usize) -> io::Result<()> {
    let request = bytes(seed, count);
    let (mut reader, mut writer) = tokio::io::split(stream);
    let mut reply = vec![0; count];
    tokio::try_join!(writer.write_all(&request), reader.read_exact(&mut reply))?;
    assert!(reply == request, "a reply is not what was sent");
    Ok(())
}

#[test]
fn requests_have_their_replies_at_0_to_20_percent_of_loss_duplication_and_reordering() {
    for percent in [0, 1, 2, 5, 10, 15, 20] {
        for seed in 0..5 {
            let mut network = Network::with(seed, &bad(f64::from(percent) / 100.0));
            network.client(SERVER, |stack| async move { echo(stack.bind(PORT)?.accept().await?).await });
            network.client(CLIENT, |stack| async move {
                let mut stream = stack.connect(server()).await?;
                for (round, count) in [1, 100, 1_400, 1_401, 50_000, 200_000].into_iter().enumerate() {
                    ask(&mut stream, round as u64, count).await?;
                }
                stream.shutdown().await?;
                expect_end(&mut stream).await
            });
            network.finish(SECOND * 240);
            let is_bad = percent > 0;
            for name in ["retransmitted segments", "duplicate segments", "out of order segments"] {
                assert!(is_bad || network.count(name) == 0, "{name} on a good network");
                assert!(percent < 5 || network.count(name) > 0, "no {name} on a bad network");
            }
        }
    }
}

#[test]
fn each_of_loss_duplication_and_reordering_does_what_it_says() {
    let run = |conditions| {
        let mut network = Network::with(1, &conditions);
        network.client(SERVER, |stack| async move { echo(stack.bind(PORT)?.accept().await?).await });
        network.client(CLIENT, |stack| async move { ask(&mut stack.connect(server()).await?, 1, 50_000).await });
        network.finish(SECOND * 60);
        ["retransmitted segments", "duplicate segments", "out of order segments"].map(|name| network.count(name) > 0)
    };
    assert!(run(Conditions { loss: 0.1, ..Conditions::default() })[0]);
    assert_eq!(run(Conditions { duplication: 0.1, ..Conditions::default() }), [false, true, false]);
    let shortly = Conditions { reordering_delay: SECOND / 100, ..Conditions::default() };
    assert!(run(Conditions { reordering: 0.1, ..shortly })[2]);
}

#[test]
fn data_flows_one_way_at_0_to_20_percent_of_loss_duplication_and_reordering() {
    const COUNT: usize = 1 << 20;
    for percent in [0, 5, 10, 20] {
        for seed in 0..5 {
            let mut network = Network::with(seed, &bad(f64::from(percent) / 100.0));
            network.client(SERVER, move |stack| async move {
                let mut stream = stack.bind(PORT)?.accept().await?;
                assert!(read(&mut stream, COUNT).await? == bytes(seed, COUNT));
                expect_end(&mut stream).await
            });
            network.client(CLIENT, move |stack| async move {
                stack.connect(server()).await?.write_all(&bytes(seed, COUNT)).await
            });
            network.finish(SECOND * 240);
        }
    }
}

/// 64 KiB in a round trip of 20 ms are 3.2 MB a second.
#[test]
fn a_good_network_is_used_by_whole_windows() {
    let mut network = Network::new(1);
    network.client(SERVER, |stack| async move {
        let mut stream = stack.bind(PORT)?.accept().await?;
        read(&mut stream, 1 << 20).await.map(drop)
    });
    network.client(CLIENT, |stack| async move { stack.connect(server()).await?.write_all(&vec![7; 1 << 20]).await });
    let elapsed = network.finish(SECOND * 5);
    assert!(elapsed < Duration::from_millis(700), "a mebibyte took {elapsed:?}");
}

/// Two ACKs that repeat a number are no loss.
#[test]
fn a_segment_that_two_others_overtake_is_not_sent_again() {
    let mut network = Network::new(1);
    let mut sent = 0;
    network.from_client.filter(move |segment| {
        sent += u32::from(!segment.payload.is_empty());
        if sent == 1 && !segment.payload.is_empty() { Verdict::Late(SECOND / 10) } else { Verdict::Sent }
    });
    network.client(SERVER, |stack| async move {
        let mut stream = stack.bind(PORT)?.accept().await?;
        assert_eq!(read(&mut stream, 4_200).await?, bytes(1, 4_200));
        Ok(())
    });
    network.client(CLIENT, |stack| async move { stack.connect(server()).await?.write_all(&bytes(1, 4_200)).await });
    network.finish(SECOND * 5);
    assert_eq!(network.count("out of order segments"), 2);
    assert_eq!(network.count("retransmitted segments"), 0);
}

/// The first measurement is that of the handshake.
#[test]
fn a_way_that_is_longer_than_the_least_timeout_causes_no_retransmission() {
    let far = Conditions { latency: Duration::from_millis(300), ..Conditions::default() };
    let mut network = Network::with(1, &far);
    network.client(SERVER, |stack| async move { echo(stack.bind(PORT)?.accept().await?).await });
    network.client(CLIENT, |stack| async move {
        let mut stream = stack.connect(server()).await?;
        for round in 0..20 {
            ask(&mut stream, round, 1_000).await?;
        }
        Ok(())
    });
    network.finish(SECOND * 30);
    assert_eq!(network.count("retransmitted segments"), 0);
}

/// 50,000 bytes, of whose long segments these are lost. Returns how long they took.
fn bulk_without(network: &mut Network, lost: Range<usize>) -> Duration {
    lose(&network.from_client, lost, |segment| segment.payload.len() > 1_000);
    network.client(SERVER, |stack| async move {
        let mut stream = stack.bind(PORT)?.accept().await?;
        assert!(read(&mut stream, 50_000).await? == bytes(1, 50_000));
        Ok(())
    });
    network.client(CLIENT, |stack| async move { stack.connect(server()).await?.write_all(&bytes(1, 50_000)).await });
    network.finish(SECOND * 5)
}

#[test]
fn one_lost_segment_of_many_is_sent_again_before_any_timeout() {
    let mut network = Network::new(1);
    let elapsed = bulk_without(&mut network, 10..11);
    assert_eq!((network.count("fast retransmits"), network.count("retransmitted segments")), (1, 1));
    assert!(elapsed < Duration::from_millis(200), "a timeout was waited for: {elapsed:?}");
}

#[test]
fn several_lost_segments_of_a_window_are_sent_again_one_in_a_round_trip() {
    let mut network = Network::new(1);
    let elapsed = bulk_without(&mut network, 5..10);
    assert_eq!((network.count("fast retransmits"), network.count("retransmitted segments")), (1, 5));
    assert!(elapsed < Duration::from_millis(300), "a timeout was waited for: {elapsed:?}");
}

/// What is sent at a rate is late by its size, and what does not fit the queue is lost.
#[test]
fn a_narrow_line_delays_and_drops_at_the_tail_of_its_queue() {
    let run = |queue_bytes| {
        let narrow = Conditions { bytes_per_second: Some(100_000), queue_bytes, ..Conditions::default() };
        let mut network = Network::with(1, &narrow);
        network.client(SERVER, |stack| async move {
            let mut stream = stack.bind(PORT)?.accept().await?;
            assert!(read(&mut stream, 200_000).await? == bytes(1, 200_000));
            Ok(())
        });
        network
            .client(CLIENT, |stack| async move { stack.connect(server()).await?.write_all(&bytes(1, 200_000)).await });
        let elapsed = network.finish(SECOND * 60);
        assert!(elapsed > SECOND * 2, "200 KB at 100 KB a second took {elapsed:?}");
        (elapsed, network.count("retransmitted segments"))
    };
    let (deep, shallow) = (run(1 << 20), run(10_000));
    assert!(deep.0 < SECOND * 3, "the line was not filled: {deep:?}");
    assert!(shallow.1 > deep.1, "nothing was lost in a short queue: {shallow:?}, {deep:?}");
}

#[test]
fn what_was_written_before_the_stream_was_dropped_arrives() {
    for seed in 0..20 {
        let mut network = Network::with(seed, &bad(0.15));
        network.client(SERVER, move |stack| async move {
            let mut stream = stack.bind(PORT)?.accept().await?;
            assert!(read(&mut stream, 30_000).await? == bytes(seed, 30_000));
            expect_end(&mut stream).await
        });
        network.client(CLIENT, move |stack| async move {
            let written = stack.connect(server()).await?.write(&bytes(seed, 30_000)).await?;
            assert_eq!(written, 30_000, "it does not fit into the buffer");
            Ok(())
        });
        network.finish(SECOND * 120);
    }
}

#[test]
fn a_segment_ahead_of_a_gap_is_kept() {
    let mut network = Network::new(1);
    let sent = lose(&network.from_client, 0..1, |segment| !segment.payload.is_empty());
    network.client(SERVER, |stack| async move {
        let mut stream = stack.bind(PORT)?.accept().await?;
        assert_eq!(read(&mut stream, 2_800).await?, bytes(1, 2_800));
        expect_end(&mut stream).await
    });
    network.client(CLIENT, |stack| async move { stack.connect(server()).await?.write_all(&bytes(1, 2_800)).await });
    network.finish(SECOND * 5);
    assert_eq!(sent.load(std::sync::atomic::Ordering::Relaxed), 3, "two, and the lost one once more");
}

/// Request and reply, bulk both ways at once, and half-close.
async fn work_of_client(stack: Stack, seed: u64) -> io::Result<()> {
    let mut stream = stack.connect(server()).await?;
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    for round in 0..3 {
        ask(&mut stream, round, rng.random_range(1..4_000)).await?;
    }
    ask(&mut stream, seed, 60_000).await?;
    stream.write_all(b"last").await?;
    stream.shutdown().await?;
    assert_eq!(read(&mut stream, 4).await?, b"last");
    expect_end(&mut stream).await
}

#[test]
fn in_1600_runs_at_10_percent_of_loss_and_duplication_and_20_of_reordering_none_hangs() {
    let impairments = Conditions { loss: 0.1, duplication: 0.1, reordering: 0.2, ..Conditions::default() };
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let impairments = &impairments;
            scope.spawn(move || {
                for seed in (thread..1_600).step_by(2) {
                    let mut network = Network::with(seed, impairments);
                    network.client(SERVER, |stack| async move { echo(stack.bind(PORT)?.accept().await?).await });
                    network.client(CLIENT, move |stack| work_of_client(stack, seed));
                    network.finish(SECOND * 300);
                }
            });
        }
    });
}

#[test]
fn a_run_depends_on_its_seed_alone() {
    let run = |seed| {
        let mut network = Network::with(seed, &bad(0.1));
        network.client(SERVER, |stack| async move { echo(stack.bind(PORT)?.accept().await?).await });
        network.client(CLIENT, move |stack| work_of_client(stack, 1));
        (network.finish(SECOND * 300), format!("{:?}", network.counters))
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}
