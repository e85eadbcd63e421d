//! How a manager is made.

use std::{fmt, future::Future, io, net::SocketAddr, ops::RangeInclusive, sync::Arc, thread};

use tokio::{
    runtime::{self, Handle, RuntimeFlavor},
    sync::{Notify, oneshot},
};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, info, info_span};

use super::{
    Handles, MuxManager,
    shutdown::{Finished, ProviderEnd, Shutdown, Supervisor, provide},
    source::{Listens, Provider, Source},
};
use crate::{
    blocking,
    config::Config,
    error::StartError,
    provider::{
        installer::{Core, Hooks, Installer, Slot},
        place::Places,
        progress::Progress,
        tasks::Tasks,
    },
    random,
    session::Session,
};

/// How many sessions a manager can hold at once.
const SESSIONS: RangeInclusive<usize> = 1..=1024;

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
pub struct Builder<S> {
    source: S,
    name: Option<Arc<str>>,
    config: Config,
    sessions: usize,
    accept_streams: bool,
    hooks: Hooks,
    shutdown_on: Option<CancellationToken>,
}

impl<S> Builder<S> {
    pub(super) fn new(source: S) -> Self {
        let (config, hooks) = (Config::default(), Hooks::default());
        Self { source, name: None, config, sessions: 1, accept_streams: true, hooks, shutdown_on: None }
    }

    /// Names the manager in its traces. By default it has no name.
    pub fn name(mut self, name: impl Into<Arc<str>>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Sets the configuration. By default it is `Config::default()`.
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Sets how many sessions the manager holds at once, from 1 to 1,024. Default: 1.
    ///
    /// Each has its own place: an establisher makes, loses and remakes each independently, with its own pauses, and a
    /// receiver accepts up to that many peers. Callers get the live session with the fewest open streams.
    ///
    /// ```
    /// use evermux::MuxManager;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let receiver = MuxManager::receive("127.0.0.1:0").sessions(2).start().await?;
    /// let address = receiver.local_addr().unwrap().to_string();
    /// let establisher = MuxManager::establish(address).sessions(2).start().await?;
    /// while receiver.status().sessions.len() < 2 {
    ///     tokio::task::yield_now().await;
    /// }
    /// let (first, second) = (receiver.open_stream().await?, receiver.open_stream().await?);
    /// assert_ne!(first.session_id(), second.session_id());
    /// # drop((first, second));
    /// # establisher.shutdown().await;
    /// # receiver.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn sessions(mut self, sessions: usize) -> Self {
        self.sessions = sessions;
        self
    }

    /// Sets whether the peers may open streams. With `false`, for a side that serves nothing, each is reset at once,
    /// and an evermux peer sees that it was [refused](crate::StreamError::Refused). No streams can be taken here then,
    /// and a warning is logged once for each session whose peer opens some. By default streams wait to be taken.
    pub fn accept_streams(mut self, accept: bool) -> Self {
        self.accept_streams = accept;
        self
    }

    /// Calls a closure with each session that becomes live. The future it returns runs as a task of the manager: it is
    /// dropped when the session has ended, and the shutdown waits for it.
    ///
    /// Work for the end of the session belongs in a `Drop`: nothing after `session.closed().await` runs.
    ///
    /// A panic in it ends only this task. It does not keep the manager running, unless it holds a [`MuxManager`].
    ///
    /// ```
    /// use std::time::Duration;
    /// use evermux::MuxManager;
    ///
    /// let builder = MuxManager::receive("127.0.0.1:0").on_session(|session| async move {
    ///     while let Ok(round_trip) = session.ping().await {
    ///         println!("{:?} is {round_trip:?} away", session.peer_addr());
    ///         tokio::time::sleep(Duration::from_secs(60)).await;
    ///     }
    /// });
    /// # drop(builder);
    /// ```
    pub fn on_session<F, Fut>(mut self, f: F) -> Self
    where
        F: Fn(Session) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.hooks.on_session = Some(Arc::new(move |session| Box::pin(f(session))));
        self
    }

    /// Shuts the manager down when the token is cancelled, as [`MuxManager::shutdown`] does. The manager never cancels
    /// the token.
    ///
    /// ```
    /// use evermux::{CancellationToken, MuxManager};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let token = CancellationToken::new();
    /// let manager = MuxManager::receive("127.0.0.1:0").shutdown_on(token.clone()).start().await?;
    /// token.cancel(); // at SIGTERM, perhaps
    /// manager.shutdown().await; // waits for what the token began
    /// assert!(manager.status().stopped.is_some());
    /// # Ok(())
    /// # }
    /// ```
    pub fn shutdown_on(mut self, token: CancellationToken) -> Self {
        self.shutdown_on = Some(token);
        self
    }
}

impl<S: Listens> Builder<S> {
    /// Asks a closure about each accepted connection, before its handshake. If it returns `false`, the connection is
    /// closed.
    ///
    /// It gets the address of the peer, where the transport has one, and should not take long. A panic in it costs only
    /// that connection.
    ///
    /// An evermux peer gets [`CloseReason::NotAdmitted`](crate::CloseReason::NotAdmitted); any other gets no answer.
    /// Since an answer takes the transport's handshake, only one peer a second gets one, and all others are closed at
    /// once.
    ///
    /// ```
    /// use evermux::MuxManager;
    ///
    /// let builder = MuxManager::receive("0.0.0.0:7233").admit(|peer| peer.is_some_and(|peer|
    /// peer.ip().is_loopback()));
    /// # drop(builder);
    /// ```
    pub fn admit(mut self, f: impl Fn(Option<SocketAddr>) -> bool + Send + Sync + 'static) -> Self {
        self.hooks.admit = Some(Arc::new(f));
        self
    }
}

