//! What the yamux crate does, as far as evermux is built on it or around it.
//!
//! Each test is one fact, shown on the crate alone. When one fails after an update of the crate, look at what its
//! comment names: that part of evermux may have become needless, or wrong.

use std::{
    collections::VecDeque,
    future::{Future, poll_fn},
    io::{self, ErrorKind},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use crate::support::{in_time, shape};
use futures_util::{AsyncReadExt as _, AsyncWriteExt as _};
use testkit::frames::{Flags, Header, Kind, Peer};
use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf, duplex},
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::{sleep, timeout},
};
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt};
use yamux::{Config, Connection, ConnectionError, Mode, Stream};

const NONE: Flags = Flags::NONE;
/// Long enough for what is going to happen, short enough to wait for what is not.
const A_WHILE: Duration = Duration::from_millis(100);

type Opened = Result<Stream, ConnectionError>;

/// A connection of the crate in a task of its own, and a peer that does what the test says.
struct Crate {
    opens: mpsc::UnboundedSender<oneshot::Sender<Opened>>,
    inbound: mpsc::UnboundedReceiver<Stream>,
    /// Gives how the connection ended.
    driver: JoinHandle<Option<ConnectionError>>,
    peer: Peer<DuplexStream>,
}

impl Crate {
    fn new(mode: Mode, config: Config) -> Self {
        let (near, far) = duplex(1 << 20);
        let connection = Connection::new(near.compat(), config, mode);
        let (opens, asked) = mpsc::unbounded_channel();
        let (arrived, inbound) = mpsc::unbounded_channel();
        let driver = tokio::spawn(drive(connection, asked, arrived));
        Self { opens, inbound, driver, peer: Peer::new(far) }
    }

    fn client() -> Self {
        Self::new(Mode::Client, Config::default())
    }

    fn server() -> Self {
        Self::new(Mode::Server, Config::default())
    }

    fn ask(&self) -> oneshot::Receiver<Opened> {
        let (reply, opened) = oneshot::channel();
        self.opens.send(reply).unwrap();
        opened
    }

    async fn open(&self) -> Stream {
        in_time(self.ask()).await.unwrap().unwrap()
    }

    async fn accept(&mut self) -> Stream {
        in_time(self.inbound.recv()).await.unwrap()
    }

    /// The next frame but for pings.
    async fn frame(&mut self) -> (Header, Vec<u8>) {
        crate::support::next(&mut self.peer).await
    }

    /// That nothing but pings comes for a while.
    async fn expect_silence(&mut self) {
        let frame = timeout(A_WHILE, self.peer.recv_until(|header| header.kind != Kind::Ping)).await;
        assert!(frame.is_err(), "expected nothing, got {frame:?}");
    }
}

async fn drive(
    mut connection: Connection<Compat<DuplexStream>>,
    mut asked: mpsc::UnboundedReceiver<oneshot::Sender<Opened>>,
    arrived: mpsc::UnboundedSender<Stream>,
) -> Option<ConnectionError> {
    let mut waiting = VecDeque::new();
    poll_fn(|cx| {
        while let Poll::Ready(Some(reply)) = asked.poll_recv(cx) {
            waiting.push_back(reply);
        }
        while !waiting.is_empty()
            && let Poll::Ready(opened) = connection.poll_new_outbound(cx)
        {
            let _ = waiting.pop_front().unwrap().send(opened);
        }
        loop {
            match connection.poll_next_inbound(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(stream))) => drop(arrived.send(stream)),
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(error)),
                Poll::Ready(None) => return Poll::Ready(None),
            }
        }
    })
    .await
}

/// Polls `future` once.
async fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    poll_fn(|cx| Poll::Ready(Pin::new(&mut *future).poll(cx))).await
}

// The wire is the only limit on streams: the crate's is put out of reach (`stream_limit_kills_session`).

#[tokio::test]
async fn the_stream_past_the_limit_is_a_go_away() {
    let mut yamux = Crate::server();
    for id in (1..=1025).step_by(2) {
        yamux.peer.send_data(id, Flags::SYN, b"").await.unwrap();
    }
    // 513 streams, of which the last is one too many.
    let (header, _) = yamux.frame().await;
    assert_eq!((header.kind, header.length), (Kind::GoAway, 2));
}

#[tokio::test]
async fn opening_a_stream_past_the_limit_ends_the_connection() {
    let mut config = Config::default();
    config.set_max_num_streams(2);
    let yamux = Crate::new(Mode::Client, config);
    let (_first, _second) = (yamux.open().await, yamux.open().await);
    let third = in_time(yamux.ask()).await.unwrap();
    assert!(matches!(third, Err(ConnectionError::TooManyStreams)), "{third:?}");
    in_time(yamux.driver).await.unwrap();
}

