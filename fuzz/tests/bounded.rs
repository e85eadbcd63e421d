//! A little of each target, so that `cargo test` knows that they run. `.ci/run` does more, by the program.
#![allow(missing_docs, reason = "test names say it")]

use fuzz::{Rulings, codec, watch_rulings, wire};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

fn bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    ChaCha8Rng::seed_from_u64(seed).fill(&mut bytes[..]);
    bytes
}

#[test]
fn a_decoder_takes_any_bytes() {
    assert_eq!(codec(&bytes(1, 1_200_000)), 100_000);
}

#[test]
fn some_sessions_with_a_hostile_peer_come_to_their_end() {
    watch_rulings();
    let frames: u64 = (0..20).map(|seed| wire(&bytes(seed, 600)).frames).sum();
    assert!(frames > 20 * 50, "{frames}");
    let counts = Rulings::counts();
    assert!(counts.iter().any(|(name, count)| *name == "Pass" && *count > 0), "{counts:?}");
}
