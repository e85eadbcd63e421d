//! The connections that a receiver turns away, and how the peer, the log and the events learn why.

use std::{
    net::SocketAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, timeout};
use tracing::{debug, warn};

use super::{
    candidate::Candidate,
    installer::Installer,
    net::Accept,
    seldom::{BETWEEN_WARNINGS, Seldom},
};
use crate::session::{Goodbye, Session, turn_away};

/// The minimum time between two events of a kind.
const BETWEEN_EVENTS: Duration = Duration::from_secs(1);
/// How often a peer that is not admitted gets an answer, and how long that may take. The others are closed without one:
/// an answer costs the transport's handshake, and anyone can connect.
const BETWEEN_TELLINGS: Duration = Duration::from_secs(1);
const TELLING: Duration = Duration::from_secs(1);

/// What a receiver has turned away.
pub(super) struct Refusals {
    installer: Installer,
    held_out: Mutex<Reports>,
    not_admitted: Mutex<Reports>,
    tellings: Mutex<Seldom>,
}

/// When to report one kind.
struct Reports {
    events: Seldom,
    warnings: Seldom,
}

impl Reports {
    fn new() -> Mutex<Self> {
        Mutex::new(Self { events: Seldom::new(BETWEEN_EVENTS), warnings: Seldom::new(BETWEEN_WARNINGS) })
    }

    /// Whether an event and a warning are due.
    fn are_due(reports: &Mutex<Self>) -> (bool, bool) {
        let (mut reports, now) = (reports.lock().unwrap_or_else(PoisonError::into_inner), Instant::now());
        (reports.events.is_due(now), reports.warnings.is_due(now))
    }
}

impl Refusals {
    pub(super) fn new(installer: Installer) -> Self {
        let tellings = Mutex::new(Seldom::new(BETWEEN_TELLINGS));
        Self { installer, held_out: Reports::new(), not_admitted: Reports::new(), tellings }
    }

    /// Turns away a candidate for which there is no place.
    pub(super) async fn hold_out(&self, candidate: Candidate) {
        let (event, warning) = Reports::are_due(&self.held_out);
        let peer = candidate.peer_addr();
        let holders: Vec<_> = self.installer.sessions().iter().filter_map(Session::peer_addr).collect();
        let so_far = self.installer.progress().held_out(peer, event.then(|| holders.clone()));
        if warning {
            let peer = peer.map(tracing::field::display);
            let text = "a peer is held out: every place is taken by a live session; do two have the same settings?";
            warn!(event = "held_out", peer, ?holders, so_far, "{text}");
        }
        candidate.refuse(Goodbye::HeldOut).await;
    }

    /// Turns away a connection whose address is not admitted.
    pub(super) async fn not_admit<A: Accept>(&self, acceptor: &A, pending: A::Pending, peer: Option<SocketAddr>) {
        let (event, warning) = Reports::are_due(&self.not_admitted);
        let so_far = self.installer.progress().not_admitted(peer, event);
        let shown = peer.map(tracing::field::display);
        if warning {
            warn!(event = "not_admitted", peer = shown, so_far, "a peer is not admitted");
        } else {
            debug!(event = "not_admitted", peer = shown, so_far, "a peer is not admitted");
        }
        if !self.tellings.lock().unwrap_or_else(PoisonError::into_inner).is_due(Instant::now()) {
            return;
        }
        let telling = async {
            // Its failure does not matter.
            if let Ok(connected) = acceptor.finish(pending).await {
                let _ = turn_away(connected.io, Goodbye::NotAdmitted).await;
            }
        };
        let _ = timeout(TELLING, telling).await;
    }
}
