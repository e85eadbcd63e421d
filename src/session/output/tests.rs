//! The output beside a transport that takes as much as it likes, whenever it likes.

use std::collections::VecDeque;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::{
    config::Config,
    session::frame::{Kind, flags},
};

/// What a write or a flush finds.
#[derive(Clone, Copy)]
enum Takes {
    Some(usize),
    Nothing,
    Fails,
}

#[derive(Default)]
struct Transport {
    is_vectored: bool,
    /// What the next calls find; after these everything is taken.
    next: VecDeque<Takes>,
    taken: Vec<u8>,
    flushed: usize,
}

impl Transport {
    fn take(&mut self) -> Poll<io::Result<usize>> {
        match self.next.pop_front() {
            Some(Takes::Nothing) => Poll::Pending,
            Some(Takes::Fails) => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            Some(Takes::Some(most)) => Poll::Ready(Ok(most)),
            None => Poll::Ready(Ok(usize::MAX)),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let most = ready!(self.take())?.min(buf.len());
        self.taken.extend(&buf[..most]);
        Poll::Ready(Ok(most))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let all: Vec<u8> = bufs.iter().flat_map(|buf| buf.iter().copied()).collect();
        let most = ready!(self.take())?.min(all.len());
        self.taken.extend(&all[..most]);
        Poll::Ready(Ok(most))
    }

    fn is_write_vectored(&self) -> bool {
        self.is_vectored
    }

    fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.take())?;
        self.flushed = self.taken.len();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

struct Bench {
    output: Output<Transport>,
    io: Transport,
    heartbeat: Heartbeat,
    now: Instant,
}

impl Bench {
    fn new(withhold: bool) -> Self {
        let (io, now) = (Transport::default(), Instant::now());
        let outlet = Outlet { unsent_limit: None, gate: Arc::default() };
        let output = Output::new(&io, withhold, outlet);
        let mut heartbeat = Heartbeat::new(&Config::default(), now, now);
        heartbeat.start(now);
        Self { output, io, heartbeat, now }
    }

    fn flush(&mut self) -> Poll<()> {
        let cx = &mut Context::from_waker(std::task::Waker::noop());
        self.output.poll_flush(&mut self.io, &mut self.heartbeat, cx)
    }

    /// The crate writes this, as far as it is taken; the rest comes in the next call.
    fn write(&mut self, bytes: &mut VecDeque<u8>) {
        let cx = &mut Context::from_waker(std::task::Waker::noop());
        bytes.make_contiguous();
        let (buf, _) = bytes.as_slices();
        if self.output.expects_body() {
            if let Poll::Ready(n) = self.output.poll_body(&mut self.io, &mut self.heartbeat, cx, buf) {
                bytes.drain(..n);
            }
        } else if let Poll::Ready((n, header)) = self.output.poll_header(&mut self.io, &mut self.heartbeat, cx, buf) {
            bytes.drain(..n);
            if let Some(header) = header {
                let header = Header::decode(header).unwrap();
                self.output.begin_body(header.body_len(), false);
                self.output.push_frame(header);
            }
        }
    }

