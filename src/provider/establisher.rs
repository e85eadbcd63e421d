//! The provider that dials.

use std::{error::Error, fmt, sync::Arc, time::Duration};

use futures_util::future::try_join_all;
use tokio::time::{Instant, sleep, timeout};
use tracing::{Instrument, Span, info, info_span, warn};

use super::{
    Connect,
    backoff::{Backoff, Retry},
    candidate::InstallError,
    installer::Installer,
    place::PlacePermit,
    progress::Activity,
};
use crate::{
    error::{GaveUp, GaveUpCause},
    random,
    session::{Retirement, Session},
};

/// The phase that an establisher is in.
enum Phase {
    Connecting,
    Live(Session, Instant),
    BackingOff(Duration),
}

/// Why an attempt failed.
struct Failure {
    error: Arc<dyn Error + Send + Sync>,
    fatal: bool,
}

impl Failure {
    fn transient(error: impl Error + Send + Sync + 'static) -> Self {
        Self { error: Arc::new(error), fatal: false }
    }
}

/// The connector did not finish in time.
#[derive(Debug)]
struct ConnectTimedOut(Duration);

impl fmt::Display for ConnectTimedOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no connection within {:?}", self.0)
    }
}

impl Error for ConnectTimedOut {}

/// Keeps a session in each place. Returns when asked to stop, or when it gives up: on one place, and so on all.
pub(crate) async fn establish<C: Connect>(connector: C, installer: Installer) -> Result<(), GaveUp> {
    let places = (0..installer.places()).map(|place| {
        // The only place needs no name.
        let span = if installer.places() == 1 { Span::none() } else { info_span!("place", index = place) };
        keep(&connector, &installer, place).instrument(span)
    });
    try_join_all(places).await.map(drop)
}

/// Dials, proves, installs, and dials again after each loss, when the backoff allows it (G11).
async fn keep<C: Connect>(connector: &C, installer: &Installer, place: usize) -> Result<(), GaveUp> {
    let config = installer.config();
    let rng = match place {
        0 => random::derive(installer.seed(), "backoff"),
        place => random::derive(installer.seed(), &format!("backoff of place {place}")),
    };
    let mut backoff = Backoff::new(config, rng, Instant::now());
    let mut phase = Phase::Connecting;
    loop {
        phase = match phase {
            Phase::Connecting => {
                let attempt_number = backoff.failures().saturating_add(1);
                installer.progress().connecting(attempt_number);
                info!(event = "connecting", attempt = attempt_number, "connecting");
                let attempt = async {
                    let place = installer.place().await;
                    attempt(connector, installer, place).await
                };
                let outcome = tokio::select! {
                    biased;
                    () = installer.stopped() => return Ok(()),
                    outcome = attempt => outcome,
                };
                match outcome {
                    Ok(Some(session)) => Phase::Live(session, Instant::now()),
                    // The slot has stopped; so will this provider, at once.
                    Ok(None) => return Ok(()),
                    Err(failure) => Phase::BackingOff(after_failure(&mut backoff, installer, failure)?),
                }
            }
            Phase::Live(session, since) => {
                installer.progress().set(Activity::Live);
                let Retirement { reason, .. } = tokio::select! {
                    biased;
                    () = installer.stopped() => return Ok(()),
                    // Not its end: a draining session takes no new streams, and the next one is made in the meantime.
                    retirement = session.retired() => retirement,
                };
                let (lived, now) = (since.elapsed(), Instant::now());
                let pause = if reason.is_goodbye() {
                    backoff.after_goodbye(lived, now)
                } else {
                    backoff.after_session(lived, now)
                };
                info!(event = "session_left", session = %session.id(), ?lived, %reason, "the session has left its place");
                if pause.is_zero() {
                    Phase::Connecting
                } else {
                    warn!(
                        event = "short_lived",
                        session = %session.id(),
                        ?lived,
                        next_delay = ?pause,
                        "the session was short-lived: the next attempt waits"
                    );
                    Phase::BackingOff(pause)
                }
            }
            Phase::BackingOff(pause) => {
                // Before anyone can see the pause, and so ask for its end.
                let reconnect_now = installer.reconnect_now();
                let _pause = installer.progress().pause(installer.places());
                tokio::select! {
                    biased;
                    () = installer.stopped() => return Ok(()),
                    () = reconnect_now => info!(event = "pause_cut", "the pause is cut short"),
                    () = sleep(pause) => {}
                }
                Phase::Connecting
            }
        };
    }
}

/// Makes one attempt, up to a live session. Returns `None` if the manager has stopped.
async fn attempt<C: Connect>(
    connector: &C,
    installer: &Installer,
    place: PlacePermit,
) -> Result<Option<Session>, Failure> {
    let config = installer.config();
    // A connector should bound itself; one that does not is bounded here, its handshake included.
    let within = [config.connect_timeout(), config.handshake_timeout()]
        .into_iter()
        .fold(config.resolve_timeout(), Duration::saturating_add);
    let connected = match timeout(within, connector.connect()).await {
        Ok(Ok(connected)) => connected,
        Ok(Err(error)) => return Err(Failure { fatal: error.is_fatal(), error: error.into_source() }),
        Err(_) => return Err(Failure::transient(ConnectTimedOut(within))),
    };
    match installer.client_in(place, connected).install().await {
        Ok(session) => Ok(Some(session)),
        Err(InstallError::NotProven(reason)) => Err(Failure::transient(reason)),
        Err(InstallError::Stopped | InstallError::Full) => Ok(None),
    }
}

/// Records a failed attempt: returns the pause before the next one, or gives up.
fn after_failure(backoff: &mut Backoff, installer: &Installer, failure: Failure) -> Result<Duration, GaveUp> {
    let Failure { error, fatal } = failure;
    let now = Instant::now();
    // The limits count only while there is no session at all, in no place.
    if let Some(left_at) = installer.progress().get().left_at {
        backoff.was_live_elsewhere(left_at);
    }
    let retry = if installer.is_empty() {
        backoff.after_failure(now)
    } else {
        Retry::After(backoff.after_failure_beside_live(now))
    };
    let (attempts, failures) = (backoff.attempts(), backoff.failures());
    let cause = match retry {
        _ if fatal => GaveUpCause::Fatal,
        Retry::GiveUp => GaveUpCause::Exhausted,
        Retry::After(pause) => {
            installer.progress().attempt_failed(failures, &error, Some(pause));
            warn!(event = "attempt_failed", attempt = failures, %error, next_delay = ?pause, "attempt failed");
            return Ok(pause);
        }
    };
    installer.progress().attempt_failed(failures, &error, None);
    Err(GaveUp { cause, attempts, last_error: Some(error) })
}
