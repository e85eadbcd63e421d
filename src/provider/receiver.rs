//! The provider that listens.
//!
//! Its loop only accepts: each connection is finished, half-proven and installed in its own task, under one deadline
//! (G13). [`Handshakes`] limits how many are on their way.

use std::{future::pending, sync::Arc, time::Duration};

use tokio::{
    sync::{Mutex, Semaphore},
    task::{JoinError, JoinSet},
    time::{Instant, sleep_until, timeout_at},
};
use tracing::{Instrument, debug, error, info, info_span, warn};

use super::{
    Accept,
    candidate::{Candidate, InstallError},
    handshakes::{Handshake, Handshakes},
    installer::Installer,
    progress::Activity,
    refusals::Refusals,
};
use crate::{
    deadline,
    error::{AcceptError, GaveUp, GaveUpCause},
    sync::SessionId,
};

/// The pause after a failed accept: long enough that file descriptors may be freed, short enough to go unnoticed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// When this many connections in a row were lost before they were accepted, accepting pauses: a listener that fails at
/// once forever may report any error.
const LOST_IN_A_ROW: u32 = 64;
/// Candidates that may wait for a place; one more is turned away.
const MAX_CANDIDATES: usize = 64;
/// A candidate is turned away this long before its deadline, or a quarter of its time if that is less, so that its
/// peer, which may have the same deadline, hears of it before it gives up by itself.
const BEFORE_DEADLINE: Duration = Duration::from_secs(1);

/// Accepts, proves and installs. Returns when asked to stop, or when it gives up.
pub(crate) async fn receive<A: Accept>(acceptor: A, installer: Installer) -> Result<(), GaveUp> {
    let acceptor = Arc::new(acceptor);
    let waiting = Arc::new(Waiting::new());
    let refusals = Arc::new(Refusals::new(installer.clone()));
    let mut tasks = JoinSet::new();
    let mut handshakes = Handshakes::new(installer.clone());
    // A connection that was accepted and waits for room among the handshakes. No other is accepted until then.
    let mut next = None;
    let mut lost_in_a_row = 0;
    let mut resume_at = None;
    installer.progress().set(Activity::Listening);
    let gave_up = loop {
        tokio::select! {
            biased;
            () = installer.stopped() => break None,
            fatal = fatal(&mut tasks) => break Some(fatal),
            room = handshakes.room(), if next.is_some() => {
                let Some(pending) = next.take() else { continue };
                let peer = A::peer_addr(&pending);
                let span = info_span!("accepted", peer = peer.map(tracing::field::display));
                let connection = Connection {
                    acceptor: Arc::clone(&acceptor),
                    installer: installer.clone(),
                    waiting: Arc::clone(&waiting),
                    refusals: Arc::clone(&refusals),
                    deadline: deadline::after(Instant::now(), installer.config().handshake_timeout()),
                };
                handshakes.begin(room, peer, |handshake| {
                    let run = connection.run(pending, handshake).instrument(span);
                    tasks.spawn(installer.track(run).in_current_span())
                });
            }
            () = sleep_until(resume_at.unwrap_or_else(Instant::now)), if resume_at.is_some() => resume_at = None,
            accepted = acceptor.accept(), if resume_at.is_none() && next.is_none() => match accepted {
                Ok(pending) => {
                    lost_in_a_row = 0;
                    next = Some(pending);
                }
                Err(error) if error.is_fatal() => break Some(error),
                Err(error) if error.is_connection() && lost_in_a_row + 1 < LOST_IN_A_ROW => {
                    debug!(%error, "a connection was lost before it was accepted");
                    lost_in_a_row += 1;
                    installer.progress().accept_failed(&error.into_source());
                }
                Err(error) => {
                    lost_in_a_row = 0;
                    warn!(event = "accept_failed", %error, next_delay = ?ACCEPT_PAUSE, "accept failed");
                    installer.progress().accept_failed(&error.into_source());
                    resume_at = Some(Instant::now() + ACCEPT_PAUSE);
                }
            },
        }
    };
    drop(next);
    // Nothing of a connection outlives its provider (G5). If the provider is dropped, the shutdown waits for them.
    tasks.abort_all();
    while let Some(ended) = tasks.join_next().await {
        _ = log_handshake_failure(ended);
    }
    match gave_up {
        None => Ok(()),
        Some(error) => Err(GaveUp { cause: GaveUpCause::Fatal, attempts: 0, last_error: Some(error.into_source()) }),
    }
}

