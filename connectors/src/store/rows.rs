//! Outcomes and attempts as rows of the store, both ways.

use std::fmt::Display;
use std::str::FromStr;

use records::{Attempt, Confidence, MicroUsd, Outcome, UploadId, UtcMicros};
use sqlx::query_builder::Separated;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, Sqlite};

use super::StoreError;

/// The columns that [`bind_outcome`] fills.
pub(super) const OUTCOME_COLUMNS: &str =
    "seq, upload_id, version, customer_id, source, lane, tier, status, branch, model,
    arm, confidence, below_threshold, metadata, field_confidence, attempts, error, error_type, queued_ms, inference_ms,
    total_ms, cost_micro_usd, arrived_at, completed_at, training_consent";

/// The columns that [`bind_attempt`] fills.
pub(super) const ATTEMPT_COLUMNS: &str =
    "seq, position, number, branch, model, started_at, duration_ms, cost_micro_usd, fault";

/// A row of the outcomes, in the order of [`OUTCOME_COLUMNS`].
pub(super) fn bind_outcome<'a>(mut row: Separated<'_, 'a, Sqlite, &'static str>, seq: u64, outcome: &'a Outcome) {
    row.push_bind(seq as i64)
        .push_bind(outcome.upload_id.as_str())
        .push_bind(outcome.version)
        .push_bind(outcome.customer_id.as_deref())
        .push_bind(outcome.source.as_deref())
        .push_bind(outcome.lane.as_str())
        .push_bind(outcome.tier.map(records::Tier::as_str))
        .push_bind(outcome.status.as_str())
        .push_bind(outcome.branch.map(records::Branch::as_str))
        .push_bind(outcome.model.as_deref())
        .push_bind(outcome.arm.as_deref())
        .push_bind(outcome.confidence.map(Confidence::get))
        .push_bind(outcome.below_threshold)
        .push_bind(json(&outcome.metadata))
        .push_bind(json(&outcome.field_confidence))
        .push_bind(outcome.attempts)
        .push_bind(outcome.error.as_deref())
        .push_bind(outcome.error_type.map(records::ErrorType::as_str))
        .push_bind(signed(outcome.queued_ms))
        .push_bind(signed(outcome.inference_ms))
        .push_bind(signed(outcome.total_ms))
        .push_bind(signed(outcome.cost_micro_usd.0))
        .push_bind(micros(outcome.arrived_at))
        .push_bind(micros(outcome.completed_at))
        .push_bind(outcome.training_consent);
}

/// The outcome of a row with [`OUTCOME_COLUMNS`].
pub(super) fn outcome(row: &SqliteRow) -> Result<Outcome, StoreError> {
    let text = |name: &str| -> Result<Option<String>, StoreError> { Ok(row.try_get(name)?) };
    let count = |name: &str| unsigned(name, row.try_get(name)?);
    let at = |name: &str| moment(name, row.try_get(name)?);
    let confidence: Option<f64> = row.try_get("confidence")?;
    Ok(Outcome {
        upload_id: UploadId::try_from(row.try_get::<String, _>("upload_id")?).map_err(StoreError::Damaged)?,
        version: row.try_get("version")?,
        customer_id: text("customer_id")?,
        source: text("source")?,
        lane: parsed(row, "lane")?,
        tier: text("tier")?.map(|text| parse("tier", &text)).transpose()?,
        status: parsed(row, "status")?,
        branch: text("branch")?.map(|text| parse("branch", &text)).transpose()?,
        model: text("model")?,
        arm: text("arm")?,
        confidence: confidence.map(Confidence::try_from).transpose().map_err(StoreError::Damaged)?,
        below_threshold: row.try_get("below_threshold")?,
        metadata: from_json(row, "metadata")?,
        field_confidence: from_json(row, "field_confidence")?,
        attempts: row.try_get("attempts")?,
        error: text("error")?,
        error_type: text("error_type")?.map(|text| parse("error_type", &text)).transpose()?,
        queued_ms: count("queued_ms")?,
        inference_ms: count("inference_ms")?,
        total_ms: count("total_ms")?,
        cost_micro_usd: MicroUsd(count("cost_micro_usd")?),
        arrived_at: at("arrived_at")?,
        completed_at: at("completed_at")?,
        training_consent: row.try_get("training_consent")?,
    })
}

/// A row of the attempts, in the order of [`ATTEMPT_COLUMNS`].
pub(super) fn bind_attempt<'a>(
    mut row: Separated<'_, 'a, Sqlite, &'static str>,
    seq: u64,
    position: u32,
    attempt: &'a Attempt,
) {
    row.push_bind(seq as i64)
        .push_bind(position)
        .push_bind(attempt.number)
        .push_bind(attempt.branch.as_str())
        .push_bind(attempt.model.as_str())
        .push_bind(micros(attempt.started_at))
        .push_bind(signed(attempt.duration_ms))
        .push_bind(signed(attempt.cost.0))
        .push_bind(attempt.fault.as_ref().map(json));
}

/// The attempt of a row with [`ATTEMPT_COLUMNS`].
pub(super) fn attempt(row: &SqliteRow) -> Result<Attempt, StoreError> {
    let fault: Option<String> = row.try_get("fault")?;
    Ok(Attempt {
        number: row.try_get("number")?,
        branch: parsed(row, "branch")?,
        model: row.try_get("model")?,
        started_at: moment("started_at", row.try_get("started_at")?)?,
        duration_ms: unsigned("duration_ms", row.try_get("duration_ms")?)?,
        cost: MicroUsd(unsigned("cost_micro_usd", row.try_get("cost_micro_usd")?)?),
        fault: fault.map(|_| from_json(row, "fault")).transpose()?,
    })
}

/// A value that is stored as its name.
pub(super) fn parsed<T: FromStr<Err = String>>(row: &SqliteRow, name: &str) -> Result<T, StoreError> {
    parse(name, row.try_get(name)?)
}

pub(super) fn parse<T: FromStr<Err = String>>(name: &str, text: &str) -> Result<T, StoreError> {
    text.parse().map_err(|error| damaged(name, error))
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("records are JSON: their maps have text keys")
}

fn from_json<T: serde::de::DeserializeOwned>(row: &SqliteRow, name: &str) -> Result<T, StoreError> {
    serde_json::from_str(row.try_get(name)?).map_err(|error| damaged(name, error))
}

/// SQLite's integers are signed; what does not fit is as good as endless.
pub(super) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

pub(super) fn unsigned(name: &str, value: i64) -> Result<u64, StoreError> {
    u64::try_from(value).map_err(|error| damaged(name, error))
}

pub(super) fn micros(moment: UtcMicros) -> i64 {
    signed(moment.0)
}

pub(super) fn moment(name: &str, micros: i64) -> Result<UtcMicros, StoreError> {
    unsigned(name, micros).map(UtcMicros)
}

fn damaged(name: &str, error: impl Display) -> StoreError {
    StoreError::Damaged(format!("{name}: {error}"))
}
