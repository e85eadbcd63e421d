//! Providers of one's own, as simple as a user would write them.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use evermux::error::ConnectError;
use evermux::provider::{Backoff, InstallError, Installer};
use evermux::{Accept, Connect, Provide, Session};
use futures_util::future::try_join_all;
use tokio::time::{Instant, sleep, timeout};
use tracing::debug;

use crate::yields::yielding;

type Provided = Result<(), Box<dyn Error + Send + Sync>>;

/// The longest pause before the next attempt, and the one after an error of the listener.
const PAUSE: Duration = Duration::from_secs(1);

/// Dials for each place, and again soon after a session has left it.
pub(super) struct Dialling<C> {
    pub(super) connector: C,
    /// How many places there should be.
    pub(super) places: usize,
}

impl<C: Connect> Provide for Dialling<C> {
    async fn provide(self, installer: Installer) -> Provided {
        if installer.places() != self.places {
            return Err(format!("there are {} places, and should be {}", installer.places(), self.places).into());
        }
        try_join_all((0..self.places).map(|_| yielding(keep(&self.connector, &installer)))).await?;
        Ok(())
    }
}

async fn keep<C: Connect>(connector: &C, installer: &Installer) -> Result<(), ConnectError> {
    let config = installer.config();
    let mut backoff = Backoff::seeded(config, config.seed().unwrap_or_default(), Instant::now());
    let keeping = async {
        loop {
            let pause = match attempt(connector, installer).await {
                Ok(session) => {
                    let begun = Instant::now();
                    session.draining().await;
                    backoff.after_session(begun.elapsed(), Instant::now())
                }
                Err(error) => match error.downcast::<ConnectError>() {
                    Ok(error) if error.is_fatal() => return Err(*error),
                    Ok(_) | Err(_) => backoff.after_failure_beside_live(Instant::now()),
                },
            };
            sleep(pause.min(PAUSE)).await;
        }
    };
    tokio::select! {
        biased;
        () = installer.stopped() => Ok(()),
        ended = keeping => ended,
    }
}

async fn attempt<C: Connect>(connector: &C, installer: &Installer) -> Result<Session, Box<dyn Error + Send + Sync>> {
    let connected = timeout(installer.config().connect_timeout(), connector.connect()).await??;
    let mut candidate = installer.client(connected).await;
    debug!(?candidate, ?installer, "dialled");
    Ok(candidate.install().await.map_err(io::Error::from)?)
}

/// Listens, and gives a place to whoever is proven.
pub(super) struct Listening<A> {
    pub(super) acceptor: A,
    /// Whether a proven peer takes the place of the oldest session, where none is free.
    pub(super) newest: bool,
}

impl<A: Accept> Provide for Listening<A> {
    async fn provide(self, installer: Installer) -> Provided {
        let (acceptor, newest) = (Arc::new(self.acceptor), self.newest);
        let accepting = async {
            loop {
                match acceptor.accept().await {
                    Ok(pending) => {
                        let (acceptor, installer) = (Arc::clone(&acceptor), installer.clone());
                        let spawner = installer.clone();
                        spawner.spawn(async move {
                            tokio::select! {
                                biased;
                                () = installer.stopped() => {}
                                admitted = yielding(admit(&*acceptor, pending, &installer, newest)) => {
                                    if let Err(error) = admitted {
                                        debug!(%error, "a connection came to nothing");
                                    }
                                }
                            }
                        });
                    }
                    Err(error) if error.is_fatal() => break error,
                    Err(_) => sleep(PAUSE).await,
                }
            }
        };
        tokio::select! {
            biased;
            () = installer.stopped() => Ok(()),
            error = yielding(accepting) => Err(error.into()),
        }
    }
}

async fn admit<A: Accept>(
    acceptor: &A,
    pending: A::Pending,
    installer: &Installer,
    newest: bool,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    let connected = timeout(installer.config().handshake_timeout(), acceptor.finish(pending)).await?;
    let mut candidate = installer.server(connected?);
    candidate.proven().await?;
    loop {
        let holder = installer.sessions().into_iter().next().filter(|_| newest);
        let outcome = match (candidate.install().await, holder) {
            (Err(InstallError::Full), Some(holder)) => candidate.replace(holder.id()).await,
            (outcome, _) => outcome,
        };
        match outcome {
            Ok(_) => return Ok(()),
            // The one that had the place has left it meanwhile, or nobody is to leave it.
            Err(InstallError::Full) => candidate.place().await,
            Err(error) => return Err(error.into()),
        }
    }
}
