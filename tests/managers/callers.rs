//! Ten thousand tasks and two hundred threads wait at one manager (G1, G2, G4, G9).

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use crate::support::{PATIENCE, echo, establisher, in_time, network, quick, receiver, request, session_after, until};
use evermux::{Connect, Connected, MuxManager, OpenError, Session, Stopped, WaitError, error::ConnectError};
use testkit::FaultProxy;
use tokio::{io::DuplexStream, sync::Notify, task::JoinSet, time::sleep};

const TASKS: usize = 10_000;
const THREADS: usize = 200;

/// Lets everyone wait at a manager that has no session, makes one change, and gives what each has got.
async fn everyone_gets<C: Connect>(
    connector: C,
    change: impl AsyncFnOnce(&MuxManager),
) -> Vec<Result<Session, WaitError>> {
    let manager = MuxManager::establish_with(connector).config(quick().build().unwrap()).start().await.unwrap();
    let waiting = Arc::new(AtomicUsize::new(0));
    let threads: Vec<_> = (0..THREADS)
        .map(|_| {
            let (manager, waiting) = (manager.clone(), Arc::clone(&waiting));
            let work = move || {
                waiting.fetch_add(1, Ordering::SeqCst);
                manager.session_blocking_timeout(PATIENCE)
            };
            thread::Builder::new().stack_size(128 << 10).spawn(work).unwrap()
        })
        .collect();
    let mut tasks = JoinSet::new();
    for _ in 0..TASKS {
        let (manager, waiting) = (manager.clone(), Arc::clone(&waiting));
        tasks.spawn(async move {
            let mut session = pin!(manager.session());
            let mut counted = false;
            poll_fn(|cx| {
                let polled = session.as_mut().poll(cx);
                if polled.is_pending() && !counted {
                    counted = true;
                    waiting.fetch_add(1, Ordering::SeqCst);
                }
                polled
            })
            .await
        });
    }
    until(|| waiting.load(Ordering::SeqCst) == TASKS + THREADS).await;
    change(&manager).await;
    let mut outcomes: Vec<_> =
        in_time(tasks.join_all()).await.into_iter().map(|outcome| outcome.map_err(WaitError::Stopped)).collect();
    let threads = tokio::task::spawn_blocking(move || {
        threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    outcomes.extend(in_time(threads).await.unwrap());
    in_time(manager.shutdown()).await;
    outcomes
}

#[tokio::test]
async fn one_install_frees_all() {
    let (inner, acceptor) = network();
    let may_dial = Arc::new(Notify::new());
    let connector = {
        let may_dial = Arc::clone(&may_dial);
        move || {
            let (inner, may_dial) = (inner.clone(), Arc::clone(&may_dial));
            async move {
                may_dial.notified().await;
                inner.connect().await
            }
        }
    };
    let receiver = MuxManager::receive_with(acceptor).config(quick().build().unwrap()).start().await.unwrap();
    let outcomes = everyone_gets(connector, async |_| may_dial.notify_one()).await;
    assert_eq!(outcomes.len(), TASKS + THREADS);
    let first = outcomes[0].as_ref().unwrap().id();
    assert!(outcomes.iter().all(|outcome| outcome.as_ref().is_ok_and(|session| session.id() == first)));
    in_time(receiver.shutdown()).await;
}

#[tokio::test]
async fn one_shutdown_frees_all() {
    let refused = || async { Err::<Connected<DuplexStream>, _>(ConnectError::transient("refused")) };
    let outcomes = everyone_gets(refused, async |manager| in_time(manager.shutdown()).await).await;
    assert_eq!(outcomes.len(), TASKS + THREADS);
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Err(WaitError::Stopped(Stopped::ShutDown)))));
}

/// Callers that come and go while the link is cut again and again: each gets a session that works, or learns of its
/// loss and asks again.
#[tokio::test]
async fn callers_live_through_cuts() {
    let (receiver, address) = receiver(quick()).await;
    let proxy = FaultProxy::start(address).unwrap();
    let establisher = establisher(proxy.addr(), quick()).await;
    let echo = echo(&receiver);
    let mut callers = JoinSet::new();
    for _ in 0..20 {
        let establisher = establisher.clone();
        callers.spawn(async move {
            let mut done = 0;
            while done < 50 {
                let session = establisher.session().await.unwrap();
                if request(&session).await.is_ok() {
                    done += 1;
                }
            }
        });
    }
    let cuts = async {
        let mut session = establisher.session().await.unwrap();
        for cut in 0..10 {
            if cut % 2 == 0 {
                proxy.cut_rst();
            } else {
                proxy.cut_fin();
            }
            session = session_after(&establisher, &session).await;
        }
    };
    in_time(cuts).await;
    in_time(callers.join_all()).await;
    assert!(establisher.status().sessions_so_far > 10);
    in_time(establisher.shutdown()).await;
    in_time(receiver.shutdown()).await;
    in_time(echo).await.unwrap();
}

