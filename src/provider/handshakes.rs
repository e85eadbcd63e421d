//! The handshakes of a receiver: how many there may be at once, and which one makes room for another (G13).
//!
//! Each holds a permit from its accept until it has passed or ended. When none is left, the next connection waits for
//! one, and no other is accepted until then: the kernel holds the others. So a burst of honest peers is served in
//! order, and loses nobody. A silent crowd keeps nobody out for long: the handshake that has been silent for longest is
//! dropped, once that is [`SILENCE`]; and if within that time none is found silent, passes or ends, the oldest is
//! dropped, which has had the most time.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::AbortHandle,
    time::{Instant, sleep_until},
};
use tracing::{debug, warn};

use super::{
    candidate::Candidate,
    installer::Installer,
    seldom::{BETWEEN_WARNINGS, Seldom},
};
use crate::{error::CloseReason, session::Session};

/// How long a handshake may be silent while another waits, and the longest that accepting pauses.
const SILENCE: Duration = Duration::from_secs(1);
/// Silence is checked twice, this far apart: after the process stood still, bytes may be waiting to be read.
const APART: Duration = Duration::from_millis(50);

/// The handshakes in progress.
pub(super) struct Handshakes {
    installer: Installer,
    permits: Arc<Semaphore>,
    /// In the order of their accepts. Some may be over.
    list: Vec<Known>,
    /// How long the list is when those that are over are removed: twice as long as it was without them.
    swept_at: usize,
    /// Since when a connection has waited for room.
    waits: Option<Instant>,
    /// When that was first found to be too long.
    overdue: Option<Instant>,
    warnings: Seldom,
}

/// The least number of handshakes at which those that are over are removed.
const LIST_MIN: usize = 8;

/// The receiver's side of a handshake.
struct Known {
    shared: Arc<Shared>,
    task: AbortHandle,
    /// If it was found silent: when its peer was last heard from, and when that was found.
    found: Option<(Instant, Instant)>,
}

struct Shared {
    peer: Option<SocketAddr>,
    begun: Instant,
    stage: Mutex<Stage>,
}

enum Stage {
    /// The transport's own handshake, which cannot be observed: it counts as silent from its accept on.
    Finishing(OwnedSemaphorePermit),
    /// Since its transport was ready, which counts as a sign of life: the peer took part in it, unless there was
    /// nothing to do.
    Proving(OwnedSemaphorePermit, Session, Instant),
    /// It has passed, or ended.
    Over,
}

/// The task's side of a handshake, which is over when this is dropped.
pub(super) struct Handshake(Arc<Shared>);

impl Shared {
    fn stage(&self) -> MutexGuard<'_, Stage> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When its peer was last heard from. `None` if it is over.
    fn heard(&self) -> Option<Instant> {
        match &*self.stage() {
            Stage::Finishing(_) => Some(self.begun),
            Stage::Proving(_, session, since) => Some(session.last_heard().map_or(*since, |heard| heard.max(*since))),
            Stage::Over => None,
        }
    }

    fn end(&self) -> Stage {
        std::mem::replace(&mut *self.stage(), Stage::Over)
    }
}

impl Handshake {
    /// The transport is ready, and the session has to be proven. Returns whether it may go on.
    pub(super) fn begins_proof(&self, candidate: &Candidate) -> bool {
        let mut stage = self.0.stage();
        *stage = match std::mem::replace(&mut *stage, Stage::Over) {
            Stage::Finishing(permit) => Stage::Proving(permit, candidate.session().clone(), Instant::now()),
            other => other,
        };
        matches!(*stage, Stage::Proving(..))
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        // Outside the lock: what it holds runs foreign code (G7).
        drop(self.0.end());
    }
}

impl Handshakes {
    pub(super) fn new(installer: Installer) -> Self {
        let permits = Arc::new(Semaphore::new(installer.config().max_handshakes_in_flight()));
        Self {
            installer,
            permits,
            list: Vec::new(),
            swept_at: LIST_MIN,
            waits: None,
            overdue: None,
            warnings: Seldom::new(BETWEEN_WARNINGS),
        }
    }

