//! A caller who leaves the choice of a session to the manager.

use std::io;
use std::time::Duration;

use rand::{Rng, RngExt};
use tokio::time::sleep;

use super::piece::Work;
use super::request::exchange;

pub(super) const WORK: Work = Work {
    name: "moves on",
    about: "Opens its stream through the manager, which moves on to the next session when one is lost",
    drawn: true,
    run: |piece| {
        Box::pin(async {
            // Long enough for a session to be lost, and another one to be made.
            sleep(Duration::from_millis(piece.rng.random_range(0..1_500))).await;
            let stream = piece.manager.open_stream().await.map_err(io::Error::from)?;
            if stream.session_id() != piece.session.id() {
                piece.counters.add("a stream was opened on the next session", 1);
            }
            exchange(stream, piece.rng.next_u64(), piece.bytes).await
        })
    },
};
