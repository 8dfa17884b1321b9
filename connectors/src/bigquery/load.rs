//! A range as one load job.

use std::sync::Arc;
use std::time::Duration;

use gcp_bigquery_client::model::job::Job;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use serde_json::json;

use super::error::BigQueryError;
use super::schema::{for_bigquery, with_bigquery_types};
use super::{Reached, TableExport};
use crate::store::{Batch, TableState};

/// The log's rows in memory at a time, beside their compressed columns.
const ROWS_PER_PAGE: u64 = 2_000;

/// How long a job is waited for; after that it is looked up by the next export.
const PATIENCE: Duration = Duration::from_secs(60);

/// The first pause between two looks at a job; each is longer, up to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LAST_PAUSE: Duration = Duration::from_secs(3);

/// What has become of a job.
enum Found {
    Nothing,
    AtWork,
    Done,
    Failed(String),
}

impl TableExport {
    /// Loads the range; how many rows it has, or `None` while the job is at work.
    pub(super) async fn load(
        &self,
        range: Batch,
        state: &mut TableState,
        reached: Reached<'_>,
    ) -> Result<Option<u64>, BigQueryError> {
        let (file, rows) = self.file(range).await?;
        reached()?;
        if rows == 0 {
            return Ok(Some(0));
        }
        let id = self.job_id(range, state.attempt).await?;
        let begun = tokio::time::Instant::now();
        let mut pause = FIRST_PAUSE;
        let mut file = Some(file);
        loop {
            let found = self.look(&id).await?;
            reached()?;
            match found {
                Found::Done => return Ok(Some(rows)),
                Found::Failed(message) => {
                    // Its id is used up. Noted before the next job is sent, so that the next one's is known.
                    state.attempt += 1;
                    self.store.note_table_state(&self.sink, state).await?;
                    reached()?;
                    return Err(BigQueryError::JobFailed { job: id, message });
                }
                Found::Nothing if file.is_some() => {
                    let file = file.take().unwrap_or_default();
                    self.start(&id, file).await?;
                    reached()?;
                    continue;
                }
                // It was sent, and is not to be seen yet.
                Found::Nothing | Found::AtWork if begun.elapsed() > PATIENCE => return Ok(None),
                Found::Nothing | Found::AtWork => {}
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }

    /// The same for the same range, whoever asks. A job that failed has loaded nothing, and its id cannot be taken again.
    async fn job_id(&self, range: Batch, attempt: u32) -> Result<String, BigQueryError> {
        let (store, begun) = (self.store.identity().await?, self.store.begun_at(&self.sink, range).await?.0);
        let Batch { first_seq, last_seq } = range;
        let name = format!("{}_{}", self.ready.api.to.dataset, self.table.name);
        Ok(format!("tidemark_{name}_{first_seq}_{last_seq}_{store}_{begun:x}_{attempt}"))
    }

    async fn look(&self, id: &str) -> Result<Found, BigQueryError> {
        let api = &self.ready.api;
        let what = format!("look at the load job {id}");
        let job: Job =
            match api.ask(&what, api.client.job().get_job(&api.to.project, id, self.ready.location.as_deref())).await {
                Ok(job) => job,
                Err(error) if error.code() == Some(404) => return Ok(Found::Nothing),
                Err(error) => return Err(error),
            };
        let status = job.status.unwrap_or_default();
        if status.state.as_deref() != Some("DONE") {
            return Ok(Found::AtWork);
        }
        let Some(error) = status.error_result else { return Ok(Found::Done) };
        let all = status.errors.unwrap_or_default().into_iter().filter_map(|error| error.message);
        let mut messages: Vec<String> = error.message.into_iter().chain(all).collect();
        messages.dedup();
        messages.truncate(3);
        Ok(Found::Failed(format!("{} ({})", messages.join("; "), error.reason.unwrap_or_default())))
    }

    /// Sends the job. That it is there already is as good, as it has the same rows.
    async fn start(&self, id: &str, file: Vec<u8>) -> Result<(), BigQueryError> {
        let to = &self.ready.api.to;
        let job = json!({
            "jobReference": { "projectId": to.project, "jobId": id, "location": self.ready.location },
            "configuration": { "load": {
                "sourceFormat": "PARQUET",
                "createDisposition": "CREATE_NEVER",
                "writeDisposition": "WRITE_APPEND",
                "destinationTable": { "projectId": to.project, "datasetId": to.dataset, "tableId": self.table.name },
            }},
        });
        match self.ready.api.start_job(&format!("start the load job {id}"), &job, file).await {
            Err(error) if error.code() == Some(409) => Ok(()),
            started => started,
        }
    }

    /// The range's rows as a Parquet file, and how many they are. The same rows in the same order each time.
    async fn file(&self, range: Batch) -> Result<(Vec<u8>, u64), BigQueryError> {
        let schema = Arc::new(with_bigquery_types((self.table.schema)()));
        let zstd = WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default())).build();
        let mut writer = ArrowWriter::try_new(Vec::new(), schema, Some(zstd))?;
        let (mut first, mut rows) = (range.first_seq, 0);
        while first <= range.last_seq {
            let last = range.last_seq.min(first + ROWS_PER_PAGE - 1);
            let page = (self.table.rows)(&self.store, Batch { first_seq: first, last_seq: last }).await?;
            writer.write(&for_bigquery(&page)?)?;
            rows += page.num_rows() as u64;
            first = last + 1;
        }
        Ok((writer.into_inner()?, rows))
    }
}