/// Waits for an error of a connection after which nothing will ever be accepted again.
async fn fatal(tasks: &mut JoinSet<Option<Result<(), AcceptError>>>) -> AcceptError {
    loop {
        match tasks.join_next().await.map(log_handshake_failure) {
            Some(Some(fatal)) => return fatal,
            Some(None) => {}
            None => pending().await,
        }
    }
}

/// Logs how a connection ended before it became a session; returns an error after which nothing will ever be accepted
/// again.
fn log_handshake_failure(ended: Result<Option<Result<(), AcceptError>>, JoinError>) -> Option<AcceptError> {
    match ended {
        Ok(Some(Err(error))) if error.is_fatal() => return Some(error),
        Ok(Some(Err(error))) => debug!(%error, "handshake failed"),
        Err(error) if error.is_panic() => error!(%error, "a handshake panicked: its connection is lost"),
        Ok(_) | Err(_) => {}
    }
    None
}

/// Shared by the candidates that have no place yet.
struct Waiting {
    candidates: Semaphore,
    /// The candidate that has it looks for a ghost, in the order of asking. It contains when the last look began.
    round: Mutex<Option<Instant>>,
}

impl Waiting {
    fn new() -> Self {
        Self { candidates: Semaphore::new(MAX_CANDIDATES), round: Mutex::new(None) }
    }

    /// Looks again and again for a half-open session, one whose peer is gone, and returns the first one found (G14).
    ///
    /// This is how a peer that comes back finds its own ghost. A session that is alive answers, and keeps its place.
    async fn ghost(&self, installer: &Installer) -> SessionId {
        let config = installer.config();
        let probe = config.takeover_probe_timeout().min(config.handshake_timeout() / 2);
        let mut last = self.round.lock().await;
        loop {
            if let Some(last) = *last {
                sleep_until(deadline::after(last, probe)).await;
            }
            *last = Some(Instant::now());
            if let Some(ghost) = installer.silent_session(probe).await {
                return ghost;
            }
        }
    }
}

/// What one connection needs on its way into the slot.
struct Connection<A> {
    acceptor: Arc<A>,
    installer: Installer,
    waiting: Arc<Waiting>,
    refusals: Arc<Refusals>,
    deadline: Instant,
}

impl<A: Accept> Connection<A> {
    /// From the accepted socket to the live session, or to its end at the deadline.
    async fn run(self, pending: A::Pending, handshake: Handshake) -> Result<(), AcceptError> {
        let peer = A::peer_addr(&pending);
        if !self.installer.admits(peer) {
            drop(handshake);
            self.refusals.not_admit(&*self.acceptor, pending, peer).await;
            return Ok(());
        }
        let Ok(finished) = timeout_at(self.deadline, self.acceptor.finish(pending)).await else {
            debug!(event = "handshake_timed_out", "handshake timed out");
            return Ok(());
        };
        let mut candidate = self.installer.server_by(self.deadline, finished?);
        if !handshake.begins_proof(&candidate) {
            return Ok(());
        }
        if let Err(reason) = candidate.proven().await {
            debug!(event = "candidate_not_proven", %reason, "candidate not proven");
            return Ok(());
        }
        let Ok(_permit) = self.waiting.candidates.try_acquire() else {
            debug!(limit = MAX_CANDIDATES, "too many candidates wait for a place");
            self.refusals.hold_out(candidate).await;
            return Ok(());
        };
        drop(handshake);
        let before = BEFORE_DEADLINE.min(self.installer.config().handshake_timeout() / 4);
        let until = self.deadline.checked_sub(before).unwrap_or(self.deadline);
        match timeout_at(until, self.install(&mut candidate)).await {
            Ok(Ok(()) | Err(InstallError::Stopped | InstallError::Full)) => {}
            Ok(Err(InstallError::NotProven(reason))) => {
                debug!(event = "candidate_lost", %reason, "candidate lost while it waited for a place");
            }
            Err(_) => {
                debug!(event = "candidate_held_out", "no place became free for the candidate");
                self.refusals.hold_out(candidate).await;
            }
        }
        Ok(())
    }

    /// Waits for a place, or for a ghost that has one, whichever comes first.
    async fn install(&self, candidate: &mut Candidate) -> Result<(), InstallError> {
        loop {
            let ghost = tokio::select! {
                biased;
                reason = candidate.lost() => return Err(InstallError::NotProven(reason)),
                place = self.installer.place() => {
                    candidate.hold(place);
                    return candidate.install().await.map(drop);
                }
                ghost = self.waiting.ghost(&self.installer) => ghost,
            };
            info!(event = "ghost_found", session = %ghost, "a silent session is being replaced");
            match candidate.replace(ghost).await {
                Err(InstallError::Full) => {}
                outcome => return outcome.map(drop),
            }
        }
    }
}
