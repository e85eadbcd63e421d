//! Bytes one way to a side whose session was not proven at once.
//!
//! Windows of the receiving side grow on a long path, which costs a short one: a proof that was late makes no long path.

use std::{io, time::Duration};

use evermux::{Config, MuxManager, MuxStream, Session};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    runtime::Handle,
    time::{sleep, timeout},
};

use super::{Setup, bulk};
use crate::{
    measure::Sample,
    mux::{self, Acceptor, Mux, MuxCase, Opener},
    rig::Rig,
};

/// The proof was answered at once.
pub(super) const FRESH: &str = "fresh";
/// It was answered after [`LATE`].
pub(super) const LATE_PROOF: &str = "late-proof";
/// The answer was withheld until a ghost was found, whose place the session has.
pub(super) const TAKEOVER: &str = "takeover";

pub(super) const ALL: &[&str] = &[FRESH, LATE_PROOF, TAKEOVER];

const LATE: Duration = Duration::from_millis(15);
const PROBE: Duration = Duration::from_millis(200);
/// A takeover that is not over by then has failed.
const LIMIT: Duration = Duration::from_secs(30);

pub(super) fn run(contestant: &str, setup: &Setup) -> io::Result<Sample> {
    let rig = Rig::new(setup.workers)?;
    let (server, case) = (rig.server(), bulk::case(setup, 1, 64 << 10));
    match contestant {
        FRESH => rig.run(case.run::<Fresh>(server)),
        LATE_PROOF => rig.run(case.run::<LateProof>(server)),
        TAKEOVER => rig.run(case.run::<Takeover>(server)),
        other => Err(io::Error::other(format!("there is no contestant `{other}`"))),
    }
}

struct Fresh;
struct LateProof;
struct Takeover;

/// The side that sends has accepted: it is the other one's proof that is late. `late` is for how long.
async fn pair(server: &Handle, late: Duration) -> io::Result<(Session, Session)> {
    let pair = mux::pair(server, async |socket| Ok(Session::client(socket, &Config::default()).await?)).await?;
    sleep(late).await;
    let near = Session::server(pair.near, &Config::default()).await?;
    Ok((near, pair.far.await.map_err(io::Error::other)??))
}

impl Mux for Fresh {
    type Opener = Session;
    type Acceptor = Session;

    async fn connect(server: &Handle) -> io::Result<(Session, Session)> {
        pair(server, Duration::ZERO).await
    }
}

impl Mux for LateProof {
    type Opener = Session;
    type Acceptor = Session;

    async fn connect(server: &Handle) -> io::Result<(Session, Session)> {
        pair(server, LATE).await
    }
}

/// A session, and whose it is.
#[derive(Clone)]
struct Managed {
    session: Session,
    _manager: MuxManager,
}

impl Opener for Managed {
    type Stream = MuxStream;

    async fn open(&self) -> io::Result<MuxStream> {
        Ok(self.session.open_stream().await?)
    }
}

impl Acceptor for Managed {
    type Stream = MuxStream;

    async fn accept(&mut self) -> io::Result<MuxStream> {
        Ok(self.session.accept_stream().await?)
    }
}

impl Mux for Takeover {
    type Opener = Managed;
    type Acceptor = Managed;

    async fn connect(server: &Handle) -> io::Result<(Managed, Managed)> {
        let config = Config::builder().takeover_probe_timeout(PROBE).build()?;
        let receiver = MuxManager::receive("127.0.0.1:0").config(config).start().await?;
        let address = receiver.local_addr().ok_or_else(|| io::Error::other("the receiver has no address"))?;
        // It proves itself, and is silent from then on.
        let mut ghost = TcpStream::connect(address).await?;
        let mut ping = [0; 12];
        ghost.read_exact(&mut ping).await?;
        ping[3] = 2;
        ghost.write_all(&ping).await?;
        let old = receiver.session().await.map_err(io::Error::other)?;
        let far = server.spawn(async move {
            let establisher = MuxManager::establish(address.to_string()).start().await?;
            let session = establisher.session().await.map_err(io::Error::other)?;
            io::Result::Ok(Managed { session, _manager: establisher })
        });
        let taken_over = async {
            let far = far.await.map_err(io::Error::other)??;
            old.closed().await;
            let session = receiver.session().await.map_err(io::Error::other)?;
            Ok((Managed { session, _manager: receiver }, far))
        };
        timeout(LIMIT, taken_over).await?
    }
}
