//! A manager that gives up says why, and leaves nobody waiting (G12).

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread,
    time::Duration,
};

use crate::support::{PATIENCE, establisher, exact, in_time, log::Log, network, quick, receiver, until};
use evermux::{
    Accept, CloseReason, Connected, MuxManager, OpenError, StartError, Stopped, TcpAcceptor, WaitError,
    error::{AcceptError, ConnectError, GaveUp, GaveUpCause},
    manager::Activity,
};
use tokio::{
    io::DuplexStream,
    net::TcpStream,
    runtime,
    time::{Instant, sleep},
};

const SECOND: Duration = Duration::from_secs(1);

type Dialled = Result<Connected<DuplexStream>, ConnectError>;

fn refused() -> Dialled {
    Err(ConnectError::transient("refused"))
}

fn why(stopped: Stopped) -> Arc<GaveUp> {
    match stopped {
        Stopped::GaveUp(gave_up) => gave_up,
        stopped => panic!("{stopped:?} is no giving up"),
    }
}

#[tokio::test]
async fn a_fatal_error_ends_the_manager_with_its_cause() {
    let connector = || async { Dialled::Err(ConnectError::fatal("the certificate is not ours")) };
    let manager = MuxManager::establish_with(connector).start().await.unwrap();
    let gave_up = why(in_time(manager.session()).await.unwrap_err());
    assert_eq!((gave_up.cause, gave_up.attempts), (GaveUpCause::Fatal, 1));
    assert_eq!(gave_up.last_error.as_ref().unwrap().to_string(), "the certificate is not ours");
    assert!(matches!(in_time(manager.open_stream()).await, Err(OpenError::Stopped(Stopped::GaveUp(_)))));
    until(|| manager.status().activity == Activity::Stopped).await;
    assert!(!manager.is_shutting_down(), "nobody asked for it");
    in_time(manager.shutdown()).await;
    assert_eq!(why(manager.session().await.unwrap_err()).cause, GaveUpCause::Fatal, "the first reason stays");
}

#[tokio::test(start_paused = true)]
async fn the_limit_on_attempts_ends_the_manager() {
    let config = exact().max_attempts(Some(3)).build().unwrap();
    let manager = MuxManager::establish_with(|| async { refused() }).config(config).start().await.unwrap();
    let began = Instant::now();
    let gave_up = why(manager.session().await.unwrap_err());
    assert_eq!((gave_up.cause, gave_up.attempts), (GaveUpCause::Exhausted, 3));
    assert_eq!(began.elapsed().as_secs(), 1 + 2);
}

/// Whoever cuts every pause short learns sooner that it is of no use.
#[tokio::test(start_paused = true)]
async fn reconnect_now_gives_no_attempts_back() {
    let config = exact().max_attempts(Some(3)).build().unwrap();
    let manager = MuxManager::establish_with(|| async { refused() }).config(config).start().await.unwrap();
    let calling = async {
        loop {
            sleep(SECOND / 10).await;
            manager.reconnect_now();
        }
    };
    let stopped = tokio::select! {
        outcome = in_time(manager.session()) => outcome.unwrap_err(),
        () = calling => unreachable!(),
    };
    let gave_up = why(stopped);
    assert_eq!((gave_up.cause, gave_up.attempts), (GaveUpCause::Exhausted, 3));
}

