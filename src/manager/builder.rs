//! How a manager is made.

use std::{future::Future, net::SocketAddr, sync::Arc, thread};

use tokio::{runtime::Handle, sync::Notify};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, Span, info, info_span};

use super::{
    Handles, MuxManager,
    shutdown::{Finished, Shutdown, Supervisor},
};
use crate::{
    config::Config,
    error::{GaveUp, GaveUpCause, StartError, Stopped},
    provider::{
        Accept, Connect, TcpAcceptor, TcpConnector, establisher,
        installer::{Installer, Slot, Tasks},
        progress::{Activity, Progress},
        receiver,
    },
    random,
    session::Session,
    sync::StopGuard,
};

/// Builds a [`MuxManager`]. `start()` consumes it, so that a manager cannot be started twice.
///
/// ```
/// use std::time::Duration;
/// use evermux::{Config, MuxManager};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let config = Config::builder().backoff_max(Duration::from_secs(5)).build()?;
/// let manager = MuxManager::establish("127.0.0.1:7233").name("to-us-west").config(config).start().await?;
/// assert_eq!(manager.name(), Some("to-us-west"));
/// assert!(manager.try_session().is_none(), "start() waits for no peer");
/// manager.shutdown().await;
/// # Ok(())
/// # }
/// ```
#[must_use = "a builder does nothing until `start` is called"]
#[derive(Debug)]
pub struct Builder<S> {
    source: S,
    name: Option<Arc<str>>,
    config: Config,
    shutdown_on: Option<CancellationToken>,
}

impl<S> Builder<S> {
    pub(super) fn new(source: S) -> Self {
        Self { source, name: None, config: Config::default(), shutdown_on: None }
    }

    /// Names the manager in its traces. Without it they have no name.
    pub fn name(mut self, name: impl Into<Arc<str>>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Sets the settings. Without it the defaults hold.
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Shuts the manager down when the token is cancelled, as [`MuxManager::shutdown`] does. The manager never cancels
    /// the token.
    pub fn shutdown_on(mut self, token: CancellationToken) -> Self {
        self.shutdown_on = Some(token);
        self
    }
}

impl<S: Source> Builder<S> {
    /// Starts the manager on the current runtime.
    ///
    /// Returns when the provider runs, not when it is connected: an absent peer is no error. Waits only for the
    /// resolution of a name to listen on, at most [`Config::resolve_timeout`].
    ///
    /// # Errors
    ///
    /// [`StartError::Address`] and [`StartError::Bind`]: the address cannot be understood, or cannot be bound.
    /// [`StartError::NoRuntime`] outside a tokio runtime.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future starts nothing, and leaves nothing bound.
    ///
    /// # Panics
    ///
    /// When the runtime was built without time, or, for TCP, without I/O.
    pub async fn start(self) -> Result<MuxManager, StartError> {
        let Self { source, name, config, shutdown_on } = self;
        let runtime = Handle::try_current().map_err(|_| StartError::NoRuntime)?;
        let source = source.prepare(&config).await?;

        let slot = Arc::new(Slot::new(1));
        let progress = Arc::new(Progress::new(source.activity()));
        let reconnect_now = Arc::new(Notify::new());
        let tasks = Tasks::default();
        let shutdown = Shutdown::new(tasks.clone(), shutdown_on);
        let local_addr = source.local_addr();
        let drain_timeout = config.drain_timeout();
        let seed = config.seed().unwrap_or_else(random::draw_seed);

        let span = info_span!("manager", name = name.as_deref());
        span.in_scope(|| {
            info!(seed, local = local_addr.map(tracing::field::display), "the manager starts");
            let installer = Installer::new(
                Arc::clone(&slot),
                config,
                seed,
                tasks.clone(),
                Arc::clone(&progress),
                Arc::clone(&reconnect_now),
            );
            let end = ProviderEnd::new(Arc::clone(&slot), Arc::clone(&progress));
            let span = source.span();
            let provider = tasks.spawn(provide(source.run(installer), end).instrument(span));
            let supervisor = Supervisor {
                slot: Arc::clone(&slot),
                tasks,
                progress: Arc::clone(&progress),
                shutdown: shutdown.clone(),
                drain_timeout,
            };
            let finished = Finished::new(shutdown.clone(), Arc::clone(&progress));
            runtime.spawn(supervisor.run(provider, finished).in_current_span());
        });
        Ok(MuxManager(Arc::new(Handles { name, slot, progress, reconnect_now, shutdown, drain_timeout, local_addr })))
    }
}

/// Runs a provider to its end.
async fn provide(
    provider: impl Future<Output = Result<(), GaveUp>> + Send,
    mut end: ProviderEnd,
) -> Result<(), Arc<GaveUp>> {
    let ended = provider.await.map_err(Arc::new);
    end.reason = Some(match &ended {
        Ok(()) => Stopped::ShutDown,
        Err(gave_up) => Stopped::GaveUp(Arc::clone(gave_up)),
    });
    ended
}

/// However a provider ends, its slot is stopped with the reason, and nobody waits in vain (G12). Made before its task, so
/// that no end of the runtime is too early for it.
struct ProviderEnd {
    progress: Arc<Progress>,
    /// None where it ends without a word.
    reason: Option<Stopped>,
    guard: StopGuard<Session, Stopped, fn(Session)>,
}

impl ProviderEnd {
    fn new(slot: Arc<Slot>, progress: Arc<Progress>) -> Self {
        let abort: fn(Session) = |session| session.abort();
        Self { progress, reason: None, guard: StopGuard::new(slot, Stopped::ShutDown, abort) }
    }
}

impl Drop for ProviderEnd {
    fn drop(&mut self) {
        let reason = self.reason.take().unwrap_or_else(|| {
            let cause = if thread::panicking() { GaveUpCause::Panicked } else { GaveUpCause::RuntimeEnded };
            let notes = self.progress.get();
            Stopped::GaveUp(Arc::new(GaveUp { cause, attempts: notes.attempts, last_error: notes.last_error }))
        });
        self.guard.set_reason(reason);
    }
}

/// From where a manager has its sessions. Sealed: it is one of the types beside it.
pub trait Source: sealed::Prepare {}

impl<S: sealed::Prepare> Source for S {}

mod sealed {
    use super::{Config, Future, Provide, StartError};

