//! The streams of the peers across all sessions, and what happens to a manager.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use crate::support::{PATIENCE, establisher, in_time, own_address, quick, receiver, session_after, until};
use evermux::{CloseReason, Event, MuxManager, Stopped};
use futures_util::{FutureExt, StreamExt};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

async fn say(manager: &MuxManager, text: &str) {
    let mut stream = in_time(manager.open_stream()).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    in_time(stream.read_to_end(&mut Vec::new())).await.unwrap();
}

#[tokio::test]
async fn streams_come_from_one_session_after_the_other() {
    let (receiver, address) = receiver(quick()).await;
    let mut incoming = receiver.incoming();
    assert!(incoming.next().now_or_never().is_none(), "nobody is there");
    let served = tokio::spawn(async move {
        let mut texts = Vec::new();
        while let Some(mut stream) = incoming.next().await {
            let mut text = String::new();
            stream.read_to_string(&mut text).await.unwrap();
            stream.shutdown().await.unwrap();
            texts.push((stream.session_id(), text));
        }
        texts
    });
    let establisher = establisher(address, quick()).await;
    for text in ["one", "two"] {
        say(&establisher, text).await;
        let old = in_time(establisher.session()).await.unwrap();
        old.abort();
        session_after(&establisher, &old).await;
    }
    say(&establisher, "three").await;
    in_time(establisher.shutdown()).await;
    in_time(receiver.shutdown()).await;
    let texts = in_time(served).await.unwrap();
    assert_eq!(texts.iter().map(|(_, text)| text.as_str()).collect::<Vec<_>>(), ["one", "two", "three"]);
    assert_eq!(texts.iter().map(|(session, _)| session.as_u64()).collect::<BTreeSet<_>>().len(), 3);
}

/// Each stream goes to one taker, whoever it is; a taker that is not polled is in nobody's way.
#[tokio::test]
async fn every_stream_goes_to_one_taker() {
    let (receiver, address) = receiver(quick()).await;
    let establisher = establisher(address, quick()).await;
    let session = in_time(receiver.session()).await.unwrap();
    let mut idle = receiver.incoming();
    let mut abandoned = Box::pin(session.accept_stream());
    assert!(idle.next().now_or_never().is_none());
    assert!(abandoned.as_mut().now_or_never().is_none());
    let mut incoming = receiver.incoming();
    let mut streams = Vec::new();
    let mut ids = BTreeSet::new();
    for round in 0..20 {
        streams.push(in_time(establisher.open_stream()).await.unwrap());
        let taken = match round % 2 {
            0 => in_time(session.accept_stream()).await.unwrap(),
            _ => in_time(incoming.next()).await.unwrap(),
        };
        assert!(ids.insert(taken.id()), "a stream was given out twice");
    }
    assert!(idle.next().now_or_never().is_none(), "nothing is left");
    drop(abandoned);
    in_time(establisher.shutdown()).await;
    in_time(receiver.shutdown()).await;
}

/// A busy session does not keep the streams of another one waiting.
#[tokio::test]
async fn sessions_take_turns() {
    let config = || quick().build().unwrap();
    let receiver = MuxManager::receive(own_address()).config(config()).sessions(2).start().await.unwrap();
    let address = receiver.local_addr().unwrap();
    let busy = establisher(address, quick()).await;
    let quiet = establisher(address, quick()).await;
    let mut streams = Vec::new();
    for _ in 0..50 {
        streams.push(in_time(busy.open_stream()).await.unwrap());
    }
    streams.push(in_time(quiet.open_stream()).await.unwrap());
    until(|| receiver.status().sessions.iter().map(|session| session.open_streams).sum::<usize>() == 51).await;
    let mut incoming = receiver.incoming();
    let first: BTreeSet<_> = [in_time(incoming.next()).await.unwrap(), in_time(incoming.next()).await.unwrap()]
        .map(|s| s.session_id().as_u64())
        .into();
    assert_eq!(first.len(), 2);
    drop(streams);
    in_time(busy.shutdown()).await;
    in_time(quiet.shutdown()).await;
    in_time(receiver.shutdown()).await;
}

