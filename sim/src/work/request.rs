//! A request and its reply.

use evermux::MuxStream;
use rand::Rng;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use super::item::{Failed, Work};
use super::protocol::{Bytes, Header, Request, expect_end, expect_greeting};

pub(super) const WORK: Work = Work {
    name: "request",
    about: "Sends bytes, says FIN, and gets them back",
    moves: |bytes| bytes,
    pauses_ms: 0,
    foreign: true,
    drawn: true,
    run: |item| {
        Box::pin(async {
            let stream = item.open().await?;
            exchange(stream, item.rng.next_u64(), item.bytes).await
        })
    },
};

/// Sends bytes and gets them back, both at once.
pub(super) async fn exchange(stream: MuxStream, seed: u64, bytes: usize) -> Result<(), Failed> {
    let (reader, writer) = stream.into_split();
    exchange_over(reader, writer, seed, bytes).await
}

/// Sends bytes and gets them back, both at once, over the two directions of any stream.
pub async fn exchange_over(
    mut reader: impl AsyncRead + Unpin,
    mut writer: impl AsyncWrite + Unpin,
    seed: u64,
    bytes: usize,
) -> Result<(), Failed> {
    let header = Header { request: Request::Echo, amount: u32::try_from(bytes).unwrap_or(u32::MAX), seed };
    let write = async {
        writer.write_all(&header.encode()).await?;
        writer.flush().await?;
        Bytes::new(seed, bytes).send(&mut writer).await?;
        writer.shutdown().await
    };
    let read = async {
        expect_greeting(&mut reader).await?;
        Bytes::new(seed, bytes).expect(&mut reader).await?;
        expect_end(&mut reader).await
    };
    let (written, read) = tokio::join!(write, read);
    read?;
    written?;
    Ok(())
}
