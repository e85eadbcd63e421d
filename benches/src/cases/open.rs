//! Streams that live for one short exchange.

use std::{io, sync::Arc};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    runtime::Handle,
};

use super::{
    Setup,
    bulk::{expect_end, wrong},
};
use crate::{
    measure::{Meter, Sample},
    mux::{self, Acceptor, Io, Mux, MuxCase, Opener},
};

const ECHO_BYTES: usize = 64;

pub(super) fn run(contestant: &str, setup: &Setup, at_once: usize) -> io::Result<Sample> {
    mux::run(contestant, setup.workers, Opens { at_once, each: setup.scale.opens.div_ceil(at_once) })
}

struct Opens {
    at_once: usize,
    /// How many streams each task opens, one after the other.
    each: usize,
}

impl MuxCase for Opens {
    async fn run<M: Mux>(self, server: Handle) -> io::Result<Sample> {
        let Self { at_once, each } = self;
        let (opener, mut acceptor) = M::connect(&server).await?;
        server.spawn(async move {
            while let Ok(stream) = acceptor.accept().await {
                tokio::spawn(echo_once(stream));
            }
        });
        let opener = Arc::new(opener);
        exchange_all(&opener, at_once, each.div_ceil(8)).await?;
        let meter = Meter::start()?;
        exchange_all(&opener, at_once, each).await?;
        let cost = meter.stop()?;
        Ok(cost.each(f64::from(u32::try_from(at_once * each).map_err(io::Error::other)?)))
    }
}

async fn exchange_all<O: Opener>(opener: &Arc<O>, at_once: usize, each: usize) -> io::Result<()> {
    let tasks: Vec<_> = (0..at_once)
        .map(|task| {
            let opener = Arc::clone(opener);
            tokio::spawn(async move {
                for exchange in 0..each {
                    exchange_once(opener.open().await?, task * each + exchange).await?;
                }
                io::Result::Ok(())
            })
        })
        .collect();
    for task in tasks {
        task.await??;
    }
    Ok(())
}

/// Sends, reads the same, and finishes both ways.
async fn exchange_once(mut stream: impl Io, number: usize) -> io::Result<()> {
    echo(&mut stream, number).await?;
    stream.shutdown().await?;
    expect_end(&mut stream).await
}

/// Sends 64 bytes and reads the same.
pub(super) async fn echo(stream: &mut impl Io, number: usize) -> io::Result<()> {
    let request = request(number);
    stream.write_all(&request).await?;
    stream.flush().await?;
    let mut reply = [0; ECHO_BYTES];
    stream.read_exact(&mut reply).await?;
    if reply == request { Ok(()) } else { Err(wrong(format!("reply {number} is not its request"))) }
}

/// Echoes until the peer has finished, and finishes.
pub(super) async fn echo_all(mut stream: impl Io) -> io::Result<()> {
    let mut bytes = [0; ECHO_BYTES];
    loop {
        let len = stream.read(&mut bytes).await?;
        if len == 0 {
            return stream.shutdown().await;
        }
        stream.write_all(&bytes[..len]).await?;
        stream.flush().await?;
    }
}

async fn echo_once(mut stream: impl Io) -> io::Result<()> {
    let mut bytes = [0; ECHO_BYTES];
    stream.read_exact(&mut bytes).await?;
    stream.write_all(&bytes).await?;
    stream.flush().await?;
    expect_end(&mut stream).await?;
    stream.shutdown().await
}

/// 64 bytes that no other request has.
fn request(number: usize) -> [u8; ECHO_BYTES] {
    let mut bytes = [0x5a; ECHO_BYTES];
    bytes[..size_of::<usize>()].copy_from_slice(&number.to_le_bytes());
    bytes
}