/// Streams that came before the stop are given out; then it is the end.
#[tokio::test]
async fn what_came_before_the_stop_is_given_out() {
    let (receiver, address) = receiver(quick().drain_timeout(Duration::from_millis(500))).await;
    let establisher = establisher(address, quick()).await;
    let _outbound = in_time(establisher.open_stream()).await.unwrap();
    until(|| receiver.try_session().is_some_and(|session| session.open_streams() == 1)).await;
    let mut incoming = receiver.incoming();
    let stopping = tokio::spawn({
        let receiver = receiver.clone();
        async move { receiver.shutdown().await }
    });
    until(|| receiver.is_shutting_down()).await;
    assert!(in_time(incoming.next()).await.is_some());
    assert!(in_time(incoming.next()).await.is_none());
    assert!(in_time(incoming.next()).await.is_none(), "and stays so");
    in_time(stopping).await.unwrap();
    in_time(establisher.shutdown()).await;
}

/// Streams that came whole wait for their taker, whatever becomes of their session meanwhile, and in order.
#[tokio::test]
async fn what_came_whole_before_the_session_was_lost_is_given_out() {
    for closes in [false, true] {
        let (receiver, address) = receiver(quick()).await;
        let establisher = establisher(address, quick()).await;
        let session = in_time(establisher.session()).await.unwrap();
        let held = in_time(receiver.session()).await.unwrap();
        let mut streams = Vec::new();
        for number in 0..10_u8 {
            let mut stream = in_time(session.open_stream()).await.unwrap();
            stream.write_all(&[number]).await.unwrap();
            stream.shutdown().await.unwrap();
            streams.push(stream);
        }
        until(|| held.open_streams() == 10).await;
        in_time(held.ping()).await.unwrap();
        // It is lost, or its peer closes it and its time for that is over.
        if closes {
            in_time(establisher.shutdown_within(Duration::from_millis(200))).await;
        } else {
            session.abort();
        }
        in_time(held.closed()).await;
        // Two takers, both late.
        let mut incoming = receiver.incoming();
        for number in 0..10_u8 {
            let mut stream = match number % 2 {
                0 => in_time(incoming.next()).await.unwrap(),
                _ => in_time(held.accept_stream()).await.unwrap(),
            };
            let mut bytes = Vec::new();
            in_time(stream.read_to_end(&mut bytes)).await.unwrap();
            assert_eq!(bytes, [number]);
        }
        assert!(in_time(held.accept_stream()).await.is_err());
        assert!(incoming.next().now_or_never().is_none());
        in_time(establisher.shutdown()).await;
        in_time(receiver.shutdown()).await;
        assert!(in_time(incoming.next()).await.is_none());
    }
}

/// Sessions that come and go, and whose streams nobody takes, leave no more than one of them could hold: the last.
#[tokio::test]
async fn what_lost_sessions_leave_is_bounded() {
    let (receiver, address) = receiver(quick().accept_backlog(4)).await;
    let establisher = establisher(address, quick()).await;
    for round in 0..5_u8 {
        let session = in_time(establisher.session()).await.unwrap();
        let held = in_time(receiver.session()).await.unwrap();
        for number in 0..3 {
            let mut stream = in_time(session.open_stream()).await.unwrap();
            stream.write_all(&[3 * round + number]).await.unwrap();
            stream.shutdown().await.unwrap();
            drop(stream);
        }
        until(|| held.open_streams() == 3).await;
        in_time(held.ping()).await.unwrap();
        session.abort();
        in_time(held.closed()).await;
        session_after(&establisher, &session).await;
    }
    let mut incoming = receiver.incoming();
    for number in 11..15 {
        let mut stream = in_time(incoming.next()).await.unwrap();
        let mut bytes = Vec::new();
        in_time(stream.read_to_end(&mut bytes)).await.unwrap();
        assert_eq!(bytes, [number]);
    }
    assert!(incoming.next().now_or_never().is_none());
    in_time(establisher.shutdown()).await;
    in_time(receiver.shutdown()).await;
}

