//! The callers: each sends a request, checks the reply, and does it again; a request that a fault interrupts is sent
//! once more on the next session.

use std::{
    io::{self, Read, Write},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use evermux::{BlockingStream, MuxManager, MuxStream, SessionId};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::Instant,
};

use crate::{
    PATIENCE,
    protocol::{self, HEADER_BYTES},
    totals::Totals,
};

/// The longest usual payload; one in a hundred is [`BIG_PAYLOAD_BYTES`] long.
const PAYLOAD_BYTES: usize = 2048;
const BIG_PAYLOAD_BYTES: usize = 48 * 1024;

/// After one in so many requests a caller ends its stream and opens another.
const REQUESTS_PER_STREAM: u32 = 50;

/// One caller, async or on a thread.
pub(crate) struct Caller {
    manager: MuxManager,
    totals: Arc<Totals>,
    stop: Arc<AtomicBool>,
    random: ChaCha8Rng,
    next_id: u64,
    request: Vec<u8>,
    reply: Vec<u8>,
    last_session: Option<SessionId>,
}

/// Why an attempt has no correct reply.
enum Failure {
    /// The session or the stream was lost on the way.
    Interrupted,
    /// The reply is wrong.
    Wrong,
    /// The manager has stopped: there will be no session.
    Stopped,
}

impl From<io::Error> for Failure {
    fn from(_: io::Error) -> Self {
        Self::Interrupted
    }
}

impl Caller {
    pub(crate) fn new(index: u32, seed: u64, manager: MuxManager, totals: Arc<Totals>, stop: Arc<AtomicBool>) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        random.set_stream(u64::from(index) + 1);
        let next_id = u64::from(index) << 32;
        let (request, reply) = (Vec::new(), Vec::new());
        Self { manager, totals, stop, random, next_id, request, reply, last_session: None }
    }

    /// Works until it is told to stop; the request that it is at is still finished.
    pub(crate) async fn run(mut self) {
        let mut stream = None;
        while !self.stop.load(Ordering::Relaxed) {
            self.draw_request();
            let begin = Instant::now();
            loop {
                let result = self.attempt(&mut stream).await;
                if result.is_err() {
                    stream = None;
                }
                if self.settled(&result, begin) {
                    break;
                }
            }
            if self.random.random_ratio(1, REQUESTS_PER_STREAM)
                && let Some((_, stream)) = stream.take()
            {
                self.finish(stream).await;
            }
        }
        if let Some((_, stream)) = stream {
            self.finish(stream).await;
        }
    }

    async fn attempt(&mut self, held: &mut Option<(SessionId, MuxStream)>) -> Result<SessionId, Failure> {
        if held.is_none() {
            let session = self.manager.session().await.map_err(|_| Failure::Stopped)?;
            let stream = session.open_stream().await.map_err(|_| Failure::Interrupted)?;
            *held = Some((session.id(), stream));
        }
        let Some((id, stream)) = held else { return Err(Failure::Interrupted) };
        stream.write_all(&self.request).await?;
        stream.flush().await?;
        self.reply.resize(self.request.len(), 0);
        let (header, rest) = self.reply.split_at_mut(HEADER_BYTES);
        stream.read_exact(header).await?;
        // A wrong length would have us wait for bytes that never come.
        if !self.request.starts_with(header) {
            return Err(Failure::Wrong);
        }
        stream.read_exact(rest).await?;
        if self.reply == self.request { Ok(*id) } else { Err(Failure::Wrong) }
    }

    /// [`run`](Self::run) for a thread.
    pub(crate) fn run_blocking(mut self) {
        let mut stream = None;
        while !self.stop.load(Ordering::Relaxed) {
            self.draw_request();
            let begin = Instant::now();
            loop {
                let result = self.attempt_blocking(&mut stream);
                if result.is_err() {
                    stream = None;
                }
                if self.settled(&result, begin) {
                    break;
                }
            }
            if self.random.random_ratio(1, REQUESTS_PER_STREAM)
                && let Some((_, stream)) = stream.take()
            {
                self.finish_blocking(stream);
            }
        }
        if let Some((_, stream)) = stream {
            self.finish_blocking(stream);
        }
    }

    fn attempt_blocking(&mut self, held: &mut Option<(SessionId, BlockingStream)>) -> Result<SessionId, Failure> {
        if held.is_none() {
            let session = self.manager.session_blocking().map_err(|_| Failure::Stopped)?;
            let stream = session.open_stream_blocking().map_err(|_| Failure::Interrupted)?;
            *held = Some((session.id(), stream.into_blocking()));
        }
        let Some((id, stream)) = held else { return Err(Failure::Interrupted) };
        stream.write_all(&self.request)?;
        stream.flush()?;
        self.reply.resize(self.request.len(), 0);
        let (header, rest) = self.reply.split_at_mut(HEADER_BYTES);
        stream.read_exact(header)?;
        if !self.request.starts_with(header) {
            return Err(Failure::Wrong);
        }
        stream.read_exact(rest)?;
        if self.reply == self.request { Ok(*id) } else { Err(Failure::Wrong) }
    }

    fn draw_request(&mut self) {
        let length = if self.random.random_ratio(1, 100) {
            BIG_PAYLOAD_BYTES
        } else {
            self.random.random_range(0..=PAYLOAD_BYTES)
        };
        let mut payload = vec![0; length];
        self.random.fill_bytes(&mut payload);
        protocol::encode(self.next_id, &payload, &mut self.request);
        self.next_id += 1;
    }

    /// Counts how an attempt ended. Whether the request is over: it was answered, or will never be.
    fn settled(&mut self, result: &Result<SessionId, Failure>, begin: Instant) -> bool {
        match result {
            Ok(id) => {
                self.totals.requests.add(1);
                if self.last_session != Some(*id) {
                    self.last_session = Some(*id);
                    self.totals.first_reply(*id);
                }
                return true;
            }
            Err(Failure::Wrong) => self.totals.corrupted.add(1),
            Err(Failure::Interrupted) => {}
            Err(Failure::Stopped) => {
                self.totals.lost.add(1);
                self.stop.store(true, Ordering::Relaxed);
                return true;
            }
        }
        let over = Instant::now().saturating_duration_since(begin) > PATIENCE;
        if over { &self.totals.lost } else { &self.totals.retried }.add(1);
        over
    }

    /// Ends a stream and waits for the other side's end. Nothing is lost if the stream is: every request on it was
    /// answered.
    async fn finish(&self, mut stream: MuxStream) {
        let ended = async {
            stream.shutdown().await?;
            stream.read(&mut [0]).await
        };
        self.ended(ended.await);
    }

    fn finish_blocking(&self, mut stream: BlockingStream) {
        self.ended(stream.shutdown().and_then(|()| stream.read(&mut [0])));
    }

    /// A byte that nobody asked for is a wrong one.
    fn ended(&self, extra: io::Result<usize>) {
        if extra.is_ok_and(|extra| extra > 0) {
            self.totals.corrupted.add(1);
        }
    }
}
