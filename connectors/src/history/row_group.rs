//! Outcomes in a row group of a Parquet file.

use std::borrow::Cow;
use std::fmt::Display;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use ::parquet::arrow::ProjectionMask;
use ::parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use ::parquet::errors::ParquetError;
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int32Array, StringArray};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Field, Int32Type, Schema, TimestampMicrosecondType, UInt32Type, UInt64Type,
};
use arrow::record_batch::RecordBatch;
use records::{Branch, Confidence, ErrorType, FallbackReason, Lane, Measured, MicroUsd, Status, Tier, UtcMicros};

use super::{HistoryError, at};

/// Columns of few different texts: each text is looked at once for many rows.
const CODED: [&str; 10] =
    ["lane", "tier", "region", "status", "branch", "fallback_reason", "model", "experiment", "arm", "error_type"];

const PLAIN: [&str; 10] = [
    "upload_id",
    "version",
    "confidence",
    "below_threshold",
    "queued_ms",
    "inference_ms",
    "total_ms",
    "cost_micro_usd",
    "arrived_at",
    "completed_at",
];

const ROWS: usize = 8192;

/// What a file holds.
pub(super) fn metadata(path: &Path, file: &File) -> Result<ArrowReaderMetadata, HistoryError> {
    let found = ArrowReaderMetadata::load(file, ArrowReaderOptions::new()).map_err(damaged(path))?;
    let coded =
        |field: &Arc<Field>| match CODED.contains(&field.name().as_str()) && *field.data_type() == DataType::Utf8 {
            true => {
                let kind = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
                Arc::new(field.as_ref().clone().with_data_type(kind))
            }
            false => Arc::clone(field),
        };
    let schema = Schema::new(found.schema().fields().iter().map(coded).collect::<Vec<_>>());
    let options = ArrowReaderOptions::new().with_schema(Arc::new(schema));
    ArrowReaderMetadata::try_new(Arc::clone(found.metadata()), options).map_err(damaged(path))
}

pub(super) fn damaged(path: &Path) -> impl Fn(ParquetError) -> HistoryError {
    let path = path.to_owned();
    move |source| HistoryError::Parquet { path: path.clone(), source }
}

/// Reads a row group.
pub(super) fn read(
    path: &Path,
    metadata: &ArrowReaderMetadata,
    number: usize,
    mut each: impl FnMut(&Measured<'_>),
) -> Result<u64, HistoryError> {
    let file = File::open(path).map_err(at(path))?;
    let columns = ProjectionMask::columns(metadata.parquet_schema(), CODED.into_iter().chain(PLAIN));
    let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(file, metadata.clone())
        .with_row_groups(vec![number])
        .with_projection(columns)
        .with_batch_size(ROWS)
        .build()
        .map_err(damaged(path))?;
    let mut count = 0;
    for batch in reader {
        let batch = batch.map_err(|error| damaged(path)(error.into()))?;
        let columns = Columns::of(&batch).map_err(|(column, reason)| HistoryError::Column {
            path: path.to_owned(),
            column: column.to_owned(),
            reason,
        })?;
        (0..batch.num_rows()).for_each(|row| each(&columns.outcome(row)));
        count += batch.num_rows() as u64;
    }
    Ok(count)
}

/// A column, and what is wrong with it.
type Wrong = (&'static str, String);

/// The columns of a batch, checked.
struct Columns<'a> {
    upload_id: &'a StringArray,
    version: &'a [u32],
    lane: Coded<'a, Lane>,
    tier: Coded<'a, Tier>,
    region: Coded<'a, &'a str>,
    status: Coded<'a, Status>,
    branch: Coded<'a, Branch>,
    fallback_reason: Coded<'a, FallbackReason>,
    model: Coded<'a, &'a str>,
    experiment: Coded<'a, &'a str>,
    arm: Coded<'a, &'a str>,
    error_type: Coded<'a, ErrorType>,
    confidence: &'a Float64Array,
    below_threshold: &'a BooleanArray,
    queued_ms: &'a [u64],
    inference_ms: &'a [u64],
    total_ms: &'a [u64],
    cost_micro_usd: &'a [u64],
    arrived_at: &'a [i64],
    completed_at: &'a [i64],
}

impl<'a> Columns<'a> {
    fn of(batch: &'a RecordBatch) -> Result<Self, Wrong> {
        let columns = Self {
            upload_id: typed(batch, "upload_id", |column| column.as_string_opt())?,
            version: numbers::<UInt32Type>(batch, "version")?,
            lane: Coded::parsed(batch, "lane")?,
            tier: Coded::parsed(batch, "tier")?,
            region: Coded::if_there(batch, "region", Ok::<_, String>)?,
            status: Coded::parsed(batch, "status")?,
            branch: Coded::parsed(batch, "branch")?,
            fallback_reason: Coded::if_there(batch, "fallback_reason", str::parse)?,
            model: Coded::of(batch, "model", Ok::<_, String>)?,
            experiment: Coded::if_there(batch, "experiment", Ok::<_, String>)?,
            arm: Coded::of(batch, "arm", Ok::<_, String>)?,
            error_type: Coded::parsed(batch, "error_type")?,
            confidence: typed(batch, "confidence", |column| column.as_primitive_opt())?,
            below_threshold: typed(batch, "below_threshold", |column| column.as_boolean_opt())?,
            queued_ms: numbers::<UInt64Type>(batch, "queued_ms")?,
            inference_ms: numbers::<UInt64Type>(batch, "inference_ms")?,
            total_ms: numbers::<UInt64Type>(batch, "total_ms")?,
            cost_micro_usd: numbers::<UInt64Type>(batch, "cost_micro_usd")?,
            arrived_at: numbers::<TimestampMicrosecondType>(batch, "arrived_at")?,
            completed_at: numbers::<TimestampMicrosecondType>(batch, "completed_at")?,
        };
        for (name, keys) in [("lane", columns.lane.keys), ("status", columns.status.keys)] {
            if keys.is_none_or(|keys| keys.null_count() > 0) {
                return Err((name, "has empty values".into()));
            }
        }
        let in_range = |sure: &f64| (0.0..=1.0).contains(sure);
        match columns.confidence.iter().flatten().find(|sure| !in_range(sure)) {
            Some(sure) => Err(("confidence", format!("holds {sure}, which is not in [0, 1]"))),
            None => Ok(columns),
        }
    }

    fn outcome(&self, row: usize) -> Measured<'a> {
        let sure = self.confidence.is_valid(row).then(|| self.confidence.value(row));
        Measured {
            upload_id: Cow::Borrowed(self.upload_id.value(row)),
            version: self.version[row],
            lane: self.lane.get(row).expect("no value is empty, as was checked"),
            tier: self.tier.get(row),
            region: self.region.get(row).map(Cow::Borrowed),
            status: self.status.get(row).expect("no value is empty, as was checked"),
            branch: self.branch.get(row),
            fallback_reason: self.fallback_reason.get(row),
            model: self.model.get(row).map(Cow::Borrowed),
            experiment: self.experiment.get(row).map(Cow::Borrowed),
            arm: self.arm.get(row).map(Cow::Borrowed),
            confidence: sure.map(|sure| Confidence::try_from(sure).expect("it is in [0, 1], as was checked")),
            below_threshold: self.below_threshold.value(row),
            error_type: self.error_type.get(row),
            queued_ms: self.queued_ms[row],
            inference_ms: self.inference_ms[row],
            total_ms: self.total_ms[row],
            cost_micro_usd: MicroUsd(self.cost_micro_usd[row]),
            arrived_at: UtcMicros(self.arrived_at[row].unsigned_abs()),
            completed_at: UtcMicros(self.completed_at[row].unsigned_abs()),
        }
    }
}

