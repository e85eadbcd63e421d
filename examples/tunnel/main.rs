//! TCP through one connection that never dies, both ways: `cargo run --release --example tunnel -- --help`.
//!
//! ```text
//! client ─▶ --listen  ─┐                    ┌─▶ --forward ─▶ server
//!                    tunnel ══ sessions ══ tunnel
//! server ◀─ --forward ◀┘                    └─  --listen ◀─ client
//! ```

use std::{error::Error, ffi::OsString, io, process::ExitCode, sync::Arc};

use clap::Parser;
use evermux::{ConfigError, MuxManager, Stopped, manager::Builder};
use socket2::SockRef;
use tokio::{net::TcpListener, time::timeout};

use self::{
    args::{Args, Role, Settings},
    report::Report,
    signals::Signals,
    tunnel::{GRACE, Tunnel},
};

mod args;
mod connection;
mod report;
mod signals;
#[allow(clippy::module_inception, reason = "the program and what it is about have one name")]
mod tunnel;

/// How many connections the kernel may hold until they are accepted.
const LISTEN_BACKLOG: i32 = 1024;

fn main() -> ExitCode {
    run(std::env::args_os()).into()
}

/// Runs the program with this command line, and gives its exit status. It ends the process itself for wrong usage.
pub(crate) fn run(line: impl IntoIterator<Item = OsString>) -> u8 {
    let args = Args::parse_from(line);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error),
    };
    let ended = runtime.block_on(serve(&args));
    // A lookup of a name may still run: nobody waits for it.
    runtime.shutdown_background();
    match ended {
        Ok(finished) => u8::from(!finished),
        Err(error) => fail(&*error),
    }
}

fn fail(error: &dyn Error) -> u8 {
    eprintln!("tunnel: {error}");
    1
}

/// Runs until a signal, or until the manager gives up. Whether all that was in flight then has finished.
async fn serve(args: &Args) -> Result<bool, Box<dyn Error>> {
    let settings = args.settings();
    let mut signals = Signals::new()?;
    let listener = match &settings.ways.listen {
        Some(address) => Some(bind(address).await.map_err(|error| format!("cannot listen on {address}: {error}"))?),
        None => None,
    };
    let listen = listener.as_ref().map(TcpListener::local_addr).transpose()?.map(|address| address.to_string());
    let report = Arc::new(Report::new(settings.name.clone(), settings.json));
    let manager = start(args).await?;
    let (role, mux) = match &args.role {
        Role::Receive { mux, .. } => ("receive", manager.local_addr().map_or(mux.clone(), |addr| addr.to_string())),
        Role::Establish { mux, .. } => ("establish", mux.clone()),
    };
    let tunnel = Tunnel::new(manager.clone(), Arc::clone(&report), settings.max_connections as usize);
    let events = manager.events();
    report.started(role, &mux, listen.as_deref(), settings.ways.forward.as_deref());
    let watching = tokio::spawn({
        let tunnel = Arc::clone(&tunnel);
        async move { tunnel.watch(events).await }
    });
    if let Some(listener) = listener {
        tunnel.listen(listener);
    }
    if let Some(address) = &settings.ways.forward {
        tunnel.forward(address.clone());
    }

    let work = async {
        tokio::select! {
            biased;
            signal = signals.next() => {
                report.draining(signal, tunnel.open(), settings.drain());
                tokio::select! {
                    biased;
                    _ = signals.next() => {}
                    () = tunnel.drain(settings.drain()) => {}
                }
            }
            // Waiting threads and tasks are freed when the manager gives up, and so is this.
            () = given_up(&manager) => {}
        }
    };
    tokio::select! {
        biased;
        () = work => {}
        () = tunnel.show() => {}
    }
    let cut_off = tunnel.cut().await;
    // It ends with the manager, which was given its time.
    let _ = timeout(GRACE, watching).await;
    report.ended(cut_off);
    match manager.status().stopped {
        Some(Stopped::GaveUp(gave_up)) => Err(gave_up.into()),
        _ => Ok(cut_off == 0),
    }
}

async fn bind(address: &str) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address).await?;
    // Once more, with room for a burst.
    SockRef::from(&listener).listen(LISTEN_BACKLOG)?;
    Ok(listener)
}

async fn start(args: &Args) -> Result<MuxManager, Box<dyn Error>> {
    let settings = args.settings();
    let name = settings.name.as_deref().unwrap_or("tunnel");
    Ok(match &args.role {
        Role::Receive { mux, .. } => set(MuxManager::receive(mux), name, settings)?.start().await?,
        Role::Establish { mux, .. } => set(MuxManager::establish(mux), name, settings)?.start().await?,
    })
}

fn set<S>(builder: Builder<S>, name: &str, settings: &Settings) -> Result<Builder<S>, ConfigError> {
    // What the other side carries here goes nowhere without an address.
    let accepts = settings.ways.forward.is_some();
    let builder = builder.name(name).config(settings.config()?).sessions(settings.sessions.into());
    Ok(builder.accept_streams(accepts))
}

/// Waits until there will be no session any more.
async fn given_up(manager: &MuxManager) {
    while let Ok(session) = manager.session().await {
        session.closed().await;
    }
}
