//! A peer that knows the protocol, and an application beside it: what both do is decided by bytes.
//!
//! Mostly the peer keeps the rules, so that its sessions live long; it opens, sends within its credit, gives credit, finishes,
//! resets. In between it does what no honest peer does and no rule forbids: frames of streams that have ended or never were,
//! answers that nobody asked for, floods. Once in some thousand decisions it breaks a rule.
//!
//! What must hold: nothing panics or hangs. Who broke no rule is not accused of it, and who broke one is. evermux itself keeps
//! the rules: no byte beyond its credit, none after its own end. What the application reads is what was sent, to the end or up
//! to an error.

use std::{
    collections::{BTreeMap, VecDeque},
    pin::Pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use evermux::{
    CloseReason, Config, MuxStream, Session,
    session::frame::{Header, Kind, flags},
};
use futures_util::FutureExt;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, duplex},
    runtime::Builder,
    task::yield_now,
    time::timeout,
};

use crate::{choices::Choices, frames::Frames};

/// What came of a session.
#[derive(Clone, Debug)]
pub struct Ended {
    /// How many frames the peer has sent.
    pub frames: u64,
    /// Why it ended.
    pub reason: CloseReason,
}

/// The window that a stream begins with, each way.
const WINDOW: u64 = 256 << 10;
/// Longer than any session may take to end that does not hang, in a time that passes as soon as nobody has anything to do.
const PATIENCE: Duration = Duration::from_secs(3600);
/// How often both sides have their turn after each decision.
const TURNS: usize = 3;
/// How many streams the application holds at once.
const HANDLES: usize = 24;
/// More unread frames of one stream than evermux keeps.
const A_FLOOD: usize = 66_000;

/// Lets the bytes decide a whole session.
///
/// # Panics
///
/// Where evermux does what it must not.
pub fn wire(bytes: &[u8]) -> Ended {
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
    runtime.block_on(async {
        let mut choices = Choices::new(bytes);
        let mut run = Run::begin(&mut choices).await;
        while !choices.is_over() && !run.session.is_closed() {
            run.decide(&mut choices).await;
        }
        run.end(&mut choices).await
    })
}

/// A byte of a stream: what is lost, doubled or moved shows.
fn content(id: u32, offset: u64) -> u8 {
    u8::try_from((u64::from(id) * 31 + offset * 7 + (offset >> 8)) % 251).expect("below 251")
}

fn contents(id: u32, offset: u64, len: usize) -> Vec<u8> {
    (offset..).take(len).map(|offset| content(id, offset)).collect()
}

/// A stream, as the peer knows it.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
struct Stream {
    /// What the peer has sent, and may send.
    sent: u64,
    credit: u64,
    is_finished: bool,
    is_reset: bool,
    /// What evermux has sent, and may send.
    received: u64,
    granted: u64,
    has_finished: bool,
    has_reset: bool,
}

impl Stream {
    fn new() -> Self {
        Self { credit: WINDOW, granted: WINDOW, ..Self::default() }
    }

    /// Whether the peer may send on it by the rules.
    fn is_open(&self) -> bool {
        !self.is_finished && !self.is_reset && !self.has_reset
    }
}

/// A stream, as the application has it.
struct Handle {
    stream: MuxStream,
    read: u64,
    written: u64,
}

/// What was read is what the peer has sent, and the end is its end. Says whether it is.
fn check_read(streams: &BTreeMap<u32, Stream>, handle: &mut Handle, bytes: &[u8]) -> bool {
    let (id, read) = (handle.stream.id(), handle.read);
    if bytes.is_empty() {
        let sent = streams.get(&id).filter(|stream| stream.is_finished).map(|stream| stream.sent);
        assert_eq!(sent, Some(read), "stream {id} ended for its reader");
        return true;
    }
    assert!(bytes == contents(id, read, bytes.len()), "stream {id} gave other bytes at {read}");
    handle.read += bytes.len() as u64;
    false
}

struct Run {
    session: Session,
    io: Option<DuplexStream>,
    outgoing: VecDeque<u8>,
    frames: Frames,
    streams: BTreeMap<u32, Stream>,
    handles: Vec<Handle>,
    next_id: u32,
    last_of_evermux: u32,
    sent: u64,
    /// A session that closes may look at no rule any more.
    has_said_goodbye: bool,
    /// The rule that the peer has broken.
    broken: Option<&'static str>,
}

