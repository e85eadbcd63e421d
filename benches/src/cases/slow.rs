//! A short answer beside downloads, on a slow path.
//!
//! The side that serves is behind a path of 1 Mbit/s. Some streams of it carry all that they can; meanwhile another is opened
//! for 64 bytes there and back, again and again.

use std::{
    io,
    time::{Duration, Instant},
};

use evermux::{Config, MuxManager, Session};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    runtime::Handle,
    time::{sleep, timeout},
};

use super::Setup;
use crate::{
    measure::{Meter, Sample, nanos},
    mux::{Acceptor, EVERMUX, Io, Opener, TCP, listen},
    rig::Rig,
    scale::Scale,
    slow_path,
    stats::quantile,
};

pub(super) const ALL: &[&str] = &[TCP, EVERMUX];

/// 1 Mbit/s.
const BYTES_PER_SECOND: u64 = 125_000;
/// A request that is not over by then has failed.
const LIMIT: Duration = Duration::from_secs(60);
/// What a request begins with, and a download.
const REQUEST: u8 = 1;
const DOWNLOAD: u8 = 2;

pub(super) fn run(contestant: &str, setup: &Setup, downloads: usize) -> io::Result<Sample> {
    let rig = Rig::new(setup.workers)?;
    let (scale, server) = (setup.scale, rig.server());
    match contestant {
        TCP => rig.run(async move {
            let (opener, acceptor) = tcp(&server).await?;
            measure(opener, acceptor, &server, downloads, scale).await
        }),
        EVERMUX => rig.run(async move {
            let (opener, acceptor, managers) = managers(&server).await?;
            let sample = measure(opener, acceptor, &server, downloads, scale).await;
            drop(managers);
            sample
        }),
        other => Err(io::Error::other(format!("there is no contestant `{other}`"))),
    }
}

/// A connection of its own for each stream.
#[derive(Clone)]
struct Dials(std::net::SocketAddr);

impl Opener for Dials {
    type Stream = TcpStream;

    async fn open(&self) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(self.0).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

struct Accepts(TcpListener);

impl Acceptor for Accepts {
    type Stream = TcpStream;

    async fn accept(&mut self) -> io::Result<TcpStream> {
        let (stream, _) = self.0.accept().await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

async fn tcp(server: &Handle) -> io::Result<(Dials, Accepts)> {
    let (listener, address) = server.spawn(listen()).await.map_err(io::Error::other)??;
    Ok((Dials(slow_path::begin(address, BYTES_PER_SECOND)?), Accepts(listener)))
}

/// Two managers, with their own sockets: how much these hold is part of it.
async fn managers(server: &Handle) -> io::Result<(Session, Session, [MuxManager; 2])> {
    let (listener, far_address) = {
        let receiving = async { MuxManager::receive("127.0.0.1:0").config(Config::default()).start().await };
        let receiver = server.spawn(receiving).await.map_err(io::Error::other)??;
        let address = receiver.local_addr().ok_or_else(|| io::Error::other("the receiver has no address"))?;
        (receiver, address)
    };
    let path = slow_path::begin(far_address, BYTES_PER_SECOND)?;
    let establisher = MuxManager::establish(path.to_string()).start().await?;
    let near = establisher.session().await.map_err(io::Error::other)?;
    let far = listener.session().await.map_err(io::Error::other)?;
    Ok((near, far, [establisher, listener]))
}

async fn serve(mut stream: impl Io) -> io::Result<()> {
    if stream.read_u8().await? == DOWNLOAD {
        let bytes = vec![7; 64 << 10];
        loop {
            stream.write_all(&bytes).await?;
        }
    }
    let mut request = [0; 63];
    stream.read_exact(&mut request).await?;
    stream.write_all(&request).await?;
    stream.shutdown().await
}

async fn measure<O: Opener, A: Acceptor>(
    opener: O,
    mut acceptor: A,
    server: &Handle,
    downloads: usize,
    scale: Scale,
) -> io::Result<Sample> {
    server.spawn(async move {
        while let Ok(stream) = acceptor.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    let mut loading = Vec::new();
    for _ in 0..downloads {
        let mut stream = opener.open().await?;
        stream.write_u8(DOWNLOAD).await?;
        loading.push(tokio::spawn(async move { tokio::io::copy(&mut stream, &mut tokio::io::sink()).await }));
    }
    sleep(scale.slow_settle).await;
    let mut times = Vec::new();
    let meter = Meter::start()?;
    for at in 0..scale.slow_requests {
        let begun = Instant::now();
        let request = async {
            let mut stream = opener.open().await?;
            let mut bytes = [u8::try_from(at % 256).unwrap_or_default(); 64];
            bytes[0] = REQUEST;
            stream.write_all(&bytes).await?;
            stream.shutdown().await?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await?;
            if answer == bytes[1..] { Ok(()) } else { Err(super::bulk::wrong("another answer came".into())) }
        };
        timeout(LIMIT, request).await??;
        times.push(nanos(begun.elapsed()));
    }
    let cost = meter.stop()?;
    for download in loading {
        download.abort();
    }
    times.sort_unstable_by(f64::total_cmp);
    let median = quantile(&times, 0.5);
    #[expect(clippy::cast_precision_loss, reason = "there are few")]
    let each = cost.each(scale.slow_requests as f64);
    Ok(Sample { wall_ns: median, p50_ns: Some(median), p99_ns: Some(quantile(&times, 0.99)), ..each })
}
