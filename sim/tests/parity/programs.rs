//! The programs. Each side notes what it sees of the other.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{sleep, timeout};

use crate::transport::{Net, Side};

/// What the server and the client do, by steps.
pub(crate) trait Program {
    async fn server<N: Net>(side: Side<N>);
    async fn client<N: Net>(side: Side<N>);
}

/// The server accepts at step 1; the client has connected.
async fn accept<N: Net>(side: &Side<N>) -> (N::Listener, N::Stream) {
    let listener = side.net.bind().await.expect("a port");
    side.at(1).await;
    let stream = N::accept(&listener).await.expect("a stream");
    (listener, stream)
}

async fn connect<N: Net>(side: &Side<N>) -> N::Stream {
    // The server has bound its port when half a step is over.
    sleep(N::STEP / 2).await;
    side.net.connect().await.expect("a stream")
}

/// Requests end with FIN, and replies come after it.
pub(crate) struct HalfClose;

impl Program for HalfClose {
    async fn server<N: Net>(side: Side<N>) {
        let (_listener, mut stream) = accept(&side).await;
        side.at(2).await;
        side.read(&mut stream).await;
        side.read(&mut stream).await;
        for step in 3..5 {
            side.at(step).await;
            side.write(&mut stream, b"world").await;
        }
    }

    async fn client<N: Net>(side: Side<N>) {
        let mut stream = connect(&side).await;
        side.write(&mut stream, b"hello").await;
        side.shut_down(&mut stream).await;
        for step in 3..5 {
            side.at(step).await;
            side.read(&mut stream).await;
        }
        side.at(5).await;
        side.read(&mut stream).await;
    }
}

/// The client closes while something has arrived that it did not read.
pub(crate) struct CloseWithUnread;

impl Program for CloseWithUnread {
    async fn server<N: Net>(side: Side<N>) {
        let (_listener, mut stream) = accept(&side).await;
        side.write(&mut stream, b"unread").await;
        side.at(2).await;
        side.read(&mut stream).await;
        side.at(4).await;
        side.read(&mut stream).await;
        side.read(&mut stream).await;
        side.write(&mut stream, b"more").await;
    }

    async fn client<N: Net>(side: Side<N>) {
        let mut stream = connect(&side).await;
        side.write(&mut stream, b"hello").await;
        side.at(3).await;
    }
}

/// As [`CloseWithUnread`], and the server has not read either when the reset comes.
pub(crate) struct ReadAfterReset;

impl Program for ReadAfterReset {
    async fn server<N: Net>(side: Side<N>) {
        let (_listener, mut stream) = accept(&side).await;
        side.write(&mut stream, b"unread").await;
        side.at(3).await;
        for _ in 0..3 {
            side.read(&mut stream).await;
        }
        side.shut_down(&mut stream).await;
    }

    async fn client<N: Net>(side: Side<N>) {
        let mut stream = connect(&side).await;
        side.write(&mut stream, b"hello").await;
        side.at(2).await;
    }
}

/// The server writes first, when the reset has come.
pub(crate) struct WriteAfterReset;

impl Program for WriteAfterReset {
    async fn server<N: Net>(side: Side<N>) {
        let (_listener, mut stream) = accept(&side).await;
        side.write(&mut stream, b"unread").await;
        side.at(3).await;
        side.write(&mut stream, b"more").await;
        side.write(&mut stream, b"more").await;
        side.read(&mut stream).await;
    }

    async fn client<N: Net>(side: Side<N>) {
        let _stream = connect(&side).await;
        side.at(2).await;
    }
}

/// The reset comes while the server waits for something to read.
pub(crate) struct ResetWhileReading;

impl Program for ResetWhileReading {
    async fn server<N: Net>(side: Side<N>) {
        let (_listener, mut stream) = accept(&side).await;
        side.write(&mut stream, b"unread").await;
        side.at(2).await;
        sleep(N::STEP * 3 / 4).await;
        side.read(&mut stream).await;
    }

    async fn client<N: Net>(side: Side<N>) {
        let _stream = connect(&side).await;
        side.at(3).await;
    }
}

/// The reset comes while the server waits for room.
pub(crate) struct ResetWhileWriting;