impl<S: Source> Builder<S> {
    /// Starts the manager on the current runtime. It shuts down when the last handle is dropped, so keep one:
    ///
    /// ```compile_fail
    /// # #![deny(unused_must_use)]
    /// # async fn example() -> Result<(), evermux::StartError> {
    /// evermux::MuxManager::receive("127.0.0.1:7233").start().await?; // It is gone.
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Returns once the provider runs, not once it is connected: an absent peer is not an error. Waits only to resolve
    /// a name to listen on, for at most [`Config::resolve_timeout`].
    ///
    /// # Errors
    ///
    /// [`StartError::Address`] and [`StartError::Bind`]: the address is not valid, or cannot be bound.
    /// [`StartError::Sessions`]: [`sessions`](Self::sessions) is out of range. [`StartError::NoRuntime`] outside a
    /// tokio runtime.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future starts nothing, and leaves nothing bound.
    ///
    /// # Panics
    ///
    /// If the runtime was built without time, or, for TCP, without I/O.
    pub async fn start(self) -> Result<MuxManager, StartError> {
        let Self { source, name, config, sessions, accept_streams, hooks, shutdown_on } = self;
        if !SESSIONS.contains(&sessions) {
            return Err(StartError::Sessions { sessions });
        }
        let runtime = Handle::try_current().map_err(|_| StartError::NoRuntime)?;
        let source = source.prepare(&config).await?;

        let slot = Arc::new(Slot::new(sessions));
        let progress = Arc::new(Progress::new(source.activity(), config.event_backlog()));
        let reconnect_now = Arc::new(Notify::new());
        let tasks = Tasks::new(&config);
        if !accept_streams {
            tasks.refuse_streams();
        }
        let shutdown = Shutdown::new(tasks.clone(), shutdown_on);
        let local_addr = source.local_addr();
        let drain_timeout = config.drain_timeout();
        let seed = config.seed().unwrap_or_else(random::draw_seed);

        let span = info_span!("manager", name = name.as_deref());
        span.in_scope(|| {
            info!(
                event = "manager_starts",
                seed,
                local = local_addr.map(tracing::field::display),
                "the manager starts"
            );
            let installer = Installer::new(Core {
                places: Places::new(slot.places()),
                slot: Arc::clone(&slot),
                config,
                seed,
                tasks: tasks.clone(),
                progress: Arc::clone(&progress),
                reconnect_now: Arc::clone(&reconnect_now),
                hooks,
            });
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
            let finished = Finished::new(shutdown.clone(), Arc::clone(&slot), Arc::clone(&progress));
            runtime.spawn(supervisor.run(provider, finished).in_current_span());
        });
        let handles = Handles { name, slot, progress, reconnect_now, shutdown, drain_timeout, local_addr, runtime };
        Ok(MuxManager(Arc::new(handles)))
    }

    /// [`start`](Self::start) for threads without async, on an existing runtime. It waits as `start` does.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start). [`StartError::CurrentThread`] if the runtime has no threads of its own: the manager
    /// would stall whenever no call to its `block_on` is running.
    ///
    /// # Panics
    ///
    /// As [`start`](Self::start), and inside an async context.
    pub fn start_on(self, runtime: &Handle) -> Result<MuxManager, StartError> {
        if runtime.runtime_flavor() == RuntimeFlavor::CurrentThread {
            return Err(StartError::CurrentThread);
        }
        runtime.block_on(self.start())
    }

    /// [`start`](Self::start) for threads without async, on a runtime of its own: one thread, which ends when the
    /// manager has shut down.
    ///
    /// ```
    /// use evermux::MuxManager;
    ///
    /// let manager = MuxManager::receive("127.0.0.1:0").start_blocking()?;
    /// assert!(manager.local_addr().is_some());
    /// manager.shutdown_blocking();
    /// # Ok::<(), evermux::StartError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start). [`StartError::Runtime`] if the thread or its runtime cannot be created.
    ///
    /// # Panics
    ///
    /// Inside an async context.
    pub fn start_blocking(self) -> Result<MuxManager, StartError>
    where
        S: Send + 'static,
    {
        blocking::assert_may_wait();
        let (reply, started) = oneshot::channel();
        let run = || match runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => run_on(runtime, self, reply),
            Err(error) => drop(reply.send(Err(StartError::Runtime { error }))),
        };
        thread::Builder::new().name("evermux".to_owned()).spawn(run).map_err(|error| StartError::Runtime { error })?;
        let ended = || StartError::Runtime { error: io::Error::other("the thread of the runtime has panicked") };
        started.blocking_recv().unwrap_or_else(|_| Err(ended()))
    }
}

impl<S: fmt::Debug> fmt::Debug for Builder<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").field("source", &self.source).field("name", &self.name).finish_non_exhaustive()
    }
}

/// Starts a manager on a runtime, and drives the runtime until the manager has shut down.
fn run_on<S: Source>(
    runtime: runtime::Runtime,
    builder: Builder<S>,
    reply: oneshot::Sender<Result<MuxManager, StartError>>,
) {
    match runtime.block_on(builder.start()) {
        Ok(manager) => {
            let shutdown = manager.0.shutdown.clone();
            // If nobody receives it, its drop shuts it down.
            drop(reply.send(Ok(manager)));
            runtime.block_on(shutdown.finished());
        }
        Err(error) => drop(reply.send(Err(error))),
    }
    // A name lookup may still be running: nobody waits for it.
    runtime.shutdown_background();
}
