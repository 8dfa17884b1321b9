//! A range as appends to a committed stream of the Storage Write API.
//!
//! The client crate appends without offsets, so its generated gRPC client is called here. A stream is the table's own, and
//! grows from range to range. Before an append is sent, the store notes the stream, the offset and how many rows; so after
//! a lost answer, or a death, the same rows go to the same offset again, and ALREADY_EXISTS means that they are there.

use std::time::Duration;

use futures::StreamExt;
use gcp_bigquery_client::google::cloud::bigquery::storage::v1::append_rows_request::{ProtoData, Rows};
use gcp_bigquery_client::google::cloud::bigquery::storage::v1::append_rows_response::Response;
use gcp_bigquery_client::google::cloud::bigquery::storage::v1::big_query_write_client::BigQueryWriteClient;
use gcp_bigquery_client::google::cloud::bigquery::storage::v1::{
    AppendRowsRequest, AppendRowsResponse, CreateWriteStreamRequest, ProtoRows, ProtoSchema, WriteStream, write_stream,
};
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Request, Status};

use super::api::{ANSWER, Api, Destination};
use super::error::{BigQueryError, chain};
use super::proto::{descriptor, messages};
use super::schema::for_bigquery;
use super::{Reached, TableExport};
use crate::store::{Batch, TableState};

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(20);

/// What came of an append.
enum Appended {
    Written,
    /// Rows are at this offset already.
    Exists(String),
    /// The stream ends before this offset.
    Beyond(String),
    /// There is no such stream, or none that takes more.
    Gone(String),
}

impl TableExport {
    /// Appends the range's rows that are not there yet; how many rows it has.
    pub(super) async fn append(
        &self,
        range: Batch,
        state: &mut TableState,
        reached: Reached<'_>,
    ) -> Result<u64, BigQueryError> {
        let batch = for_bigquery(&(self.table.rows)(&self.store, range).await?)?;
        let rows = messages(&batch);
        let mut client = self.writer()?;
        while (state.rows_done as usize) < rows.len() {
            let rest = &rows[state.rows_done as usize..];
            let repeated = state.pending_rows > 0;
            let is_new = state.stream.is_none();
            let stream = match &state.stream {
                Some(stream) => stream.clone(),
                None => {
                    let stream = self.create_stream(&mut client).await?;
                    reached()?;
                    (state.stream, state.next_offset) = (Some(stream.clone()), 0);
                    stream
                }
            };
            if !repeated {
                state.pending_rows = self.fitting(rest)?;
                self.store.note_table_state(&self.sink, state).await?;
                reached()?;
            }
            let count = state.pending_rows;
            assert!(count as usize <= rest.len(), "{}: an append of {count} of {} rows", self.table.name, rest.len());
            let appended = self.send(&mut client, &stream, state.next_offset, &rest[..count as usize], &batch).await?;
            reached()?;
            match appended {
                Appended::Written => {}
                Appended::Exists(_) if repeated => {}
                Appended::Exists(message) | Appended::Beyond(message) => {
                    let error = self.off_stream(&batch, state, message);
                    if !repeated {
                        // It was never sent before, so what is there is not this. The next try must not take it for this.
                        state.pending_rows = 0;
                        self.store.note_table_state(&self.sink, state).await?;
                    }
                    return Err(error);
                }
                Appended::Gone(message) if repeated => return Err(self.off_stream(&batch, state, message)),
                // Made anew at once, it would be gone at once again.
                Appended::Gone(message) if is_new => {
                    (state.stream, state.pending_rows) = (None, 0);
                    self.store.note_table_state(&self.sink, state).await?;
                    return Err(BigQueryError::unreachable("append to a new write stream", message));
                }
                // Everything before is certainly there, and nothing of this is.
                Appended::Gone(_) => {
                    (state.stream, state.pending_rows) = (None, 0);
                    continue;
                }
            }
            state.next_offset += count;
            state.rows_done += count;
            state.pending_rows = 0;
        }
        Ok(rows.len() as u64)
    }

    /// How many of the rows one append takes.
    fn fitting(&self, rows: &[Vec<u8>]) -> Result<u64, BigQueryError> {
        let mut bytes = 0;
        let fits = |row: &&Vec<u8>| {
            bytes += row.len();
            bytes <= self.limits.bytes_per_append
        };
        match rows.iter().take_while(fits).count() {
            0 => Err(BigQueryError::RowTooLarge { table: self.table.name, bytes: rows[0].len() }),
            count => Ok(count as u64),
        }
    }

    fn off_stream(
        &self,
        batch: &arrow::record_batch::RecordBatch,
        state: &TableState,
        message: String,
    ) -> BigQueryError {
        BigQueryError::OffStream {
            stream: state.stream.clone().unwrap_or_default(),
            table: self.table.name,
            offset: state.next_offset,
            rows: state.pending_rows,
            first_row: self.table.name_of_row(batch, state.rows_done as usize),
            message,
        }
    }

    fn writer(&self) -> Result<BigQueryWriteClient<Channel>, BigQueryError> {
        Ok(BigQueryWriteClient::new(channel(&self.ready.api.to)?))
    }

