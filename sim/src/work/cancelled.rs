//! A caller who loses patience.

use std::time::Duration;

use rand::{Rng, RngExt};
use tokio::time::timeout;

use super::piece::{Failed, Piece, Work};
use super::request::exchange;

pub(super) const WORK: Work = Work {
    name: "cancelled",
    about: "Drops requests at any moment, opening and waiting included, and then does one to its end",
    drawn: true,
    run: |piece| Box::pin(cancelled(piece)),
};

const TIMES_MAX: usize = 5;

async fn cancelled(piece: &mut Piece) -> Result<(), Failed> {
    for _ in 0..piece.rng.random_range(1..=TIMES_MAX) {
        let seed = piece.rng.next_u64();
        let patience = Duration::from_millis(piece.rng.random_range(0..150));
        let request = async {
            exchange(piece.session.open_stream().await.map_err(std::io::Error::from)?, seed, piece.bytes).await
        };
        match timeout(patience, request).await {
            Ok(done) => done?,
            Err(_) => piece.counters.add("request dropped by its caller", 1),
        }
    }
    let seed = piece.rng.next_u64();
    exchange(piece.open().await?, seed, 100).await
}