#[tokio::test]
async fn both_directions_share_the_limit() {
    let mut config = Config::default();
    config.set_max_num_streams(2);
    let mut yamux = Crate::new(Mode::Server, config);
    let _ours = yamux.open().await;
    yamux.peer.send_data(1, Flags::SYN, b"").await.unwrap();
    let _theirs = yamux.accept().await;
    let third = in_time(yamux.ask()).await.unwrap();
    assert!(matches!(third, Err(ConnectionError::TooManyStreams)), "{third:?}");
}

#[tokio::test]
async fn a_stream_that_has_ended_counts_until_the_application_drops_it() {
    let mut config = Config::default();
    config.set_max_num_streams(1);
    let mut yamux = Crate::new(Mode::Server, config);
    yamux.peer.send_data(1, Flags::SYN, b"").await.unwrap();
    let mut stream = yamux.accept().await;
    yamux.peer.send_data(1, Flags::FIN, b"").await.unwrap();
    stream.close().await.unwrap();
    assert_eq!(shape(&yamux.frame().await.0), (Kind::Data, Flags(Flags::FIN.0 | Flags::ACK.0), 1));
    // Both sides have finished, and yet there is no room for the next.
    yamux.peer.send_data(3, Flags::SYN, b"").await.unwrap();
    assert_eq!(yamux.frame().await.0.kind, Kind::GoAway);
}

#[test]
#[should_panic(expected = ">= 256 KiB * max_num_streams")]
fn more_streams_than_the_window_has_room_for_are_a_panic() {
    Config::default().set_max_num_streams(4097);
}

#[test]
fn as_many_as_the_window_has_room_for_are_none() {
    Config::default().set_max_num_streams(4096);
}

// The budget for windows comes on top of what the streams have room for (`tests/sessions/session_windows.rs`).

#[tokio::test]
async fn no_window_grows_when_the_streams_take_all_the_room() {
    for (streams, grows) in [(4096, false), (4095, true)] {
        let mut config = Config::default();
        config.set_max_num_streams(streams);
        let mut yamux = Crate::new(Mode::Server, config);
        let (ping, _) = yamux.peer.recv().await.unwrap();
        // A round trip so long that the window is what keeps the sender waiting.
        sleep(Duration::from_millis(300)).await;
        yamux.peer.send(Header::pong(ping.length), &[]).await.unwrap();
        yamux.peer.send_data(1, Flags::SYN, b"").await.unwrap();
        let mut stream = yamux.accept().await;
        let sent = 192 << 10;
        yamux.peer.send_data(1, NONE, &vec![0; sent]).await.unwrap();
        in_time(stream.read_exact(&mut vec![0; sent])).await.unwrap();
        // The next look gives credit for what was read.
        assert!(poll_once(&mut stream.read(&mut [0])).await.is_pending());
        let (update, _) = yamux.frame().await;
        assert_eq!((update.kind, update.stream_id), (Kind::WindowUpdate, 1));
        assert_eq!(update.length as usize > sent, grows, "{streams} streams: {update:?}");
    }
}

// The driver writes an empty slice to each stream that it opens, and to each that comes in
// (`read_first_stream_never_opens`, `ack_only_on_first_write`).

#[tokio::test]
async fn an_open_says_nothing_until_something_is_written() {
    let mut yamux = Crate::client();
    let mut stream = yamux.open().await;
    let mut byte = [0];
    assert!(poll_once(&mut stream.read(&mut byte)).await.is_pending());
    yamux.expect_silence().await;
    assert_eq!(stream.write(&[]).await.unwrap(), 0);
    assert_eq!(shape(&yamux.frame().await.0), (Kind::Data, Flags::SYN, 1));
}

#[tokio::test]
async fn an_inbound_stream_is_acknowledged_by_its_first_write_alone() {
    let mut yamux = Crate::server();
    yamux.peer.send_data(1, Flags::SYN, b"hello").await.unwrap();
    let mut stream = yamux.accept().await;
    let mut bytes = [0; 5];
    in_time(stream.read_exact(&mut bytes)).await.unwrap();
    yamux.expect_silence().await;
    assert_eq!(stream.write(&[]).await.unwrap(), 0);
    assert_eq!(shape(&yamux.frame().await.0), (Kind::Data, Flags::ACK, 1));
}

#[tokio::test]
async fn a_stream_that_is_closed_before_it_was_written_is_a_fin_without_a_syn() {
    let mut yamux = Crate::client();
    let mut stream = yamux.open().await;
    stream.close().await.unwrap();
    assert_eq!(shape(&yamux.frame().await.0), (Kind::Data, Flags::FIN, 1));
}

// The driver asks for waiting opens in every turn
// (`a_half_close_of_a_stream_without_an_ack_lets_the_next_be_opened`).

