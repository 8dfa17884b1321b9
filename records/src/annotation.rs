//! What a model says about an upload.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Confidence, MicroUsd};

/// The described fields, in the order of the metadata schema.
pub type Metadata = serde_json::Map<String, serde_json::Value>;

/// One model's answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Annotation {
    /// The model that answered.
    pub model: String,
    /// The answer; valid under the metadata schema.
    pub metadata: Metadata,
    /// The least sure field decides, free text aside; see `models::confidence`. `None` where the model gives no measure.
    pub confidence: Option<Confidence>,
    /// Confidence by field; empty where the model gives no measure.
    pub field_confidence: BTreeMap<String, Confidence>,
    /// The model's own work, its turn's wait excluded; for a batch, the batch's.
    pub inference_ms: u64,
    /// What the call cost.
    pub cost: MicroUsd,
}
