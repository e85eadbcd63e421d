//! Both sides in one process: a request, and its reply.
//!
//! ```console
//! $ cargo run --example echo
//! ```

use std::{error::Error, io};

use evermux::{MuxManager, MuxStream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Sends back what comes, until the client has finished.
async fn echo(stream: MuxStream) -> io::Result<u64> {
    let (mut read, mut write) = stream.into_split();
    let copied = tokio::io::copy(&mut read, &mut write).await?;
    // The client reads end of file after this. Without it the stream would be reset.
    write.shutdown().await?;
    Ok(copied)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let server = MuxManager::receive("127.0.0.1:0").start().await?;
    let address = server.local_addr().expect("TCP has addresses");
    let serving = tokio::spawn({
        let mut incoming = server.incoming();
        async move {
            while let Some(stream) = incoming.next().await {
                tokio::spawn(async move {
                    match echo(stream).await {
                        Ok(bytes) => println!("server: echoed {bytes} bytes"),
                        Err(error) => println!("server: the stream was cut: {error}"),
                    }
                });
            }
        }
    });

    let client = MuxManager::establish(address.to_string()).start().await?;
    let mut stream = client.open_stream().await?;
    println!("client: opened stream {} to {address}", stream.id());
    stream.write_all(b"hello").await?;
    stream.shutdown().await?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply).await?;
    println!("client: the reply is {reply:?}");
    assert_eq!(reply, "hello");

    client.shutdown().await;
    server.shutdown().await;
    serving.await?;
    Ok(())
}
