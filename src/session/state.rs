//! What all handles of one session share.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError},
    time::Instant,
};

use crate::{
    error::{CloseReason, OpenError},
    sync::{Gate, Latch, Latched, Life, SessionId, Steps},
};

/// Takes the session out of its slot. It must not wait.
pub(crate) type OnRetire = Box<dyn Fn() + Send + Sync>;

/// A session has left its slot, and neither opens nor takes new streams.
#[derive(Clone, Debug)]
pub(crate) struct Retirement {
    pub(crate) reason: CloseReason,
    /// How long its streams in flight may take to finish. `None` if it ends at once.
    pub(crate) drains: Option<Duration>,
}

/// The life of one session, as its handles see it.
pub(crate) struct SessionState {
    pub(crate) id: SessionId,
    pub(crate) local: Option<SocketAddr>,
    pub(crate) peer: Option<SocketAddr>,
    pub(crate) load: Arc<AtomicUsize>,
    /// Where writers wait on a slow path.
    pub(super) gate: Arc<Gate>,
    /// Permits for outbound streams.
    permits: Arc<Semaphore>,
    clear: OnRetire,
    life: Life<Retirement, CloseReason>,
    proven: Arc<Latch<()>>,
    /// The last round trip in nanoseconds, plus one. 0 if there is none.
    round_trip: AtomicU64,
    /// When the peer was last heard from before that.
    heard: Mutex<Option<Instant>>,
}

impl SessionState {
    pub(crate) fn new(
        (id, clear, load): (SessionId, OnRetire, Arc<AtomicUsize>),
        (local, peer): (Option<SocketAddr>, Option<SocketAddr>),
        max_concurrent_streams: u32,
    ) -> Self {
        Self {
            id,
            local,
            peer,
            load,
            gate: Arc::default(),
            permits: Arc::new(Semaphore::new(max_concurrent_streams as usize)),
            clear,
            life: Life::new(),
            proven: Arc::default(),
            round_trip: AtomicU64::new(0),
            heard: Mutex::new(None),
        }
    }

    /// Takes the session out of its slot, and only then publishes that (rule 7). No stream is opened afterwards. The
    /// first reason counts.
    pub(crate) fn retire(&self, reason: CloseReason, drains: Option<Duration>) {
        self.life.retire(Retirement { reason, drains }, || (self.clear)(), || self.permits.close());
    }

    /// Waits for the permit to open a stream, in the order of asking. `None` once the session is out of its slot.
    ///
    /// The semaphore is closed then, but loses some of those who wait for it if the waker of one of them panics.
    pub(crate) async fn permit(&self) -> Option<OwnedSemaphorePermit> {
        match Arc::clone(&self.permits).try_acquire_owned() {
            Ok(permit) => Some(permit),
            Err(TryAcquireError::Closed) => None,
            Err(TryAcquireError::NoPermits) => {
                self.life.unless_retired(Arc::clone(&self.permits).acquire_owned()).await?.ok()
            }
        }
    }

    /// Why the session is out of its slot, if it is.
    pub(crate) fn retirement(&self) -> Option<Retirement> {
        self.life.retirement()
    }

    /// Waits until the session is out of its slot.
    pub(crate) fn retired(&self) -> Latched<Retirement> {
        self.life.retired()
    }

    /// A ping was answered, which proves the session.
    pub(crate) fn set_round_trip(&self, round_trip: Duration) {
        let nanoseconds = u64::try_from(round_trip.as_nanos()).unwrap_or(u64::MAX);
        self.round_trip.store(nanoseconds.saturating_add(1), Ordering::Relaxed);
        self.proven.set(());
    }

    /// The peer, which has proven nothing yet, was heard from.
    pub(crate) fn set_heard(&self, at: Instant) {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = Some(at);
    }

    /// When the peer was last heard from before the session was proven.
    pub(crate) fn last_heard(&self) -> Option<Instant> {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the round trip that proves the session.
    pub(crate) async fn proven(&self) -> Result<(), CloseReason> {
        tokio::select! {
            biased;
            reason = self.life.closed() => Err(reason),
            () = self.proven.wait() => Ok(()),
        }
    }

    /// The last round trip.
    pub(crate) fn round_trip(&self) -> Option<Duration> {
        self.round_trip.load(Ordering::Relaxed).checked_sub(1).map(Duration::from_nanos)
    }

    /// Takes the session out of its slot without publishing that: [`set_closed`](Self::set_closed) will.
    pub(crate) fn leave_slot(&self) {
        (self.clear)();
    }

    /// Publishes the end of the session. Only after [`leave_slot`](Self::leave_slot).
    pub(crate) fn set_closed(&self, reason: CloseReason) {
        let mut steps = Steps::new();
        steps.run(|| self.life.close(reason.clone(), Retirement { reason, drains: None }, || self.permits.close()));
        self.gate.limit(usize::MAX, usize::MAX);
        steps.run(|| self.gate.wake());
    }

    pub(crate) fn close_reason(&self) -> Option<CloseReason> {
        self.life.reason()
    }

    pub(crate) fn closed(&self) -> Latched<CloseReason> {
        self.life.closed()
    }

    /// Why a stream could not be opened on a session that is retired.
    pub(crate) fn open_error(&self) -> OpenError {
        self.close_reason().map_or(OpenError::Draining, OpenError::Lost)
    }
}
