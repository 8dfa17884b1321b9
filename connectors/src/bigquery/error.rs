//! What can go wrong with BigQuery.

use std::time::Duration;

use arrow::error::ArrowError;
use gcp_bigquery_client::error::BQError;
use parquet::errors::ParquetError;
use records::FaultClass;

use crate::store::StoreError;

/// Why rows are not in BigQuery yet. [`Self::class`] says what may be done about it: every write may be repeated.
#[derive(Debug, thiserror::Error)]
pub enum BigQueryError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Nobody says who this is.
    #[error(
        "no credentials for BigQuery: {0}; run `gcloud auth application-default login`, or set \
         GOOGLE_APPLICATION_CREDENTIALS to a service account's key"
    )]
    Credentials(String),
    /// No answer, or one that cannot be read.
    #[error("cannot {what}: {reason}; is BigQuery reached from here?")]
    Unreachable {
        /// What was asked.
        what: String,
        /// What was heard.
        reason: String,
    },
    /// BigQuery answered that it will not.
    #[error("cannot {what}: BigQuery refuses it with {code}: {message}{}", mend(*.code))]
    Refused {
        /// What was asked.
        what: String,
        /// HTTP's number for it.
        code: u16,
        /// BigQuery's reason.
        message: String,
    },
    /// The dataset is not there. It is not created, because it decides where data lie.
    #[error(
        "there is no dataset {project}.{dataset}: create it where its data may lie, as by \
         `bq --location=EU mk --dataset {project}:{dataset}`, or set bigquery.dataset to another one"
    )]
    NoDataset {
        /// bigquery.project
        project: String,
        /// bigquery.dataset
        dataset: String,
    },
    /// A column has another type than ours, which cannot be changed in place.
    #[error(
        "BigQuery's table {table} has a column {column} of type {found}, and it must be {wanted}: drop the column or rename \
         it (ALTER TABLE `{table}` RENAME COLUMN {column} TO old_{column}), or set bigquery.dataset to another one"
    )]
    Column {
        /// Project, dataset and table.
        table: String,
        /// The column.
        column: String,
        /// Its type.
        found: String,
        /// Ours.
        wanted: &'static str,
    },
    /// What stands where a table or a view belongs is something else.
    #[error(
        "BigQuery's {table} is a {found}, and it must be a {wanted}: rename it, or set bigquery.dataset to another one"
    )]
    Kind {
        /// Project, dataset and table.
        table: String,
        /// What it is.
        found: String,
        /// What it must be.
        wanted: &'static str,
    },
    /// A load job failed. None of its rows are in the table, and the next try has another id.
    #[error("the load job {job} failed: {message}; the rows are kept, and loaded by another job")]
    JobFailed {
        /// Its id.
        job: String,
        /// BigQuery's reason.
        message: String,
    },
    /// A write stream is not where it was left.
    #[error(
        "the write stream {stream} does not take {rows} rows at {offset}: {message}. It goes on once somebody has looked \
         whether those rows, the first of them with {first_row}, are in the table {table}: \
         `tidemark bigquery new-stream {table} --written {rows}` if they are, `--written 0` if not"
    )]
    OffStream {
        /// Its name.
        stream: String,
        /// Its table.
        table: &'static str,
        /// Where the append was to go.
        offset: u64,
        /// How many rows.
        rows: u64,
        /// What names the first row of the append: columns with their values.
        first_row: String,
        /// BigQuery's reason.
        message: String,
    },
    /// There is no stream that could be given up.
    #[error("no stream to {table} is open: nothing is in doubt")]
    NothingInDoubt {
        /// The table.
        table: String,
    },
    /// An append is in the table as a whole, or not at all.
    #[error("--written {written} cannot be: of an append, all {pending} rows are in the table, or none")]
    Partly {
        /// What somebody saw.
        written: u64,
        /// The append's rows.
        pending: u64,
    },
    /// A row is larger than an append may be.
    #[error("a row of {table} has {bytes} bytes, more than an append takes: write = \"load_jobs\" takes it")]
    RowTooLarge {
        /// The table.
        table: &'static str,
        /// Its size.
        bytes: usize,
    },
    /// A batch does not fit its schema: a defect.
    #[error("columns: {0}")]
    Columns(#[from] ArrowError),
    /// A file cannot be written: a defect.
    #[error("columns: {0}")]
    File(#[from] ParquetError),
}

fn mend(code: u16) -> &'static str {
    match code {
        401 => "; run `gcloud auth application-default login`",
        403 => "; grant the account roles/bigquery.dataEditor on the dataset and roles/bigquery.jobUser on the project",
        _ => "",
    }
}

impl BigQueryError {
    /// What may be done about it.
    pub fn class(&self) -> FaultClass {
        match self {
            Self::Store(error) => error.class(),
            Self::Unreachable { .. } => FaultClass::Indeterminate,
            Self::Refused { code: 408 | 429 | 500.., .. } | Self::JobFailed { .. } => FaultClass::Retryable,
            Self::Credentials(_)
            | Self::Refused { .. }
            | Self::NoDataset { .. }
            | Self::Column { .. }
            | Self::Kind { .. }
            | Self::OffStream { .. }
            | Self::NothingInDoubt { .. }
            | Self::Partly { .. }
            | Self::RowTooLarge { .. }
            | Self::Columns(_)
            | Self::File(_) => FaultClass::Permanent,
        }
    }

    /// HTTP's number, where BigQuery refused.
    pub(super) fn code(&self) -> Option<u16> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            _ => None,
        }
    }

    pub(super) fn unreachable(what: &str, reason: impl std::fmt::Display) -> Self {
        Self::Unreachable { what: what.to_owned(), reason: reason.to_string() }
    }
}

/// An answer of the client, within a time.
pub(super) async fn answer<T>(
    what: &str,
    within: Duration,
    call: impl Future<Output = Result<T, BQError>>,
) -> Result<T, BigQueryError> {
    match tokio::time::timeout(within, call).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(BQError::ResponseError { error })) => {
            let code = u16::try_from(error.error.code).unwrap_or(500);
            Err(BigQueryError::Refused { what: what.to_owned(), code, message: error.error.message })
        }
        Ok(Err(BQError::NoToken)) => Err(BigQueryError::Credentials("no token".to_owned())),
        Ok(Err(error)) => Err(BigQueryError::unreachable(what, chain(&error))),
        Err(_) => Err(BigQueryError::unreachable(what, format!("no answer in {} s", within.as_secs()))),
    }
}

/// An error with its causes, which say what the error itself does not.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}
