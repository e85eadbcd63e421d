//! Providers of one's own, and what a user has to say to the built-in ones.

use std::{
    error::Error,
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use crate::support::{establisher, in_time, own_address, quick, request, until};
use evermux::{
    CloseReason, Config, Connected, MuxManager, Provide, Session, Stopped,
    error::GaveUpCause,
    provider::{InstallError, Installer},
};
use testkit::frames::{Flags, Header, Kind, Peer};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    net::TcpStream,
    sync::mpsc,
    time::sleep,
};

type BoxError = Box<dyn Error + Send + Sync>;

/// A provider that is a closure.
struct With<F>(F);

impl<F, Fut> Provide for With<F>
where
    F: FnOnce(Installer) -> Fut + Send + 'static,
    Fut: Future<Output = Result<(), BoxError>> + Send,
{
    async fn provide(self, installer: Installer) -> Result<(), BoxError> {
        (self.0)(installer).await
    }
}

/// The far end of a pipe, as a server that echoes.
fn far_end(io: DuplexStream) {
    tokio::spawn(async move {
        let session = Session::server(io, &Config::default()).await.unwrap();
        while let Ok(stream) = session.accept_stream().await {
            let (mut reader, mut writer) = stream.into_split();
            tokio::io::copy(&mut reader, &mut writer).await.unwrap();
            writer.shutdown().await.unwrap();
        }
    });
}

#[tokio::test]
async fn a_provider_installs_and_replaces() {
    let (pipes, mut taken) = mpsc::channel::<DuplexStream>(4);
    let provider = With(|installer: Installer| async move {
        assert_eq!(installer.places(), 1);
        let mut candidate = installer.client(Connected::anonymous(taken.recv().await.unwrap())).await;
        let first = candidate.install().await?;
        assert_eq!(installer.sessions().len(), 1);
        // The place is taken: a candidate can wait, or take it away.
        let pipe = taken.recv().await.unwrap();
        let mut candidate = installer.server(Connected::anonymous(pipe));
        assert!(matches!(candidate.install().await, Err(InstallError::Full)));
        let second = candidate.replace(first.id()).await?;
        assert!(matches!(first.closed().await, CloseReason::Replaced));
        let mut candidate = installer.server(Connected::anonymous(taken.recv().await.unwrap()));
        assert!(matches!(candidate.replace(first.id()).await, Err(InstallError::Full)), "it is in no place");
        tokio::select! {
            () = candidate.place() => panic!("there is none"),
            () = sleep(Duration::from_millis(20)) => {}
        }
        second.abort();
        candidate.place().await;
        candidate.install().await?;
        installer.stopped().await;
        assert!(installer.is_stopped());
        Ok(())
    });
    let manager = MuxManager::provide_with(provider).start().await.unwrap();
    let (near, far) = duplex(4096);
    far_end(far);
    pipes.send(near).await.unwrap();
    let first = in_time(manager.session()).await.unwrap();
    in_time(request(&first)).await.unwrap();
    for _ in 0..2 {
        let (near, far) = duplex(4096);
        tokio::spawn(async move {
            let session = Session::client(far, &Config::default()).await.unwrap();
            session.closed().await;
        });
        pipes.send(near).await.unwrap();
    }
    until(|| manager.status().sessions_so_far == 3).await;
    in_time(manager.shutdown()).await;
    assert!(matches!(manager.session().await, Err(Stopped::ShutDown)));
}

#[tokio::test]
async fn the_end_of_a_provider_is_told() {
    let cases: [(Result<(), BoxError>, GaveUpCause); 2] =
        [(Ok(()), GaveUpCause::Ended), (Err("broken".into()), GaveUpCause::Fatal)];
    for (outcome, cause) in cases {
        let manager = MuxManager::provide_with(With(|_| async { outcome })).start().await.unwrap();
        match in_time(manager.session()).await {
            Err(Stopped::GaveUp(gave_up)) => {
                assert_eq!(gave_up.cause, cause);
                assert_eq!(gave_up.last_error.is_some(), cause == GaveUpCause::Fatal);
            }
            other => panic!("{other:?}"),
        }
        in_time(manager.shutdown()).await;
    }
}