/// Whoever has seen the end of a session is never given it again (G3), whichever way they ask.
#[tokio::test]
async fn a_session_that_is_known_to_be_dead_is_given_to_nobody() {
    let (receiver, address) = receiver(quick()).await;
    let proxy = FaultProxy::start(address).unwrap();
    let establisher = establisher(proxy.addr(), quick()).await;
    let mut reader = establisher.reader();
    for round in 0..20 {
        let session = in_time(establisher.session()).await.unwrap();
        match round % 4 {
            0 => proxy.cut_rst(),
            1 => proxy.cut_fin(),
            2 => session.abort(),
            _ => drop(tokio::spawn({
                let session = session.clone();
                async move { session.close().await }
            })),
        }
        if round % 4 == 2 {
            // Not even before its driver has ended.
            assert!(establisher.try_session().is_none_or(|next| next.id() != session.id()));
        }
        in_time(session.closed()).await;
        assert!(establisher.try_session().is_none_or(|next| next.id() != session.id()));
        assert!(reader.session().is_none_or(|next| next.id() != session.id()));
        assert_ne!(in_time(establisher.session()).await.unwrap().id(), session.id());
    }
    in_time(establisher.shutdown()).await;
    in_time(receiver.shutdown()).await;
}

#[tokio::test]
async fn with_session_gives_back_what_its_closure_returns() {
    let (receiver, address) = receiver(quick()).await;
    let manager = establisher(address, quick()).await;
    let text = String::from("borrowed");
    let (id, length) = in_time(manager.with_session(async |session| (session.id(), text.len()))).await.unwrap();
    assert_eq!((id, length), (manager.try_session().unwrap().id(), 8));
    assert_eq!(manager.reader().session().unwrap().id(), id);
    let status = manager.status();
    assert_eq!((status.sessions[0].id, status.sessions[0].peer), (id, Some(address)));
    assert_eq!(status.sessions[0].round_trip, manager.try_session().unwrap().round_trip());
    in_time(manager.shutdown()).await;
    assert!(matches!(manager.with_session(async |_| panic!("called")).await, Err(Stopped::ShutDown)));
    in_time(receiver.shutdown()).await;
}

/// The session is lost while the call waits for a place for its stream: the stream comes from the next one.
#[tokio::test]
async fn open_stream_goes_on_to_the_next_session() {
    let (receiver, address) = receiver(quick()).await;
    let proxy = FaultProxy::start(address).unwrap();
    let establisher = establisher(proxy.addr(), quick().max_concurrent_streams(1)).await;
    let first = in_time(establisher.open_stream()).await.unwrap();
    let second = tokio::spawn({
        let establisher = establisher.clone();
        async move { establisher.open_stream().await }
    });
    until(|| establisher.status().sessions.first().is_some_and(|session| session.open_streams == 2)).await;
    assert!(!second.is_finished());
    proxy.cut_rst();
    let second = in_time(second).await.unwrap().unwrap();
    assert_ne!(first.session_id(), second.session_id());
    drop((first, second));
    in_time(establisher.shutdown()).await;
    in_time(receiver.shutdown()).await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_finds_no_place_is_an_error_of_its_own() {
    let (connector, acceptor) = network();
    let config = quick().max_concurrent_streams(1).build().unwrap();
    let receiver = MuxManager::receive_with(acceptor).config(config.clone()).start().await.unwrap();
    let establisher = MuxManager::establish_with(connector).config(config).start().await.unwrap();
    let stream = establisher.open_stream().await.unwrap();
    let taken = receiver.session().await.unwrap().accept_stream().await.unwrap();
    assert!(matches!(establisher.open_stream().await, Err(OpenError::TimedOut)));
    drop((stream, taken));
    establisher.shutdown().await;
    receiver.shutdown().await;
}

/// Futures that are dropped while they wait leave nothing behind, and eat no wake-up (G9).
#[tokio::test]
async fn a_caller_that_leaves_takes_nothing_with_it() {
    let (connector, acceptor) = network();
    let manager = MuxManager::establish_with(connector).config(quick().build().unwrap()).start().await.unwrap();
    let waiting = tokio::spawn({
        let manager = manager.clone();
        async move { manager.session().await }
    });
    for _ in 0..1000 {
        let mut callers = JoinSet::new();
        for _ in 0..3 {
            let manager = manager.clone();
            callers.spawn(async move { (manager.session().await.is_ok(), manager.open_stream().await.is_ok()) });
        }
        tokio::task::yield_now().await;
        callers.abort_all();
    }
    let receiver = MuxManager::receive_with(acceptor).config(quick().build().unwrap()).start().await.unwrap();
    in_time(waiting).await.unwrap().unwrap();
    sleep(Duration::from_millis(1)).await;
    assert!(manager.status().sessions.iter().all(|session| session.open_streams == 0));
    in_time(manager.shutdown()).await;
    in_time(receiver.shutdown()).await;
}
