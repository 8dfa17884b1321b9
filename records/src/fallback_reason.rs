//! Why the paid model was asked.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::ErrorType;

/// Why the paid model was asked. As text: `unsure`, or the name of the error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "&'static str", try_from = "String")]
pub enum FallbackReason {
    /// The primary had answered, but was less sure than the threshold.
    Unsure,
    /// The primary had failed so.
    Failed(ErrorType),
}

impl FallbackReason {
    /// The name in outcomes, windows and the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unsure => "unsure",
            Self::Failed(kind) => kind.as_str(),
        }
    }
}

impl fmt::Display for FallbackReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for FallbackReason {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "unsure" => Ok(Self::Unsure),
            error => error.parse().map(Self::Failed),
        }
    }
}

impl From<FallbackReason> for &'static str {
    fn from(reason: FallbackReason) -> Self {
        reason.as_str()
    }
}

impl TryFrom<String> for FallbackReason {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}
