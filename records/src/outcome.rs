//! How an upload ended: one row each, for ever.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Confidence, ErrorType, FallbackReason, Lane, Metadata, MicroUsd, Mode, Tier, Upload, UploadId, UtcMicros};

/// How an upload ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It has metadata.
    Completed,
    /// It has none, and why stands in `error`.
    DeadLettered,
}

/// Whose answer an outcome carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Branch {
    /// The self-hosted model.
    Primary,
    /// The paid model.
    Fallback,
    /// An earlier outcome of the same audio.
    Cache,
}

crate::upload::text_form!(Status { Completed = "completed", DeadLettered = "dead_lettered" });
crate::upload::text_form!(Branch { Primary = "primary", Fallback = "fallback", Cache = "cache" });

/// The one row in which an upload ends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// The upload.
    pub upload_id: UploadId,
    /// 1, and one more after each redrive: of an upload's rows, the largest version counts.
    pub version: u32,
    /// Whose upload it was; `None` where the event could not be read.
    pub customer_id: Option<String>,
    /// Where its audio is; `None` where the event could not be read.
    pub source: Option<String>,
    /// The priority it ran under.
    pub lane: Lane,
    /// `None` where the event could not be read.
    pub tier: Option<Tier>,
    /// Where the platform took it in; `None` where its event does not say so.
    #[serde(default)]
    pub region: Option<String>,
    /// Completed or dead-lettered.
    pub status: Status,
    /// Whose answer this is; `None` without one.
    pub branch: Option<Branch>,
    /// Why the paid model was asked in the round that ended it; `None` where it was not.
    #[serde(default)]
    pub fallback_reason: Option<FallbackReason>,
    /// The model whose answer this is; `None` without one.
    pub model: Option<String>,
    /// The experiment that it counts in; `None` where none ran, or its arm had been stopped.
    #[serde(default)]
    pub experiment: Option<String>,
    /// The experiment arm; `None` where the event could not be read.
    pub arm: Option<String>,
    /// How sure the answering model was; `None` without a measure.
    pub confidence: Option<Confidence>,
    /// The primary's answer was kept although it was less sure than the threshold.
    pub below_threshold: bool,
    /// The answer; empty without one.
    pub metadata: Metadata,
    /// Confidence by field.
    pub field_confidence: BTreeMap<String, Confidence>,
    /// Rounds that were begun: 0 where nothing was asked of a model.
    pub attempts: u32,
    /// Why it was dead-lettered, in words.
    pub error: Option<String>,
    /// Why it was dead-lettered, as a type.
    pub error_type: Option<ErrorType>,
    /// From arrival to the first work of a model that answered, or to the end of the first call that failed.
    pub queued_ms: u64,
    /// Models' work on answers, all attempts together.
    pub inference_ms: u64,
    /// From arrival to this outcome.
    pub total_ms: u64,
    /// Spent on calls, all attempts together.
    pub cost_micro_usd: MicroUsd,
    /// First admission, written to the store before work began.
    pub arrived_at: UtcMicros,
    /// When this outcome was made.
    pub completed_at: UtcMicros,
    /// Whether models may learn from the upload.
    #[serde(default)]
    pub training_consent: bool,
}

impl Outcome {
    /// The upload that ended so, as far as its outcome tells; `None` where its event could not be read. Nobody waits for it any
    /// more.
    pub fn upload(&self) -> Option<Upload> {
        Some(Upload {
            upload_id: self.upload_id.clone(),
            customer_id: self.customer_id.clone()?,
            tier: self.tier?,
            mode: Mode::Bulk,
            audio_uri: self.source.clone()?,
            uploaded_at: None,
            region: self.region.clone(),
            training_consent: self.training_consent,
        })
    }
}