    /// Whether the heartbeat's time would be up, had it been asked for a ping that the transport has taken.
    fn is_stalled(&self) -> bool {
        self.heartbeat.was_dead(self.now + Config::default().write_timeout() + std::time::Duration::from_secs(1))
    }
}

fn data(length: u32) -> Header {
    Header { kind: Kind::Data, flags: 0, stream_id: 1, length }
}

/// What goes out, frame by frame.
fn frames(mut bytes: &[u8]) -> Vec<(Header, Vec<u8>)> {
    let mut frames = Vec::new();
    while let Some((header, rest)) = bytes.split_first_chunk() {
        let header = Header::decode(*header).unwrap();
        let (body, rest) = rest.split_at(header.body_len() as usize);
        frames.push((header, body.to_vec()));
        bytes = rest;
    }
    assert!(bytes.is_empty(), "{} bytes are no frame", bytes.len());
    frames
}

#[test]
fn whatever_the_transport_takes_each_frame_goes_out_whole_once_and_in_order() {
    for seed in 0..60 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut bench = Bench::new(false);
        bench.io.is_vectored = rng.random();
        let (mut of_the_crate, mut own, mut wanted) = (VecDeque::new(), Vec::new(), Vec::new());
        for number in 0..rng.random_range(1..12) {
            let length = [0, 1, 11, 5_000, 40_000, 200_000][rng.random_range(0..6)];
            let mut body = vec![0; length as usize];
            rand::Rng::fill_bytes(&mut rng, &mut body);
            of_the_crate.extend(data(length).encode());
            of_the_crate.extend(&body);
            wanted.push((data(length), body));
            own.push(Header::pong(number));
            own.push(Header::reset(number));
        }
        let mut next_own = own.iter();
        let mut patience = 100_000;
        while !of_the_crate.is_empty() {
            patience -= 1;
            assert!(patience > 0, "it does not come to its end");
            if rng.random_ratio(1, 3) {
                bench.io.next.push_back(if rng.random() {
                    Takes::Nothing
                } else {
                    Takes::Some(rng.random_range(1..9_000))
                });
            }
            if rng.random_ratio(1, 5)
                && let Some(header) = next_own.next()
            {
                let is_pong = header.kind == Kind::Ping;
                let pushed = if is_pong { bench.output.push_pong(*header) } else { bench.output.push_control(*header) };
                pushed.unwrap();
            }
            if rng.random_ratio(1, 10) {
                let _ = bench.flush();
            }
            bench.write(&mut of_the_crate);
            let out = bench.io.taken.len() as u64;
            assert!(bench.output.has_taken(out) && !bench.output.has_taken(out + 1), "{out} bytes are out");
            assert!(bench.output.end() >= out);
        }
        let pushed = own.len() - next_own.len();
        while bench.flush().is_pending() {}
        assert!(bench.output.is_between_frames() && !bench.output.is_blocked());
        assert_eq!((bench.io.flushed, bench.output.end()), (bench.io.taken.len(), bench.io.taken.len() as u64));
        let (out_of_the_crate, of_own): (Vec<_>, Vec<_>) =
            frames(&bench.io.taken).into_iter().partition(|(header, _)| header.kind == Kind::Data);
        assert!(out_of_the_crate == wanted, "the frames of the crate, seed {seed}");
        for kind in [Kind::Ping, Kind::WindowUpdate] {
            let out = of_own.iter().map(|(header, _)| *header).filter(|header| header.kind == kind);
            let wanted = own[..pushed].iter().copied().filter(|header| header.kind == kind);
            assert!(out.eq(wanted), "our own frames, seed {seed}");
        }
    }
}

#[test]
fn it_is_blocked_from_a_refusal_until_there_is_room() {
    let mut bench = Bench::new(false);
    bench.output.push_frame(Header::pong(1));
    bench.io.next.push_back(Takes::Nothing);
    assert!(bench.flush().is_pending() && bench.output.is_blocked() && bench.is_stalled());
    bench.io.next.push_back(Takes::Some(5));
    bench.io.next.push_back(Takes::Nothing);
    assert!(bench.flush().is_pending() && bench.output.is_blocked(), "it took some, and refused the rest");
    assert_eq!(bench.heartbeat.signs_of_life(), 1);
    assert!(bench.flush().is_ready());
    assert!(!bench.output.is_blocked() && !bench.is_stalled());
    assert_eq!(bench.heartbeat.signs_of_life(), 2);
    // A refusal to flush counts as well, and nothing more is written before that is done.
    bench.output.push_frame(Header::pong(2));
    bench.io.next.extend([Takes::Some(12), Takes::Nothing]);
    assert!(bench.flush().is_pending() && bench.output.is_blocked());
    bench.output.push_frame(Header::pong(3));
    bench.io.next.push_back(Takes::Nothing);
    assert!(bench.flush().is_pending());
    assert_eq!((bench.io.taken.len(), bench.io.flushed), (24, 12));
    assert!(bench.flush().is_ready());
    assert_eq!((bench.io.taken.len(), bench.io.flushed), (36, 36));
}

#[test]
fn a_look_is_complete_when_the_transport_has_answered() {
    for next in [&[][..], &[Takes::Nothing], &[Takes::Fails]] {
        let mut bench = Bench::new(false);
        bench.output.push_frame(Header::pong(1));
        bench.output.begin_look();
        assert!(!bench.output.has_looked());
        bench.io.next.extend(next);
        let _ = bench.flush();
        let _ = bench.flush();
        assert!(bench.output.has_looked());
    }
}