impl Run {
    /// A session that is proven: the peer has dialled.
    async fn begin(choices: &mut Choices<'_>) -> Self {
        let (near, far) = duplex(choices.one_of(&[64, 1000, 1 << 20]).unwrap_or(1000));
        let config = Config::builder()
            .accept_backlog(choices.one_of(&[1, 4, 256]).unwrap_or(256))
            .max_concurrent_streams(choices.one_of(&[1, 4, 256]).unwrap_or(256))
            .heartbeat_idle(PATIENCE)
            .build()
            .expect("within their bounds");
        let opening = tokio::spawn(async move { Session::server(near, &config).await });
        let mut io = far;
        let mut proof = [0; 12];
        io.read_exact(&mut proof).await.expect("its proof");
        proof[3] = 2;
        io.write_all(&proof).await.expect("it reads");
        let session = opening.await.expect("it does not panic").expect("it is proven");
        Self {
            session,
            io: Some(io),
            outgoing: VecDeque::new(),
            frames: Frames::default(),
            streams: BTreeMap::new(),
            handles: Vec::new(),
            next_id: 1,
            last_of_evermux: 0,
            sent: 0,
            has_said_goodbye: false,
            broken: None,
        }
    }

    async fn decide(&mut self, choices: &mut Choices<'_>) {
        match choices.below(64) {
            0..=6 => self.open(choices),
            7..=28 => self.send_data(choices),
            29..=34 => self.give_credit(choices),
            35..=37 => self.finish(choices),
            38..=39 => self.reset(choices),
            40 => self.send(Header::ping(choices.u32() >> 8)),
            41 => self.send(Header::pong(choices.u32())),
            42..=43 => self.send_to_nobody(choices),
            44 => self.send_twisted(choices),
            45..=46 => self.send_crumbs(choices, 16, 400),
            47 if choices.once_in(128) => self.send_crumbs(choices, A_FLOOD, A_FLOOD + 1),
            48 if choices.once_in(64) && !self.has_said_goodbye => self.break_a_rule(choices),
            49 if choices.once_in(256) => {
                self.has_said_goodbye = true;
                self.send(Header::go_away(0));
            }
            _ => self.application(choices).await,
        }
        self.settle(TURNS).await;
        if let Some(rule) = self.broken {
            for _ in 0..100_000 {
                if self.session.is_closed() {
                    return;
                }
                self.settle(1).await;
            }
            panic!("the session lives on, though {rule}");
        }
    }

    /// Lets both sides do what they can.
    async fn settle(&mut self, turns: usize) {
        for _ in 0..turns {
            self.pump();
            yield_now().await;
        }
    }

    /// Moves bytes both ways, as many as the pipe takes.
    fn pump(&mut self) {
        let mut cx = Context::from_waker(Waker::noop());
        let Some(io) = &mut self.io else { return };
        while !self.outgoing.is_empty() {
            match Pin::new(&mut *io).poll_write(&mut cx, self.outgoing.as_slices().0) {
                Poll::Ready(Ok(n)) => drop(self.outgoing.drain(..n)),
                // It has ended.
                Poll::Ready(Err(_)) => self.outgoing.clear(),
                Poll::Pending => break,
            }
        }
        let mut bytes = [0; 4096];
        loop {
            let mut buffer = ReadBuf::new(&mut bytes);
            match Pin::new(&mut *io).poll_read(&mut cx, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => self.frames.push(buffer.filled()),
                _ => break,
            }
        }
        while let Some((header, body)) = self.frames.next() {
            self.on_frame(header, &body);
        }
    }