    pub trait Prepare: Sized {
        #[allow(private_bounds, reason = "sealed")]
        type Provider: Provide;

        /// Finds what is wrong before anything runs.
        fn prepare(self, config: &Config) -> impl Future<Output = Result<Self::Provider, StartError>> + Send;
    }
}

/// A provider that can run.
trait Provide {
    fn activity(&self) -> Activity;

    fn local_addr(&self) -> Option<SocketAddr>;

    /// What its traces are in.
    fn span(&self) -> Span;

    fn run(self, installer: Installer) -> impl Future<Output = Result<(), GaveUp>> + Send + 'static;
}

/// Dials over TCP: [`MuxManager::establish`].
#[derive(Debug)]
pub struct EstablishTcp(String);

/// Listens over TCP: [`MuxManager::receive`].
#[derive(Debug)]
pub struct ReceiveTcp(String);

/// Dials with a connector: [`MuxManager::establish_with`].
#[derive(Debug)]
pub struct EstablishWith<C>(C);

/// Listens with an acceptor: [`MuxManager::receive_with`].
#[derive(Debug)]
pub struct ReceiveWith<A>(A);

impl EstablishTcp {
    pub(super) fn new(address: String) -> Self {
        Self(address)
    }
}

impl ReceiveTcp {
    pub(super) fn new(address: String) -> Self {
        Self(address)
    }
}

impl<C> EstablishWith<C> {
    pub(super) fn new(connector: C) -> Self {
        Self(connector)
    }
}

impl<A> ReceiveWith<A> {
    pub(super) fn new(acceptor: A) -> Self {
        Self(acceptor)
    }
}

impl sealed::Prepare for EstablishTcp {
    type Provider = EstablishWith<TcpConnector>;

    async fn prepare(self, config: &Config) -> Result<Self::Provider, StartError> {
        Ok(EstablishWith(TcpConnector::new(self.0, config)?))
    }
}

impl sealed::Prepare for ReceiveTcp {
    type Provider = ReceiveWith<TcpAcceptor>;

    async fn prepare(self, config: &Config) -> Result<Self::Provider, StartError> {
        Ok(ReceiveWith(TcpAcceptor::bind(&self.0, config).await?))
    }
}

impl<C: Connect> sealed::Prepare for EstablishWith<C> {
    type Provider = Self;

    async fn prepare(self, _: &Config) -> Result<Self, StartError> {
        Ok(self)
    }
}

impl<A: Accept> sealed::Prepare for ReceiveWith<A> {
    type Provider = Self;

    async fn prepare(self, _: &Config) -> Result<Self, StartError> {
        Ok(self)
    }
}

impl<C: Connect> Provide for EstablishWith<C> {
    fn activity(&self) -> Activity {
        Activity::Connecting
    }

    fn local_addr(&self) -> Option<SocketAddr> {
        None
    }

    fn span(&self) -> Span {
        info_span!("establisher")
    }

    fn run(self, installer: Installer) -> impl Future<Output = Result<(), GaveUp>> + Send + 'static {
        establisher::establish(self.0, installer)
    }
}

impl<A: Accept> Provide for ReceiveWith<A> {
    fn activity(&self) -> Activity {
        Activity::Listening
    }

    fn local_addr(&self) -> Option<SocketAddr> {
        self.0.local_addr()
    }

    fn span(&self) -> Span {
        info_span!("receiver", local = self.0.local_addr().map(tracing::field::display))
    }

    fn run(self, installer: Installer) -> impl Future<Output = Result<(), GaveUp>> + Send + 'static {
        receiver::receive(self.0, installer)
    }
}
