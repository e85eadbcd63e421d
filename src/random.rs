//! Randomness: one seed, and independent generators derived from it.
//!
//! A seed decides a run, so nothing else draws from the operating system. Each user derives a generator under its own
//! label: what one draws does not change what another gets.

use rand::{SeedableRng, TryRng, rngs::SysRng};
use rand_chacha::ChaCha8Rng;

/// The generator for `label`.
///
/// Generators of one seed have the same key and differ in their stream number, so they do not overlap.
pub(crate) fn derive(seed: u64, label: &str) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(fnv1a(label.as_bytes()));
    rng
}

/// Draws a seed from the operating system. Nothing else asks it for randomness.
///
/// # Panics
///
/// If the operating system has no randomness.
pub(crate) fn draw_seed() -> u64 {
    SysRng.try_next_u64().expect("the operating system has no randomness")
}

/// The 64-bit FNV-1a hash: std's hashers may change from release to release, and the meaning of a seed must not.
fn fnv1a(bytes: &[u8]) -> u64 {
    const OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    bytes.iter().fold(OFFSET_BASIS, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME))
}

#[cfg(test)]
mod tests {
    use rand::Rng;

    use super::*;

    fn first(seed: u64, label: &str) -> u64 {
        derive(seed, label).next_u64()
    }

    #[test]
    fn a_seed_and_a_label_decide_the_generator() {
        assert_eq!(first(7, "backoff"), first(7, "backoff"));
        assert_ne!(first(7, "backoff"), first(8, "backoff"));
        assert_ne!(first(7, "backoff"), first(7, "proof"));
    }

    #[test]
    fn the_hash_is_fnv_1a() {
        // The test vectors of the FNV draft (draft-eastlake-fnv, appendix C).
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv1a(b"foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn two_drawn_seeds_differ() {
        assert_ne!(draw_seed(), draw_seed());
    }
}
