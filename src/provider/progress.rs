//! What a provider is doing, for [`Status`](crate::manager::Status) and for readers of events.

use std::{
    collections::BTreeSet,
    error::Error,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::broadcast, time::Instant};

use super::outbox::Outbox;
use crate::{
    error::{CloseReason, Stopped},
    events::{Event, Events},
    session::Session,
    sync::{Relay, SessionId},
};

/// What a provider is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Activity {
    /// It dials, or proves a connection that it has dialled. Stands for whatever a custom provider does without a
    /// session.
    Connecting,
    /// It waits for the peer to dial.
    Listening,
    /// It has a live session.
    Live,
    /// It pauses before the next attempt, in each place if there are several.
    BackingOff,
    /// It is closing what it has.
    ShuttingDown,
    /// It has ended.
    Stopped,
}

/// The status of one provider, and the subscribers to its events. Locked only briefly, and no foreign code runs under a
/// lock.
#[derive(Debug)]
pub(crate) struct Progress {
    snapshot: Mutex<Snapshot>,
    events: Mutex<Subscribers>,
    outbox: Relay<Outbox>,
    /// How many events are kept for a slow reader.
    backlog: usize,
}

/// Who gets the events.
#[derive(Debug)]
enum Subscribers {
    /// Nobody has asked yet.
    None,
    Some(broadcast::Sender<Event>),
    /// There will be no more events.
    Ended,
}

#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    pub(crate) activity: Activity,
    /// Attempts that failed in a row, since the start or the last session.
    pub(crate) attempts: u32,
    pub(crate) sessions_so_far: u64,
    pub(crate) crowded_out: u64,
    pub(crate) held_out: u64,
    pub(crate) not_admitted: u64,
    pub(crate) last_error: Option<Arc<dyn Error + Send + Sync>>,
    /// [`Event::Stopped`] was sent.
    stopped: bool,
    /// The time slept between attempts up to `counted_at`, and how many loops have slept since then.
    backoff_slept: Duration,
    sleeping: u32,
    counted_at: Instant,
    /// When a session left its place last.
    pub(crate) left_at: Option<Instant>,
}

impl Snapshot {
    /// The total time slept between attempts, including the current pauses.
    pub(crate) fn backoff_slept(&self) -> Duration {
        self.backoff_slept + self.counted_at.elapsed() * self.sleeping
    }

    fn count(&mut self) {
        self.backoff_slept = self.backoff_slept();
        self.counted_at = Instant::now();
    }

    /// What a provider reports in its last moments does not undo a shutdown.
    fn set(&mut self, activity: Activity) {
        let ending = matches!(self.activity, Activity::ShuttingDown | Activity::Stopped);
        if !ending || activity == Activity::Stopped {
            self.activity = activity;
        }
    }
}

impl Progress {
    pub(crate) fn new(activity: Activity, backlog: usize) -> Self {
        let snapshot = Snapshot {
            activity,
            attempts: 0,
            sessions_so_far: 0,
            crowded_out: 0,
            held_out: 0,
            not_admitted: 0,
            last_error: None,
            stopped: false,
            backoff_slept: Duration::ZERO,
            sleeping: 0,
            counted_at: Instant::now(),
            left_at: None,
        };
        let (events, outbox) = (Mutex::new(Subscribers::None), Relay::new(Outbox::new(backlog)));
        Self { snapshot: Mutex::new(snapshot), events, outbox, backlog }
    }

    fn snapshot(&self) -> MutexGuard<'_, Snapshot> {
        self.snapshot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn subscribers(&self) -> MutexGuard<'_, Subscribers> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The events from now on.
    pub(crate) fn events(&self) -> Events {
        let mut subscribers = self.subscribers();
        match &*subscribers {
            Subscribers::None => {
                let (sender, receiver) = broadcast::channel(self.backlog);
                *subscribers = Subscribers::Some(sender);
                Events::new(receiver)
            }
            Subscribers::Some(sender) => Events::new(sender.subscribe()),
            Subscribers::Ended => Events::none(),
        }
    }

    /// Who gets the events, if there is anyone.
    fn readers(&self) -> Option<broadcast::Sender<Event>> {
        match &*self.subscribers() {
            Subscribers::Some(sender) => Some(sender.clone()),
            Subscribers::None | Subscribers::Ended => None,
        }
    }

    /// Sends an event to the readers.
    fn emit(&self, event: impl FnOnce() -> Event) {
        if self.readers().is_some() {
            let event = event();
            self.outbox.change(|outbox| outbox.push(event, BTreeSet::new()));
            self.emit_all();
        }
    }

    /// Sends what is in the outbox, unless somebody is already doing so.
    fn emit_all(&self) {
        self.outbox.send_all(|event| {
            // Readers are woken outside the lock (G7). It is not an error if there are none left.
            if let Some(sender) = self.readers() {
                let _ = sender.send(event);
            }
        });
    }

    pub(crate) fn get(&self) -> Snapshot {
        self.snapshot().clone()
    }

