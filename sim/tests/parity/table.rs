//! What is expected of each program on each transport. `TABLE.md` is the same for readers.

use std::fmt::Write as _;

use crate::programs;
use crate::transport::{on_a_simulated_kernel, on_kernel, on_lossy};

/// A program, and what its server and its client see.
struct Row {
    about: &'static str,
    server: &'static str,
    client: &'static str,
}

fn expect(about: &'static str, server: &'static str, client: &'static str) -> Row {
    Row { about, server, client }
}

macro_rules! table {
    ($($test:ident, $program:ident: $row:expr;)*) => {
        $(
            #[test]
            fn $test() {
                let Row { server, client, .. } = $row;
                for (what, seen) in [
                    ("the kernel's", on_kernel::<programs::$program>()),
                    ("the lossy", on_lossy::<programs::$program>()),
                    ("a simulated kernel's", on_a_simulated_kernel::<programs::$program>()),
                ] {
                    assert_eq!((seen.server.as_str(), seen.client.as_str()), (server, client), "on {what} TCP");
                }
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
    );
    read_after_reset, ReadAfterReset: expect(
        "the same, and the server has something unread as well when the reset comes",
        "write: ok, read: 5 bytes, read: ConnectionReset, read: end, shutdown: ok",
        "write: ok",
    );
    write_after_reset, WriteAfterReset: expect(
        "the same, and the server writes before it reads",
        "write: ok, write: ConnectionReset, write: BrokenPipe, read: end",
        "",
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
    );
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
    );
    closed_before_accept, ClosedBeforeAccept: expect(
        "the client has written and closed before it is accepted",
        "accept: ok, read: 5 bytes, read: end",
        "connect: ok, write: ok",
    );
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
    let mut text = String::from("| program | what its sides see |\n| --- | --- |\n");
    for Row { about, server, client } in rows() {
        let sides = [("server", server), ("client", client)].into_iter().filter(|(_, see)| !see.is_empty());
        let sides = sides.map(|(side, see)| format!("{side}: `{see}`")).collect::<Vec<_>>().join("<br>");
        writeln!(text, "| {about} | {sides} |").unwrap();
    }
    assert!(text == include_str!("TABLE.md"), "TABLE.md should be:\n{text}");
}
