//! From the cut of a connection to the first echo on the next.
//!
//! Each connection goes through a proxy of its own, which resets both its sockets. All are made first and live until
//! they count as stable; then one after the other is cut.

use std::{io, net::SocketAddr, time::Duration};

use evermux::{Config, MuxManager, Session};
use testkit::FaultProxy;
use tokio::{
    net::TcpStream,
    runtime::Handle,
    sync::watch,
    time::{sleep, timeout},
};
use yamux::Mode;

use super::{
    Setup,
    open::{echo, echo_all},
};
use crate::{
    measure::{Cost, Meter, Sample},
    mux::{
        Acceptor, EVERMUX, Opener, listen,
        raw_yamux::{self, Opens},
    },
    rig::Rig,
    stats::quantile,
};

/// The least loop over the raw crate that dials again.
pub(super) const REDIAL: &str = "redial-loop";

pub(super) const ALL: &[&str] = &[EVERMUX, REDIAL];

/// How long the hand-written loop waits after a dial that failed.
const PAUSE: Duration = Duration::from_millis(100);

/// A cut that is not over by then has failed.
const LIMIT: Duration = Duration::from_secs(30);

pub(super) fn run(contestant: &str, setup: &Setup) -> io::Result<Sample> {
    let rig = Rig::new(setup.workers)?;
    let (links, server) = (setup.scale.links, rig.server());
    // A little more, as the session is stable a little after it was made.
    let settle = setup.scale.settle.unwrap_or(Config::default().stable_after() + Duration::from_millis(500));
    let costs = match contestant {
        EVERMUX => rig.run(cut_all::<Managers>(links, settle, server)),
        REDIAL => rig.run(cut_all::<RedialLoop>(links, Duration::ZERO, server)),
        other => Err(io::Error::other(format!("there is no contestant `{other}`"))),
    }?;
    Ok(median(costs))
}

/// The middle one by wall time, and the mean of the rest of the figures.
fn median(costs: Vec<Cost>) -> Sample {
    let mut samples: Vec<_> = costs.into_iter().map(|cost| cost.each(1.0)).collect();
    samples.sort_unstable_by(|one, other| one.wall_ns.total_cmp(&other.wall_ns));
    let walls: Vec<_> = samples.iter().map(|sample| sample.wall_ns).collect();
    let count = samples.iter().map(|_| 1.0).sum::<f64>();
    let mean = |of: fn(&Sample) -> f64| samples.iter().map(of).sum::<f64>() / count;
    Sample {
        wall_ns: quantile(&walls, 0.5),
        cpu_ns: mean(|sample| sample.cpu_ns),
        switches: mean(|sample| sample.switches),
        p50_ns: None,
        p99_ns: None,
        bulk_mib_per_s: None,
        retried: None,
    }
}

/// A connection that comes back.
trait Lasting: Sized + Send + 'static {
    type Session: Send + Sync;

    /// Listens and echoes, on the current runtime.
    fn serve() -> impl Future<Output = io::Result<(SocketAddr, Self::Server)>> + Send;

    type Server: Send + 'static;

    fn dial(address: SocketAddr) -> impl Future<Output = io::Result<Self>> + Send;

    /// The live session.
    fn session(&mut self) -> impl Future<Output = io::Result<Self::Session>> + Send;

    /// Waits for its end.
    fn ended(&mut self, session: &Self::Session) -> impl Future<Output = ()> + Send;

    fn echo(session: &Self::Session) -> impl Future<Output = io::Result<()>> + Send;
}