    /// Records what is being done now.
    pub(crate) fn set(&self, activity: Activity) {
        self.snapshot().set(activity);
    }

    /// Begins a pause between attempts in one of so many places. It lasts until the returned value is dropped.
    pub(crate) fn pause(&self, places: usize) -> Pause<'_> {
        let mut snapshot = self.snapshot();
        snapshot.count();
        snapshot.sleeping += 1;
        // Unless another place dials.
        if snapshot.sleeping as usize >= places {
            snapshot.set(Activity::BackingOff);
        }
        Pause(self)
    }

    /// An attempt begins.
    pub(crate) fn connecting(&self, attempt: u32) {
        self.set(Activity::Connecting);
        self.emit(|| Event::Connecting { attempt });
    }

    /// An attempt failed; `attempt` counts failures in a row.
    pub(crate) fn attempt_failed(
        &self,
        attempt: u32,
        error: &Arc<dyn Error + Send + Sync>,
        next_delay: Option<Duration>,
    ) {
        let mut snapshot = self.snapshot();
        snapshot.attempts = snapshot.attempts.saturating_add(1);
        let old = snapshot.last_error.replace(Arc::clone(error));
        drop(snapshot);
        drop(old);
        self.emit(|| Event::AttemptFailed { attempt, error: Arc::clone(error), next_delay });
    }

    /// A connection could not be accepted.
    pub(crate) fn accept_failed(&self, error: &Arc<dyn Error + Send + Sync>) {
        let old = self.snapshot().last_error.replace(Arc::clone(error));
        drop(old);
        self.emit(|| Event::AcceptFailed { error: Arc::clone(error) });
    }

    /// A handshake had to make room. Returns how many have so far.
    pub(crate) fn crowded_out(&self, peer: Option<SocketAddr>, silent_for: Duration) -> u64 {
        let mut snapshot = self.snapshot();
        snapshot.crowded_out += 1;
        let so_far = snapshot.crowded_out;
        drop(snapshot);
        self.emit(|| Event::CrowdedOut { peer, silent_for });
        so_far
    }

    /// A peer found no place; `holders` have them, if an event is due. Returns how many have found none so far.
    pub(crate) fn held_out(&self, peer: Option<SocketAddr>, holders: Option<Vec<SocketAddr>>) -> u64 {
        let mut snapshot = self.snapshot();
        snapshot.held_out += 1;
        let so_far = snapshot.held_out;
        drop(snapshot);
        if let Some(holders) = holders {
            self.emit(|| Event::HeldOut { peer, holders });
        }
        so_far
    }

    /// A peer was not admitted. Returns how many were not so far.
    pub(crate) fn not_admitted(&self, peer: Option<SocketAddr>, is_told: bool) -> u64 {
        let mut snapshot = self.snapshot();
        snapshot.not_admitted += 1;
        let so_far = snapshot.not_admitted;
        drop(snapshot);
        if is_told {
            self.emit(|| Event::NotAdmitted { peer });
        }
        so_far
    }

    /// A session is live; `in_slot` returns those in the slot.
    pub(crate) fn session_live(&self, session: &Session, in_slot: impl FnOnce() -> Vec<(SessionId, Session)>) {
        let mut snapshot = self.snapshot();
        snapshot.sessions_so_far += 1;
        snapshot.attempts = 0;
        drop(snapshot);
        let (id, peer, round_trip) = (session.id(), session.peer_addr(), session.round_trip());
        self.enters(id, in_slot, || Event::SessionLive { session: id, peer, round_trip });
    }

    fn enters<S>(
        &self,
        session: SessionId,
        in_slot: impl FnOnce() -> Vec<(SessionId, S)>,
        event: impl FnOnce() -> Event,
    ) {
        let event = self.readers().map(|_| event());
        let in_slot = self.outbox.change(|outbox| {
            // Under the lock: a session that has entered the outbox by now and is still in the slot is found there.
            let in_slot = in_slot();
            let after = outbox.enters(session, |live| in_slot.iter().any(|(id, _)| id.as_u64() == live));
            if let Some(event) = event {
                outbox.push(event, after);
            }
            in_slot
        });
        drop(in_slot);
        self.emit_all();
    }

    fn leaves(&self, session: SessionId, event: impl FnOnce() -> Event) {
        let event = self.readers().map(|_| event());
        if self.outbox.change(|outbox| outbox.leaves(session, event)) {
            self.snapshot().left_at = Some(Instant::now());
        }
        self.emit_all();
    }

    /// A session that was live begins to close, within this time.
    pub(crate) fn session_draining(&self, session: SessionId, reason: CloseReason, within: Duration) {
        self.leaves(session, || Event::SessionDraining { session, reason, within });
    }

    /// A session that was live has ended.
    pub(crate) fn session_closed(&self, session: SessionId, reason: CloseReason) {
        self.leaves(session, || Event::SessionClosed { session, reason });
    }

    /// No more sessions will be made. Only the first call is reported.
    pub(crate) fn stopped(&self, reason: Stopped) {
        let is_known = std::mem::replace(&mut self.snapshot().stopped, true);
        if !is_known {
            self.emit(|| Event::Stopped(reason));
        }
    }

    /// The provider has ended, with everything that belonged to it: there are no more events.
    pub(crate) fn ended(&self) {
        self.set(Activity::Stopped);
        let subscribers = std::mem::replace(&mut *self.subscribers(), Subscribers::Ended);
        drop(subscribers);
    }
}