/// Whoever is called with each session knows of it before anybody is given a stream of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_is_told_before_its_first_stream() {
    let known = Arc::new(std::sync::Mutex::new(BTreeSet::new()));
    let receiver = MuxManager::receive(own_address())
        .config(quick().build().unwrap())
        .on_session({
            let known = Arc::clone(&known);
            #[expect(clippy::disallowed_methods, reason = "a closure that takes its time")]
            move |session| {
                std::thread::sleep(Duration::from_millis(20));
                known.lock().unwrap().insert(session.id().as_u64());
                std::future::ready(())
            }
        })
        .start()
        .await
        .unwrap();
    let establisher = establisher(receiver.local_addr().unwrap(), quick()).await;
    let mut incoming = receiver.incoming();
    for round in 0..20 {
        let session = in_time(establisher.session()).await.unwrap();
        let mut stream = in_time(session.open_stream()).await.unwrap();
        stream.write_all(b"hello").await.unwrap();
        let taken = match round % 2 {
            0 => in_time(incoming.next()).await.unwrap(),
            _ => in_time(in_time(receiver.session()).await.unwrap().accept_stream()).await.unwrap(),
        };
        assert!(known.lock().unwrap().contains(&taken.session_id().as_u64()));
        let held = in_time(receiver.session()).await.unwrap();
        session.abort();
        in_time(held.closed()).await;
        session_after(&establisher, &session).await;
    }
    in_time(establisher.shutdown()).await;
    in_time(receiver.shutdown()).await;
}

/// A stream that came before the stop, to a session that `on_session` has not been called for yet, is given out as
/// well.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_came_before_the_stop_is_given_out_though_its_session_is_not_told_yet() {
    let receiver = MuxManager::receive(own_address())
        .config(quick().build().unwrap())
        .on_session({
            #[expect(clippy::disallowed_methods, reason = "a closure that takes its time")]
            |_| {
                std::thread::sleep(Duration::from_millis(300));
                std::future::ready(())
            }
        })
        .start()
        .await
        .unwrap();
    let mut incoming = receiver.incoming();
    let taking = tokio::spawn(async move {
        let mut taken = 0;
        while let Some(stream) = incoming.next().await {
            drop(stream);
            taken += 1;
        }
        taken
    });
    let establisher = establisher(receiver.local_addr().unwrap(), quick()).await;
    let mut stream = in_time(establisher.open_stream()).await.unwrap();
    stream.write_all(b"hello").await.unwrap();
    until(|| receiver.try_session().is_some_and(|session| session.open_streams() == 1)).await;
    in_time(receiver.shutdown()).await;
    assert_eq!(in_time(taking).await.unwrap(), 1);
    in_time(establisher.shutdown()).await;
}

#[tokio::test]
async fn neither_incoming_nor_events_keep_the_manager_running() {
    let (receiver, _) = receiver(quick()).await;
    let (mut incoming, mut events) = (receiver.incoming(), receiver.events());
    drop(receiver);
    assert!(in_time(incoming.next()).await.is_none());
    assert!(matches!(in_time(events.next()).await, Some(Event::Stopped(Stopped::ShutDown))));
    assert!(in_time(events.next()).await.is_none());
}

