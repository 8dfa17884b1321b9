//! A number in [0, 1) that depends on nothing but the text: the same on every worker, for ever.

use sha2::{Digest, Sha256};

/// The first 53 bits of SHA-256 over `salt`, a zero byte and `unit`, as a fraction.
pub fn fraction(salt: &str, unit: &str) -> f64 {
    let digest = Sha256::new().chain_update(salt).chain_update([0]).chain_update(unit).finalize();
    let bits = digest.iter().take(8).fold(0u64, |bits, byte| bits << 8 | u64::from(*byte));
    (bits >> 11) as f64 / (1u64 << 53) as f64
}