#[tokio::test]
async fn opens_wait_behind_256_streams_without_an_ack() {
    let mut yamux = Crate::client();
    let mut streams = Vec::new();
    for _ in 0..256 {
        streams.push(yamux.open().await);
    }
    let mut next = yamux.ask();
    assert!(timeout(A_WHILE, &mut next).await.is_err());
    // The end of one of them makes no room that the crate would tell of.
    streams.pop();
    assert!(timeout(A_WHILE, &mut next).await.is_err());
    yamux.peer.send_data(1, Flags::ACK, b"").await.unwrap();
    in_time(next).await.unwrap().unwrap();
}

// A handle remembers that its FIN was sent (`double_fin_kills_session`).

#[tokio::test]
async fn a_second_close_is_a_second_fin() {
    let mut yamux = Crate::server();
    yamux.peer.send_data(1, Flags::SYN, b"").await.unwrap();
    let mut stream = yamux.accept().await;
    stream.close().await.unwrap();
    stream.close().await.unwrap();
    for flags in [Flags(Flags::FIN.0 | Flags::ACK.0), Flags::FIN] {
        assert_eq!(shape(&yamux.frame().await.0), (Kind::Data, flags, 1));
    }
}

// The wire makes an RST of what is no FIN, and the driver reads on after our own
// (`dropped_reply_reads_as_complete`, `reader_gone_after_fin_hangs_writer`).

#[tokio::test]
async fn a_drop_of_an_open_stream_is_a_reset() {
    let mut yamux = Crate::client();
    let mut stream = yamux.open().await;
    stream.write_all(b"half a re").await.unwrap();
    drop(stream);
    assert_eq!(shape(&yamux.frame().await.0), (Kind::Data, Flags::SYN, 1));
    assert_eq!(shape(&yamux.frame().await.0), (Kind::Data, Flags::RST, 1));
}

#[tokio::test]
async fn a_drop_after_the_peers_fin_is_a_fin_whatever_was_left_to_write() {
    let mut yamux = Crate::server();
    yamux.peer.send_data(1, Flags::SYN, b"request").await.unwrap();
    yamux.peer.send_data(1, Flags::FIN, b"").await.unwrap();
    let mut stream = yamux.accept().await;
    let mut request = Vec::new();
    in_time(stream.read_to_end(&mut request)).await.unwrap();
    stream.write_all(b"half a re").await.unwrap();
    drop(stream);
    assert_eq!(shape(&yamux.frame().await.0), (Kind::Data, Flags::ACK, 1));
    assert_eq!(shape(&yamux.frame().await.0), (Kind::Data, Flags::FIN, 1));
}

#[tokio::test]
async fn a_drop_after_our_own_fin_says_nothing_and_gives_no_more_credit() {
    let mut yamux = Crate::client();
    let mut stream = yamux.open().await;
    stream.write_all(b"request").await.unwrap();
    stream.close().await.unwrap();
    drop(stream);
    assert_eq!(shape(&yamux.frame().await.0), (Kind::Data, Flags::SYN, 1));
    assert_eq!(shape(&yamux.frame().await.0), (Kind::Data, Flags::FIN, 1));
    // All that the peer may send: it now waits for credit that never comes.
    for _ in 0..4 {
        yamux.peer.send_data(1, NONE, &vec![0; 64 << 10]).await.unwrap();
    }
    yamux.expect_silence().await;
}

// Readers ask the ledger what an end of file was, and the wire drops what may not come any more (`reset_reads_as_eof`,
// `goaway_looks_like_a_cut`, `what_follows_a_fin_or_a_reset_reaches_nobody`).

#[tokio::test]
async fn a_reset_reads_as_end_of_file() {
    let mut yamux = Crate::client();
    let mut stream = yamux.open().await;
    stream.write_all(b"request").await.unwrap();
    yamux.peer.send_data(1, Flags::ACK, b"half a re").await.unwrap();
    yamux.peer.send_data(1, Flags::RST, b"").await.unwrap();
    let mut reply = Vec::new();
    in_time(stream.read_to_end(&mut reply)).await.unwrap();
    assert_eq!(reply, b"half a re");
}

#[tokio::test]
async fn a_go_away_a_fin_and_a_cut_of_the_connection_look_alike() {
    for how in 0..3 {
        let mut yamux = Crate::client();
        let mut stream = yamux.open().await;
        stream.write_all(b"request").await.unwrap();
        yamux.frame().await;
        match how {
            0 => yamux.peer.send(Header::go_away(0), &[]).await.unwrap(),
            1 => yamux.peer.shutdown().await.unwrap(),
            // In the middle of a body.
            _ => yamux.peer.send(Header::data(1, Flags::ACK, 100), b"half").await.unwrap(),
        }
        let Crate { driver, peer, opens: _opens, .. } = yamux;
        drop(peer);
        let end = in_time(driver).await.unwrap();
        assert!(how == 2 || end.is_none(), "{end:?}");
        assert_eq!(in_time(stream.read(&mut [0])).await.unwrap(), 0);
        assert_eq!(in_time(stream.write(b"more")).await.unwrap_err().kind(), ErrorKind::WriteZero);
    }
}

