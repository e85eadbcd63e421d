//! What a provider is doing, for [`Status`](crate::manager::Status) and for whoever asks for it.

use std::{
    error::Error,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::broadcast, time::Instant};

use crate::{
    error::{CloseReason, Stopped},
    events::{Event, Events},
    session::Session,
    sync::SessionId,
};

/// What a provider is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Activity {
    /// It dials, or proves a connection that it has dialled. A provider of one's own does what it does.
    Connecting,
    /// It waits for the peer to dial.
    Listening,
    /// It has a live session.
    Live,
    /// It pauses before the next attempt.
    BackingOff,
    /// It is closing what it has.
    ShuttingDown,
    /// It has ended.
    Stopped,
}

/// The notes of one provider, and who is told of what happens. Locked for moments only, and nothing foreign runs
/// meanwhile.
#[derive(Debug)]
pub(crate) struct Progress {
    notes: Mutex<Notes>,
    events: Mutex<Told>,
    /// How many events are kept for a slow reader.
    backlog: usize,
}

/// Whom events are told.
#[derive(Debug)]
enum Told {
    /// Nobody has asked yet.
    Nobody,
    Readers(broadcast::Sender<Event>),
    /// There will be no more events.
    Ended,
}

#[derive(Clone, Debug)]
pub(crate) struct Notes {
    pub(crate) activity: Activity,
    /// Attempts that failed in a row, since the start or the last session.
    pub(crate) attempts: u32,
    pub(crate) sessions_so_far: u64,
    pub(crate) crowded_out: u64,
    pub(crate) last_error: Option<Arc<dyn Error + Send + Sync>>,
    /// That there will be no session any more was told.
    stopped: bool,
    /// What was slept between attempts up to `counted_at`, and how many loops sleep since then.
    backoff_slept: Duration,
    sleeping: u32,
    counted_at: Instant,
}

impl Notes {
    /// All the time that was slept between attempts, with the pauses that are going on.
    pub(crate) fn backoff_slept(&self) -> Duration {
        self.backoff_slept + self.counted_at.elapsed() * self.sleeping
    }

    fn count(&mut self) {
        self.backoff_slept = self.backoff_slept();
        self.counted_at = Instant::now();
    }

    /// A shutdown is not undone by what a provider says in its last moments.
    fn set(&mut self, activity: Activity) {
        let ending = matches!(self.activity, Activity::ShuttingDown | Activity::Stopped);
        if !ending || activity == Activity::Stopped {
            self.activity = activity;
        }
    }
}

impl Progress {
    pub(crate) fn new(activity: Activity, backlog: usize) -> Self {
        let notes = Notes {
            activity,
            attempts: 0,
            sessions_so_far: 0,
            crowded_out: 0,
            last_error: None,
            stopped: false,
            backoff_slept: Duration::ZERO,
            sleeping: 0,
            counted_at: Instant::now(),
        };
        Self { notes: Mutex::new(notes), events: Mutex::new(Told::Nobody), backlog }
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What happens from now on.
    pub(crate) fn events(&self) -> Events {
        let mut told = self.told();
        match &*told {
            Told::Nobody => {
                let (sender, receiver) = broadcast::channel(self.backlog);
                *told = Told::Readers(sender);
                Events::new(receiver)
            }
            Told::Readers(sender) => Events::new(sender.subscribe()),
            Told::Ended => Events::none(),
        }
    }

    /// Tells whoever reads the events.
    fn tell(&self, event: impl FnOnce() -> Event) {
        let sender = match &*self.told() {
            Told::Readers(sender) => Some(sender.clone()),
            Told::Nobody | Told::Ended => None,
        };
        // Readers are woken outside the lock (G7). It is no error if there are none any more.
        if let Some(sender) = sender {
            let _ = sender.send(event());
        }
    }

    pub(crate) fn get(&self) -> Notes {
        self.notes().clone()
    }

    /// Notes what is done now.
    pub(crate) fn set(&self, activity: Activity) {
        self.notes().set(activity);
    }

    /// A pause between attempts begins, and lasts until what is returned is dropped.
    pub(crate) fn pause(&self) -> Pause<'_> {
        let mut notes = self.notes();
        notes.set(Activity::BackingOff);
        notes.count();
        notes.sleeping += 1;
        Pause(self)
    }

    /// An attempt begins.
    pub(crate) fn connecting(&self, attempt: u32) {
        self.set(Activity::Connecting);
        self.tell(|| Event::Connecting { attempt });
    }

    /// An attempt failed, the so-many-th in a row.
    pub(crate) fn attempt_failed(
        &self,
        attempt: u32,
        error: &Arc<dyn Error + Send + Sync>,
        next_delay: Option<Duration>,
    ) {
        let mut notes = self.notes();
        notes.attempts = notes.attempts.saturating_add(1);
        let old = notes.last_error.replace(Arc::clone(error));
        drop(notes);
        drop(old);
        self.tell(|| Event::AttemptFailed { attempt, error: Arc::clone(error), next_delay });
    }

    /// No connection could be accepted.
    pub(crate) fn accept_failed(&self, error: &Arc<dyn Error + Send + Sync>) {
        let old = self.notes().last_error.replace(Arc::clone(error));
        drop(old);
        self.tell(|| Event::AcceptFailed { error: Arc::clone(error) });
    }

    /// A handshake had to make room. Says how many had to so far.
    pub(crate) fn crowded_out(&self, peer: Option<SocketAddr>, silent_for: Duration) -> u64 {
        let mut notes = self.notes();
        notes.crowded_out += 1;
        let so_far = notes.crowded_out;
        drop(notes);
        self.tell(|| Event::CrowdedOut { peer, silent_for });
        so_far
    }

    /// A session is live.
    pub(crate) fn session_live(&self, session: &Session) {
        let mut notes = self.notes();
        notes.sessions_so_far += 1;
        notes.attempts = 0;
        drop(notes);
        self.tell(|| Event::SessionLive {
            session: session.id(),
            peer: session.peer_addr(),
            round_trip: session.round_trip(),
        });
    }

    /// A session that was live has ended.
    pub(crate) fn session_closed(&self, session: SessionId, reason: CloseReason) {
        self.tell(|| Event::SessionClosed { session, reason });
    }

    /// There will be no session any more. Only the first word is told.
    pub(crate) fn stopped(&self, reason: Stopped) {
        let is_known = std::mem::replace(&mut self.notes().stopped, true);
        if !is_known {
            self.tell(|| Event::Stopped(reason));
        }
    }

    /// The provider has ended, and all that was its: there are no more events.
    pub(crate) fn ended(&self) {
        self.set(Activity::Stopped);
        let told = std::mem::replace(&mut *self.told(), Told::Ended);
        drop(told);
    }
}

/// A pause between attempts.
pub(crate) struct Pause<'a>(&'a Progress);

impl Drop for Pause<'_> {
    fn drop(&mut self) {
        let mut notes = self.0.notes();
        notes.count();
        notes.sleeping -= 1;
    }
}