    async fn create_stream(&self, client: &mut BigQueryWriteClient<Channel>) -> Result<String, BigQueryError> {
        let api = &self.ready.api;
        let Destination { project, dataset, .. } = &api.to;
        let parent = format!("projects/{project}/datasets/{dataset}/tables/{}", self.table.name);
        let what = format!("create a write stream of {}", self.table.name);
        let committed = WriteStream { r#type: write_stream::Type::Committed.into(), ..WriteStream::default() };
        let message = CreateWriteStreamRequest { parent: parent.clone(), write_stream: Some(committed) };
        let request = authorized(api, message, &format!("parent={}", escaped(&parent))).await?;
        match tokio::time::timeout(ANSWER, client.create_write_stream(request)).await {
            Ok(Ok(created)) => Ok(created.into_inner().name),
            Ok(Err(status)) => Err(failed(&what, &status)),
            Err(_) => Err(BigQueryError::unreachable(&what, "no answer")),
        }
    }

    async fn send(
        &self,
        client: &mut BigQueryWriteClient<Channel>,
        stream: &str,
        offset: u64,
        rows: &[Vec<u8>],
        batch: &arrow::record_batch::RecordBatch,
    ) -> Result<Appended, BigQueryError> {
        let what = format!("append {} rows to {} at {offset}", rows.len(), self.table.name);
        let data = ProtoData {
            writer_schema: Some(ProtoSchema { proto_descriptor: Some(descriptor(&batch.schema())) }),
            rows: Some(ProtoRows { serialized_rows: rows.to_vec() }),
        };
        let message = AppendRowsRequest {
            write_stream: stream.to_owned(),
            offset: Some(i64::try_from(offset).expect("rows of a stream are counted in i64")),
            trace_id: "tidemark".to_owned(),
            rows: Some(Rows::ProtoRows(data)),
            ..AppendRowsRequest::default()
        };
        let request = futures::stream::iter([message]);
        let request = authorized(&self.ready.api, request, &format!("write_stream={}", escaped(stream))).await?;
        let call = async {
            let mut answers = client.append_rows(request).await?.into_inner();
            answers.next().await.unwrap_or_else(|| Err(Status::unavailable("the stream ended without an answer")))
        };
        match tokio::time::timeout(ANSWER, call).await {
            Ok(Ok(answer)) => judged(&what, answer),
            Ok(Err(status)) => of_status(&what, &status),
            Err(_) => Err(BigQueryError::unreachable(&what, "no answer")),
        }
    }
}

/// What an answer says.
fn judged(what: &str, answer: AppendRowsResponse) -> Result<Appended, BigQueryError> {
    let rows = answer.row_errors.iter().map(|error| format!("row {}: {}", error.index, error.message));
    let rows: Vec<String> = rows.take(3).collect();
    match answer.response {
        Some(Response::AppendResult(_)) => Ok(Appended::Written),
        Some(Response::Error(error)) => {
            let message =
                if rows.is_empty() { error.message } else { format!("{}: {}", error.message, rows.join("; ")) };
            of_status(what, &Status::new(Code::from(error.code), message))
        }
        None => Err(BigQueryError::unreachable(what, "an answer without a result")),
    }
}

fn of_status(what: &str, status: &Status) -> Result<Appended, BigQueryError> {
    let message = status.message().to_owned();
    let text = message.to_lowercase();
    let names_stream = text.contains("stream name") || text.contains("finalized");
    match status.code() {
        Code::AlreadyExists => Ok(Appended::Exists(message)),
        Code::OutOfRange => Ok(Appended::Beyond(message)),
        Code::NotFound => Ok(Appended::Gone(message)),
        Code::InvalidArgument | Code::FailedPrecondition if names_stream => Ok(Appended::Gone(message)),
        _ => Err(failed(what, status)),
    }
}

/// gRPC's refusals under HTTP's numbers. What may have happened, or not, is no refusal.
fn failed(what: &str, status: &Status) -> BigQueryError {
    let refused = |code| BigQueryError::Refused { what: what.to_owned(), code, message: status.message().to_owned() };
    match status.code() {
        Code::InvalidArgument | Code::FailedPrecondition => refused(400),
        Code::Unauthenticated => refused(401),
        Code::PermissionDenied => refused(403),
        Code::NotFound => refused(404),
        Code::ResourceExhausted => refused(429),
        Code::Unimplemented => refused(501),
        _ => BigQueryError::unreachable(what, format!("{}: {}", status.code(), chain(status))),
    }
}

fn channel(to: &Destination) -> Result<Channel, BigQueryError> {
    let place = to.storage_endpoint.as_deref().unwrap_or("https://bigquerystorage.googleapis.com");
    let failed = |error: tonic::transport::Error| BigQueryError::unreachable(&format!("reach {place}"), chain(&error));
    let mut endpoint = Endpoint::from_shared(place.to_owned()).map_err(failed)?.connect_timeout(CONNECT);
    if place.starts_with("https://") {
        endpoint = endpoint.tls_config(ClientTlsConfig::new().with_enabled_roots()).map_err(failed)?;
    }
    Ok(endpoint.connect_lazy())
}

/// A request with who asks, and what it is routed by.
async fn authorized<T>(api: &Api, message: T, params: &str) -> Result<Request<T>, BigQueryError> {
    let mut request = Request::new(message);
    let bad = |_| BigQueryError::Credentials("a token that no header takes".to_owned());
    let bearer: MetadataValue<_> = format!("Bearer {}", api.token.get().await?).parse().map_err(bad)?;
    request.metadata_mut().insert("authorization", bearer);
    if let Ok(params) = params.parse() {
        request.metadata_mut().insert("x-goog-request-params", params);
    }
    Ok(request)
}

fn escaped(name: &str) -> String {
    name.replace('/', "%2F")
}
