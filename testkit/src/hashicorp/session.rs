//! `session.go`: what belongs to all streams of a connection.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, ReadHalf, WriteHalf},
    sync::{Notify, Semaphore, mpsc, oneshot, watch},
    task::AbortHandle,
    time::{Instant, sleep, sleep_until},
};

use super::{
    Config, Error,
    stream::{Inner, Stream},
};
use crate::frames::{Flags, HEADER_BYTES, Header, Kind};

/// How many frames wait for the transport: `newSession`, `sendCh`.
const SEND_QUEUE: usize = 64;
/// The size of a `bufio.Reader`.
const READ_BYTES: usize = 4096;
/// How many answers to pings may wait for room in the queue; a ping beyond gets none. There is no such limit there.
const MAX_ANSWERS: usize = 1024;

/// A session. Clones are the same one; dropping them does not end it.
#[derive(Clone, Debug)]
pub struct Session(Arc<Shared>);

/// What a session has seen, and has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Inbound streams that were reset since too many waited for accept.
    pub refused_by_backlog: u64,
    /// Inbound streams that were reset after our GoAway.
    pub refused_by_go_away: u64,
    /// Frames of streams that there are not; their bodies were thrown away.
    pub frames_without_stream: u64,
    /// Streams that were not acknowledged in time. The first one ends the session.
    pub open_timeouts: u64,
    /// The longest body of a frame that was sent, in bytes.
    pub largest_frame_sent: usize,
    /// Opens that wait for their acknowledgement and hold up others: the fill of `synCh`.
    pub unacked_opens: usize,
    /// Streams that are not closed on both sides: `Session.NumStreams`.
    pub streams: usize,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) config: Config,
    state: Mutex<State>,
    /// `synCh`: a permit is a stream that may be opened.
    syn: Semaphore,
    /// `sendCh`.
    send: mpsc::Sender<Frame>,
    answers: Arc<Semaphore>,
    accepted: Notify,
    /// `shutdownErr` and `shutdownCh`; set under the lock of the state.
    ended: watch::Sender<Option<Error>>,
    /// The two tasks that hold the transport have a receiver each.
    holders: watch::Sender<()>,
}

#[derive(Debug)]
struct State {
    next_stream_id: u32,
    remote_go_away: bool,
    local_go_away: bool,
    streams: BTreeMap<u32, Arc<Inner>>,
    /// `acceptCh`.
    backlog: VecDeque<Arc<Inner>>,
    /// How many calls of accept wait; each of them takes a stream from the backlog before it counts.
    accepting: usize,
    ping_id: u32,
    pings: BTreeMap<u32, oneshot::Sender<()>>,
    counters: Counters,
}

#[derive(Debug)]
struct Frame {
    header: Header,
    body: Vec<u8>,
    done: Option<oneshot::Sender<Result<(), Error>>>,
}

