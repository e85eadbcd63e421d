//! A look is for what had passed its time when it was set (G10).

use std::{
    future::poll_fn,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    task::Poll,
    thread,
    time::Duration,
};

use evermux::{Config, Session};
use testkit::frames::{Flags, HEADER_BYTES, Header, Kind};
use tokio::time::Instant;

#[expect(clippy::disallowed_methods, reason = "it is to stop the thread of a runtime, or is one without")]
fn pause(milliseconds: u64) {
    thread::sleep(Duration::from_millis(milliseconds));
}

fn send(socket: &Mutex<TcpStream>, header: Header) -> bool {
    socket.lock().unwrap().write_all(&header.encode()).is_ok()
}

/// Answers each ping but the proof after 300 ms, and opens a stream every 20 ms, which nobody takes.
fn peer(listener: &TcpListener) {
    let (mut socket, _) = listener.accept().unwrap();
    socket.set_nodelay(true).unwrap();
    let output = Arc::new(Mutex::new(socket.try_clone().unwrap()));
    let opening = thread::spawn({
        let output = Arc::clone(&output);
        move || {
            pause(300);
            for stream in 1..=150 {
                if !send(&output, Header::window_update(2 * stream, Flags::SYN, 0)) {
                    return;
                }
                pause(20);
            }
        }
    });
    let mut wait = 0;
    let mut header = [0; HEADER_BYTES];
    while socket.read_exact(&mut header).is_ok() {
        let header = Header::decode(header).unwrap();
        if header.kind == Kind::Ping && header.flags == Flags::SYN {
            let output = Arc::clone(&output);
            thread::spawn(move || {
                pause(wait);
                send(&output, Header::pong(header.length));
            });
            wait = 300;
        }
    }
    opening.join().unwrap();
}

/// What became of the session, on a thread on which five tasks take 80 ms each time, and that asks the system about
/// sockets each so many polls.
fn a_session_on_a_busy_thread(event_interval: u32) -> Option<evermux::CloseReason> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let peer = thread::spawn(move || peer(&listener));
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().event_interval(event_interval).build().unwrap();
    let ended = runtime.block_on(async {
        let config = Config::builder()
            .accept_backlog(1000)
            .accept_timeout(Duration::from_secs(3))
            .heartbeat_idle(Duration::from_millis(100))
            .heartbeat_timeout(Duration::from_millis(400))
            .build()
            .unwrap();
        let socket = tokio::net::TcpStream::connect(address).await.unwrap();
        let session = Session::client(socket, &config).await.unwrap();
        // Until the streams expire, one by one.
        tokio::time::sleep(Duration::from_millis(3400)).await;
        for _ in 0..5 {
            tokio::spawn(poll_fn(|cx| {
                pause(80);
                cx.waker().wake_by_ref();
                Poll::<()>::Pending
            }));
        }
        let begun = Instant::now();
        let mut closed = Box::pin(session.closed());
        poll_fn(|cx| match closed.as_mut().poll(cx) {
            Poll::Ready(reason) => Poll::Ready(Some(reason)),
            Poll::Pending if begun.elapsed() > Duration::from_secs(3) => Poll::Ready(None),
            Poll::Pending => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        })
        .await
    });
    drop(runtime);
    peer.join().unwrap();
    ended
}

/// A look at one thing that has passed its time judges nothing that passed its own since the socket was asked.
#[test]
fn a_look_for_one_deadline_is_none_for_a_later_one() {
    let sessions: Vec<_> =
        (7..31).map(|interval| thread::spawn(move || a_session_on_a_busy_thread(interval))).collect();
    for session in sessions {
        let ended = session.join().unwrap();
        assert!(ended.is_none(), "its peer answers in time: {ended:?}");
    }
}
