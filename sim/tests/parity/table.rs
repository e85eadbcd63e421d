//! What is expected of each program on each transport. `TABLE.md` is the same for readers.

use std::fmt::Write as _;

use crate::programs;
use crate::transport::{Seen, on_kernel, on_lossy, on_turmoil};

/// A program, what it shows on the kernel's TCP and on the lossy one, and what on turmoil's where that differs, with the
/// reason.
struct Row {
    about: &'static str,
    kernel: See,
    turmoil: Option<(See, &'static str)>,
}

/// What the server sees, and the client.
type See = (&'static str, &'static str);

fn expect(about: &'static str, server: &'static str, client: &'static str) -> Row {
    Row { about, kernel: (server, client), turmoil: None }
}

impl Row {
    fn on_turmoil(self, server: &'static str, client: &'static str, why: &'static str) -> Self {
        Self { turmoil: Some(((server, client), why)), ..self }
    }
}

fn check(what: &str, seen: &Seen, expected: See) {
    assert_eq!((seen.server.as_str(), seen.client.as_str()), expected, "on {what} TCP");
}

macro_rules! table {
    ($($test:ident, $program:ident: $row:expr;)*) => {
        $(
            #[test]
            fn $test() {
                let row: Row = $row;
                check("the kernel's", &on_kernel::<programs::$program>(), row.kernel);
                let expected = row.turmoil.map_or(row.kernel, |(see, _)| see);
                check("turmoil's", &on_turmoil::<programs::$program>(), expected);
                check("the lossy", &on_lossy::<programs::$program>(), row.kernel);
            }
        )*

        fn rows() -> Vec<Row> {
            vec![$($row),*]
        }
    };
}

table! {
    half_close, HalfClose: expect(
        "a request ends with FIN, and the reply comes after it in two parts",
        "read: 5 bytes, read: end, write: ok, write: ok",
        "write: ok, shutdown: ok, read: 5 bytes, read: 5 bytes, read: end",
    );
    close_with_unread_data, CloseWithUnread: expect(
        "the client reads nothing of what arrived, and closes",
        "write: ok, read: 5 bytes, read: ConnectionReset, read: end, write: BrokenPipe",
        "write: ok",
    ).on_turmoil(
        "write: ok, read: 5 bytes, read: ConnectionReset, read: ConnectionReset, write: BrokenPipe",
        "write: ok",
        "it tells an error again and again, the kernel once",
    );
    read_after_reset, ReadAfterReset: expect(
        "the same, and the server has something unread as well when the reset comes",
        "write: ok, read: 5 bytes, read: ConnectionReset, read: end, shutdown: ok",
        "write: ok",
    ).on_turmoil(
        "write: ok, read: 5 bytes, read: ConnectionReset, read: ConnectionReset, shutdown: BrokenPipe",
        "write: ok",
        "it tells an error again and again, the kernel once; and its shutdown fails when the connection is gone",
    );
    write_after_reset, WriteAfterReset: expect(
        "the same, and the server writes before it reads",
        "write: ok, write: ConnectionReset, write: BrokenPipe, read: end",
        "",
    ).on_turmoil(
        "write: ok, write: BrokenPipe, write: BrokenPipe, read: ConnectionReset",
        "",
        "each direction of it tells of the end on its own",
    );
    reset_while_reading, ResetWhileReading: expect(
        "the reset comes while the server waits in a read",
        "write: ok, read: ConnectionReset",
        "",
    );
    reset_while_writing, ResetWhileWriting: expect(
        "the reset comes while the server waits in a write",
        "fill: waits, write: ConnectionReset",
        "",
    ).on_turmoil("fill: waits, write: waits", "", "its reset does not wake a writer");
    write_to_closed_peer, WriteToClosedPeer: expect(
        "the client has closed; the server writes twice",
        "write: ok, write: BrokenPipe, read: end",
        "",
    );
    write_to_closed_half_closed_peer, WriteToClosedHalfClosedPeer: expect(
        "the same, and the FIN came long before",
        "read: end, write: ok, write: BrokenPipe, read: end",
        "shutdown: ok",
    );
    closed_port, ClosedPort: expect("nobody listens", "bind: ok", "connect: ConnectionRefused");
    port_rebound_at_once, PortRebound: expect(
        "a second listener, and one after the first is dropped; its connection lives on",
        "bind: AddrInUse, bind: ok, read: 5 bytes, accept: ok",
        "write: ok, connect: ok",
    );
    slow_reader, SlowReader: expect(
        "4 MiB are written before anything is read",
        "every byte, end",
        "write: waits, all is written",
    ).on_turmoil(
        "every byte, no end",
        "write: waits, all is written",
        "a FIN that finds the buffer of the receiver full is lost",
    );
    second_shutdown, SecondShutdown: expect(
        "the side that closes first shuts down twice, writes, and shuts down again after the peer",
        "",
        "shutdown: ok, shutdown: ok, write: BrokenPipe, read: end, shutdown: ok",
    );
    second_shutdown_of_the_last, SecondShutdownOfTheLast: expect(
        "the side that closes last shuts down three times",
        "",
        "read: end, shutdown: ok, shutdown: ok, shutdown: ok",
    );
    listener_dropped, ListenerDropped: expect(
        "the listener is dropped with a connection that it has not given out",
        "",
        "connect: ok, read: ConnectionReset, write: BrokenPipe",
    ).on_turmoil("", "connect: waits", "its handshake ends when the connection is accepted");
    closed_before_accept, ClosedBeforeAccept: expect(
        "the client has written and closed before it is accepted",
        "accept: ok, read: 5 bytes, read: end",
        "connect: ok, write: ok",
    ).on_turmoil("accept: waits", "connect: waits", "its handshake ends when the connection is accepted");
    server_speaks_first, ServerSpeaksFirst: expect(
        "the client only reads",
        "write: ok, read: end",
        "read: 7 bytes",
    );
    nothing_written, NothingWritten: expect(
        "nothing is written but an empty slice",
        "read: waits, read: end, read: end",
        "write: 0 bytes",
    );
    simultaneous_close, SimultaneousClose: expect(
        "both write and shut down at the same time",
        "write: ok, shutdown: ok, read: 3 bytes, read: end",
        "write: ok, shutdown: ok, read: 3 bytes, read: end",
    );
}

#[test]
fn the_table_for_readers_is_this_one() {
    let mut text = String::from("| program | the kernel's and the lossy TCP | turmoil's TCP |\n| --- | --- | --- |\n");
    for Row { about, kernel, turmoil } in rows() {
        let other = turmoil.map_or("the same".to_owned(), |(see, why)| format!("{}<br>({why})", cell(see)));
        writeln!(text, "| {about} | {} | {other} |", cell(kernel)).unwrap();
    }
    assert!(text == include_str!("TABLE.md"), "TABLE.md should be:\n{text}");
}

fn cell((server, client): See) -> String {
    let sides = [("server", server), ("client", client)].into_iter().filter(|(_, see)| !see.is_empty());
    sides.map(|(side, see)| format!("{side}: `{see}`")).collect::<Vec<_>>().join("<br>")
}
