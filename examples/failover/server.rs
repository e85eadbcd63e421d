//! The receiving side: answers every request on every stream of every session.

use std::{io, sync::Arc};

use evermux::{MuxManager, MuxStream};
use tokio::{io::AsyncWriteExt, task::JoinSet};

use crate::{protocol, totals::Totals};

/// Runs until the manager is shut down.
pub(crate) async fn run(manager: MuxManager, totals: Arc<Totals>) {
    let mut streams = JoinSet::new();
    while let Ok(session) = manager.session().await {
        loop {
            tokio::select! {
                biased;
                Some(_) = streams.join_next() => {}
                stream = session.accept_stream() => match stream {
                    Ok(stream) => _ = streams.spawn(serve(stream, Arc::clone(&totals))),
                    Err(_) => break,
                }
            }
        }
    }
    while streams.join_next().await.is_some() {}
}

/// Answers until the caller ends the stream. A stream that breaks is the caller's to do again.
async fn serve(mut stream: MuxStream, totals: Arc<Totals>) {
    if let Err(error) = answer_all(&mut stream).await
        && protocol::is_wrong(&error)
    {
        totals.corrupted.add(1);
    }
}

async fn answer_all(stream: &mut MuxStream) -> io::Result<()> {
    let (mut request, mut reply) = (Vec::new(), Vec::new());
    while protocol::read(stream, &mut request).await? {
        let (id, payload) = protocol::parts(&request);
        protocol::encode(id, payload, &mut reply);
        stream.write_all(&reply).await?;
        stream.flush().await?;
    }
    stream.shutdown().await
}
