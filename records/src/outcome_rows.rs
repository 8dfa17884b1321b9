//! Outcomes out of Arrow columns: what [`outcome_batch`](crate::outcome_batch) made of them, read back.

use std::str::FromStr;

use arrow::array::{Array, AsArray, PrimitiveArray, StringArray};
use arrow::datatypes::{ArrowPrimitiveType, Float64Type, TimestampMicrosecondType, UInt32Type, UInt64Type};
use arrow::record_batch::RecordBatch;
use serde::de::DeserializeOwned;

use crate::{Confidence, MicroUsd, Outcome, UploadId, UtcMicros};

/// A column that holds no outcomes' values.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the column {column} {reason}")]
pub struct WrongColumn {
    /// Its name.
    pub column: &'static str,
    /// What is wrong with it.
    pub reason: String,
}

/// The outcomes of a batch under [`outcome_schema`](crate::outcome_schema), in their order. Files of a time when there were no
/// experiments, regions or reasons, or nobody was asked for consent, lack those columns: then there was none.
///
/// # Errors
/// [`WrongColumn`].
pub fn outcomes_of(batch: &RecordBatch) -> Result<Vec<Outcome>, WrongColumn> {
    (0..batch.num_rows()).map(|row| outcome(&Row { batch, row })).collect()
}

fn outcome(row: &Row) -> Result<Outcome, WrongColumn> {
    Ok(Outcome {
        upload_id: row.checked("upload_id", row.required("upload_id", row.text("upload_id")?)?, UploadId::try_from)?,
        version: row.number::<UInt32Type>("version")?,
        customer_id: row.text("customer_id")?,
        source: row.text("source")?,
        lane: row.required("lane", row.parsed("lane")?)?,
        tier: row.parsed("tier")?,
        status: row.required("status", row.parsed("status")?)?,
        region: if row.has("region") { row.text("region")? } else { None },
        branch: row.parsed("branch")?,
        fallback_reason: if row.has("fallback_reason") { row.parsed("fallback_reason")? } else { None },
        model: row.text("model")?,
        experiment: if row.has("experiment") { row.text("experiment")? } else { None },
        arm: row.text("arm")?,
        confidence: match row.value::<Float64Type>("confidence")? {
            Some(sure) => Some(row.checked("confidence", sure, Confidence::try_from)?),
            None => None,
        },
        below_threshold: row.flag("below_threshold")?,
        metadata: row.json("metadata")?,
        field_confidence: row.json("field_confidence")?,
        attempts: row.number::<UInt32Type>("attempts")?,
        error: row.text("error")?,
        error_type: row.parsed("error_type")?,
        queued_ms: row.number::<UInt64Type>("queued_ms")?,
        inference_ms: row.number::<UInt64Type>("inference_ms")?,
        total_ms: row.number::<UInt64Type>("total_ms")?,
        cost_micro_usd: MicroUsd(row.number::<UInt64Type>("cost_micro_usd")?),
        arrived_at: row.moment("arrived_at")?,
        completed_at: row.moment("completed_at")?,
        training_consent: row.has("training_consent") && row.flag("training_consent")?,
    })
}

struct Row<'a> {
    batch: &'a RecordBatch,
    row: usize,
}

fn wrong(column: &'static str, reason: impl Into<String>) -> WrongColumn {
    WrongColumn { column, reason: reason.into() }
}

impl<'a> Row<'a> {
    fn has(&self, name: &str) -> bool {
        self.batch.column_by_name(name).is_some()
    }

    /// The column as an array of its type, and whether this row has a value.
    fn column<A: Array>(
        &self,
        name: &'static str,
        cast: impl Fn(&'a dyn Array) -> Option<&'a A>,
    ) -> Result<Option<&'a A>, WrongColumn> {
        let column = self.batch.column_by_name(name).ok_or_else(|| wrong(name, "is missing"))?;
        let typed = cast(column).ok_or_else(|| wrong(name, format!("is of type {}", column.data_type())))?;
        Ok(typed.is_valid(self.row).then_some(typed))
    }

    fn required<T>(&self, name: &'static str, value: Option<T>) -> Result<T, WrongColumn> {
        value.ok_or_else(|| wrong(name, "has empty values"))
    }

    fn text(&self, name: &'static str) -> Result<Option<String>, WrongColumn> {
        let column: Option<&StringArray> = self.column(name, |column| column.as_string_opt())?;
        Ok(column.map(|column| column.value(self.row).to_owned()))
    }

    fn value<T: ArrowPrimitiveType>(&self, name: &'static str) -> Result<Option<T::Native>, WrongColumn> {
        let column: Option<&PrimitiveArray<T>> = self.column(name, |column| column.as_primitive_opt::<T>())?;
        Ok(column.map(|column| column.value(self.row)))
    }

    fn number<T: ArrowPrimitiveType>(&self, name: &'static str) -> Result<T::Native, WrongColumn> {
        self.required(name, self.value::<T>(name)?)
    }

    fn moment(&self, name: &'static str) -> Result<UtcMicros, WrongColumn> {
        let micros = self.number::<TimestampMicrosecondType>(name)?;
        u64::try_from(micros).map(UtcMicros).map_err(|_| wrong(name, "holds times before 1970"))
    }

    fn flag(&self, name: &'static str) -> Result<bool, WrongColumn> {
        let column = self.column(name, |column| column.as_boolean_opt())?;
        self.required(name, column.map(|column| column.value(self.row)))
    }

    fn parsed<T: FromStr<Err = String>>(&self, name: &'static str) -> Result<Option<T>, WrongColumn> {
        self.text(name)?.map(|text| text.parse().map_err(|reason: String| wrong(name, reason))).transpose()
    }

    fn json<T: DeserializeOwned>(&self, name: &'static str) -> Result<T, WrongColumn> {
        let text = self.required(name, self.text(name)?)?;
        serde_json::from_str(&text).map_err(|error| wrong(name, format!("holds no such JSON: {error}")))
    }

    fn checked<T, U>(&self, name: &'static str, value: T, check: fn(T) -> Result<U, String>) -> Result<U, WrongColumn> {
        check(value).map_err(|reason| wrong(name, reason))
    }
}
