//! Values with a rule of their own: identifiers, probabilities, money.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The name of one upload, unique for ever: 1 to 128 of `A-Z a-z 0-9 . _ : -`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct UploadId(String);

impl UploadId {
    /// The identifier as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for UploadId {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | ':' | '-');
        if (1..=128).contains(&text.len()) && text.chars().all(allowed) {
            Ok(Self(text))
        } else {
            Err(format!("upload_id {text:?} must be 1 to 128 characters of A-Z a-z 0-9 . _ : -"))
        }
    }
}

impl From<UploadId> for String {
    fn from(id: UploadId) -> String {
        id.0
    }
}

impl fmt::Display for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A probability of being right, in [0, 1].
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Confidence(f64);

impl Confidence {
    /// Certainly wrong, or nothing known.
    pub const ZERO: Self = Self(0.0);

    /// The number, in [0, 1].
    pub fn get(self) -> f64 {
        self.0
    }
}

impl TryFrom<f64> for Confidence {
    type Error = String;

    fn try_from(value: f64) -> Result<Self, String> {
        if (0.0..=1.0).contains(&value) {
            Ok(Self(value))
        } else {
            Err(format!("a confidence is in [0, 1], not {value}"))
        }
    }
}

impl From<Confidence> for f64 {
    fn from(confidence: Confidence) -> f64 {
        confidence.0
    }
}

/// Millionths of a US dollar.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MicroUsd(pub u64);

impl std::ops::Add for MicroUsd {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upload_id_outside_its_alphabet_or_length_cannot_be_built() {
        for bad in ["", "a b", "a/b", "ü", &"x".repeat(129)] {
            assert!(UploadId::try_from(bad.to_string()).is_err(), "{bad:?} was taken");
        }
        assert_eq!(UploadId::try_from("a-1:b_2.c".to_string()).map(String::from), Ok("a-1:b_2.c".to_string()));
    }

    #[test]
    fn a_confidence_outside_the_unit_interval_cannot_be_built() {
        for bad in [-0.001, 1.001, f64::NAN, f64::INFINITY] {
            assert!(Confidence::try_from(bad).is_err(), "{bad} was taken");
        }
    }
}