fn column<'a>(batch: &'a RecordBatch, name: &'static str) -> Result<&'a ArrayRef, Wrong> {
    batch.column_by_name(name).ok_or_else(|| (name, "is missing".into()))
}

fn typed<'a, A>(
    batch: &'a RecordBatch,
    name: &'static str,
    cast: impl Fn(&'a ArrayRef) -> Option<&'a A>,
) -> Result<&'a A, Wrong> {
    let column = column(batch, name)?;
    cast(column).ok_or_else(|| (name, format!("is of type {}", column.data_type())))
}

/// A column of numbers without empty values.
fn numbers<'a, T: ArrowPrimitiveType>(batch: &'a RecordBatch, name: &'static str) -> Result<&'a [T::Native], Wrong> {
    let column = typed(batch, name, |column| column.as_primitive_opt::<T>())?;
    if column.null_count() > 0 {
        return Err((name, "has empty values".into()));
    }
    Ok(column.values())
}

/// A column of few different texts; without keys, one that files of before there was such a column lack.
struct Coded<'a, T> {
    keys: Option<&'a Int32Array>,
    /// `None` for an entry that is none, and that no row uses.
    values: Vec<Option<T>>,
}

impl<'a, T: Copy> Coded<'a, T> {
    fn of<E: Display>(
        batch: &'a RecordBatch,
        name: &'static str,
        parse: impl Fn(&'a str) -> Result<T, E>,
    ) -> Result<Self, Wrong> {
        let coded = typed(batch, name, |column| column.as_dictionary_opt::<Int32Type>())?;
        let texts: &StringArray =
            coded.values().as_string_opt().ok_or_else(|| (name, format!("is of type {}", coded.data_type())))?;
        // Where no row has a text, the reader makes up an entry, which is nobody's.
        let is_used = |entry: usize| coded.keys().iter().flatten().any(|key| key as usize == entry);
        let value = |(entry, text): (usize, Option<&'a str>)| match parse(text.unwrap_or_default()) {
            Ok(value) => Ok(Some(value)),
            Err(_) if !is_used(entry) => Ok(None),
            Err(error) => Err((name, error.to_string())),
        };
        let values = texts.iter().enumerate().map(value).collect::<Result<_, _>>()?;
        Ok(Self { keys: Some(coded.keys()), values })
    }

    fn if_there<E: Display>(
        batch: &'a RecordBatch,
        name: &'static str,
        parse: impl Fn(&'a str) -> Result<T, E>,
    ) -> Result<Self, Wrong> {
        match batch.column_by_name(name) {
            Some(_) => Self::of(batch, name, parse),
            None => Ok(Self { keys: None, values: Vec::new() }),
        }
    }

    fn parsed(batch: &'a RecordBatch, name: &'static str) -> Result<Self, Wrong>
    where
        T: std::str::FromStr<Err: Display>,
    {
        Self::of(batch, name, str::parse)
    }

    fn get(&self, row: usize) -> Option<T> {
        self.keys.filter(|keys| keys.is_valid(row)).and_then(|keys| self.values[keys.value(row) as usize])
    }
}
