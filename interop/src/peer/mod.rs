//! Peer programs in Rust. Each run is a process of its own: `interop peer NAME --dial ADDRESS`.

pub(crate) mod engine;
mod evermux;
mod hashicorp;
mod tokio_yamux;
mod yamux;

use std::{io, net::SocketAddr, time::Duration};

use clap::Args;

use self::{
    engine::{Endpoint, play},
    evermux::Settings,
};

/// The peers that this program has in itself. Another one is a module with its `Library`, a line here and an arm in
/// [`run`].
pub(crate) const OWN: &[Own] = &[
    Own { name: "yamux-0.12", made: Made::Of { package: "yamux", release: "0.12." } },
    Own { name: "yamux-0.13", made: Made::Of { package: "yamux", release: "0.13." } },
    Own { name: "yamux-0.14", made: Made::Of { package: "yamux", release: "0.14." } },
    Own { name: "tokio-yamux", made: Made::Of { package: "tokio-yamux", release: "" } },
    Own { name: "hashicorp-0.1", made: Made::Like("hashicorp/yamux 0.1.2, as testkit plays it") },
];

/// A peer that this program has in itself.
#[derive(Debug)]
pub(crate) struct Own {
    pub(crate) name: &'static str,
    pub(crate) made: Made,
}

/// What a peer is made of.
#[derive(Debug)]
pub(crate) enum Made {
    /// A crate: the package, and with what its version begins.
    Of { package: &'static str, release: &'static str },
    /// A script of ours that does as a library does.
    Like(&'static str),
}

/// How a peer program is started.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Which one: a library, `evermux`, or `manager`.
    name: String,
    #[command(flatten)]
    endpoint: EndpointArguments,
    /// Echo whatever is opened.
    #[arg(long)]
    serve: bool,
    /// evermux alone: the idle time before a ping, and how long its answer may take.
    #[arg(long, value_name = "MS")]
    heartbeat: Option<u64>,
    /// evermux alone: say goodbye before the streams have ended.
    #[arg(long)]
    early_go_away: bool,
    /// A manager alone: the pause between two attempts.
    #[arg(long, value_name = "MS")]
    backoff: Option<u64>,
}

#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
struct EndpointArguments {
    /// Make the connection.
    #[arg(long, value_name = "ADDRESS")]
    dial: Option<SocketAddr>,
    /// Wait for the connection.
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
}

/// Is a peer program.
pub(crate) async fn run(arguments: &Arguments) -> io::Result<()> {
    let EndpointArguments { dial, listen } = &arguments.endpoint;
    let endpoint = dial.map(Endpoint::Dial).or(listen.map(Endpoint::Listen)).ok_or(io::ErrorKind::InvalidInput)?;
    let settings = Settings {
        heartbeat: arguments.heartbeat.map(Duration::from_millis),
        early_go_away: arguments.early_go_away,
        backoff: arguments.backoff.map(Duration::from_millis),
    };
    let serve = arguments.serve;
    match arguments.name.as_str() {
        "evermux" => play(evermux::session(endpoint, settings).await?, serve).await,
        "manager" => play(evermux::Manager::start(endpoint, settings).await?, serve).await,
        "yamux-0.12" => play(yamux::of_0_12(endpoint).await?, serve).await,
        "yamux-0.13" => play(yamux::of_0_13(endpoint).await?, serve).await,
        "yamux-0.14" => play(yamux::of_0_14(endpoint).await?, serve).await,
        "tokio-yamux" => play(tokio_yamux::session(endpoint).await?, serve).await,
        "hashicorp-0.1" => play(hashicorp::session(endpoint).await?, serve).await,
        other => return Err(io::Error::other(format!("there is no peer `{other}`"))),
    }
    Ok(())
}
