//! What windows need of an outcome, borrowed from wherever it lies.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer};

use crate::{Branch, Confidence, ErrorType, FallbackReason, Lane, MicroUsd, Outcome, Status, Tier, UtcMicros};

/// An outcome without what no window counts: the answer itself above all. Names and meanings are those of [`Outcome`].
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[expect(missing_docs, reason = "an outcome's fields")]
pub struct Measured<'a> {
    #[serde(borrow)]
    pub upload_id: Cow<'a, str>,
    pub version: u32,
    pub lane: Lane,
    pub tier: Option<Tier>,
    #[serde(borrow, default, deserialize_with = "borrowed")]
    pub region: Option<Cow<'a, str>>,
    pub status: Status,
    pub branch: Option<Branch>,
    #[serde(default)]
    pub fallback_reason: Option<FallbackReason>,
    #[serde(borrow, deserialize_with = "borrowed")]
    pub model: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "borrowed")]
    pub experiment: Option<Cow<'a, str>>,
    #[serde(borrow, deserialize_with = "borrowed")]
    pub arm: Option<Cow<'a, str>>,
    pub confidence: Option<Confidence>,
    pub below_threshold: bool,
    pub error_type: Option<ErrorType>,
    pub queued_ms: u64,
    pub inference_ms: u64,
    pub total_ms: u64,
    pub cost_micro_usd: MicroUsd,
    pub arrived_at: UtcMicros,
    pub completed_at: UtcMicros,
}

/// Serde borrows no text in an option of its own accord.
fn borrowed<'de: 'a, 'a, D: Deserializer<'de>>(json: D) -> Result<Option<Cow<'a, str>>, D::Error> {
    #[derive(Deserialize)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
    Ok(Option::<Text<'a>>::deserialize(json)?.map(|text| text.0))
}

impl<'a> From<&'a Outcome> for Measured<'a> {
    fn from(outcome: &'a Outcome) -> Self {
        Self {
            upload_id: outcome.upload_id.as_str().into(),
            version: outcome.version,
            lane: outcome.lane,
            tier: outcome.tier,
            region: outcome.region.as_deref().map(Cow::Borrowed),
            status: outcome.status,
            branch: outcome.branch,
            fallback_reason: outcome.fallback_reason,
            model: outcome.model.as_deref().map(Cow::Borrowed),
            experiment: outcome.experiment.as_deref().map(Cow::Borrowed),
            arm: outcome.arm.as_deref().map(Cow::Borrowed),
            confidence: outcome.confidence,
            below_threshold: outcome.below_threshold,
            error_type: outcome.error_type,
            queued_ms: outcome.queued_ms,
            inference_ms: outcome.inference_ms,
            total_ms: outcome.total_ms,
            cost_micro_usd: outcome.cost_micro_usd,
            arrived_at: outcome.arrived_at,
            completed_at: outcome.completed_at,
        }
    }
}

impl Measured<'_> {
    /// Whether another outcome of the same upload may stand in its place, or it in another's: only dead letters are
    /// redriven.
    pub fn may_be_redriven(&self) -> bool {
        self.version > 1 || self.status == Status::DeadLettered
    }
}
