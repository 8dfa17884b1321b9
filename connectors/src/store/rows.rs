//! Outcomes and attempts as rows of the store, both ways.

use std::fmt::Display;
use std::str::FromStr;

use records::{Attempt, Confidence, MicroUsd, Outcome, UploadId, UtcMicros};

use super::StoreError;
use super::values::{Row, Value};

/// The log, with the columns of [`outcome_values`].
pub(super) const OUTCOMES: &str = "outcomes (seq, upload_id, version, customer_id, source, lane, tier, region, status, branch,
    fallback_reason, model, experiment, arm, confidence, below_threshold, metadata, field_confidence, attempts, error, error_type, queued_ms,
    inference_ms, total_ms, cost_micro_usd, arrived_at, completed_at, training_consent)";

/// The attempts, with the columns of [`attempt_values`].
pub(super) const ATTEMPTS: &str =
    "attempts (seq, position, number, branch, model, started_at, duration_ms, cost_micro_usd, fault)";

/// A row of [`OUTCOMES`].
pub(super) fn outcome_values(seq: u64, outcome: &Outcome) -> Vec<Value<'_>> {
    vec![
        seq.into(),
        outcome.upload_id.as_str().into(),
        outcome.version.into(),
        outcome.customer_id.as_deref().into(),
        outcome.source.as_deref().into(),
        outcome.lane.as_str().into(),
        outcome.tier.map(records::Tier::as_str).into(),
        outcome.region.as_deref().into(),
        outcome.status.as_str().into(),
        outcome.branch.map(records::Branch::as_str).into(),
        outcome.fallback_reason.map(records::FallbackReason::as_str).into(),
        outcome.model.as_deref().into(),
        outcome.experiment.as_deref().into(),
        outcome.arm.as_deref().into(),
        outcome.confidence.map(Confidence::get).into(),
        outcome.below_threshold.into(),
        json(&outcome.metadata).into(),
        json(&outcome.field_confidence).into(),
        outcome.attempts.into(),
        outcome.error.as_deref().into(),
        outcome.error_type.map(records::ErrorType::as_str).into(),
        outcome.queued_ms.into(),
        outcome.inference_ms.into(),
        outcome.total_ms.into(),
        outcome.cost_micro_usd.0.into(),
        outcome.arrived_at.0.into(),
        outcome.completed_at.0.into(),
        outcome.training_consent.into(),
    ]
}

/// The outcome of a row with the columns of [`OUTCOMES`].
pub(super) fn outcome(row: &Row) -> Result<Outcome, StoreError> {
    let text = |name: &str| row.get::<Option<String>>(name);
    let confidence: Option<f64> = row.get("confidence")?;
    Ok(Outcome {
        upload_id: UploadId::try_from(row.get::<String>("upload_id")?).map_err(StoreError::Damaged)?,
        version: row.unsigned("version")?,
        customer_id: text("customer_id")?,
        source: text("source")?,
        lane: parsed(row, "lane")?,
        tier: text("tier")?.map(|text| parse("tier", &text)).transpose()?,
        region: text("region")?,
        status: parsed(row, "status")?,
        branch: text("branch")?.map(|text| parse("branch", &text)).transpose()?,
        fallback_reason: text("fallback_reason")?.map(|text| parse("fallback_reason", &text)).transpose()?,
        model: text("model")?,
        experiment: text("experiment")?,
        arm: text("arm")?,
        confidence: confidence.map(Confidence::try_from).transpose().map_err(StoreError::Damaged)?,
        below_threshold: row.get("below_threshold")?,
        metadata: from_json(row, "metadata")?,
        field_confidence: from_json(row, "field_confidence")?,
        attempts: row.unsigned("attempts")?,
        error: text("error")?,
        error_type: text("error_type")?.map(|text| parse("error_type", &text)).transpose()?,
        queued_ms: row.unsigned("queued_ms")?,
        inference_ms: row.unsigned("inference_ms")?,
        total_ms: row.unsigned("total_ms")?,
        cost_micro_usd: MicroUsd(row.unsigned("cost_micro_usd")?),
        arrived_at: moment(row, "arrived_at")?,
        completed_at: moment(row, "completed_at")?,
        training_consent: row.get("training_consent")?,
    })
}

/// A row of [`ATTEMPTS`].
pub(super) fn attempt_values(seq: u64, position: u32, attempt: &Attempt) -> Vec<Value<'_>> {
    vec![
        seq.into(),
        position.into(),
        attempt.number.into(),
        attempt.branch.as_str().into(),
        attempt.model.as_str().into(),
        attempt.started_at.0.into(),
        attempt.duration_ms.into(),
        attempt.cost.0.into(),
        Value::Text(attempt.fault.as_ref().map(|fault| json(fault).into())),
    ]
}

/// The attempt of a row with the columns of [`ATTEMPTS`].
pub(super) fn attempt(row: &Row) -> Result<Attempt, StoreError> {
    let fault: Option<&str> = row.get("fault")?;
    Ok(Attempt {
        number: row.unsigned("number")?,
        branch: parsed(row, "branch")?,
        model: row.get("model")?,
        started_at: moment(row, "started_at")?,
        duration_ms: row.unsigned("duration_ms")?,
        cost: MicroUsd(row.unsigned("cost_micro_usd")?),
        fault: fault.map(|_| from_json(row, "fault")).transpose()?,
    })
}

/// A value that is stored as its name.
pub(super) fn parsed<T: FromStr<Err = String>>(row: &Row, name: &str) -> Result<T, StoreError> {
    parse(name, row.get(name)?)
}

pub(super) fn parse<T: FromStr<Err = String>>(name: &str, text: &str) -> Result<T, StoreError> {
    text.parse().map_err(|error| damaged(name, error))
}

pub(super) fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("records are JSON: their maps have text keys")
}

pub(super) fn from_json<T: serde::de::DeserializeOwned>(row: &Row, name: &str) -> Result<T, StoreError> {
    serde_json::from_str(row.get(name)?).map_err(|error| damaged(name, error))
}

pub(super) fn unsigned<T: TryFrom<i64, Error: Display>>(name: &str, value: i64) -> Result<T, StoreError> {
    T::try_from(value).map_err(|error| damaged(name, error))
}

pub(super) fn moment(row: &Row, name: &str) -> Result<UtcMicros, StoreError> {
    row.unsigned(name).map(UtcMicros)
}

fn damaged(name: &str, error: impl Display) -> StoreError {
    StoreError::Damaged(format!("{name}: {error}"))
}