impl Program for ResetWhileWriting {
    async fn server<N: Net>(side: Side<N>) {
        let (_listener, mut stream) = accept(&side).await;
        side.at(2).await;
        side.see("fill", fill(&mut stream), |count: &usize| format!("{count} bytes")).await;
        sleep(N::STEP / 4).await;
        side.see("write", fill(&mut stream), |count: &usize| format!("{count} bytes")).await;
    }

    async fn client<N: Net>(side: Side<N>) {
        let _stream = connect(&side).await;
        side.at(3).await;
    }
}

async fn fill(stream: &mut (impl AsyncWriteExt + Unpin)) -> io::Result<usize> {
    loop {
        stream.write_all(&[0; 1024]).await?;
        // A transport that never says that it is full must not keep the others from running.
        tokio::task::yield_now().await;
    }
}

/// The client has closed, having read everything; the server writes twice.
pub(crate) struct WriteToClosedPeer;

impl Program for WriteToClosedPeer {
    async fn server<N: Net>(side: Side<N>) {
        let (_listener, mut stream) = accept(&side).await;
        for step in 3..5 {
            side.at(step).await;
            side.write(&mut stream, b"more").await;
        }
        side.read(&mut stream).await;
    }

    async fn client<N: Net>(side: Side<N>) {
        let _stream = connect(&side).await;
        side.at(2).await;
    }
}

/// The client has closed, having sent its FIN long before; the server, which has read that, writes twice and closes.
pub(crate) struct WriteToClosedHalfClosedPeer;

impl Program for WriteToClosedHalfClosedPeer {
    async fn server<N: Net>(side: Side<N>) {
        let (_listener, mut stream) = accept(&side).await;
        side.at(2).await;
        side.read(&mut stream).await;
        for step in 4..6 {
            side.at(step).await;
            side.write(&mut stream, b"more").await;
        }
        side.read(&mut stream).await;
    }

    async fn client<N: Net>(side: Side<N>) {
        let mut stream = connect(&side).await;
        side.shut_down(&mut stream).await;
        side.at(3).await;
    }
}

/// Nobody listens any more.
pub(crate) struct ClosedPort;

impl Program for ClosedPort {
    async fn server<N: Net>(side: Side<N>) {
        drop(side.bind().await);
    }

    async fn client<N: Net>(side: Side<N>) {
        side.at(1).await;
        side.connect().await;
    }
}

/// A port is bound, in use, and bound again as soon as the listener is dropped, while connections live on.
pub(crate) struct PortRebound;

impl Program for PortRebound {
    async fn server<N: Net>(side: Side<N>) {
        let (listener, mut first) = accept(&side).await;
        side.bind().await;
        drop(listener);
        let listener = side.bind().await.expect("the port");
        side.at(2).await;
        side.read(&mut first).await;
        side.accept(&listener).await;
    }

    async fn client<N: Net>(side: Side<N>) {
        let mut first = connect(&side).await;
        side.at(2).await;
        side.write(&mut first, b"hello").await;
        side.connect().await;
        side.at(3).await;
    }
}

/// The reader is late: the writer has to wait for it, and nothing is lost.
pub(crate) struct SlowReader;

const BULK: usize = 4 << 20;

impl Program for SlowReader {
    async fn server<N: Net>(side: Side<N>) {
        let (_listener, mut stream) = accept(&side).await;
        side.at(3).await;
        let mut bytes = Vec::new();
        let ended = timeout(N::STEP * 20, stream.read_to_end(&mut bytes)).await;
        let right = bytes.len() == BULK && bytes.iter().enumerate().all(|(at, byte)| *byte == at.to_le_bytes()[0]);
        side.note(if right { "every byte" } else { "not every byte" });
        side.note(if ended.is_ok() { "end" } else { "no end" });
    }

    async fn client<N: Net>(side: Side<N>) {
        let mut stream = connect(&side).await;
        let bytes = (0..BULK).map(|at| at.to_le_bytes()[0]).collect::<Vec<_>>();
        let mut written = 0;
        let all = async {
            for chunk in bytes.chunks(1024) {
                stream.write_all(chunk).await?;
                written += chunk.len();
            }
            Ok(())
        };
        let mut all = std::pin::pin!(all);
        side.at(1).await;
        side.see("write", all.as_mut(), |()| "ok".to_owned()).await;
        all.await.unwrap_or_else(|error: io::Error| panic!("{error}"));
        side.note("all is written");
    }
}

