//! What the callers count.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use evermux::SessionId;
use tokio::{sync::oneshot, time::Instant};

#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Totals {
    pub(crate) cuts: Counter,
    pub(crate) freezes: Counter,
    /// Requests that were answered correctly.
    pub(crate) requests: Counter,
    /// Attempts that were interrupted, each followed by another.
    pub(crate) retried: Counter,
    /// Requests that no attempt got answered.
    pub(crate) lost: Counter,
    /// Messages that came and were wrong, at either side.
    pub(crate) corrupted: Counter,
    sessions: Mutex<Sessions>,
}

#[derive(Debug, Default)]
struct Sessions {
    /// Those that cannot be a next one; one for each session.
    known: Vec<SessionId>,
    waiting: Option<oneshot::Sender<Instant>>,
}

impl Sessions {
    /// False when it was known before.
    fn learn(&mut self, id: SessionId) -> bool {
        let new = !self.known.contains(&id);
        if new {
            self.known.push(id);
        }
        new
    }
}

impl Totals {
    /// Gives the moment of the first checked reply on a session that nobody knows yet.
    pub(crate) fn next_session(&self) -> oneshot::Receiver<Instant> {
        let (sender, receiver) = oneshot::channel();
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner).waiting = Some(sender);
        receiver
    }

    /// The same, where the session that is live now may not have carried a reply yet.
    pub(crate) fn next_session_after(&self, id: SessionId) -> oneshot::Receiver<Instant> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner).learn(id);
        self.next_session()
    }

    /// A caller's first checked reply on this session.
    pub(crate) fn first_reply(&self, id: SessionId) {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        if sessions.learn(id)
            && let Some(waiting) = sessions.waiting.take()
        {
            let _ = waiting.send(Instant::now());
        }
    }
}