    /// What evermux sends keeps the rules.
    fn on_frame(&mut self, header: Header, body: &[u8]) {
        let id = header.stream_id;
        match header.kind {
            Kind::Ping if header.has(flags::SYN) => return self.send(Header::pong(header.length)),
            Kind::Ping => return,
            Kind::GoAway => {
                assert!(header.length <= 1, "{header:?}");
                return;
            }
            Kind::Data | Kind::WindowUpdate => {}
        }
        if header.has(flags::SYN) {
            assert!(id.is_multiple_of(2) && id > self.last_of_evermux, "{header:?} after {}", self.last_of_evermux);
            self.last_of_evermux = id;
            self.streams.insert(id, Stream::new());
        }
        let Some(stream) = self.streams.get_mut(&id) else {
            // What was opened by a twisted frame is reset.
            assert!(header.has(flags::RST), "{header:?} of a stream that nobody has opened");
            return;
        };
        assert!(!stream.has_reset, "{header:?} after an RST");
        if header.kind == Kind::Data {
            let len = body.len() as u64;
            assert!(len == 0 || !stream.has_finished, "{header:?} after a FIN");
            assert!(stream.received + len <= stream.granted, "{header:?} beyond its credit: {stream:?}");
            assert!(body == contents(id, stream.received, body.len()), "{header:?} has other bytes");
            stream.received += len;
        } else {
            stream.credit += header.credit();
        }
        if header.has(flags::FIN) {
            assert!(!stream.has_finished, "{header:?} is a second FIN");
            stream.has_finished = true;
        }
        stream.has_reset |= header.has(flags::RST);
    }

    fn send(&mut self, header: Header) {
        self.sent += 1;
        self.outgoing.extend(header.encode());
    }

    /// A Data frame with the bytes that come next in its stream. One that is not there has any.
    fn send_bytes(&mut self, id: u32, flags: u16, len: usize) {
        let offset = self.streams.get(&id).map_or(0, |stream| stream.sent);
        let length = u32::try_from(len).expect("no more than a window");
        self.send(Header { kind: Kind::Data, flags, stream_id: id, length });
        self.outgoing.extend(contents(id, offset, len));
    }

    fn some_stream(&self, choices: &mut Choices<'_>, is_wanted: impl Fn(&Stream) -> bool) -> Option<u32> {
        // The last ones: the others have ended, most of them.
        let wanted = self.streams.iter().rev().filter(|(_, stream)| is_wanted(stream)).map(|(id, _)| *id);
        let wanted: Vec<_> = wanted.take(32).collect();
        choices.one_of(&wanted)
    }

    fn open(&mut self, choices: &mut Choices<'_>) {
        let id = self.next_id;
        self.next_id += 2;
        let mut stream = Stream::new();
        let fin = if choices.once_in(8) { flags::FIN } else { 0 };
        stream.is_finished = fin != 0;
        self.streams.insert(id, stream);
        if choices.once_in(2) {
            let len = choices.below(2_000);
            self.send_bytes(id, flags::SYN | fin, len);
            self.book(id, len);
        } else {
            self.send(Header { kind: Kind::WindowUpdate, flags: flags::SYN | fin, stream_id: id, length: 0 });
        }
    }

