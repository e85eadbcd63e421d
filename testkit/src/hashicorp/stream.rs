//! `stream.go`.

use std::{
    collections::VecDeque,
    io::{self, Read},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt},
    sync::Notify,
    task::{AbortHandle, JoinHandle},
    time::sleep,
};

use super::{Error, session::Shared};
use crate::frames::{Flags, Header, INITIAL_WINDOW};

/// How much [`Stream::read_to_end`] takes at once.
const CHUNK: usize = 16 << 10;

/// A stream. Clones are the same one; dropping them does not close it.
#[derive(Clone, Debug)]
pub struct Stream {
    pub(super) session: Arc<Shared>,
    pub(super) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(super) struct Inner {
    id: u32,
    state: Mutex<State>,
    /// Held while the body of a frame comes in: nobody reads then.
    recv_lock: tokio::sync::Mutex<()>,
    /// Held by a write, from its first frame to its last.
    send_lock: tokio::sync::Mutex<()>,
    /// Held while a frame without a body is sent.
    control_lock: tokio::sync::Mutex<()>,
    /// Each keeps one notification for whoever comes next, as Go's channels of size 1 do.
    readable: Notify,
    writable: Notify,
    pub(super) established: Notify,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Init,
    SynSent,
    SynReceived,
    Established,
    LocalClose,
    RemoteClose,
    Closed,
    Reset,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    recv_window: u32,
    send_window: u32,
    /// At most a receive window.
    buffer: VecDeque<u8>,
    /// Whether this stream is in the session's `inflight`.
    unacked: bool,
    close_timer: Option<AbortHandle>,
}

impl State {
    /// `Stream.sendFlags`.
    fn send_flags(&mut self) -> Flags {
        match self.phase {
            Phase::Init => {
                self.phase = Phase::SynSent;
                Flags::SYN
            }
            Phase::SynReceived => {
                self.phase = Phase::Established;
                Flags::ACK
            }
            _ => Flags::NONE,
        }
    }

    /// By how much the window can be opened when so much is read; `None` where that is not worth a frame.
    fn credit(&self, max: u32, read: usize) -> Option<u32> {
        let unread = u32::try_from(self.buffer.len().saturating_sub(read)).unwrap_or(u32::MAX);
        let credit = max.saturating_sub(unread).saturating_sub(self.recv_window);
        (credit >= max / 2 || matches!(self.phase, Phase::Init | Phase::SynReceived)).then_some(credit)
    }
}

impl Inner {
    pub(super) fn outbound(id: u32) -> Self {
        Self::new(id, Phase::Init)
    }

    pub(super) fn inbound(id: u32) -> Self {
        Self::new(id, Phase::SynReceived)
    }

