//! From what all randomness of a run is drawn.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use twox_hash::XxHash3_64;

/// A generator for one purpose of one seed.
pub fn rng(seed: u64, purpose: &str) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(XxHash3_64::oneshot(purpose.as_bytes()));
    rng
}
