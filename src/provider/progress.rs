//! What a provider is doing, for [`Status`](crate::manager::Status) and for whoever asks for it.

use std::{
    error::Error,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// What a provider is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Activity {
    /// It dials, or proves a connection that it has dialled.
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

/// The notes of one provider. Locked for moments only, and nothing foreign runs meanwhile.
#[derive(Debug)]
pub(crate) struct Progress(Mutex<Notes>);

#[derive(Clone, Debug)]
pub(crate) struct Notes {
    pub(crate) activity: Activity,
    /// Attempts that failed in a row, since the start or the last session.
    pub(crate) attempts: u32,
    pub(crate) sessions_so_far: u64,
    pub(crate) last_error: Option<Arc<dyn Error + Send + Sync>>,
    backoff_slept: Duration,
    backing_off_since: Option<Instant>,
}

impl Notes {
    /// All the time that was slept between attempts, with the pause that is going on.
    pub(crate) fn backoff_slept(&self) -> Duration {
        self.backoff_slept + self.backing_off_since.map_or(Duration::ZERO, |since| since.elapsed())
    }
}

impl Progress {
    pub(crate) fn new(activity: Activity) -> Self {
        Self(Mutex::new(Notes {
            activity,
            attempts: 0,
            sessions_so_far: 0,
            last_error: None,
            backoff_slept: Duration::ZERO,
            backing_off_since: None,
        }))
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn get(&self) -> Notes {
        self.notes().clone()
    }

    /// Notes what is done now. A shutdown is not undone by what a provider says in its last moments.
    pub(crate) fn set(&self, activity: Activity) {
        let mut notes = self.notes();
        let ending = matches!(notes.activity, Activity::ShuttingDown | Activity::Stopped);
        if ending && activity != Activity::Stopped {
            return;
        }
        if let Some(since) = notes.backing_off_since.take() {
            notes.backoff_slept += since.elapsed();
        }
        if activity == Activity::BackingOff {
            notes.backing_off_since = Some(Instant::now());
        }
        notes.activity = activity;
    }

    /// A session is live.
    pub(crate) fn installed(&self) {
        let mut notes = self.notes();
        notes.sessions_so_far += 1;
        notes.attempts = 0;
    }

    /// An attempt failed, so many in a row by now.
    pub(crate) fn failed(&self, attempts: u32, error: Arc<dyn Error + Send + Sync>) {
        let mut notes = self.notes();
        notes.attempts = attempts;
        let old = notes.last_error.replace(error);
        drop(notes);
        drop(old);
    }
}
