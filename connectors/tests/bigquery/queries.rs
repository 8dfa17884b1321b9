//! The analysts' queries and views: in BigQuery and in DuckDB on Parquet files they give the same answers.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use connectors::bigquery::{Destination, TableExport};
use connectors::parquet::ParquetExport;
use connectors::store::WriteMethod::LoadJobs;
use parquet::arrow::ArrowWriter;
use serde_json::Value;

use crate::emulator::emulator;
use crate::fixture::{SMALL, dataset, empty};
use crate::lively::{UPLOADS, commit_lively};
use crate::make::START;

fn deploy(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/bigquery").join(path)
}

/// The files of a folder, by name.
fn files(folder: &str) -> Vec<PathBuf> {
    let listed = fs::read_dir(deploy(folder)).expect("a folder");
    let mut files: Vec<PathBuf> = listed.map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    files
}

/// A query's names and rows in DuckDB, each value as JSON.
fn on_parquet(data: &Path, query: &Path) -> (Vec<String>, Vec<Vec<Value>>) {
    let mut python = Command::new(&emulator().python);
    let output = python.arg(deploy("on_parquet.py")).arg(data).arg(query).arg("--json").output().expect("python runs");
    assert!(output.status.success(), "{}: {}", query.display(), String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let mut lines = text.lines().map(|line| serde_json::from_str::<Vec<Value>>(line).expect("JSON"));
    let names = lines.next().expect("names").iter().map(|name| name.as_str().expect("a name").to_owned()).collect();
    (names, lines.collect())
}

/// A value in a form that both sides have: numbers to twelve digits, as sums are made in any order; a list as its JSON.
fn alike(text: Option<&str>) -> String {
    let Some(text) = text else { return "null".to_owned() };
    match (text.parse::<f64>(), serde_json::from_str(text)) {
        (Ok(number), _) => format!("{number:.11e}"),
        (_, Ok(list @ Value::Array(_))) => list.to_string(),
        _ => text.to_owned(),
    }
}

fn sorted(mut rows: Vec<Vec<String>>) -> Vec<Vec<String>> {
    rows.sort();
    rows
}

async fn assert_equal_answers(to: &Destination, data: &Path, query: &Path) {
    let sql = fs::read_to_string(query).expect("a query").replace("tidemark.", &format!("{}.", to.dataset));
    let (names, rows) = emulator().query(to, &sql).await;
    let in_bigquery: Vec<Vec<String>> =
        rows.iter().map(|row| row.iter().map(|value| alike(value.as_deref())).collect()).collect();
    let (duck_names, rows) = on_parquet(data, query);
    let value = |value: &Value| match value {
        Value::Null => alike(None),
        Value::String(text) => alike(Some(text)),
        other => alike(Some(&other.to_string())),
    };
    let in_duckdb: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(value).collect()).collect();
    let name = query.file_name().unwrap_or_default().to_string_lossy();
    assert_eq!(names, duck_names, "{name}");
    assert!(in_bigquery.len() >= 2, "{name} tells nothing apart: {in_bigquery:?}");
    assert_eq!(sorted(in_bigquery), sorted(in_duckdb), "{name}");
}

#[tokio::test]
async fn every_view_and_query_answers_alike_in_bigquery_and_on_parquet_files() {
    let (to, ready) = dataset().await;
    let (fixture, data) = (empty().await, tempfile::tempdir().expect("a folder"));
    commit_lively(&fixture.store).await;
    ParquetExport::new(fixture.store.clone(), data.path()).export(START).await.expect("exported");
    ParquetExport::windows(fixture.store.clone(), data.path()).export(START).await.expect("exported");
    for export in TableExport::all(&fixture.store, &ready, LoadJobs, connectors::bigquery::Limits::default()) {
        assert!(export.export(START).await.expect("exported") > 20, "{}", export.table());
        if !["outcomes", "windows"].contains(&export.table()) {
            let rows = export.rows(1, u64::from(u32::MAX)).await.expect("read");
            let folder = data.path().join(export.table());
            fs::create_dir(&folder).expect("a folder");
            let file = File::create(folder.join("all.parquet")).expect("created");
            let mut writer = ArrowWriter::try_new(file, rows.schema(), None).expect("a writer");
            writer.write(&rows).expect("written");
            writer.close().expect("closed");
        }
    }
    let queries = files("queries");
    assert_eq!(queries.len(), 14);
    for query in &queries {
        let text = fs::read_to_string(query).expect("a query");
        assert!(text.starts_with("-- "), "{} says what it is for", query.display());
        assert_equal_answers(&to, data.path(), query).await;
    }
    for view in files("views") {
        let name = view.file_stem().unwrap_or_default().to_string_lossy();
        let all = data.path().join(format!("{name}.sql"));
        fs::write(&all, format!("SELECT * FROM tidemark.{name}")).expect("written");
        assert_equal_answers(&to, data.path(), &all).await;
    }
}

#[tokio::test]
async fn of_each_upload_the_largest_version_stands() {
    let (to, ready) = dataset().await;
    let fixture = empty().await;
    commit_lively(&fixture.store).await;
    for export in TableExport::all(&fixture.store, &ready, LoadJobs, SMALL) {
        if export.table() == "outcomes" {
            export.export(START).await.expect("exported");
        }
    }
    let standing = fixture.store.newest_outcomes(usize::MAX >> 1).await.expect("read");
    let mut expected: Vec<Vec<Option<String>>> = standing
        .iter()
        .map(|it| [it.upload_id.to_string(), it.version.to_string(), it.status.to_string()].map(Some).to_vec())
        .collect();
    expected.sort();
    let sql = "SELECT upload_id, version, status FROM standing_outcomes";
    let (_, mut found) = emulator().query(&to, sql).await;
    found.sort();
    assert_eq!(expected.len() as u64, UPLOADS);
    assert_eq!(found, expected);
}
