//! Short messages there and back, on a stream that is open.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Instant,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    runtime::Handle,
};

use super::{
    Setup,
    bulk::{mib, wrong},
    open::{echo, echo_all},
};
use crate::{
    measure::{Meter, Sample, nanos},
    mux::{self, Acceptor, Io, Mux, MuxCase, Opener},
    stats::quantile,
};

const BULK_WRITE_BYTES: usize = 64 << 10;

pub(super) fn alone(contestant: &str, setup: &Setup) -> io::Result<Sample> {
    mux::run(contestant, setup.workers, RoundTrips { count: setup.scale.round_trips, beside_bulk: false })
}

pub(super) fn beside_bulk(contestant: &str, setup: &Setup) -> io::Result<Sample> {
    // Each takes longer, and some contestants make it take very long.
    let count = setup.scale.round_trips.div_ceil(10);
    mux::run(contestant, setup.workers, RoundTrips { count, beside_bulk: true })
}

struct RoundTrips {
    count: usize,
    beside_bulk: bool,
}

impl MuxCase for RoundTrips {
    async fn run<M: Mux>(self, server: Handle) -> io::Result<Sample> {
        let Self { count, beside_bulk } = self;
        let (opener, mut acceptor) = M::connect(&server).await?;
        server.spawn(async move {
            // Each stream is used before the next is opened, so they come in this order.
            if beside_bulk {
                tokio::spawn(swallow(acceptor.accept().await?));
            }
            while let Ok(stream) = acceptor.accept().await {
                tokio::spawn(echo_all(stream));
            }
            io::Result::Ok(())
        });
        let bulk = Arc::new(Bulk::default());
        let flood = if beside_bulk {
            let mut stream = opener.open().await?;
            stream.write_u8(0).await?;
            stream.flush().await?;
            stream.read_u8().await?;
            Some(tokio::spawn(flood(stream, Arc::clone(&bulk))))
        } else {
            None
        };

        let mut stream = opener.open().await?;
        for number in 0..count.div_ceil(8) {
            echo(&mut stream, number).await?;
        }
        let mut times = Vec::with_capacity(count);
        let moved = bulk.sent.load(Ordering::Relaxed);
        let meter = Meter::start()?;
        let mut begun = Instant::now();
        for number in 0..count {
            echo(&mut stream, number).await?;
            let now = Instant::now();
            times.push(nanos(now - begun));
            begun = now;
        }
        let cost = meter.stop()?;
        let moved = mib(bulk.sent.load(Ordering::Relaxed) - moved);

        bulk.stop.store(true, Ordering::Relaxed);
        if let Some(flood) = flood {
            flood.await??;
        }
        times.sort_unstable_by(f64::total_cmp);
        let mut sample = cost.each(f64::from(u32::try_from(count).map_err(io::Error::other)?));
        if beside_bulk {
            sample.bulk_mib_per_s = Some(moved / cost.wall.as_secs_f64());
            sample.cpu_ns = nanos(cost.cpu) / moved.max(1.0);
        }
        Ok(Sample { p50_ns: Some(quantile(&times, 0.5)), p99_ns: Some(quantile(&times, 0.99)), ..sample })
    }
}

/// What moves beside the round trips.
#[derive(Default)]
struct Bulk {
    sent: AtomicU64,
    stop: AtomicBool,
}

/// Sends as fast as it goes, until it is told to stop; then sees that all has arrived.
async fn flood(mut stream: impl Io, bulk: Arc<Bulk>) -> io::Result<()> {
    let bytes = vec![0x5a; BULK_WRITE_BYTES];
    while !bulk.stop.load(Ordering::Relaxed) {
        stream.write_all(&bytes).await?;
        bulk.sent.fetch_add(bytes.len() as u64, Ordering::Relaxed);
    }
    stream.shutdown().await?;
    let (sent, counted) = (bulk.sent.load(Ordering::Relaxed), stream.read_u64().await?);
    if sent == counted { Ok(()) } else { Err(wrong(format!("{counted} of {sent} bytes were counted"))) }
}

/// Answers the first byte, then reads to the end, and tells how much that was.
async fn swallow(mut stream: impl Io) -> io::Result<()> {
    let first = stream.read_u8().await?;
    stream.write_u8(first).await?;
    stream.flush().await?;
    let mut buffer = vec![0; BULK_WRITE_BYTES];
    let mut counted = 0;
    loop {
        match stream.read(&mut buffer).await? {
            0 => break,
            len => counted += len as u64,
        }
    }
    stream.write_u64(counted).await?;
    stream.shutdown().await
}
