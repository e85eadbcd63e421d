//! An agent behind NAT dials out; the gateway that it reaches opens the streams.
//!
//! ```console
//! $ cargo run --example reverse
//! ```

use std::{error::Error, time::Duration};

use evermux::{MuxManager, StartError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Dials the gateway, and answers the requests that come back over that connection.
async fn start_agent(name: &'static str, gateway: &str) -> Result<MuxManager, StartError> {
    let agent = MuxManager::establish(gateway).name(name).start().await?;
    let mut incoming = agent.incoming();
    tokio::spawn(async move {
        while let Some(mut stream) = incoming.next().await {
            tokio::spawn(async move {
                let mut request = String::new();
                stream.read_to_string(&mut request).await?;
                stream.write_all(format!("{name} did {request:?}").as_bytes()).await?;
                stream.shutdown().await
            });
        }
    });
    Ok(agent)
}

/// Sends a request to whichever agent is there; waits up to 5 s for one.
async fn request(gateway: &MuxManager, text: &str) -> Result<String, Box<dyn Error>> {
    let mut stream = gateway.open_stream_within(Duration::from_secs(5)).await?;
    stream.write_all(text.as_bytes()).await?;
    stream.shutdown().await?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply).await?;
    Ok(reply)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // It listens, and yet it is the one that asks.
    let gateway = MuxManager::receive("127.0.0.1:0").accept_streams(false).start().await?;
    let address = gateway.local_addr().expect("TCP has addresses").to_string();

    let first = start_agent("agent 1", &address).await?;
    println!("{}", request(&gateway, "backup").await?);
    first.shutdown().await;
    println!("agent 1 has left");

    // This request waits for the next agent to dial.
    let (reply, second) = tokio::join!(request(&gateway, "restore"), start_agent("agent 2", &address));
    println!("{}", reply?);

    second?.shutdown().await;
    gateway.shutdown().await;
    Ok(())
}
