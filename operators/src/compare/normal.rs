//! The standard normal distribution.

use std::f64::consts::SQRT_2;

/// The probability of a value below `z`.
pub(super) fn below(z: f64) -> f64 {
    0.5 * libm::erfc(-z / SQRT_2)
}