impl Session {
    /// The side that has dialled.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn client(io: impl AsyncRead + AsyncWrite + Send + 'static, config: Config) -> Self {
        Self::new(io, config, 1)
    }

    /// The side that was dialled.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn server(io: impl AsyncRead + AsyncWrite + Send + 'static, config: Config) -> Self {
        Self::new(io, config, 2)
    }

    fn new(io: impl AsyncRead + AsyncWrite + Send + 'static, config: Config, next_stream_id: u32) -> Self {
        let (send, frames) = mpsc::channel(SEND_QUEUE);
        let (holders, holder) = watch::channel(());
        let shared = Arc::new(Shared {
            syn: Semaphore::new(config.accept_backlog),
            state: Mutex::new(State {
                next_stream_id,
                remote_go_away: false,
                local_go_away: false,
                streams: BTreeMap::new(),
                backlog: VecDeque::new(),
                accepting: 0,
                ping_id: 0,
                pings: BTreeMap::new(),
                counters: Counters::default(),
            }),
            config,
            send,
            answers: Arc::new(Semaphore::new(MAX_ANSWERS)),
            accepted: Notify::new(),
            ended: watch::Sender::new(None),
            holders,
        });
        let (reader, writer) = tokio::io::split(io);
        let (for_recv, for_send, for_keepalive) = (Arc::clone(&shared), Arc::clone(&shared), Arc::clone(&shared));
        shared.spawn(Some(holder.clone()), async move { for_recv.recv_loop(reader).await });
        shared.spawn(Some(holder), async move { for_send.send_loop(writer, frames).await });
        if shared.config.enable_keepalive {
            shared.spawn(None, async move { for_keepalive.keepalive().await });
        }
        Self(shared)
    }

    /// Opens a stream, as `Session.OpenStream`: waits behind opens without an acknowledgement, and for the SYN to be sent.
    /// When it is dropped after that, the stream is closed.
    ///
    /// # Errors
    ///
    /// `SessionShutdown`, `RemoteGoAway`, `StreamsExhausted`, `ConnectionWriteTimeout`, those of the transport.
    pub async fn open(&self) -> Result<Stream, Error> {
        let shared = &self.0;
        if self.is_closed() {
            return Err(Error::SessionShutdown);
        }
        if shared.lock().remote_go_away {
            return Err(Error::RemoteGoAway);
        }
        let syn = tokio::select! {
            biased;
            () = shared.ended() => return Err(Error::SessionShutdown),
            permit = shared.syn.acquire() => permit.map_err(|_| Error::SessionShutdown)?,
        };
        let mut opened = None;
        let sent = shared.wait_for_send(|| {
            syn.forget();
            let unclaimed = opened.insert(
                shared
                    .register()
                    .map(|stream| Unclaimed { stream: Some(stream), drop: |stream| _ = stream.spawn_close() }),
            );
            Some((unclaimed.as_ref().ok()?.stream.as_ref()?.window_update(0)?, Vec::new()))
        });
        let sent = sent.await;
        let Some(mut unclaimed) = opened.transpose()? else { return Err(sent.err().unwrap_or(Error::SessionShutdown)) };
        let stream = unclaimed.stream.take().ok_or(Error::SessionShutdown)?;
        sent.inspect_err(|_| shared.release_syn()).map(|()| stream)
    }

    /// The next stream that the peer has opened, as `Session.AcceptStream`: it is acknowledged now, and this waits for
    /// that to be sent. When it is dropped before, another call gets the stream.
    ///
    /// # Errors
    ///
    /// Why the session has ended; there, a stream that waits then may also come. `ConnectionWriteTimeout`.
    pub async fn accept(&self) -> Result<Stream, Error> {
        let inner = self.0.next_accepted().await?;
        let stream = Stream { session: Arc::clone(&self.0), inner };
        let sent = stream.clone();
        let mut unclaimed = Unclaimed {
            stream: Some(stream),
            drop: |stream| {
                stream.session.lock().backlog.push_front(stream.inner);
                stream.session.accepted.notify_one();
            },
        };
        let sent = sent.send_window_update(0).await;
        let stream = unclaimed.stream.take().ok_or(Error::SessionShutdown)?;
        sent.map(|()| stream)
    }

    /// How long a ping takes: `Session.Ping`.
    ///
    /// # Errors
    ///
    /// `Timeout` without an answer, `ConnectionWriteTimeout`, `SessionShutdown`.
    pub async fn ping(&self) -> Result<Duration, Error> {
        self.0.ping().await
    }

    /// Tells the peer to open no more streams, and refuses those that it opens: `Session.GoAway`.
    ///
    /// # Errors
    ///
    /// `ConnectionWriteTimeout`, `SessionShutdown`.
    pub async fn go_away(&self) -> Result<(), Error> {
        self.0.lock().local_go_away = true;
        self.0.wait_for_send(|| Some((Header::go_away(0), Vec::new()))).await
    }

    /// Ends the session and waits until its transport is dropped: `Session.Close`. It sends nothing.
    pub async fn close(&self) {
        self.0.end(Error::SessionShutdown);
        self.0.holders.closed().await;
    }

    /// Waits for the end, and says why it came: `Session.CloseChan`.
    pub async fn ended(&self) -> Error {
        self.0.ended().await;
        self.end_reason().unwrap_or(Error::SessionShutdown)
    }

    /// Why the session has ended, if it has. After its own timeout for an open this is `SessionShutdown`, as for a close.
    pub fn end_reason(&self) -> Option<Error> {
        self.0.ended.borrow().clone()
    }

    /// Whether the session has ended.
    pub fn is_closed(&self) -> bool {
        self.0.ended.borrow().is_some()
    }

    /// What the session has seen so far.
    pub fn counters(&self) -> Counters {
        let state = self.0.lock();
        let unacked_opens = self.0.config.accept_backlog.saturating_sub(self.0.syn.available_permits());
        Counters { unacked_opens, streams: state.streams.len(), ..state.counters }
    }
}