#[tokio::test]
async fn events_tell_what_happens_in_order() {
    let address = {
        let (gone, address) = receiver(quick()).await;
        in_time(gone.shutdown()).await;
        address
    };
    let establisher = establisher(address, quick()).await;
    let mut events = establisher.events();
    let error = loop {
        match in_time(StreamExt::next(&mut events)).await.unwrap() {
            Event::AttemptFailed { error, next_delay, attempt } => {
                assert!(attempt >= 1 && next_delay.is_some());
                break error;
            }
            Event::Connecting { .. } => {}
            other => panic!("{other:?}"),
        }
    };
    assert!(error.to_string().contains("refused"), "{error}");
    let receiver = MuxManager::receive(address.to_string()).config(quick().build().unwrap()).start().await.unwrap();
    let live = loop {
        match in_time(events.next()).await.unwrap() {
            Event::SessionLive { session, peer, round_trip } => {
                assert!(peer == Some(address) && round_trip.is_some());
                break session;
            }
            Event::Connecting { .. } | Event::AttemptFailed { .. } => {}
            other => panic!("{other:?}"),
        }
    };
    in_time(establisher.shutdown()).await;
    assert!(matches!(in_time(events.next()).await, Some(Event::Stopped(Stopped::ShutDown))));
    match in_time(events.next()).await {
        Some(Event::SessionDraining { session, reason: CloseReason::Closed, .. }) => assert_eq!(session, live),
        other => panic!("{other:?}"),
    }
    match in_time(events.next()).await {
        Some(Event::SessionClosed { session, reason: CloseReason::Closed }) => assert_eq!(session, live),
        other => panic!("{other:?}"),
    }
    assert!(in_time(events.next()).await.is_none());
    assert!(in_time(establisher.events().next()).await.is_none(), "it has ended");
    in_time(receiver.shutdown()).await;
}

#[tokio::test]
async fn a_slow_reader_is_told_what_it_missed() {
    let (receiver, address) = receiver(quick()).await;
    let establisher = establisher(address, quick().event_backlog(4)).await;
    let mut events = establisher.events();
    for _ in 0..4 {
        let session = in_time(establisher.session()).await.unwrap();
        session.abort();
        session_after(&establisher, &session).await;
    }
    let missed = match in_time(events.next()).await.unwrap() {
        Event::Missed(missed) => missed,
        other => panic!("{other:?}"),
    };
    let mut kept = 0;
    while let Ok(Some(_)) = timeout(Duration::from_millis(100), events.next()).await {
        kept += 1;
    }
    // Three for each session, Connecting to Closed, and those of the first and the last one.
    assert_eq!(kept, 4);
    assert!((8..=12).contains(&missed), "{missed}");
    in_time(establisher.shutdown()).await;
    in_time(receiver.shutdown()).await;
}

/// Asks the manager for everything in the moment in which it is woken.
struct Asks(MuxManager, AtomicUsize);

impl Wake for Asks {
    fn wake(self: Arc<Self>) {
        let _ = (self.0.status(), self.0.try_session(), self.0.events());
        self.1.fetch_add(1, Ordering::SeqCst);
    }
}

/// Whoever listens may ask the manager for anything: nothing is locked meanwhile (G7).
#[test]
fn observer_under_lock() {
    // In a thread of its own: a runtime whose thread waits for a lock finds no timeout.
    let (done, ended) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        tokio::runtime::Runtime::new().unwrap().block_on(a_listener_that_asks());
        done.send(()).unwrap();
    });
    assert_eq!(ended.recv_timeout(PATIENCE), Ok(()), "it waits for itself, or has failed");
}

async fn a_listener_that_asks() {
    let (receiver, address) = receiver(quick()).await;
    let establisher = establisher(address, quick()).await;
    let asks = Arc::new(Asks(establisher.clone(), AtomicUsize::new(0)));
    let waker = Waker::from(Arc::clone(&asks));
    let mut events = establisher.events();
    // It may have been live before anyone listened. The next one is not.
    in_time(establisher.session()).await.unwrap().abort();
    let mut live = 0;
    while live < 5 {
        // It may be woken before the poll has returned.
        let before = asks.1.load(Ordering::SeqCst);
        match events.poll_next_unpin(&mut Context::from_waker(&waker)) {
            Poll::Ready(Some(Event::SessionLive { .. })) => {
                live += 1;
                in_time(establisher.session()).await.unwrap().abort();
            }
            Poll::Ready(event) => assert!(event.is_some()),
            Poll::Pending => until(|| asks.1.load(Ordering::SeqCst) > before).await,
        }
    }
    in_time(establisher.shutdown()).await;
    in_time(receiver.shutdown()).await;
}
