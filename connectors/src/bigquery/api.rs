//! The door to BigQuery: the client crate's REST calls, and the two things that it lacks, uploading a load job's file and
//! appending at an offset.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use gcp_bigquery_client::Client;
use gcp_bigquery_client::auth::Authenticator;
use gcp_bigquery_client::client_builder::ClientBuilder;
use gcp_bigquery_client::error::BQError;
use google_cloud_auth::credentials::{AccessTokenCredentials, Builder};
use serde::Deserialize;

use super::error::{BigQueryError, answer, chain};

/// How long an answer to a small request is waited for.
pub(super) const ANSWER: Duration = Duration::from_secs(60);

/// How long an upload may take.
const UPLOAD: Duration = Duration::from_secs(600);

const SCOPE: &str = "https://www.googleapis.com/auth/bigquery";

/// Where tables are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// The project that the dataset is in, and that pays.
    pub project: String,
    /// The dataset, which has to be there.
    pub dataset: String,
    /// In place of Google's REST interface; to an `http://` one no credentials are sent.
    pub endpoint: Option<String>,
    /// In place of Google's gRPC interface for writing.
    pub storage_endpoint: Option<String>,
}

/// Connections to one dataset. Clones share them.
#[derive(Clone)]
pub(super) struct Api {
    pub(super) to: Destination,
    pub(super) client: Client,
    pub(super) token: Token,
    http: reqwest::Client,
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Api").field("to", &self.to).finish_non_exhaustive()
    }
}

/// Who this is: application default credentials, or nobody for an emulator.
#[derive(Clone)]
pub(super) struct Token(Option<AccessTokenCredentials>);

impl Token {
    fn new(endpoint: Option<&str>) -> Result<Self, BigQueryError> {
        if endpoint.is_some_and(|endpoint| endpoint.starts_with("http://")) {
            return Ok(Self(None));
        }
        let credentials = Builder::default().with_scopes([SCOPE]).build_access_token_credentials();
        credentials.map(|it| Self(Some(it))).map_err(|error| BigQueryError::Credentials(chain(&error)))
    }

    pub(super) async fn get(&self) -> Result<String, BigQueryError> {
        let Some(credentials) = &self.0 else { return Ok("none".to_owned()) };
        match tokio::time::timeout(ANSWER, credentials.access_token()).await {
            Ok(Ok(token)) => Ok(token.token),
            Ok(Err(error)) if error.is_transient() => Err(BigQueryError::unreachable("get a token", chain(&error))),
            Ok(Err(error)) => Err(BigQueryError::Credentials(chain(&error))),
            Err(_) => Err(BigQueryError::unreachable("get a token", "no answer")),
        }
    }
}

#[async_trait]
impl Authenticator for Token {
    async fn access_token(&self) -> Result<String, BQError> {
        self.get().await.map_err(|_| BQError::NoToken)
    }
}

impl Api {
    pub(super) async fn connect(to: Destination) -> Result<Self, BigQueryError> {
        let token = Token::new(to.endpoint.as_deref())?;
        let mut builder = ClientBuilder::new();
        builder.with_v2_base_url(format!("{}/bigquery/v2", rest(&to)));
        let client = builder.build_from_authenticator(Arc::new(token.clone())).await;
        let client = client.map_err(|error| BigQueryError::unreachable("make a client", chain(&error)))?;
        Ok(Self { to, client, token, http: reqwest::Client::new() })
    }

    /// A call of the client crate: `what` says what it is for.
    pub(super) async fn ask<T>(
        &self,
        what: &str,
        call: impl Future<Output = Result<T, BQError>>,
    ) -> Result<T, BigQueryError> {
        // The client keeps to itself why there is no token.
        self.token.get().await?;
        answer(what, ANSWER, call).await
    }

    /// Starts a job on a file: `job` is its resource. The file goes in one piece; whoever does not hear whether it
    /// arrived asks for the job by its id.
    ///
    /// # Errors
    /// A refusal with 409 where a job of this id is there already.
    pub(super) async fn start_job(
        &self,
        what: &str,
        job: &serde_json::Value,
        file: Vec<u8>,
    ) -> Result<(), BigQueryError> {
        let url =
            format!("{}/upload/bigquery/v2/projects/{}/jobs?uploadType=resumable", rest(&self.to), self.to.project);
        let begin = self
            .http
            .post(url)
            .bearer_auth(self.token.get().await?)
            .timeout(ANSWER)
            .header("Content-Type", "application/json")
            .header("X-Upload-Content-Type", "application/vnd.apache.parquet")
            .header("X-Upload-Content-Length", file.len())
            .body(job.to_string());
        let begun = accepted(what, begin.send().await).await?;
        let session = begun.headers().get("location").and_then(|place| place.to_str().ok());
        let session = session.ok_or_else(|| BigQueryError::unreachable(what, "an upload without a place"))?;
        let send = self.http.put(session).bearer_auth(self.token.get().await?).timeout(UPLOAD).body(file);
        accepted(what, send.send().await).await.map(drop)
    }
}

fn rest(to: &Destination) -> &str {
    to.endpoint.as_deref().unwrap_or("https://bigquery.googleapis.com").trim_end_matches('/')
}

/// An answer that is no refusal.
async fn accepted(
    what: &str,
    answer: Result<reqwest::Response, reqwest::Error>,
) -> Result<reqwest::Response, BigQueryError> {
    #[derive(Deserialize)]
    struct Refusal {
        error: Reason,
    }
    #[derive(Deserialize)]
    struct Reason {
        message: String,
        #[serde(default)]
        errors: Vec<Cause>,
    }
    #[derive(Deserialize)]
    struct Cause {
        #[serde(default)]
        reason: String,
    }
    let answer = answer.map_err(|error| BigQueryError::unreachable(what, chain(&error)))?;
    let status = answer.status();
    if status.is_success() {
        return Ok(answer);
    }
    let body = answer.text().await.map_err(|error| BigQueryError::unreachable(what, chain(&error)))?;
    // A proxy on the way answers in its own words, which may be a page.
    let Ok(Refusal { error }) = serde_json::from_str(&body) else {
        let message = body.chars().take(200).collect();
        return Err(BigQueryError::Refused { what: what.to_owned(), code: status.as_u16(), message });
    };
    // BigQuery says 403 to whoever asks too often as well, which is over sooner or later.
    let too_often = ["quotaExceeded", "rateLimitExceeded"];
    let code = if error.errors.iter().any(|it| too_often.contains(&&*it.reason)) { 429 } else { status.as_u16() };
    Err(BigQueryError::Refused { what: what.to_owned(), code, message: error.message })
}
