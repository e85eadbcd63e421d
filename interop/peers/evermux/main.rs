//! An evermux of another time as a peer program. `interop/run` builds it beside that evermux.

#![forbid(unsafe_code)]

#[path = "../../src/peer/engine.rs"]
mod engine;
#[path = "../../src/peer/evermux.rs"]
mod evermux_peer;

use std::{error::Error, net::SocketAddr};

use engine::Endpoint;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [endpoint, address, more @ ..] = arguments.as_slice() else { return Err("--dial ADDRESS or --listen ADDRESS".into()) };
    let address: SocketAddr = address.parse()?;
    let endpoint = if endpoint == "--dial" { Endpoint::Dial(address) } else { Endpoint::Listen(address) };
    let session = evermux_peer::session(endpoint, evermux_peer::Settings::default()).await?;
    engine::play(session, more.iter().any(|word| word == "--serve")).await;
    std::process::exit(0)
}
