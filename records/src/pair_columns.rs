//! Uploads that were replayed as Arrow columns: one row each, the outcome of the past beside that of the replay.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Float64Array, TimestampMicrosecondArray, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;

use crate::dead_letter_columns::text;
use crate::{Branch, Confidence, ErrorType, Outcome, Status, Tier};

/// An upload of the past, and what became of it when it was replayed.
#[derive(Clone, Debug, PartialEq)]
pub struct Pair {
    /// Its outcome in the past.
    pub original: Outcome,
    /// Its outcome in the replay; `None` where there is none yet, or never will be.
    pub replay: Option<Outcome>,
}

/// What may be said of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PairState {
    /// It has both outcomes, and they are compared.
    Compared,
    /// It is not replayed yet.
    Open,
    /// Its audio could not be had any more.
    AudioGone,
    /// Its event could not be read in the past, so there is nothing to replay.
    NoEvent,
}

crate::upload::text_form!(PairState {
    Compared = "compared",
    Open = "open",
    AudioGone = "audio_gone",
    NoEvent = "no_event"
});

impl Pair {
    /// What may be said of it.
    pub fn state(&self) -> PairState {
        match &self.replay {
            _ if self.original.upload().is_none() => PairState::NoEvent,
            None => PairState::Open,
            Some(replay) if replay.error_type == Some(ErrorType::AudioUnreachable) => PairState::AudioGone,
            Some(_) => PairState::Compared,
        }
    }

    /// Both outcomes, where both have an answer.
    pub fn answered(&self) -> Option<[&Outcome; 2]> {
        let replay = self.replay.as_ref()?;
        let both = [&self.original, replay];
        both.iter().all(|outcome| outcome.status == Status::Completed).then_some(both)
    }
}

/// The columns of a pair. `same_answer` is null where one of the two has no answer; `replay_…` is null where there is no
/// outcome. Metadata and confidences by field are JSON objects as text.
pub fn pair_schema() -> Schema {
    let field = |name: &str, kind: DataType, nullable: bool| Field::new(name, kind, nullable);
    let mut fields = vec![
        field("upload_id", DataType::Utf8, false),
        field("customer_id", DataType::Utf8, true),
        field("tier", DataType::Utf8, true),
        field("source", DataType::Utf8, true),
        field("arrived_at", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), false),
        field("state", DataType::Utf8, false),
        field("same_answer", DataType::Boolean, true),
    ];
    for (of, nullable) in [("original", false), ("replay", true)] {
        let kinds = [
            ("status", DataType::Utf8, nullable),
            ("branch", DataType::Utf8, true),
            ("model", DataType::Utf8, true),
            ("confidence", DataType::Float64, true),
            ("below_threshold", DataType::Boolean, nullable),
            ("metadata", DataType::Utf8, nullable),
            ("field_confidence", DataType::Utf8, nullable),
            ("inference_ms", DataType::UInt64, nullable),
            ("cost_micro_usd", DataType::UInt64, nullable),
            ("error_type", DataType::Utf8, true),
            ("error", DataType::Utf8, true),
        ];
        fields.extend(kinds.into_iter().map(|(name, kind, nullable)| field(&format!("{of}_{name}"), kind, nullable)));
    }
    Schema::new(fields)
}

/// Pairs as one batch under [`pair_schema`], in their order.
///
/// # Errors
/// Arrow's, where a column would not fit the schema; that is a defect of this function.
pub fn pair_batch(pairs: &[Pair]) -> Result<RecordBatch, ArrowError> {
    let arrived = pairs.iter().map(|pair| i64::try_from(pair.original.arrived_at.0).unwrap_or(i64::MAX));
    let same = |pair: &Pair| pair.answered().map(|[before, after]| before.metadata == after.metadata);
    let mut columns: Vec<ArrayRef> = vec![
        text(pairs, |pair| Some(pair.original.upload_id.as_str())),
        text(pairs, |pair| pair.original.customer_id.as_deref()),
        text(pairs, |pair| pair.original.tier.map(Tier::as_str)),
        text(pairs, |pair| pair.original.source.as_deref()),
        Arc::new(TimestampMicrosecondArray::from_iter_values(arrived).with_timezone("UTC")),
        text(pairs, |pair| Some(pair.state().as_str())),
        Arc::new(pairs.iter().map(same).collect::<BooleanArray>()),
    ];
    columns.extend(side(&pairs.iter().map(|pair| Some(&pair.original)).collect::<Vec<_>>())?);
    columns.extend(side(&pairs.iter().map(|pair| pair.replay.as_ref()).collect::<Vec<_>>())?);
    RecordBatch::try_new(Arc::new(pair_schema()), columns)
}

/// The columns of one of the two.
fn side(outcomes: &[Option<&Outcome>]) -> Result<Vec<ArrayRef>, ArrowError> {
    let count = |of: fn(&Outcome) -> u64| -> ArrayRef {
        Arc::new(outcomes.iter().map(|outcome| outcome.map(of)).collect::<UInt64Array>())
    };
    let json = |of: fn(&Outcome) -> serde_json::Result<String>| -> Result<ArrayRef, ArrowError> {
        let texts: Result<Vec<_>, _> = outcomes.iter().map(|outcome| outcome.map(of).transpose()).collect();
        let texts = texts.map_err(|error| ArrowError::JsonError(error.to_string()))?;
        Ok(text(&texts, |text| text.as_deref()))
    };
    let sure = |outcome: &Option<&Outcome>| outcome.and_then(|it| it.confidence).map(Confidence::get);
    Ok(vec![
        text(outcomes, |it| Some(it.as_ref()?.status.as_str())),
        text(outcomes, |it| it.as_ref()?.branch.map(Branch::as_str)),
        text(outcomes, |it| it.as_ref()?.model.as_deref()),
        Arc::new(outcomes.iter().map(sure).collect::<Float64Array>()),
        Arc::new(outcomes.iter().map(|it| it.map(|it| it.below_threshold)).collect::<BooleanArray>()),
        json(|it| serde_json::to_string(&it.metadata))?,
        json(|it| serde_json::to_string(&it.field_confidence))?,
        count(|it| it.inference_ms),
        count(|it| it.cost_micro_usd.0),
        text(outcomes, |it| it.as_ref()?.error_type.map(ErrorType::as_str)),
        text(outcomes, |it| it.as_ref()?.error.as_deref()),
    ])
}