    /// Waits for room for one more, and makes it within a little over [`SILENCE`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the room to the next call.
    pub(super) async fn room(&mut self) -> OwnedSemaphorePermit {
        let room = loop {
            let next = match self.look(Instant::now()) {
                Ok(room) => break room,
                Err(next) => next,
            };
            tokio::select! {
                biased;
                room = Arc::clone(&self.permits).acquire_owned() => {
                    break room.unwrap_or_else(|_| unreachable!("the permits are never closed"));
                }
                () = sleep_until(next) => {}
            }
        };
        (self.waits, self.overdue) = (None, None);
        room
    }

    /// Begins a handshake in this room; `spawn` starts its task.
    pub(super) fn begin(
        &mut self,
        room: OwnedSemaphorePermit,
        peer: Option<SocketAddr>,
        spawn: impl FnOnce(Handshake) -> AbortHandle,
    ) {
        // A task that is known is not freed, and limits may be high.
        if self.list.len() >= self.swept_at {
            self.list.retain(|known| known.shared.heard().is_some());
            self.swept_at = LIST_MIN.max(2 * self.list.len());
        }
        let stage = Mutex::new(Stage::Finishing(room));
        let shared = Arc::new(Shared { peer, begun: Instant::now(), stage });
        let task = spawn(Handshake(Arc::clone(&shared)));
        self.list.push(Known { shared, task, found: None });
    }

    fn limit(&self) -> usize {
        self.installer.config().max_handshakes_in_flight()
    }

    /// Looks for room, and takes it from a handshake if that is allowed. Otherwise returns when to look again.
    fn look(&mut self, now: Instant) -> Result<OwnedSemaphorePermit, Instant> {
        if let Ok(room) = Arc::clone(&self.permits).try_acquire_owned() {
            return Ok(room);
        }
        if self.waits.is_none() {
            debug!(event = "accept_paused", limit = self.limit(), "too many handshakes: accepting pauses");
        }
        let over = *self.waits.get_or_insert(now) + SILENCE;
        let mut next = again(&mut self.overdue, over, now);
        let mut silent: Option<(usize, Instant)> = None;
        self.list.retain(|known| known.shared.heard().is_some());
        for (index, known) in self.list.iter_mut().enumerate() {
            let Some(heard) = known.shared.heard() else { continue };
            let mut found = known.found.take_if(|(before, _)| *before == heard).map(|(_, at)| at);
            let moment = again(&mut found, heard + SILENCE, now);
            known.found = found.map(|at| (heard, at));
            next = next.min(moment);
            if moment <= now && silent.is_none_or(|(_, longest)| heard < longest) {
                silent = Some((index, heard));
            }
        }
        // If there is none, the connection that waits is overdue.
        let victim = silent.map_or(0, |(index, _)| index);
        if next > now {
            return Err(next);
        }
        // If the last has just ended by itself, its permit is on its way.
        if self.list.is_empty() {
            return Err(now + APART);
        }
        self.crowd_out(victim, now).ok_or(now)
    }

    /// Drops a handshake, and returns its room. `None` if it is already over.
    fn crowd_out(&mut self, index: usize, now: Instant) -> Option<OwnedSemaphorePermit> {
        let Known { shared, task, .. } = self.list.remove(index);
        let silent_for = now.saturating_duration_since(shared.heard()?);
        let room = match shared.end() {
            Stage::Finishing(room) => {
                task.abort();
                room
            }
            Stage::Proving(room, session, _) => {
                session.end(CloseReason::CrowdedOut { silent_for });
                room
            }
            Stage::Over => return None,
        };
        let (peer, limit) = (shared.peer, self.limit());
        let so_far = self.installer.progress().crowded_out(peer, silent_for);
        let peer = peer.map(tracing::field::display);
        if self.warnings.is_due(now) {
            warn!(
                event = "crowded_out",
                peer,
                ?silent_for,
                limit,
                so_far,
                "too many handshakes: one makes room, see max_handshakes_in_flight"
            );
        } else {
            debug!(event = "crowded_out", peer, ?silent_for, limit, so_far, "too many handshakes: one makes room");
        }
        Some(room)
    }
}

/// When to look again at something that has to be found twice, [`APART`] apart and the second time not before `moment`.
/// It has been found twice if the result is not later than `now`.
fn again(found: &mut Option<Instant>, moment: Instant, now: Instant) -> Instant {
    if found.is_none() && now + APART >= moment {
        *found = Some(now);
    }
    match *found {
        Some(at) => moment.max(at + APART),
        None => moment.checked_sub(APART).unwrap_or(moment),
    }
}
