//! Bytes one way, on some streams.
//!
//! Each stream carries two transfers. In the first the receiver looks at every byte; the second is measured, and the
//! receiver counts. After each the receiver tells how many came.

use std::io;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    runtime::Handle,
};

use super::Setup;
use crate::{
    measure::{Meter, Sample},
    mux::{self, Acceptor, Io, Mux, MuxCase, Opener},
};

const READ_BYTES: usize = 64 << 10;

/// The content repeats after so many bytes: no frame or buffer has this length.
const PERIOD: usize = 251;

pub(super) fn run(contestant: &str, setup: &Setup, streams: u64, write_bytes: usize) -> io::Result<Sample> {
    mux::run(contestant, setup.workers, case(setup, streams, write_bytes))
}

pub(super) fn case(setup: &Setup, streams: u64, write_bytes: usize) -> impl MuxCase + use<> {
    let scale = &setup.scale;
    let plan = Plan { warm: scale.warm_bytes / streams, measured: scale.bulk_bytes / streams, write_bytes };
    Bulk { streams, plan }
}

struct Bulk {
    streams: u64,
    plan: Plan,
}

/// What one stream carries.
#[derive(Clone, Copy)]
struct Plan {
    warm: u64,
    measured: u64,
    write_bytes: usize,
}

impl MuxCase for Bulk {
    async fn run<M: Mux>(self, server: Handle) -> io::Result<Sample> {
        let Self { streams, plan } = self;
        let (opener, mut acceptor) = M::connect(&server).await?;
        server.spawn(async move {
            while let Ok(stream) = acceptor.accept().await {
                tokio::spawn(receive(stream, plan));
            }
        });
        let mut senders = Vec::new();
        for _ in 0..streams {
            let mut stream = opener.open().await?;
            send(&mut stream, plan.warm, plan.write_bytes).await?;
            senders.push(stream);
        }
        let meter = Meter::start()?;
        let sending: Vec<_> = senders
            .into_iter()
            .map(|mut stream| {
                tokio::spawn(async move {
                    send(&mut stream, plan.measured, plan.write_bytes).await?;
                    io::Result::Ok(stream)
                })
            })
            .collect();
        let mut sent = Vec::new();
        for sender in sending {
            sent.push(sender.await??);
        }
        let cost = meter.stop()?;
        for mut stream in sent {
            stream.shutdown().await?;
            expect_end(&mut stream).await?;
        }
        Ok(cost.each(mib(plan.measured * streams)))
    }
}

#[expect(clippy::cast_precision_loss, reason = "below 2^52 bytes")]
pub(super) fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// Sends so many bytes, and waits until the peer has told that it has them.
async fn send(stream: &mut impl Io, bytes: u64, write_bytes: usize) -> io::Result<()> {
    let pattern = pattern(write_bytes);
    let mut sent = 0;
    while sent < bytes {
        let from = phase(sent);
        let len = usize::try_from(bytes - sent).map_or(write_bytes, |left| left.min(write_bytes));
        stream.write_all(&pattern[from..from + len]).await?;
        sent += len as u64;
    }
    stream.flush().await?;
    let counted = stream.read_u64().await?;
    if counted == bytes { Ok(()) } else { Err(wrong(format!("{counted} of {bytes} bytes were counted"))) }
}

async fn receive(mut stream: impl Io, plan: Plan) -> io::Result<()> {
    let pattern = pattern(READ_BYTES);
    let mut buffer = vec![0; READ_BYTES];
    for (bytes, look) in [(plan.warm, true), (plan.measured, false)] {
        let mut received = 0;
        while received < bytes {
            let len = stream.read(&mut buffer).await?;
            let from = phase(received);
            if len == 0 || (look && buffer[..len] != pattern[from..from + len]) {
                // The sender waits for the count, and learns of this by the end of the stream.
                return Err(wrong(format!("after {received} bytes other bytes came, or none")));
            }
            received += len as u64;
        }
        stream.write_u64(received).await?;
        stream.flush().await?;
    }
    expect_end(&mut stream).await?;
    stream.shutdown().await
}

pub(super) async fn expect_end(stream: &mut impl Io) -> io::Result<()> {
    match stream.read(&mut [0; 64]).await? {
        0 => Ok(()),
        len => Err(wrong(format!("{len} bytes came after the last"))),
    }
}

pub(super) fn wrong(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Where in the content this byte of a transfer is.
fn phase(offset: u64) -> usize {
    usize::try_from(offset % PERIOD as u64).unwrap_or_default()
}

/// The content, from which so many bytes can be taken in any phase.
fn pattern(bytes: usize) -> Vec<u8> {
    (0..bytes + PERIOD).map(|at| at % PERIOD).map(|at| u8::try_from(at).unwrap_or_default()).collect()
}