#[tokio::test]
async fn what_follows_a_fin_or_a_reset_reaches_the_reader() {
    for flags in [Flags::FIN, Flags::RST] {
        let mut yamux = Crate::server();
        yamux.peer.send_data(1, Flags::SYN, b"before").await.unwrap();
        let mut stream = yamux.accept().await;
        yamux.peer.send_data(1, flags, b"").await.unwrap();
        yamux.peer.send_data(1, NONE, b", after").await.unwrap();
        yamux.peer.send(Header::ping(7), &[]).await.unwrap();
        // By then all of it has been taken.
        in_time(yamux.peer.recv_until(|header| header.flags.contains(Flags::ACK))).await.unwrap();
        let mut bytes = Vec::new();
        in_time(stream.read_to_end(&mut bytes)).await.unwrap();
        assert_eq!(bytes, b"before, after", "{flags:?}");
    }
}

// The crate is never asked to close: the wire closes, and gives it an end of file (`local_close_strands_readers`,
// `close_with_unread_input_loses_the_tail`).

/// A transport that takes all bytes, has some to read, and counts the reads.
#[derive(Default)]
struct Counted {
    reads: usize,
}

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.reads += 1;
        Poll::Pending
    }
}

impl AsyncWrite for Counted {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn closing_never_reads_the_socket() {
    let mut transport = Counted::default();
    let mut connection = Connection::new((&mut transport).compat(), Config::default(), Mode::Client);
    assert!(poll_fn(|cx| Poll::Ready(connection.poll_next_inbound(cx))).await.is_pending());
    in_time(poll_fn(|cx| connection.poll_close(cx))).await.unwrap();
    drop(connection);
    // The one of the poll before.
    assert_eq!(transport.reads, 1);
}

#[tokio::test]
async fn a_local_close_leaves_a_parked_reader_asleep() {
    let mut connection = Connection::new(Counted::default().compat(), Config::default(), Mode::Client);
    let mut stream = poll_fn(|cx| connection.poll_new_outbound(cx)).await.unwrap();
    let reader = tokio::spawn(async move { stream.read(&mut [0]).await });
    tokio::task::yield_now().await;
    in_time(poll_fn(|cx| connection.poll_close(cx))).await.unwrap();
    drop(connection);
    assert!(timeout(A_WHILE, reader).await.is_err());
}

#[tokio::test]
async fn a_lost_connection_wakes_a_parked_reader() {
    let yamux = Crate::client();
    let mut stream = yamux.open().await;
    let reader = tokio::spawn(async move { stream.read(&mut [0]).await });
    tokio::task::yield_now().await;
    drop(yamux.peer);
    assert_eq!(in_time(reader).await.unwrap().unwrap(), 0);
}

// The pings of the wire have the top bit set, and the crate sees the answers to its own alone
// (`own_ping_confused_with_the_crates`, `what_is_not_yamux_ends_the_session_and_says_what_it_was`).

#[tokio::test]
async fn it_pings_at_once_with_values_from_0() {
    let mut yamux = Crate::client();
    yamux.peer.expect(Kind::Ping, Flags::SYN, 0).await.unwrap();
    yamux.expect_silence().await;
    let mut yamux = Crate::server();
    let (ping, _) = yamux.peer.recv().await.unwrap();
    assert_eq!((ping.kind, ping.length), (Kind::Ping, 0));
}

#[tokio::test]
async fn an_answer_that_it_did_not_ask_for_is_an_error_of_the_protocol_and_it_goes_on() {
    let mut yamux = Crate::server();
    yamux.peer.send(Header::pong(77), &[]).await.unwrap();
    let (header, _) = yamux.frame().await;
    assert_eq!((header.kind, header.length), (Kind::GoAway, 1));
    // The wire ends the session on it: the crate does not.
    yamux.peer.send_data(1, Flags::SYN, b"").await.unwrap();
    yamux.accept().await;
}

// What a frame carries is chosen so that it fits one segment.

#[tokio::test]
async fn a_write_is_split_at_the_size_that_was_set() {
    let mut config = Config::default();
    config.set_split_send_size(100);
    let mut yamux = Crate::new(Mode::Client, config);
    let mut stream = yamux.open().await;
    stream.write_all(&[1; 250]).await.unwrap();
    let mut lengths = Vec::new();
    while lengths.iter().sum::<usize>() < 250 {
        lengths.push(yamux.frame().await.1.len());
    }
    assert_eq!(lengths, [100, 100, 50]);
}