/// After the stop nothing is installed, and who waits for a place is dropped with the provider.
#[tokio::test]
async fn a_late_install_is_refused() {
    let (told, mut asked) = mpsc::unbounded_channel();
    let provider = With(move |installer: Installer| async move {
        let (near, far) = duplex(4096);
        far_end(far);
        let mut candidate = installer.client(Connected::anonymous(near)).await;
        candidate.proven().await?;
        installer.stopped().await;
        told.send(candidate.install().await.map(drop)).unwrap();
        Ok(())
    });
    let manager = MuxManager::provide_with(provider).start().await.unwrap();
    sleep(Duration::from_millis(50)).await;
    in_time(manager.shutdown()).await;
    assert!(matches!(asked.recv().await.unwrap(), Err(InstallError::Stopped | InstallError::NotProven(_))));
}

/// Counts a task while it runs.
struct Running(Arc<AtomicUsize>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn on_session_runs_with_each_session_and_is_joined() {
    let running = Arc::new(AtomicUsize::new(0));
    let seen = Arc::new(AtomicUsize::new(0));
    let receiver = MuxManager::receive(own_address())
        .config(quick().build().unwrap())
        .on_session({
            let (running, seen) = (Arc::clone(&running), Arc::clone(&seen));
            move |session: Session| {
                let (running, seen) = (Arc::clone(&running), Arc::clone(&seen));
                async move {
                    running.fetch_add(1, Ordering::SeqCst);
                    let _running = Running(running);
                    assert!(session.peer_addr().is_some());
                    assert!(seen.fetch_add(1, Ordering::SeqCst) != 1, "the second panics, and nothing else ends");
                    std::future::pending::<()>().await;
                }
            }
        })
        .start()
        .await
        .unwrap();
    let establisher = establisher(receiver.local_addr().unwrap(), quick()).await;
    for round in 1..=3 {
        let session = in_time(establisher.session()).await.unwrap();
        until(|| seen.load(Ordering::SeqCst) == round).await;
        session.abort();
        session.closed().await;
        until(|| running.load(Ordering::SeqCst) == 0 || seen.load(Ordering::SeqCst) > round).await;
    }
    in_time(establisher.session()).await.unwrap();
    until(|| running.load(Ordering::SeqCst) == 1).await;
    in_time(receiver.shutdown()).await;
    assert_eq!(running.load(Ordering::SeqCst), 0, "the shutdown joins it");
    in_time(establisher.shutdown()).await;
}

#[tokio::test]
async fn admit_is_asked_before_the_handshake() {
    let asked = Arc::new(AtomicUsize::new(0));
    let receiver = MuxManager::receive(own_address())
        .config(quick().build().unwrap())
        .admit({
            let asked = Arc::clone(&asked);
            move |peer| match asked.fetch_add(1, Ordering::SeqCst) {
                0 => peer.is_none(),
                1 => panic!("a panic costs one connection"),
                _ => true,
            }
        })
        .start()
        .await
        .unwrap();
    let address = receiver.local_addr().unwrap();
    for _ in 0..2 {
        let mut refused = TcpStream::connect(address).await.unwrap();
        let end = in_time(refused.read(&mut [0])).await;
        assert!(matches!(end, Ok(0)) || end.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionReset));
    }
    let establisher = establisher(address, quick()).await;
    in_time(establisher.session()).await.unwrap();
    assert_eq!(asked.load(Ordering::SeqCst), 3);
    in_time(establisher.shutdown()).await;
    in_time(receiver.shutdown()).await;
}

/// How many bytes the transport may hold unsent, as it was told so far.
static UNSENT: Mutex<Vec<u32>> = Mutex::new(Vec::new());

#[tokio::test]
async fn a_transport_holds_as_much_as_its_path_carries() {
    let (near, far) = duplex(1 << 20);
    far_end(far);
    let connected = Connected::anonymous(near).with_unsent_limit(|_, bytes| {
        UNSENT.lock().unwrap().push(bytes);
        Ok(())
    });
    let provider = With(move |installer: Installer| async move {
        let session = installer.client(connected).await.install().await?;
        let (mut reader, mut writer) = session.open_stream().await?.into_split();
        tokio::spawn(async move { tokio::io::copy(&mut reader, &mut tokio::io::sink()).await });
        writer.write_all(&vec![0; 2 << 20]).await?;
        installer.stopped().await;
        Ok(())
    });
    let manager = MuxManager::provide_with(provider).start().await.unwrap();
    // Nothing is known of the path at first, and then it is fast.
    until(|| UNSENT.lock().unwrap().last() == Some(&(128 << 10))).await;
    assert_eq!(UNSENT.lock().unwrap().first(), Some(&(16 << 10)));
    in_time(manager.shutdown_within(Duration::ZERO)).await;
}