/// A stream that nobody has got yet, and what becomes of it when nobody wants it.
struct Unclaimed {
    stream: Option<Stream>,
    drop: fn(Stream),
}

impl Drop for Unclaimed {
    fn drop(&mut self) {
        if let Some(stream) = self.stream.take() {
            (self.drop)(stream);
        }
    }
}

/// A call of accept that waits.
struct Accepting<'a>(&'a Shared);

impl Drop for Accepting<'_> {
    fn drop(&mut self) {
        self.0.lock().accepting -= 1;
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn ended(&self) {
        // The sender lives in `self`.
        let _ = self.ended.subscribe().wait_for(Option::is_some).await;
    }

    /// Runs until the session ends; an error ends it.
    pub(super) fn spawn(
        self: &Arc<Self>,
        holder: Option<watch::Receiver<()>>,
        work: impl Future<Output = Result<(), Error>> + Send + 'static,
    ) -> AbortHandle {
        let shared = Arc::clone(self);
        let task = tokio::spawn(async move {
            let result = tokio::select! {
                biased;
                () = shared.ended() => Ok(()),
                result = work => result,
            };
            if let Err(error) = result {
                shared.end(error);
            }
            // The work, and with it the transport, is dropped by now.
            drop(holder);
        });
        task.abort_handle()
    }

    /// `Session.exitErr` and `Session.Close`: the first reason counts.
    fn end(&self, error: Error) {
        let streams = {
            let mut state = self.lock();
            if self.ended.borrow().is_some() {
                return;
            }
            self.ended.send_replace(Some(error));
            state.backlog.clear();
            std::mem::take(&mut state.streams)
        };
        for stream in streams.values() {
            stream.force_close();
        }
    }

    /// Gives up when the session ends, and after the time that a frame has.
    async fn in_time<T, E>(&self, end: Instant, work: impl Future<Output = Result<T, E>>) -> Result<T, Error> {
        tokio::select! {
            biased;
            () = self.ended() => Err(Error::SessionShutdown),
            result = work => result.map_err(|_| Error::SessionShutdown),
            () = sleep_until(end) => Err(Error::ConnectionWriteTimeout),
        }
    }

    /// `Session.waitForSendErr`: waits for room, then makes the frame, if there is still one to make, and waits until it
    /// is sent. A frame that is not sent in time stays in the queue, as there.
    pub(super) async fn wait_for_send(&self, frame: impl FnOnce() -> Option<(Header, Vec<u8>)>) -> Result<(), Error> {
        let end = Instant::now() + self.config.connection_write_timeout;
        let room = self.in_time(end, self.send.reserve()).await?;
        let Some((header, body)) = frame() else { return Ok(()) };
        let (done, sent) = oneshot::channel();
        room.send(Frame { header, body, done: Some(done) });
        self.in_time(end, sent).await?
    }

    /// `Session.sendNoWait`: waits for room alone.
    pub(super) async fn send_no_wait(&self, header: Header) -> Result<(), Error> {
        let end = Instant::now() + self.config.connection_write_timeout;
        let room = self.in_time(end, self.send.reserve()).await?;
        room.send(Frame { header, body: Vec::new(), done: None });
        Ok(())
    }

    /// `Session.sendLoop`. Go's connections have no buffer, so each frame is flushed.
    async fn send_loop(
        &self,
        mut io: WriteHalf<impl AsyncWrite>,
        mut frames: mpsc::Receiver<Frame>,
    ) -> Result<(), Error> {
        while let Some(Frame { header, body, done }) = frames.recv().await {
            let result = async {
                io.write_all(&header.encode()).await?;
                io.write_all(&body).await?;
                io.flush().await
            };
            let result = result.await.map_err(Error::from);
            if result.is_ok() {
                let counters = &mut self.lock().counters;
                counters.largest_frame_sent = counters.largest_frame_sent.max(body.len());
            }
            if let Some(done) = done {
                // Who has given up waiting needs no answer.
                let _ = done.send(result.clone());
            }
            result?;
        }
        Ok(())
    }

    /// `Session.recvLoop`.
    async fn recv_loop(self: &Arc<Self>, io: ReadHalf<impl AsyncRead>) -> Result<(), Error> {
        let mut io = BufReader::with_capacity(READ_BYTES, io);
        loop {
            if io.fill_buf().await?.is_empty() {
                return Err(Error::Eof);
            }
            let mut bytes = [0; HEADER_BYTES];
            io.read_exact(&mut bytes).await?;
            if bytes[0] != 0 {
                return Err(Error::InvalidVersion);
            }
            let header = Header::decode(bytes).map_err(|_| Error::InvalidMsgType)?;
            match header.kind {
                Kind::Data | Kind::WindowUpdate => self.handle_stream_message(header, &mut io).await?,
                Kind::Ping => self.handle_ping(header),
                Kind::GoAway => match header.length {
                    // `Session.handleGoAway`: opens fail from now on, and nothing else changes.
                    0 => self.lock().remote_go_away = true,
                    1 => return Err(Error::RemoteProtocolError),
                    2 => return Err(Error::RemoteInternalError),
                    _ => return Err(Error::UnexpectedGoAway),
                },
            }
        }
    }

    /// `Session.handleStreamMessage`.
    async fn handle_stream_message(
        self: &Arc<Self>,
        header: Header,
        io: &mut BufReader<ReadHalf<impl AsyncRead>>,
    ) -> Result<(), Error> {
        if header.flags.contains(Flags::SYN) {
            self.incoming_stream(header.stream_id).await?;
        }
        let stream = self.lock().streams.get(&header.stream_id).cloned();
        let Some(inner) = stream else {
            self.lock().counters.frames_without_stream += 1;
            // Where the body is cut short, the next header says so.
            let _ = tokio::io::copy(&mut io.take(header.body_bytes().into()), &mut tokio::io::sink()).await;
            return Ok(());
        };
        let stream = Stream { session: Arc::clone(self), inner };
        match header.kind {
            Kind::WindowUpdate => stream.incr_send_window(header),
            _ => stream.read_data(header, io).await,
        }
    }

    /// `Session.incomingStream`.
    async fn incoming_stream(&self, id: u32) -> Result<(), Error> {
        {
            let mut state = self.lock();
            if state.local_go_away {
                state.counters.refused_by_go_away += 1;
            } else if state.streams.contains_key(&id) {
                return Err(Error::DuplicateStream);
            } else if state.backlog.len() >= self.config.accept_backlog + state.accepting {
                state.counters.refused_by_backlog += 1;
            } else if self.ended.borrow().is_none() {
                let stream = Arc::new(Inner::inbound(id));
                state.streams.insert(id, Arc::clone(&stream));
                state.backlog.push_back(stream);
                self.accepted.notify_one();
                return Ok(());
            }
        }
        self.send_no_wait(Header::window_update(id, Flags::RST, 0)).await
    }

    async fn next_accepted(&self) -> Result<Arc<Inner>, Error> {
        self.lock().accepting += 1;
        let _accepting = Accepting(self);
        loop {
            if let Some(reason) = self.ended.borrow().clone() {
                return Err(reason);
            }
            if let Some(stream) = self.lock().backlog.pop_front() {
                return Ok(stream);
            }
            tokio::select! {
                biased;
                () = self.ended() => {}
                () = self.accepted.notified() => {}
            }
        }
    }

    /// The part of `Session.OpenStream` in which there is a stream.
    fn register(self: &Arc<Self>) -> Result<Stream, Error> {
        let mut state = self.lock();
        if self.ended.borrow().is_some() {
            return Err(Error::SessionShutdown);
        }
        let id = state.next_stream_id;
        if id >= u32::MAX - 1 {
            return Err(Error::StreamsExhausted);
        }
        state.next_stream_id += 2;
        let inner = Arc::new(Inner::outbound(id));
        state.streams.insert(id, Arc::clone(&inner));
        let stream = Stream { session: Arc::clone(self), inner };
        if !self.config.stream_open_timeout.is_zero() {
            let (shared, stream) = (Arc::clone(self), stream.clone());
            self.spawn(None, async move { shared.set_open_timeout(&stream).await });
        }
        Ok(stream)
    }

    /// `Session.setOpenTimeout`.
    async fn set_open_timeout(&self, stream: &Stream) -> Result<(), Error> {
        tokio::select! {
            biased;
            () = stream.inner.established.notified() => Ok(()),
            () = sleep(self.config.stream_open_timeout) => {
                self.lock().counters.open_timeouts += 1;
                Err(Error::SessionShutdown)
            }
        }
    }

    /// `Session.handlePing`: what does not ask is an answer. The stream's id is not looked at.
    fn handle_ping(self: &Arc<Self>, header: Header) {
        if !header.flags.contains(Flags::SYN) {
            if let Some(answer) = self.lock().pings.remove(&header.length) {
                // The ping may have been given up.
                let _ = answer.send(());
            }
        } else if let Ok(permit) = Arc::clone(&self.answers).try_acquire_owned() {
            let shared = Arc::clone(self);
            self.spawn(None, async move {
                // An answer that finds no room in time is none; it ends nothing.
                let _ = shared.send_no_wait(Header::pong(header.length)).await;
                drop(permit);
                Ok(())
            });
        }
    }

    /// `Session.keepalive`.
    async fn keepalive(&self) -> Result<(), Error> {
        loop {
            sleep(self.config.keepalive_interval).await;
            self.ping().await.map_err(|_| Error::KeepAliveTimeout)?;
        }
    }

    async fn ping(&self) -> Result<Duration, Error> {
        let (answer, answered) = oneshot::channel();
        let id = {
            let mut state = self.lock();
            state.pings.retain(|_, answer| !answer.is_closed());
            let id = state.ping_id;
            state.ping_id = id.wrapping_add(1);
            state.pings.insert(id, answer);
            id
        };
        self.wait_for_send(|| Some((Header::ping(id), Vec::new()))).await?;
        let start = Instant::now();
        tokio::select! {
            biased;
            Ok(()) = answered => Ok(start.elapsed()),
            () = self.ended() => Err(Error::SessionShutdown),
            () = sleep(self.config.connection_write_timeout) => Err(Error::Timeout),
        }
    }

    /// `Session.closeStream`.
    pub(super) fn close_stream(&self, id: u32, was_unacked: bool) {
        if was_unacked {
            self.release_syn();
        }
        self.lock().streams.remove(&id);
    }

    /// Takes one out of `synCh`, if there is one. `Session.establishStream` does so for *every* ACK, also for the second
    /// one of a stream.
    pub(super) fn release_syn(&self) {
        let _one_at_a_time = self.lock();
        if self.syn.available_permits() < self.config.accept_backlog {
            self.syn.add_permits(1);
        }
    }
}
