//! A real BigQuery emulator: one for a test binary, a dataset for a test, gone with the process.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::ops::Deref;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use connectors::bigquery::Destination;
use serde_json::{Value, json};

use crate::script::Script;

/// The project that the emulator begins with.
const PROJECT: &str = "proj";

/// The emulator of this test binary.
pub(crate) struct Emulator {
    rest: String,
    pub(crate) grpc: String,
    /// Runs Python with DuckDB in it.
    pub(crate) python: String,
    datasets: AtomicU32,
    _script: Script,
}

/// A dataset of one test. It is deleted with the test: the emulator's every answer takes the longer the more tables it has.
pub(crate) struct Dataset(Destination);

impl Deref for Dataset {
    type Target = Destination;

    fn deref(&self) -> &Destination {
        &self.0
    }
}

impl Drop for Dataset {
    fn drop(&mut self) {
        let host = emulator().rest.trim_start_matches("http://");
        let path = format!("/bigquery/v2/projects/{PROJECT}/datasets/{}?deleteContents=true", self.dataset);
        let delete = || {
            let mut stream = TcpStream::connect(host)?;
            write!(stream, "DELETE {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")?;
            stream.read_to_end(&mut Vec::new())
        };
        // One that stays makes the others slower, and none of them wrong.
        delete().ok();
    }
}

/// The emulator, which the first one to ask starts.
pub(crate) fn emulator() -> &'static Emulator {
    static EMULATOR: OnceLock<Emulator> = OnceLock::new();
    EMULATOR.get_or_init(Emulator::start)
}

impl Emulator {
    fn start() -> Self {
        let (script, [rest, grpc, python]) = Script::run("bigquery-emulator.sh", &[]);
        Self { rest, grpc, python, datasets: AtomicU32::new(0), _script: script }
    }

    /// A dataset that is new, and empty.
    pub(crate) async fn new_dataset(&self) -> Dataset {
        let dataset = format!("test_{}", self.datasets.fetch_add(1, Ordering::Relaxed));
        let body = json!({ "datasetReference": { "projectId": PROJECT, "datasetId": dataset } });
        self.call(reqwest::Method::POST, "datasets", Some(body)).await;
        Dataset(Destination {
            project: PROJECT.to_owned(),
            dataset,
            endpoint: Some(self.rest.clone()),
            storage_endpoint: Some(self.grpc.clone()),
        })
    }

    /// A call of its REST interface as somebody else would make it; its answer.
    pub(crate) async fn call(&self, method: reqwest::Method, path: &str, body: Option<Value>) -> Value {
        let url = format!("{}/bigquery/v2/projects/{PROJECT}/{path}", self.rest);
        let mut request = reqwest::Client::new().request(method, url);
        if let Some(body) = body {
            request = request.header("Content-Type", "application/json").body(body.to_string());
        }
        let answer = request.send().await.expect("the emulator is there");
        let status = answer.status();
        let text = answer.text().await.expect("text");
        assert!(status.is_success(), "{path}: {text}");
        serde_json::from_str(&text).unwrap_or(Value::Null)
    }

    /// The names of a query's columns, and its rows, each value as text; moments as microseconds.
    pub(crate) async fn query(&self, to: &Destination, sql: &str) -> (Vec<String>, Vec<Vec<Option<String>>>) {
        let body = json!({
            "query": sql, "useLegacySql": false, "maxResults": 100_000,
            "defaultDataset": { "projectId": PROJECT, "datasetId": to.dataset },
            "formatOptions": { "useInt64Timestamp": true },
        });
        let answer = self.call(reqwest::Method::POST, "queries", Some(body)).await;
        assert_eq!(answer["jobComplete"], json!(true), "{sql}");
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let fields = list(&answer["schema"]["fields"]);
        let names = fields.iter().map(|field| text(&field["name"]).unwrap_or_default());
        let row = |row: &Value| list(&row["f"]).iter().map(|value| text(&value["v"])).collect();
        (names.collect(), list(&answer["rows"]).iter().map(row).collect())
    }

    /// Deletes a table's rows, which is faster than another dataset.
    pub(crate) async fn clear(&self, to: &Destination, table: &str) {
        self.query(to, &format!("DELETE FROM {table} WHERE TRUE")).await;
    }

    /// How often each row is there, by the columns that name it.
    pub(crate) async fn counts(&self, to: &Destination, table: &str, key: &str) -> Vec<(String, u64)> {
        let sql = format!("SELECT CONCAT({key}) AS k, COUNT(*) AS n FROM {table} GROUP BY 1 ORDER BY 1");
        let (_, rows) = self.query(to, &sql).await;
        let number = |text: &Option<String>| text.as_deref().and_then(|text| text.parse().ok()).expect("a number");
        rows.into_iter().map(|row| (row[0].clone().expect("a key"), number(&row[1]))).collect()
    }
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}
