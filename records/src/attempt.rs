//! One try of one model at one upload.

use serde::{Deserialize, Serialize};

use crate::{Branch, Fault, MicroUsd, UtcMicros};

/// One call of one model. An upload's attempt number counts rounds: primary and fallback of the same round share it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// 1 for the first round.
    pub number: u32,
    /// Primary or fallback.
    pub branch: Branch,
    /// The model that was asked.
    pub model: String,
    /// When it was asked.
    pub started_at: UtcMicros,
    /// How long it took, waiting for its turn included.
    pub duration_ms: u64,
    /// What it cost.
    pub cost: MicroUsd,
    /// Why it failed; `None` where it answered.
    pub fault: Option<Fault>,
}