#[test]
fn after_a_failure_nothing_more_is_written() {
    let mut bench = Bench::new(false);
    bench.output.push_frame(Header::pong(1));
    bench.io.next.push_back(Takes::Fails);
    assert!(bench.flush().is_ready());
    assert_eq!(bench.output.error().map(|error| error.kind()), Some(io::ErrorKind::BrokenPipe));
    bench.output.push_control(Header::reset(1)).unwrap();
    let mut rest = VecDeque::from([data(3).encode().to_vec(), vec![1, 2, 3]].concat());
    while !rest.is_empty() {
        bench.write(&mut rest);
    }
    assert!(bench.flush().is_ready() && bench.io.taken.is_empty());
    assert!(!bench.output.has_taken(1) && bench.is_stalled());
}

#[test]
fn what_is_withheld_waits_for_the_publication_and_the_rest_does_not() {
    let mut bench = Bench::new(true);
    bench.output.push_pong(Header::pong(1)).unwrap();
    bench.output.push_control(Header::reset(1)).unwrap();
    assert!(bench.flush().is_ready());
    assert_eq!(frames(&bench.io.taken).len(), 1);
    assert!(bench.output.publish() && !bench.output.publish());
    bench.output.push_first_pong(Header::pong(0));
    assert!(bench.flush().is_ready());
    let out: Vec<_> = frames(&bench.io.taken).into_iter().map(|(header, _)| header).collect();
    assert_eq!(out, [Header::reset(1), Header::pong(0), Header::pong(1)]);
}

#[test]
fn more_than_may_wait_is_a_flood() {
    let mut bench = Bench::new(false);
    // Nothing of it may go out: it is in the middle of a frame.
    let mut begun = VecDeque::from(data(1).encode()[..6].to_vec());
    bench.write(&mut begun);
    assert!(!bench.output.is_between_frames());
    for number in 0..64 {
        bench.output.push_pong(Header::pong(number)).unwrap();
    }
    assert!(matches!(bench.output.push_pong(Header::pong(64)), Err(CloseReason::PingFlood)));
    for number in 0..1_024 {
        bench.output.push_control(Header::reset(number)).unwrap();
    }
    assert!(matches!(bench.output.push_control(Header::reset(0)), Err(CloseReason::ControlFlood)));
    // Between two frames they make room for each other, as long as there is some in the buffer.
    let mut bench = Bench::new(false);
    for number in 0..2_500 {
        bench.output.push_control(Header::reset(number)).unwrap();
        bench.output.push_pong(Header::pong(number)).unwrap();
    }
}

#[test]
fn the_heartbeat_waits_from_when_its_ping_was_taken() {
    let mut bench = Bench::new(false);
    let ping = Header::ping(9);
    bench.heartbeat.on_ping_queued();
    bench.output.push_heartbeat(ping);
    bench.io.next.push_back(Takes::Some(11));
    bench.io.next.push_back(Takes::Nothing);
    let _ = bench.flush();
    bench.heartbeat.on_write_progress();
    assert_eq!(bench.heartbeat.deadline(), None, "one byte of it is missing");
    assert!(bench.flush().is_ready());
    assert!(bench.heartbeat.deadline().is_some(), "it is out");
}

#[test]
fn a_flush_is_put_off_once_where_answers_may_come() {
    let mut bench = Bench::new(false);
    bench.output.begin_round();
    for _ in 0..3 {
        bench.output.expect_answer();
    }
    assert!(!bench.output.defer(true) && !bench.output.is_put_off(), "few frames are not worth it");
    for _ in 0..4 {
        bench.output.expect_answer();
    }
    assert!(!bench.output.defer(false), "a session that is not proven waits for nothing");
    for _ in 0..4 {
        bench.output.expect_answer();
    }
    assert!(bench.output.defer(true) && bench.output.is_put_off());
    bench.output.begin_round();
    assert!(!bench.output.is_put_off() && !bench.output.defer(true), "once");
    bench.output.begin_round();
    for _ in 0..4 {
        bench.output.expect_answer();
    }
    bench.output.seal();
    assert!(!bench.output.defer(true), "nothing more will come");
    assert!(bench.output.refuses_frames());
}

#[test]
fn what_is_shut_sends_nothing_of_its_own() {
    let mut bench = Bench::new(false);
    bench.output.shut();
    bench.output.push_control(Header { flags: flags::RST, ..Header::reset(1) }).unwrap();
    assert!(bench.flush().is_ready() && bench.io.taken.is_empty());
}