    /// `newStream`: both windows begin with 256 KiB, whatever the settings say.
    fn new(id: u32, phase: Phase) -> Self {
        Self {
            id,
            state: Mutex::new(State {
                phase,
                recv_window: INITIAL_WINDOW,
                send_window: INITIAL_WINDOW,
                buffer: VecDeque::new(),
                unacked: phase == Phase::Init,
                close_timer: None,
            }),
            recv_lock: tokio::sync::Mutex::default(),
            send_lock: tokio::sync::Mutex::default(),
            control_lock: tokio::sync::Mutex::default(),
            readable: Notify::new(),
            writable: Notify::new(),
            established: Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `Stream.forceClose`. What was received can still be read.
    pub(super) fn force_close(&self) {
        self.lock().phase = Phase::Closed;
        self.notify_waiting();
    }

    fn notify_waiting(&self) {
        self.readable.notify_one();
        self.writable.notify_one();
        self.established.notify_one();
    }
}

impl Stream {
    /// The stream's id.
    pub fn id(&self) -> u32 {
        self.inner.id
    }

    /// Reads at least one byte, or 0 at the end: `Stream.Read`. Waits also for the window update that this may take to be
    /// sent. When it is dropped, nothing is read.
    ///
    /// # Errors
    ///
    /// `ConnectionReset`, also where bytes are left; `ConnectionWriteTimeout`. The end of the session is none.
    pub async fn read(&self, buffer: &mut [u8]) -> Result<usize, Error> {
        let count = loop {
            if self.inner.lock().phase == Phase::Reset {
                return Err(Error::ConnectionReset);
            }
            {
                let _no_body_comes = self.inner.recv_lock.lock().await;
                let state = self.inner.lock();
                if !state.buffer.is_empty() {
                    break state.buffer.len().min(buffer.len());
                }
                if matches!(state.phase, Phase::RemoteClose | Phase::Closed) {
                    self.inner.readable.notify_one();
                    return Ok(0);
                }
                if state.phase == Phase::Reset {
                    continue;
                }
            }
            self.inner.readable.notified().await;
        };
        match self.send_window_update(count).await {
            Ok(()) | Err(Error::SessionShutdown) => {}
            Err(error) => return Err(error),
        }
        self.inner.readable.notify_one();
        let mut state = self.inner.lock();
        let mut filled = 0;
        while filled < count && !state.buffer.is_empty() {
            // One of the two pieces in which it lies.
            filled += state.buffer.read(&mut buffer[filled..count])?;
        }
        Ok(filled)
    }

    /// Reads to the end. What it has read is lost when it is dropped.
    ///
    /// # Errors
    ///
    /// Those of [`read`](Self::read).
    pub async fn read_to_end(&self) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        let mut chunk = vec![0; CHUNK];
        loop {
            match self.read(&mut chunk).await? {
                0 => return Ok(bytes),
                count => bytes.extend_from_slice(&chunk[..count]),
            }
        }
    }

    /// Writes all, in frames as long as the window is open: `Stream.Write`. When it is dropped, some of it is sent, in
    /// whole frames.
    ///
    /// # Errors
    ///
    /// `StreamClosed` after a close and after the end of the session, `ConnectionReset`, `ConnectionWriteTimeout`,
    /// `SessionShutdown`.
    pub async fn write(&self, bytes: &[u8]) -> Result<(), Error> {
        let _writing = self.inner.send_lock.lock().await;
        let mut rest = bytes;
        while !rest.is_empty() {
            let count = self.write_some(rest).await?;
            rest = &rest[count..];
        }
        Ok(())
    }

    /// `Stream.write`.
    async fn write_some(&self, bytes: &[u8]) -> Result<usize, Error> {
        let window = {
            let state = self.inner.lock();
            match state.phase {
                Phase::LocalClose | Phase::Closed => return Err(Error::StreamClosed),
                Phase::Reset => return Err(Error::ConnectionReset),
                _ => state.send_window,
            }
        };
        if window == 0 {
            self.inner.writable.notified().await;
            return Ok(0);
        }
        let mut count = 0;
        let sent = self.session.wait_for_send(|| {
            let mut state = self.inner.lock();
            if matches!(state.phase, Phase::LocalClose | Phase::Closed | Phase::Reset) {
                return None;
            }
            count = u32::try_from(bytes.len()).unwrap_or(u32::MAX).min(state.send_window);
            state.send_window -= count;
            let header = Header::data(self.inner.id, state.send_flags(), count);
            Some((header, bytes[..count as usize].to_vec()))
        });
        let sent = sent.await;
        if sent.is_err() {
            // The window is not reduced then, though the frame may go out later.
            let mut state = self.inner.lock();
            state.send_window = state.send_window.wrapping_add(count);
        }
        sent.map(|()| count as usize)
    }

    /// Finishes our direction, and the stream when the other one is finished: `Stream.Close`. Waits for the FIN to be
    /// sent; it is sent as well when this is dropped. Reading goes on, as in Go, where a caller rarely does.
    pub async fn close(&self) {
        // It fails when the runtime ends.
        let _ = self.spawn_close().await;
    }

    pub(super) fn spawn_close(&self) -> JoinHandle<()> {
        tokio::spawn(self.clone().close_now())
    }

    async fn close_now(self) {
        let both = {
            let mut state = self.inner.lock();
            let both = match state.phase {
                Phase::SynSent | Phase::SynReceived | Phase::Established => false,
                Phase::RemoteClose => true,
                Phase::Init | Phase::LocalClose | Phase::Closed | Phase::Reset => return,
            };
            state.phase = if both { Phase::Closed } else { Phase::LocalClose };
            if !both && !self.session.config.stream_close_timeout.is_zero() {
                let stream = self.clone();
                state.close_timer = Some(self.session.spawn(None, async move { stream.close_timeout().await }));
            }
            both
        };
        {
            let _control = self.inner.control_lock.lock().await;
            let fin = Header::window_update(self.inner.id, Flags::FIN, 0);
            // As there, nobody learns that it was not sent.
            let _ = self.session.wait_for_send(|| Some((fin, Vec::new()))).await;
        }
        // This ends the wait for an acknowledgement as well, and so the session is spared.
        self.inner.notify_waiting();
        if both {
            self.leave_session();
        }
    }

    /// `Stream.closeTimeout`.
    async fn close_timeout(&self) -> Result<(), Error> {
        sleep(self.session.config.stream_close_timeout).await;
        self.inner.force_close();
        self.leave_session();
        let _writing = self.inner.send_lock.lock().await;
        // As there, nobody learns that it was not sent.
        let _ = self.session.send_no_wait(Header::window_update(self.inner.id, Flags::RST, 0)).await;
        Ok(())
    }

    fn leave_session(&self) {
        let was_unacked = std::mem::take(&mut self.inner.lock().unacked);
        self.session.close_stream(self.inner.id, was_unacked);
    }

    /// `Stream.sendWindowUpdate`, when so much is about to be read: sends nothing below half a window, but for a SYN or an
    /// ACK.
    pub(super) async fn send_window_update(&self, read: usize) -> Result<(), Error> {
        let _control = self.inner.control_lock.lock().await;
        {
            let _no_body_comes = self.inner.recv_lock.lock().await;
            if self.inner.lock().credit(self.session.config.max_stream_window_size, read).is_none() {
                return Ok(());
            }
        }
        self.session.wait_for_send(|| Some((self.window_update(read)?, Vec::new()))).await
    }

    pub(super) fn window_update(&self, read: usize) -> Option<Header> {
        let mut state = self.inner.lock();
        let credit = state.credit(self.session.config.max_stream_window_size, read)?;
        state.recv_window += credit;
        Some(Header::window_update(self.inner.id, state.send_flags(), credit))
    }

    /// `Stream.processFlags`.
    fn process_flags(&self, flags: Flags) -> Result<(), Error> {
        let mut closed = false;
        {
            let mut state = self.inner.lock();
            if flags.contains(Flags::ACK) {
                if state.phase == Phase::SynSent {
                    state.phase = Phase::Established;
                }
                state.unacked = false;
                self.inner.established.notify_one();
                self.session.release_syn();
            }
            if flags.contains(Flags::FIN) {
                (state.phase, closed) = match state.phase {
                    Phase::SynSent | Phase::SynReceived | Phase::Established => (Phase::RemoteClose, false),
                    Phase::LocalClose => (Phase::Closed, true),
                    Phase::Init | Phase::RemoteClose | Phase::Closed | Phase::Reset => {
                        return Err(Error::UnexpectedFlag);
                    }
                };
            }
            if flags.contains(Flags::RST) {
                (state.phase, closed) = (Phase::Reset, true);
            }
            if closed && let Some(timer) = state.close_timer.take() {
                timer.abort();
            }
        }
        if flags.contains(Flags::FIN) || flags.contains(Flags::RST) {
            self.inner.notify_waiting();
        }
        if closed {
            self.leave_session();
        }
        Ok(())
    }

    /// `Stream.incrSendWindow`; the sum wraps there as well.
    pub(super) fn incr_send_window(&self, header: Header) -> Result<(), Error> {
        self.process_flags(header.flags)?;
        let mut state = self.inner.lock();
        state.send_window = state.send_window.wrapping_add(header.length);
        self.inner.writable.notify_one();
        Ok(())
    }

    /// `Stream.readData`: takes the bytes in whatever state the stream is. Those of a frame that is cut short stay.
    pub(super) async fn read_data(&self, header: Header, io: &mut (impl AsyncBufRead + Unpin)) -> Result<(), Error> {
        let _a_body_comes = self.inner.recv_lock.lock().await;
        self.process_flags(header.flags)?;
        let mut left = header.length as usize;
        if header.length > self.inner.lock().recv_window {
            return Err(Error::RecvWindowExceeded);
        }
        while left > 0 {
            let bytes = match io.fill_buf().await {
                Ok([]) => break,
                Ok(bytes) => &bytes[..bytes.len().min(left)],
                Err(error) => return Err(io::Error::into(error)),
            };
            let count = bytes.len();
            {
                let mut state = self.inner.lock();
                state.buffer.extend(bytes);
                state.recv_window -= u32::try_from(count).unwrap_or(u32::MAX);
            }
            io.consume(count);
            left -= count;
        }
        self.inner.readable.notify_one();
        Ok(())
    }
}
