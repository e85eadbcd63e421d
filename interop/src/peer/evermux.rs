//! evermux as a peer program: a session alone, or a manager.

use std::{future::poll_fn, io, net::SocketAddr, sync::Arc, task::Poll, time::Duration};

use evermux::{Config, Incoming, MuxManager, MuxStream, Session};
use tokio::sync::Mutex;

use super::engine::{Endpoint, Library, say};

/// What of the settings is not the default.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Settings {
    /// The idle time before a ping, and how long its answer may take.
    pub(crate) heartbeat: Option<Duration>,
    pub(crate) early_go_away: bool,
    /// The first pause between two attempts, and the longest.
    pub(crate) backoff: Option<Duration>,
}

impl Settings {
    fn config(self) -> io::Result<Config> {
        let mut config = Config::builder().early_go_away(self.early_go_away);
        if let Some(heartbeat) = self.heartbeat {
            config = config.heartbeat_idle(heartbeat).heartbeat_timeout(heartbeat);
        }
        if let Some(backoff) = self.backoff {
            config = config.backoff_initial(backoff).backoff_max(backoff);
        }
        config.build().map_err(io::Error::other)
    }
}

/// Makes a session.
pub(crate) async fn session(endpoint: Endpoint, settings: Settings) -> io::Result<Session> {
    let config = settings.config()?;
    let socket = endpoint.connect().await?;
    let session = if endpoint.is_dial() {
        Session::client(socket, &config).await
    } else {
        Session::server(socket, &config).await
    };
    Ok(session?)
}

impl Library for Session {
    type Stream = MuxStream;

    async fn open(&self) -> io::Result<MuxStream> {
        Ok(self.open_stream().await?)
    }

    async fn accept(&self) -> io::Result<MuxStream> {
        Ok(self.accept_stream().await?)
    }

    fn reset(stream: MuxStream) -> io::Result<()> {
        stream.reset();
        Ok(())
    }

    async fn ping(&self) -> io::Result<Duration> {
        Ok(Session::ping(self).await?)
    }

    async fn go_away(&self) -> io::Result<()> {
        let session = self.clone();
        let mut closing = Box::pin(async move { session.close().await });
        // The first poll begins it: what is opened after this order is opened on a session that closes.
        if poll_fn(|cx| Poll::Ready(closing.as_mut().poll(cx).is_pending())).await {
            tokio::spawn(closing);
        }
        Ok(())
    }

    async fn closed(&self) -> String {
        Session::closed(self).await.to_string()
    }
}

/// A manager in the place of a session.
#[derive(Clone)]
pub(crate) struct Manager {
    manager: MuxManager,
    incoming: Arc<Mutex<Incoming>>,
}

impl Manager {
    /// Starts an establisher or a receiver. It has a session when the other side comes.
    pub(crate) async fn start(endpoint: Endpoint, settings: Settings) -> io::Result<Self> {
        let config = settings.config()?;
        let manager = match endpoint {
            Endpoint::Dial(address) => {
                MuxManager::establish(address.to_string()).config(config).start().await.map_err(io::Error::other)?
            }
            Endpoint::Listen(address) => {
                let address: SocketAddr = address;
                MuxManager::receive(address.to_string()).config(config).start().await.map_err(io::Error::other)?
            }
        };
        if let Some(address) = manager.local_addr() {
            say(&format!("listening {address}"));
        }
        let incoming = Arc::new(Mutex::new(manager.incoming()));
        Ok(Self { manager, incoming })
    }
}

impl Library for Manager {
    type Stream = MuxStream;

    async fn open(&self) -> io::Result<MuxStream> {
        self.manager.open_stream().await.map_err(io::Error::other)
    }

    async fn accept(&self) -> io::Result<MuxStream> {
        self.incoming.lock().await.next().await.ok_or_else(|| io::Error::other("the manager has stopped"))
    }

    fn reset(stream: MuxStream) -> io::Result<()> {
        stream.reset();
        Ok(())
    }

    async fn ping(&self) -> io::Result<Duration> {
        let session = self.manager.session().await.map_err(io::Error::other)?;
        Ok(session.ping().await?)
    }

    async fn go_away(&self) -> io::Result<()> {
        self.manager.shutdown().await;
        Ok(())
    }

    async fn closed(&self) -> String {
        std::future::pending().await
    }
}
