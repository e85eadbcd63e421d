//! A custom transport, by the traits `Connect` and `Accept`: Unix sockets.
//!
//! ```console
//! $ cargo run --example unix
//! ```

#[cfg(unix)]
mod unix {
    use evermux::{Accept, Connect, Connected, error::AcceptError, error::ConnectError};
    use tokio::net::{UnixListener, UnixStream};

    pub(crate) struct Dial(pub(crate) std::path::PathBuf);

    impl Connect for Dial {
        type Io = UnixStream;

        async fn connect(&self) -> Result<Connected<UnixStream>, ConnectError> {
            Ok(Connected::anonymous(UnixStream::connect(&self.0).await?))
        }
    }

    pub(crate) struct Listen(pub(crate) UnixListener);

    impl Accept for Listen {
        type Io = UnixStream;
        type Pending = UnixStream;

        async fn accept(&self) -> Result<UnixStream, AcceptError> {
            Ok(self.0.accept().await?.0)
        }

        // A handshake belongs here, where a slow peer holds up nobody else.
        async fn finish(&self, pending: UnixStream) -> Result<Connected<UnixStream>, AcceptError> {
            Ok(Connected::anonymous(pending))
        }

        fn local_addr(&self) -> Option<std::net::SocketAddr> {
            None
        }
    }
}

#[cfg(unix)]
#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::temp_dir().join(format!("evermux-{}.sock", std::process::id()));
    let listener = tokio::net::UnixListener::bind(&path)?;
    let receiver = evermux::MuxManager::receive_with(unix::Listen(listener)).start().await?;
    let establisher = evermux::MuxManager::establish_with(unix::Dial(path.clone())).start().await?;
    println!("over {}: a ping takes {:?}", path.display(), establisher.session().await?.ping().await?);
    establisher.shutdown().await;
    receiver.shutdown().await;
    Ok(std::fs::remove_file(path)?)
}

#[cfg(not(unix))]
fn main() {}