/// How often the transport was told how much it may hold.
static TOLD: AtomicUsize = AtomicUsize::new(0);

/// A peer can say who it is as often as it likes: that is no news.
#[tokio::test]
async fn a_proof_that_is_repeated_costs_nothing() {
    let (near, far) = duplex(1 << 20);
    let connected = Connected::anonymous(near).with_unsent_limit(|_, _| {
        TOLD.fetch_add(1, Ordering::Relaxed);
        Ok(())
    });
    let provider = With(move |installer: Installer| async move {
        let _session = installer.client(connected).await.install().await?;
        installer.stopped().await;
        Ok(())
    });
    let manager = MuxManager::provide_with(provider).start().await.unwrap();
    let mut peer = Peer::new(far);
    for _ in 0..30 {
        peer.send(Header::ping(0xe576_6d73), &[]).await.unwrap();
    }
    let (proof, _) = in_time(peer.recv_until(|header| header.flags == Flags::SYN)).await.unwrap();
    peer.send(Header::pong(proof.length), &[]).await.unwrap();
    in_time(manager.session()).await.unwrap();
    // At its begin, and when it is known who the peer is.
    assert_eq!(TOLD.load(Ordering::Relaxed), 2);
    in_time(manager.shutdown_within(Duration::ZERO)).await;
}

/// A candidate that says goodbye before it replaces anyone takes nothing away.
#[tokio::test]
async fn a_candidate_that_closes_replaces_nobody() {
    let provider = With(|installer: Installer| async move {
        let (near, far) = duplex(4096);
        far_end(far);
        let mut candidate = installer.client(Connected::anonymous(near)).await;
        let holder = candidate.install().await?;
        let (near, far) = duplex(4096);
        let mut candidate = installer.server(Connected::anonymous(near));
        let mut peer = Peer::new(far);
        let (ping, _) = peer.recv_until(|header| header.kind == Kind::Ping).await?;
        peer.send(Header::pong(ping.length), &[]).await?;
        candidate.proven().await?;
        // A stream is open, so it takes its time; but it can no more be installed.
        peer.send_data(1, Flags::SYN, b"hello").await?;
        peer.send(Header::go_away(0), &[]).await?;
        // It draws back when it has read that.
        sleep(Duration::from_millis(100)).await;
        assert!(matches!(candidate.replace(holder.id()).await, Err(InstallError::NotProven(_))));
        drop((candidate, peer));
        assert!(!holder.is_closed());
        let (near, far) = duplex(4096);
        far_end(far);
        let mut next = Box::pin(installer.client(Connected::anonymous(near)));
        let early = tokio::time::timeout(Duration::from_millis(50), next.as_mut()).await;
        assert!(early.is_err(), "the holder has its place");
        holder.abort();
        next.await.install().await?;
        installer.stopped().await;
        Ok(())
    });
    let manager = MuxManager::provide_with(provider).start().await.unwrap();
    until(|| manager.status().sessions_so_far == 2 || manager.status().stopped.is_some()).await;
    assert!(manager.status().stopped.is_none(), "{:?}", manager.status());
    in_time(manager.shutdown()).await;
}

/// Whoever waits aborts the session in the moment in which it is installed: its place is free for the next one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_dies_in_its_install_leaves_its_place() {
    const ROUNDS: u64 = 2000;
    let provider = With(|installer: Installer| async move {
        loop {
            let (near, far) = duplex(4096);
            far_end_once(far);
            let mut candidate = tokio::select! {
                () = installer.stopped() => return Ok(()),
                candidate = installer.client(Connected::anonymous(near)) => candidate,
            };
            if let Ok(session) = candidate.install().await {
                session.closed().await;
            }
        }
    });
    let manager = MuxManager::provide_with(provider).start().await.unwrap();
    let aborting = std::thread::spawn({
        let manager = manager.clone();
        move || {
            // Held on to: a handle keeps no place.
            let mut sessions = Vec::new();
            for _ in 0..ROUNDS {
                let session = manager.session_blocking().unwrap();
                session.abort();
                sessions.push(session);
            }
        }
    });
    in_time(async {
        while manager.status().sessions_so_far < ROUNDS {
            sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    aborting.join().unwrap();
    in_time(manager.shutdown()).await;
}

fn far_end_once(io: DuplexStream) {
    tokio::spawn(async move {
        if let Ok(session) = Session::server(io, &Config::default()).await {
            session.closed().await;
        }
    });
}
