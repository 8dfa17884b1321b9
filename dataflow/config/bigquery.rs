//! `[bigquery]`: the tables that analysts query.

use connectors::bigquery::Destination;
use connectors::store::WriteMethod;
use serde::Deserialize;

/// `[bigquery]`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BigQueryConfig {
    /// The project that the dataset is in; nothing is written without one.
    pub project: Option<String>,
    /// The dataset, which has to be there.
    pub dataset: String,
    /// How rows are written.
    pub write: WriteMethod,
    /// How often.
    pub interval_s: u64,
    /// In place of Google's REST interface; to an `http://` one no credentials are sent.
    pub endpoint: Option<String>,
    /// In place of Google's gRPC interface for writing.
    pub storage_endpoint: Option<String>,
}

impl Default for BigQueryConfig {
    fn default() -> Self {
        Self {
            project: None,
            dataset: "tidemark".into(),
            write: WriteMethod::LoadJobs,
            interval_s: 120,
            endpoint: None,
            storage_endpoint: None,
        }
    }
}

/// At 1,500 a table and day, and with room for those that fail.
const SHORTEST_BETWEEN_LOAD_JOBS_S: u64 = 60;

impl BigQueryConfig {
    /// Where rows go; `None` where they go nowhere.
    pub fn destination(&self) -> Option<Destination> {
        Some(Destination {
            project: self.project.clone()?,
            dataset: self.dataset.clone(),
            endpoint: self.endpoint.clone(),
            storage_endpoint: self.storage_endpoint.clone(),
        })
    }

    pub(super) fn check(&self) -> Result<(), String> {
        // They stand in addresses and in SQL.
        let is_project = |text: &str| text.chars().all(|it| it.is_ascii_alphanumeric() || "-:.".contains(it));
        if let Some(project) = self.project.as_deref().filter(|project| project.is_empty() || !is_project(project)) {
            return Err(format!("bigquery.project is {project:?}, and a project's id is letters, digits and dashes"));
        }
        let is_dataset = |text: &str| text.chars().all(|it| it.is_ascii_alphanumeric() || it == '_');
        if self.dataset.is_empty() || !is_dataset(&self.dataset) {
            let dataset = &self.dataset;
            return Err(format!("bigquery.dataset is {dataset:?}, and a dataset's name is letters, digits and _"));
        }
        let is_short = self.interval_s < SHORTEST_BETWEEN_LOAD_JOBS_S;
        if is_short && self.write == WriteMethod::LoadJobs && self.endpoint.is_none() {
            return Err(
                "bigquery.interval_s is too short: BigQuery takes 1,500 load jobs a table and day, so it must be \
                        at least 60, or bigquery.write \"storage_write\""
                    .to_owned(),
            );
        }
        Ok(())
    }
}