#[tokio::test(start_paused = true)]
async fn the_limit_on_time_ends_the_manager() {
    let config = exact().max_elapsed(Some(5 * SECOND)).build().unwrap();
    let manager = MuxManager::establish_with(|| async { refused() }).config(config).start().await.unwrap();
    let began = Instant::now();
    let gave_up = why(manager.session().await.unwrap_err());
    assert_eq!((gave_up.cause, gave_up.attempts), (GaveUpCause::Exhausted, 4));
    assert_eq!(began.elapsed().as_secs(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_session_starts_the_limit_on_attempts_anew() {
    let (inner, acceptor) = network();
    let calls = Arc::new(AtomicU32::new(0));
    let connector = move || {
        let works = calls.fetch_add(1, Ordering::SeqCst) % 3 == 2;
        let inner = inner.clone();
        async move { if works { evermux::Connect::connect(&inner).await } else { refused() } }
    };
    let config = exact().max_attempts(Some(3)).build().unwrap();
    let manager = MuxManager::establish_with(connector).config(config.clone()).start().await.unwrap();
    for _ in 0..3 {
        let session = evermux::Session::server(acceptor.next().await, &config).await.unwrap();
        manager.session().await.unwrap();
        assert_eq!(manager.status().attempts, 0);
        session.abort();
    }
    manager.shutdown().await;
}

#[tokio::test]
async fn a_panic_in_the_connector_ends_the_manager_and_is_logged_once() {
    let (log, _guard) = Log::record();
    let calls = Arc::new(AtomicU32::new(0));
    let connector = move || {
        let first = calls.fetch_add(1, Ordering::SeqCst) == 0;
        async move { if first { refused() } else { panic!("a bug in the connector") } }
    };
    let manager =
        MuxManager::establish_with(connector).name("unlucky").config(quick().build().unwrap()).start().await.unwrap();
    let gave_up = why(in_time(manager.session()).await.unwrap_err());
    assert_eq!((gave_up.cause, gave_up.attempts), (GaveUpCause::Panicked, 1));
    assert_eq!(gave_up.last_error.as_ref().unwrap().to_string(), "refused");
    in_time(manager.shutdown()).await;
    let errors = log.lines(&["ERROR"]);
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(errors[0].contains("a bug in the connector") && errors[0].contains("unlucky"), "{errors:?}");
}

/// Accepts over TCP, and fails as it is told.
struct Failing {
    inner: TcpAcceptor,
    fails: fn(u32) -> Option<AcceptError>,
    accepts: AtomicU32,
    finish_is_fatal: bool,
}

impl Failing {
    async fn new(fails: fn(u32) -> Option<AcceptError>, finish_is_fatal: bool) -> Self {
        let inner = TcpAcceptor::bind("127.0.0.1:0", &quick().build().unwrap()).await.unwrap();
        Self { inner, fails, accepts: AtomicU32::new(0), finish_is_fatal }
    }
}

impl Accept for Failing {
    type Io = TcpStream;
    type Pending = (TcpStream, SocketAddr);

    async fn accept(&self) -> Result<Self::Pending, AcceptError> {
        match (self.fails)(self.accepts.fetch_add(1, Ordering::SeqCst)) {
            Some(error) => Err(error),
            None => self.inner.accept().await,
        }
    }

    async fn finish(&self, pending: Self::Pending) -> Result<Connected<TcpStream>, AcceptError> {
        if self.finish_is_fatal {
            return Err(AcceptError::fatal("the key is gone"));
        }
        self.inner.finish(pending).await
    }

    fn local_addr(&self) -> Option<SocketAddr> {
        self.inner.local_addr()
    }
}

async fn failing(fails: fn(u32) -> Option<AcceptError>, finish_is_fatal: bool) -> (MuxManager, SocketAddr) {
    let acceptor = Failing::new(fails, finish_is_fatal).await;
    let manager = MuxManager::receive_with(acceptor).config(quick().build().unwrap()).start().await.unwrap();
    let address = manager.local_addr().unwrap();
    (manager, address)
}

/// A process that runs out of file descriptors for a while goes on when it has some.
#[cfg(unix)]
#[tokio::test]
async fn fatal_on_transient_accept() {
    const EMFILE: i32 = 24;
    let out_of_files = |accepts| (accepts < 2).then(|| std::io::Error::from_raw_os_error(EMFILE).into());
    let (receiver, address) = failing(out_of_files, false).await;
    let establisher = establisher(address, quick()).await;
    in_time(receiver.session()).await.unwrap();
    assert!(receiver.status().last_error.is_some());
    in_time(establisher.shutdown()).await;
    in_time(receiver.shutdown()).await;
}

#[tokio::test]
async fn a_fatal_accept_ends_the_manager_and_its_session() {
    let broken = |accepts| (accepts > 0).then(|| AcceptError::fatal("the listener is broken"));
    let (receiver, address) = failing(broken, false).await;
    let establisher = establisher(address, quick()).await;
    // The session may be gone before it can be asked for.
    let gave_up = loop {
        match in_time(receiver.session()).await {
            Ok(session) => assert!(matches!(in_time(session.closed()).await, CloseReason::Aborted)),
            Err(stopped) => break why(stopped),
        }
    };
    assert_eq!(gave_up.cause, GaveUpCause::Fatal);
    assert_eq!(gave_up.last_error.as_ref().unwrap().to_string(), "the listener is broken");
    in_time(receiver.shutdown()).await;
    in_time(establisher.shutdown()).await;
}

#[tokio::test]
async fn a_fatal_handshake_ends_the_manager() {
    let (receiver, address) = failing(|_| None, true).await;
    let _client = TcpStream::connect(address).await.unwrap();
    assert_eq!(why(in_time(receiver.session()).await.unwrap_err()).cause, GaveUpCause::Fatal);
    in_time(receiver.shutdown()).await;
}

/// The second start of a manager cannot be written, since the first consumes the builder. A new one works.
#[tokio::test]
async fn failed_start_forgotten() {
    let (taken, address) = receiver(quick()).await;
    let failed = MuxManager::receive(address.to_string()).start().await;
    assert!(matches!(failed, Err(StartError::Bind { .. })));
    in_time(taken.shutdown()).await;
    let manager = MuxManager::receive(address.to_string()).start().await.unwrap();
    let establisher = establisher(address, quick()).await;
    in_time(manager.session()).await.unwrap();
    in_time(establisher.shutdown()).await;
    in_time(manager.shutdown()).await;
}

/// Those who wait when the provider ends, and those who come later, tasks and threads alike.
#[tokio::test]
async fn provider_death_hangs_callers() {
    let dies = Arc::new(AtomicBool::new(false));
    let connector = {
        let dies = Arc::clone(&dies);
        move || {
            let dies = dies.load(Ordering::SeqCst);
            async move { if dies { Err(ConnectError::fatal("no use")) } else { refused() } }
        }
    };
    let manager = MuxManager::establish_with(connector).config(quick().build().unwrap()).start().await.unwrap();
    let tasks: Vec<_> = (0..10)
        .map(|_| {
            let manager = manager.clone();
            tokio::spawn(async move { manager.session().await })
        })
        .collect();
    let threads: Vec<_> = (0..10)
        .map(|_| {
            let manager = manager.clone();
            thread::spawn(move || manager.session_blocking_timeout(PATIENCE))
        })
        .collect();
    until(|| manager.status().attempts > 2).await;
    dies.store(true, Ordering::SeqCst);
    for task in tasks {
        assert_eq!(why(in_time(task).await.unwrap().unwrap_err()).cause, GaveUpCause::Fatal);
    }
    for thread in threads {
        assert!(matches!(thread.join().unwrap(), Err(WaitError::Stopped(Stopped::GaveUp(_)))));
    }
    assert!(matches!(manager.session_blocking(), Err(Stopped::GaveUp(_))));
    in_time(manager.shutdown()).await;
}

/// Threads that wait at the manager when its runtime is dropped, after `run_for` of its life.
fn drop_the_runtime(runtime: runtime::Runtime, run_for: Duration) {
    let manager = runtime.block_on(async {
        let manager =
            MuxManager::establish_with(|| async { refused() }).config(quick().build().unwrap()).start().await.unwrap();
        if !run_for.is_zero() {
            sleep(run_for).await;
        }
        manager
    });
    let threads: Vec<_> = (0..10)
        .map(|_| {
            let manager = manager.clone();
            thread::spawn(move || manager.session_blocking_timeout(PATIENCE))
        })
        .collect();
    drop(runtime);
    for thread in threads {
        match thread.join().unwrap() {
            Err(WaitError::Stopped(stopped)) => assert_eq!(why(stopped).cause, GaveUpCause::RuntimeEnded),
            outcome => panic!("{outcome:?}"),
        }
    }
    assert_eq!(manager.status().activity, Activity::Stopped);
    // Nobody waits for a shutdown that no task carries out any more.
    let other = runtime::Builder::new_current_thread().enable_all().build().unwrap();
    other.block_on(in_time(manager.shutdown()));
}

#[test]
fn runtime_gone_strands_threads() {
    drop_the_runtime(runtime::Runtime::new().unwrap(), Duration::from_millis(20));
}

/// The runtime ends before it has polled any task of the manager.
#[test]
fn a_runtime_that_ends_at_once_strands_nobody() {
    drop_the_runtime(runtime::Builder::new_current_thread().enable_all().build().unwrap(), Duration::ZERO);
}

/// What is open when the runtime ends: its streams fail, and its sockets are closed.
#[test]
fn a_session_ends_with_its_runtime() {
    let runtime = runtime::Runtime::new().unwrap();
    let (receiver, session) = runtime.block_on(async {
        let (receiver, address) = receiver(quick()).await;
        let establisher = establisher(address, quick()).await;
        let session = in_time(establisher.session()).await.unwrap();
        drop(establisher.clone());
        std::mem::forget(establisher);
        (receiver, session)
    });
    drop(runtime);
    assert!(session.is_closed());
    assert!(receiver.try_session().is_none());
    let address = receiver.local_addr().unwrap();
    std::net::TcpListener::bind(address).expect("the port is free again");
}

#[tokio::test]
async fn a_panic_in_a_handshake_costs_its_connection_alone() {
    struct Panics(TcpAcceptor, AtomicU32);
    impl Accept for Panics {
        type Io = TcpStream;
        type Pending = (TcpStream, SocketAddr);
        async fn accept(&self) -> Result<Self::Pending, AcceptError> {
            self.0.accept().await
        }
        async fn finish(&self, pending: Self::Pending) -> Result<Connected<TcpStream>, AcceptError> {
            assert!(self.1.fetch_add(1, Ordering::SeqCst) > 0, "a bug in the acceptor");
            self.0.finish(pending).await
        }
        fn local_addr(&self) -> Option<SocketAddr> {
            self.0.local_addr()
        }
    }
    let (log, _guard) = Log::record();
    let acceptor = TcpAcceptor::bind("127.0.0.1:0", &quick().build().unwrap()).await.unwrap();
    let receiver = MuxManager::receive_with(Panics(acceptor, AtomicU32::new(0))).start().await.unwrap();
    let establisher = establisher(receiver.local_addr().unwrap(), quick()).await;
    in_time(receiver.session()).await.unwrap();
    in_time(establisher.shutdown()).await;
    in_time(receiver.shutdown()).await;
    let errors = log.lines(&["ERROR"]);
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(errors[0].contains("a bug in the acceptor"), "{errors:?}");
}

/// What one greps for: the names, the session, the peer, the attempt, the reason, the next delay.
#[tokio::test]
async fn traces_name_what_they_are_about() {
    let (log, _guard) = Log::record();
    let (receiver, address) = receiver(quick()).await;
    let config = quick().stable_after(Duration::from_secs(60)).build().unwrap();
    let establisher =
        MuxManager::establish(address.to_string()).name("to-us-west").config(config).start().await.unwrap();
    let session = in_time(establisher.session()).await.unwrap();
    let peer = session.peer_addr().unwrap().to_string();
    // Young, and no goodbye.
    session.abort();
    in_time(receiver.shutdown()).await;
    until(|| establisher.status().attempts > 0).await;
    in_time(establisher.shutdown()).await;
    let ours = "manager{ name=\"to-us-west\" } establisher{ }";
    for (level, texts) in [
        ("INFO", vec!["connecting", "attempt=1"]),
        ("INFO", vec!["session live", "session=1", &peer]),
        ("INFO", vec!["session{ id=1", &peer, "session closed", "reason="]),
        ("INFO", vec!["the session has left its place", "session=1"]),
        ("WARN", vec!["next_delay=", "session=1"]),
        ("WARN", vec!["attempt failed", "attempt=1", "error=", "next_delay="]),
    ] {
        let texts: Vec<_> = [level, ours].into_iter().chain(texts).collect();
        assert!(!log.lines(&texts).is_empty(), "{texts:?} is not in {:#?}", log.lines(&[]));
    }
    assert_eq!(log.lines(&["INFO manager{ name=\"to-us-west\" } ", "the manager has stopped"]).len(), 1);
    assert!(log.lines(&["ERROR"]).is_empty());
}