/// One side shuts down twice, and writes; then the other side has closed as well, and it shuts down once more.
pub(crate) struct SecondShutdown;

impl Program for SecondShutdown {
    async fn server<N: Net>(side: Side<N>) {
        let (_listener, _stream) = accept(&side).await;
        side.at(2).await;
    }

    async fn client<N: Net>(side: Side<N>) {
        let mut stream = connect(&side).await;
        side.at(1).await;
        side.shut_down(&mut stream).await;
        side.shut_down(&mut stream).await;
        side.write(&mut stream, b"more").await;
        side.at(3).await;
        side.read(&mut stream).await;
        side.shut_down(&mut stream).await;
    }
}

/// The side that closes last shuts down twice.
pub(crate) struct SecondShutdownOfTheLast;

impl Program for SecondShutdownOfTheLast {
    async fn server<N: Net>(side: Side<N>) {
        let (_listener, _stream) = accept(&side).await;
    }

    async fn client<N: Net>(side: Side<N>) {
        let mut stream = connect(&side).await;
        side.at(2).await;
        side.read(&mut stream).await;
        side.shut_down(&mut stream).await;
        side.shut_down(&mut stream).await;
        side.at(3).await;
        side.shut_down(&mut stream).await;
    }
}

/// The listener is dropped, and a connection that it has not given out.
pub(crate) struct ListenerDropped;

impl Program for ListenerDropped {
    async fn server<N: Net>(side: Side<N>) {
        let _listener = side.net.bind().await.expect("a port");
        side.at(2).await;
    }

    async fn client<N: Net>(side: Side<N>) {
        side.at(1).await;
        let Some(mut stream) = side.connect().await else { return };
        side.at(3).await;
        side.read(&mut stream).await;
        side.write(&mut stream, b"hello").await;
    }
}

/// The client has written and closed before it is accepted.
pub(crate) struct ClosedBeforeAccept;

impl Program for ClosedBeforeAccept {
    async fn server<N: Net>(side: Side<N>) {
        let listener = side.net.bind().await.expect("a port");
        side.at(3).await;
        let Some(mut stream) = side.accept(&listener).await else { return };
        side.read(&mut stream).await;
        side.read(&mut stream).await;
    }

    async fn client<N: Net>(side: Side<N>) {
        side.at(1).await;
        let Some(mut stream) = side.connect().await else { return };
        side.write(&mut stream, b"hello").await;
    }
}

/// The server says something before the client does.
pub(crate) struct ServerSpeaksFirst;

impl Program for ServerSpeaksFirst {
    async fn server<N: Net>(side: Side<N>) {
        let (_listener, mut stream) = accept(&side).await;
        side.write(&mut stream, b"welcome").await;
        side.at(2).await;
        side.read(&mut stream).await;
    }

    async fn client<N: Net>(side: Side<N>) {
        let mut stream = connect(&side).await;
        side.at(2).await;
        side.read(&mut stream).await;
    }
}

/// Nothing is ever written, and nothing is written as nothing.
pub(crate) struct NothingWritten;

impl Program for NothingWritten {
    async fn server<N: Net>(side: Side<N>) {
        let (_listener, mut stream) = accept(&side).await;
        side.read(&mut stream).await;
        side.at(3).await;
        side.read(&mut stream).await;
        side.read(&mut stream).await;
    }

    async fn client<N: Net>(side: Side<N>) {
        let mut stream = connect(&side).await;
        side.see("write", stream.write(b""), |count| format!("{count} bytes")).await;
        side.at(2).await;
    }
}

/// Both sides close at the same time.
pub(crate) struct SimultaneousClose;

async fn close_at_2<N: Net>(side: Side<N>, mut stream: N::Stream) {
    side.at(2).await;
    side.write(&mut stream, b"bye").await;
    side.shut_down(&mut stream).await;
    side.read(&mut stream).await;
    side.read(&mut stream).await;
}

impl Program for SimultaneousClose {
    async fn server<N: Net>(side: Side<N>) {
        let (_listener, stream) = accept(&side).await;
        close_at_2(side, stream).await;
    }

    async fn client<N: Net>(side: Side<N>) {
        let stream = connect(&side).await;
        close_at_2(side, stream).await;
    }
}