async fn cut_all<L: Lasting>(links: usize, settle: Duration, server: Handle) -> io::Result<Vec<Cost>> {
    let mut all = Vec::new();
    for _ in 0..links {
        let (proxy, far) = server
            .spawn(async {
                let (address, far) = L::serve().await?;
                io::Result::Ok((FaultProxy::start(address)?, far))
            })
            .await??;
        let mut near = L::dial(proxy.addr()).await?;
        let session = near.session().await?;
        L::echo(&session).await?;
        all.push((near, session, proxy, far));
    }
    sleep(settle).await;
    let mut costs = Vec::new();
    for (near, session, proxy, _) in &mut all {
        let meter = Meter::start()?;
        proxy.cut_rst();
        let next = async {
            near.ended(session).await;
            loop {
                let next = near.session().await?;
                if L::echo(&next).await.is_ok() {
                    return io::Result::Ok(next);
                }
                near.ended(&next).await;
            }
        };
        *session = timeout(LIMIT, next).await??;
        costs.push(meter.stop()?);
    }
    Ok(costs)
}

/// evermux, with the default configuration.
struct Managers(MuxManager);

impl Lasting for Managers {
    type Session = Session;
    type Server = MuxManager;

    async fn serve() -> io::Result<(SocketAddr, MuxManager)> {
        let receiver = MuxManager::receive("127.0.0.1:0").start().await.map_err(io::Error::other)?;
        let address = receiver.local_addr().ok_or(io::ErrorKind::AddrNotAvailable)?;
        let serving = receiver.clone();
        tokio::spawn(async move {
            while let Ok(session) = serving.session().await {
                while let Ok(stream) = session.accept_stream().await {
                    tokio::spawn(echo_all(stream));
                }
            }
        });
        Ok((address, receiver))
    }

    async fn dial(address: SocketAddr) -> io::Result<Self> {
        Ok(Self(MuxManager::establish(address.to_string()).start().await.map_err(io::Error::other)?))
    }

    async fn session(&mut self) -> io::Result<Session> {
        Ok(self.0.session().await?)
    }

    async fn ended(&mut self, session: &Session) {
        session.closed().await;
    }

    async fn echo(session: &Session) -> io::Result<()> {
        echo(&mut session.open().await?, 0).await
    }
}

/// What one would write by hand: a task that dials, drives, and dials again.
struct RedialLoop(watch::Receiver<Option<Numbered>>);

/// The sessions that the loop makes are told apart by a number.
#[derive(Clone)]
struct Numbered {
    number: usize,
    opens: Opens,
}

impl Lasting for RedialLoop {
    type Session = Numbered;
    type Server = ();

    async fn serve() -> io::Result<(SocketAddr, ())> {
        let (listener, address) = listen().await?;
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                socket.set_nodelay(true)?;
                let (_, mut streams, driver) = raw_yamux::start(socket, Mode::Server);
                tokio::spawn(driver);
                tokio::spawn(async move {
                    while let Ok(stream) = streams.accept().await {
                        tokio::spawn(echo_all(stream));
                    }
                });
            }
            io::Result::Ok(())
        });
        Ok((address, ()))
    }

    async fn dial(address: SocketAddr) -> io::Result<Self> {
        let (publish, sessions) = watch::channel(None);
        tokio::spawn(async move {
            for number in 0.. {
                let Ok(socket) = TcpStream::connect(address).await else {
                    sleep(PAUSE).await;
                    continue;
                };
                socket.set_nodelay(true)?;
                let (opens, _, driver) = raw_yamux::start(socket, Mode::Client);
                publish.send_replace(Some(Numbered { number, opens }));
                driver.await;
                publish.send_replace(None);
            }
            io::Result::Ok(())
        });
        Ok(Self(sessions))
    }

    async fn session(&mut self) -> io::Result<Numbered> {
        let live = self.0.wait_for(Option::is_some).await.map_err(io::Error::other)?;
        live.clone().ok_or(io::ErrorKind::NotConnected.into())
    }

    async fn ended(&mut self, session: &Numbered) {
        // An error when the loop has ended: then every session has.
        let is_over = |live: &Option<Numbered>| live.as_ref().is_none_or(|live| live.number != session.number);
        let _ = self.0.wait_for(is_over).await;
    }

    async fn echo(session: &Numbered) -> io::Result<()> {
        echo(&mut session.opens.open().await?, 0).await
    }
}
