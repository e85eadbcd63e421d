//! The input beside a transport that gives as much as it likes, whenever it likes.

use std::{collections::VecDeque, task::Waker};

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;

/// What the next read finds.
enum Gives {
    Some(usize),
    Nothing,
    Fails,
}

#[derive(Default)]
struct Transport {
    bytes: VecDeque<u8>,
    /// What the next reads find; after these all that is there, and then the end.
    next: VecDeque<Gives>,
}

impl AsyncRead for Transport {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let most = match self.next.pop_front() {
            Some(Gives::Nothing) => return Poll::Pending,
            Some(Gives::Fails) => return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            Some(Gives::Some(most)) => most,
            None => usize::MAX,
        };
        let n = most.min(buf.remaining()).min(self.bytes.len());
        for byte in self.bytes.drain(..n) {
            buf.put_slice(&[byte]);
        }
        Poll::Ready(Ok(()))
    }
}

fn fill(input: &mut Input, io: &mut Transport, direct: Option<&mut [u8]>) -> Poll<io::Result<usize>> {
    input.poll_fill(io, &mut Context::from_waker(Waker::noop()), direct)
}

struct Frame {
    header: Header,
    body: Vec<u8>,
    /// Whether the crate is given it.
    passes: bool,
    /// Whether its stream ends with its first piece.
    ends: bool,
}

fn frame(rng: &mut ChaCha8Rng) -> Frame {
    let is_data = rng.random_ratio(3, 4);
    let length = [0, 1, 11, 4_095, 4_096, 65_536, 65_537, 200_000][rng.random_range(0..8)];
    let flags = [0, flags::SYN, flags::ACK, flags::FIN, flags::FIN | flags::ACK, flags::RST][rng.random_range(0..6)];
    let kind = if is_data { Kind::Data } else { Kind::WindowUpdate };
    let header = Header { kind, flags, stream_id: rng.random_range(1..9), length };
    let mut body = vec![0; header.body_len() as usize];
    rng.fill_bytes(&mut body);
    Frame { header, body, passes: rng.random_ratio(3, 4), ends: header.has(flags::RST) || rng.random_ratio(1, 6) }
}

/// What the crate is given of these: in pieces, the end with the last, and nothing more of a stream that has ended.
fn wanted(frames: &[Frame]) -> Vec<u8> {
    let mut wanted = Vec::new();
    for Frame { header, body, ends, .. } in frames.iter().filter(|frame| frame.passes) {
        if header.kind != Kind::Data || header.has(flags::RST) {
            let length = if header.kind == Kind::Data { 0 } else { header.length };
            let flags = if body.is_empty() { header.flags } else { header.flags & !flags::FIN };
            wanted.extend(Header { flags, length, ..*header }.encode());
            continue;
        }
        let pieces: Vec<_> = if body.is_empty() { vec![&body[..]] } else { body.chunks(64 << 10).collect() };
        let last = pieces.len() - 1;
        for (index, piece) in pieces.into_iter().enumerate() {
            let first = if index == 0 { header.flags & !flags::FIN } else { 0 };
            let fin = if index == last { header.flags & flags::FIN } else { 0 };
            let length = u32::try_from(piece.len()).unwrap();
            wanted.extend(Header { flags: first | fin, length, ..*header }.encode());
            wanted.extend(piece);
            if *ends {
                break;
            }
        }
    }
    wanted
}

#[test]
fn however_the_bytes_come_the_crate_is_given_each_frame_once_and_in_order() {
    for seed in 0..40 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let frames: Vec<_> = (0..rng.random_range(1..30)).map(|_| frame(&mut rng)).collect();
        let mut io = Transport::default();
        for frame in &frames {
            io.bytes.extend(frame.header.encode());
            io.bytes.extend(&frame.body);
        }
        let (mut input, mut given, mut next) = (Input::new(), Vec::<u8>::new(), frames.iter());
        let (mut ends, mut patience) = (false, 1_000_000);
        loop {
            patience -= 1;
            assert!(patience > 0, "it does not come to its end");
            let mut buf = vec![0; rng.random_range(1..80_000)];
            if rng.random_ratio(1, 4) {
                io.next.push_back(if rng.random() { Gives::Nothing } else { Gives::Some(rng.random_range(1..5_000)) });
            }
            let n = match input.state() {
                InputState::Boundary => {
                    let Some(header) = input.peek_header() else {
                        if let Poll::Ready(Ok(0)) = fill(&mut input, &mut io, None) {
                            break;
                        }
                        continue;
                    };
                    input.consume_header();
                    input.begin_round();
                    let frame = next.next().unwrap();
                    assert_eq!(header, Ok(frame.header));
                    ends = frame.ends;
                    input.set_state(if frame.passes {
                        InputState::passing(frame.header)
                    } else {
                        InputState::Dropping(frame.body.len())
                    });
                    continue;
                }
                InputState::Dropping(_) => {
                    if !input.drop_body() {
                        assert!(!matches!(fill(&mut input, &mut io, None), Poll::Ready(Ok(0))), "a body is cut");
                    }
                    continue;
                }
                InputState::Passing(_) => {
                    if let Some(n) = input.hand_header(&mut buf).or_else(|| input.hand_body(&mut buf)) {
                        n
                    } else if let Some(most) = input.direct(buf.len()) {
                        match fill(&mut input, &mut io, Some(&mut buf[..most])) {
                            Poll::Ready(read) => {
                                let n = read.unwrap();
                                input.handed(n);
                                n
                            }
                            Poll::Pending => continue,
                        }
                    } else {
                        let _ = fill(&mut input, &mut io, None);
                        continue;
                    }
                }
            };
            given.extend(&buf[..n]);
            if input.completed().is_some() {
                input.next_piece(!ends);
            }
        }
        assert!(given == wanted(&frames), "seed {seed}");
        assert_eq!((input.end(), next.len()), (Some(InputEnd::Eof), 0));
    }
}

#[test]
fn after_many_frames_the_rest_waits_for_the_next_round() {
    let mut io = Transport::default();
    (0..300).for_each(|value| io.bytes.extend(Header::ping(value).encode()));
    let mut input = Input::new();
    assert!(fill(&mut input, &mut io, None).is_ready());
    for _ in 0..256 {
        assert!(!input.is_put_off());
        input.consume_header();
    }
    assert!(input.is_put_off());
    input.begin_round();
    assert!(!input.is_put_off());
    assert_eq!(input.peek_header(), Some(Ok(Header::ping(256))));
    input.discard();
    assert_eq!(input.peek_header(), None);
}

#[test]
fn a_look_is_complete_when_the_transport_has_answered_or_is_at_its_end() {
    let mut input = Input::new();
    let mut io = Transport { bytes: [0; 3].into(), next: [Gives::Nothing, Gives::Some(1)].into() };
    for _ in 0..2 {
        input.begin_look();
        assert!(!input.has_looked());
        let _ = fill(&mut input, &mut io, None);
        assert!(input.has_looked());
    }
    io.next.push_back(Gives::Fails);
    assert_eq!(input.end(), None);
    assert!(matches!(fill(&mut input, &mut io, None), Poll::Ready(Err(_))));
    assert_eq!(input.end(), Some(InputEnd::Failed));
    input.begin_look();
    assert!(input.has_looked(), "there is nothing left to look at");
}