/// A pause between attempts.
pub(crate) struct Pause<'a>(&'a Progress);

impl Drop for Pause<'_> {
    fn drop(&mut self) {
        let mut snapshot = self.0.snapshot();
        snapshot.count();
        snapshot.sleeping -= 1;
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::{provider::installer::Slot, sync::Claim};

    /// The id of the session with this number.
    fn id(number: u64) -> SessionId {
        let slot = Arc::new(Slot::new(1));
        let mut ids = std::iter::repeat_with(|| Claim::<_, _, ()>::new(&slot).id());
        ids.find(|id| id.as_u64() == number).unwrap_or_else(|| unreachable!("they have no end"))
    }

    fn live(progress: &Progress, session: u64, in_slot: &[u64]) {
        let in_slot = || in_slot.iter().map(|number| (id(*number), ())).collect();
        let event = || Event::SessionLive { session: id(session), peer: None, round_trip: None };
        progress.enters(id(session), in_slot, event);
    }

    /// The events sent since the last call.
    fn told(events: &mut Events) -> Vec<String> {
        let all = std::iter::from_fn(|| events.next().now_or_never().flatten());
        let name = |event| match event {
            Event::SessionLive { session, .. } => format!("live {session}"),
            Event::SessionDraining { session, .. } => format!("draining {session}"),
            Event::SessionClosed { session, .. } => format!("closed {session}"),
            Event::Connecting { attempt } => format!("connecting {attempt}"),
            Event::Missed(missed) => format!("missed {missed}"),
            other => panic!("{other:?}"),
        };
        all.map(name).collect()
    }

    #[test]
    fn a_session_is_told_after_the_end_of_the_one_whose_place_it_has() {
        let progress = Progress::new(Activity::Connecting, 64);
        let mut events = progress.events();
        live(&progress, 1, &[1]);
        assert_eq!(told(&mut events), ["live 1"]);
        live(&progress, 2, &[2]);
        progress.connecting(1);
        live(&progress, 3, &[2, 3]);
        assert!(told(&mut events).is_empty(), "the end of the first is not told yet");
        progress.session_closed(id(1), CloseReason::Aborted);
        assert_eq!(told(&mut events), ["closed 1", "live 2", "connecting 1", "live 3"]);
        progress.session_closed(id(3), CloseReason::Aborted);
        assert_eq!(told(&mut events), ["closed 3"]);
    }

    #[test]
    fn one_place_pauses_for_itself_alone() {
        let progress = Progress::new(Activity::Connecting, 64);
        let first = progress.pause(2);
        assert_eq!(progress.get().activity, Activity::Connecting, "the other place dials");
        let second = progress.pause(2);
        assert_eq!(progress.get().activity, Activity::BackingOff);
        drop(first);
        progress.connecting(2);
        assert_eq!(progress.get().activity, Activity::Connecting);
        drop(second);
        progress.connecting(2);
        let _again = progress.pause(2);
        assert_eq!(progress.get().activity, Activity::Connecting, "the other place dials");
    }

    #[test]
    fn one_that_drains_has_left_its_place() {
        let progress = Progress::new(Activity::Connecting, 64);
        let mut events = progress.events();
        live(&progress, 1, &[1]);
        progress.session_draining(id(1), CloseReason::Closed, Duration::ZERO);
        live(&progress, 2, &[2]);
        progress.session_closed(id(1), CloseReason::Closed);
        assert_eq!(told(&mut events), ["live 1", "draining 1", "live 2", "closed 1"]);
    }

    #[test]
    fn no_more_events_wait_than_a_reader_has_room_for() {
        let progress = Progress::new(Activity::Connecting, 4);
        let mut events = progress.events();
        live(&progress, 1, &[1]);
        live(&progress, 2, &[2]);
        (1..=3).for_each(|attempt| progress.connecting(attempt));
        assert_eq!(told(&mut events), ["live 1"]);
        progress.connecting(4);
        assert_eq!(told(&mut events), ["missed 1", "connecting 1", "connecting 2", "connecting 3", "connecting 4"]);
    }

    #[test]
    fn what_happened_before_there_was_a_reader_delays_nothing() {
        let progress = Progress::new(Activity::Connecting, 64);
        live(&progress, 1, &[1]);
        let mut events = progress.events();
        live(&progress, 2, &[2]);
        assert!(told(&mut events).is_empty());
        progress.session_closed(id(1), CloseReason::Aborted);
        assert_eq!(told(&mut events), ["closed 1", "live 2"]);
    }
}
