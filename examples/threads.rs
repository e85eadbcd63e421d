//! TCP through one connection that never dies, by threads alone: the example `tunnel` in few lines, without async.
//!
//! ```console
//! public host$  cargo run --example threads -- 0.0.0.0:7233 0.0.0.0:8080     # what connects to 8080 is carried
//! behind NAT$   cargo run --example threads -- dial public:7233 127.0.0.1:80  # and goes to 80 here
//! $ cargo run --example threads                                               # shows it, in one process
//! ```

use std::{
    error::Error,
    io::{self, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    thread,
    time::Duration,
};

use evermux::{MuxManager, MuxStream, Stopped};
use socket2::SockRef;

/// Carries bytes and ends both ways. An error that either thread meets ends both by a reset. The example `tunnel` looks for
/// those too that neither meets.
fn carry(tcp: TcpStream, stream: MuxStream) -> io::Result<()> {
    let (mut from_stream, mut to_stream) = stream.into_blocking().into_split();
    let (mut from_tcp, mut to_tcp) = (tcp.try_clone()?, tcp);
    let outward = thread::spawn(move || io::copy(&mut from_tcp, &mut to_stream).and_then(|_| to_stream.shutdown()));
    let inward = io::copy(&mut from_stream, &mut to_tcp).and_then(|_| to_tcp.shutdown(Shutdown::Write));
    if inward.is_err() {
        SockRef::from(&to_tcp).set_linger(Some(Duration::ZERO))?;
        to_tcp.shutdown(Shutdown::Read)?;
    }
    inward.and(outward.join().expect("a copy does not panic"))
}

/// Carries what connects here to the other side.
fn listen(manager: &MuxManager, listener: &TcpListener) -> Result<(), Box<dyn Error>> {
    for tcp in listener.incoming() {
        let (manager, tcp) = (manager.clone(), tcp?);
        thread::spawn(move || match manager.open_stream_blocking() {
            Ok(stream) => carry(tcp, stream).unwrap_or_else(|error| eprintln!("cut: {error}")),
            Err(error) => eprintln!("no stream: {error}"),
        });
    }
    Ok(())
}

/// Carries what the other side sends to an address here.
fn forward(manager: &MuxManager, address: &str) -> Option<Stopped> {
    let mut incoming = manager.incoming();
    while let Some(stream) = incoming.next_blocking() {
        let address = address.to_owned();
        thread::spawn(move || {
            let carried = TcpStream::connect(address).and_then(|tcp| carry(tcp, stream));
            carried.unwrap_or_else(|error| eprintln!("cut: {error}"));
        });
    }
    manager.status().stopped
}

/// Both sides, a service that echoes, and a client.
fn show() -> Result<(), Box<dyn Error>> {
    let (service, entry) = (TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?);
    let (target, door) = (service.local_addr()?, entry.local_addr()?);
    let receiver = MuxManager::receive("127.0.0.1:0").start_blocking()?;
    let dialler = MuxManager::establish(receiver.local_addr().expect("TCP").to_string()).start_blocking()?;
    thread::spawn(move || service.incoming().flatten().try_for_each(|tcp| io::copy(&mut &tcp, &mut &tcp).map(drop)));
    thread::spawn(move || listen(&receiver, &entry).map_err(|error| error.to_string()));
    let forwarding = thread::spawn({
        let dialler = dialler.clone();
        move || forward(&dialler, &target.to_string())
    });
    let mut client = TcpStream::connect(door)?;
    client.write_all(b"there and back")?;
    client.shutdown(Shutdown::Write)?;
    let mut reply = String::new();
    client.read_to_string(&mut reply)?;
    println!("{reply}");
    dialler.shutdown_blocking();
    forwarding.join().expect("it does not panic");
    if reply == "there and back" { Ok(()) } else { Err(format!("the reply is {reply:?}").into()) }
}

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<_> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => show(),
        ["dial", mux, target] => {
            let manager = MuxManager::establish(mux).start_blocking()?;
            forward(&manager, target).map_or(Ok(()), |stopped| Err(stopped.into()))
        }
        [mux, door] => listen(&MuxManager::receive(mux).start_blocking()?, &TcpListener::bind(door)?),
        _ => Err("give nothing, MUX LISTEN, or dial MUX TARGET".into()),
    }
}