    fn book(&mut self, id: u32, len: usize) {
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.sent += len as u64;
            stream.credit -= len as u64;
        }
    }

    fn send_data(&mut self, choices: &mut Choices<'_>) {
        let Some(id) = self.some_stream(choices, Stream::is_open) else { return self.open(choices) };
        let most = match choices.below(16) {
            0 => usize::MAX,
            1..=3 => 20_000,
            _ => 200,
        };
        let credit = usize::try_from(self.streams[&id].credit).unwrap_or(usize::MAX);
        let len = choices.below(most.min(1 << 16)).min(credit);
        self.send_bytes(id, 0, len);
        self.book(id, len);
    }

    /// Many frames with a byte in each, one after the other.
    fn send_crumbs(&mut self, choices: &mut Choices<'_>, least: usize, most: usize) {
        let Some(id) = self.some_stream(choices, |stream| stream.is_open() && stream.credit > 100_000) else { return };
        for _ in 0..least + choices.below(most - least) {
            self.send_bytes(id, 0, 1);
            self.book(id, 1);
        }
    }

    fn give_credit(&mut self, choices: &mut Choices<'_>) {
        let Some(id) = self.some_stream(choices, |stream| !stream.is_reset) else { return };
        let credit = match choices.below(8) {
            0 => 1,
            1 => 1 << 20,
            _ => u32::from(choices.u16()),
        };
        let stream = self.streams.get_mut(&id).expect("it is one of them");
        // More would be against the rules.
        if stream.granted + u64::from(credit) < 1 << 31 {
            stream.granted += u64::from(credit);
            self.send(Header { kind: Kind::WindowUpdate, flags: 0, stream_id: id, length: credit });
        }
    }

    fn finish(&mut self, choices: &mut Choices<'_>) {
        let Some(id) = self.some_stream(choices, Stream::is_open) else { return };
        let kind = if choices.once_in(2) { Kind::Data } else { Kind::WindowUpdate };
        self.send(Header { kind, flags: flags::FIN, stream_id: id, length: 0 });
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.is_finished = true;
        }
    }

    fn reset(&mut self, choices: &mut Choices<'_>) {
        let Some(id) = self.some_stream(choices, |stream| !stream.is_reset) else { return };
        let kind = if choices.once_in(4) { Kind::Data } else { Kind::WindowUpdate };
        self.send(Header { kind, flags: flags::RST, stream_id: id, length: 0 });
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.is_reset = true;
        }
    }

    /// Frames of streams that have ended, or were never opened.
    fn send_to_nobody(&mut self, choices: &mut Choices<'_>) {
        let ended = self.some_stream(choices, |stream| stream.is_finished || stream.is_reset);
        let never =
            [self.next_id + 2 * u32::from(choices.u16()), self.last_of_evermux + 2 + 2 * u32::from(choices.u16())];
        let id = match choices.below(3) {
            0 => ended.unwrap_or(never[0]),
            which => never[which - 1],
        };
        match choices.below(5) {
            0 => {
                let credit = choices.u32() >> 8;
                self.send(Header { kind: Kind::WindowUpdate, flags: 0, stream_id: id, length: credit });
                if let Some(stream) = self.streams.get_mut(&id) {
                    stream.granted += u64::from(credit);
                }
            }
            1 => {
                self.send(Header { kind: Kind::WindowUpdate, flags: flags::RST, stream_id: id, length: choices.u32() });
            }
            2 => self.send(Header { kind: Kind::Data, flags: flags::FIN, stream_id: id, length: 0 }),
            _ => {
                let len = choices.below(3_000);
                self.send(Header {
                    kind: Kind::Data,
                    flags: 0,
                    stream_id: id,
                    length: u32::try_from(len).unwrap_or(0),
                });
                self.outgoing.extend(std::iter::repeat_n(0xff, len));
            }
        }
        // A stream that ends so has ended to the peer as well.
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.is_reset = true;
            self.send(Header::reset(id));
        }
    }

    /// Flags in combinations that nobody sends, on streams of their own.
    fn send_twisted(&mut self, choices: &mut Choices<'_>) {
        let id = self.next_id;
        self.next_id += 2;
        let any = u16::try_from(choices.below(16)).unwrap_or(0) | flags::RST;
        let kind = if choices.once_in(2) { Kind::Data } else { Kind::WindowUpdate };
        let flags = any | choices.u16() & 0xfff0;
        self.send(Header { kind, flags, stream_id: id, length: 0 });
    }

    fn break_a_rule(&mut self, choices: &mut Choices<'_>) {
        let open = self.some_stream(choices, Stream::is_open);
        let rule = match (choices.below(9), open) {
            (0, _) => {
                self.outgoing.extend([1; 12]);
                "a frame has another version"
            }
            (1, _) => {
                self.outgoing.extend([0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
                "a frame has a type that there is not"
            }
            (2, _) => {
                self.send(Header { kind: Kind::Data, flags: 0, stream_id: 0, length: 0 });
                "there is no stream 0"
            }
            (3, _) => {
                let id = self.last_of_evermux + 2;
                self.send(Header { kind: Kind::WindowUpdate, flags: flags::SYN, stream_id: id, length: 0 });
                "the peer's ids are odd"
            }
            (4, _) => {
                let id = self.next_id;
                self.next_id += 2;
                self.send(Header { kind: Kind::Data, flags: flags::SYN, stream_id: id, length: (256 << 10) + 1 });
                "a stream begins with more than its window"
            }
            (5, _) => {
                let id = self.next_id;
                self.next_id += 2;
                self.send(Header { kind: Kind::WindowUpdate, flags: flags::SYN, stream_id: id, length: u32::MAX });
                "a stream begins with 4 GiB of credit and more"
            }
            (6, _) => {
                self.send(Header::go_away(1 + choices.u32() % 1000));
                "the peer has ended it with an error"
            }
            (7, _) => {
                self.send(Header::ping(1 << 31 | 0x6576_6d73));
                "the peer has the same role"
            }
            _ => {
                // A frame that is cut in the middle, and nothing more.
                self.outgoing.extend([0; 3]);
                self.pump();
                self.io = None;
                return;
            }
        };
        self.broken = Some(rule);
    }

    /// The other side: takes, opens, reads, writes, ends.
    async fn application(&mut self, choices: &mut Choices<'_>) {
        let which = choices.below(self.handles.len().max(1));
        match choices.below(12) {
            0..=2 if self.handles.len() < HANDLES => {
                if let Some(Ok(stream)) = self.session.accept_stream().now_or_never() {
                    self.handles.push(Handle { stream, read: 0, written: 0 });
                }
            }
            3 if self.handles.len() < HANDLES => {
                let session = self.session.clone();
                let opening = tokio::spawn(async move { timeout(Duration::ZERO, session.open_stream()).await });
                self.settle(TURNS).await;
                if opening.is_finished()
                    && let Ok(Ok(Ok(stream))) = opening.await
                {
                    self.handles.push(Handle { stream, read: 0, written: 0 });
                }
            }
            4..=6 => self.read(which, choices),
            7..=8 => self.write(which, choices),
            9 => {
                if let Some(handle) = self.handles.get_mut(which) {
                    let _ = handle.stream.shutdown().now_or_never();
                }
            }
            10 if which < self.handles.len() => drop(self.handles.swap_remove(which)),
            11 if which < self.handles.len() => {
                let mut handle = self.handles.swap_remove(which);
                // Its end may still be on its way when it is given up.
                if choices.once_in(2) {
                    let _ = handle.stream.shutdown().now_or_never();
                }
                handle.stream.reset();
            }
            _ => {}
        }
    }

    fn read(&mut self, which: usize, choices: &mut Choices<'_>) {
        let Some(handle) = self.handles.get_mut(which) else { return };
        let mut bytes = vec![0; 1 + choices.below(30_000)];
        // After an error the handle stays: it may be used again.
        if let Some(Ok(n)) = handle.stream.read(&mut bytes).now_or_never() {
            check_read(&self.streams, handle, &bytes[..n]);
        }
    }

    fn write(&mut self, which: usize, choices: &mut Choices<'_>) {
        let Some(Handle { stream, written, .. }) = self.handles.get_mut(which) else { return };
        let bytes = contents(stream.id(), *written, 1 + choices.below(30_000));
        if let Some(Ok(n)) = stream.write(&bytes).now_or_never() {
            *written += n as u64;
        }
    }

    /// The peer goes, with or without a word, or stands still; and the session ends.
    async fn end(mut self, choices: &mut Choices<'_>) -> Ended {
        match choices.below(3) {
            0 => self.io = None,
            1 => {
                self.send(Header::go_away(0));
                self.settle(TURNS).await;
                self.io = None;
            }
            _ => {}
        }
        if choices.once_in(2) {
            self.handles.clear();
        }
        let closing = self.session.close();
        let reason = timeout(PATIENCE, closing).await.expect("a closing ends");
        assert!(!matches!(reason, CloseReason::Panicked), "the driver panicked");
        match self.broken {
            None => assert!(!matches!(reason, CloseReason::Protocol(_)), "accused wrongly: {reason}"),
            Some(rule) => assert!(
                matches!(reason, CloseReason::Protocol(_) | CloseReason::PeerError(_)),
                "{rule}, and the session ended because {reason}"
            ),
        }
        // Whatever was given out comes to an end as well: what has come is there, and the end is the peer's or an error.
        for mut handle in self.handles {
            let reading = async {
                let mut bytes = [0; 4096];
                while let Ok(n) = handle.stream.read(&mut bytes).await {
                    let is_end = check_read(&self.streams, &mut handle, &bytes[..n]);
                    if is_end {
                        return;
                    }
                }
            };
            timeout(PATIENCE, reading).await.expect("a stream of a session that has ended ends");
            timeout(PATIENCE, handle.stream.closed()).await.expect("and is told to have ended").ok();
        }
        Ended { frames: self.sent, reason }
    }
}
