//! Other people's readers on our Parquet files: DuckDB, pandas, pyarrow and Polars. `make test-services` runs it.

#[path = "../store/logs.rs"]
#[allow(dead_code, reason = "it makes more than is needed here")]
mod logs;
#[path = "../store/make.rs"]
#[allow(dead_code, reason = "it makes more than is needed here")]
mod make;
#[path = "../support/script.rs"]
mod script;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use arrow::datatypes::{DataType, Schema};
use connectors::parquet::ParquetExport;
use connectors::store::Store;
use logs::{window, write_windows};
use make::{START, attempts, completed, dead_lettered, id, payload};
use records::{Lane, outcome_schema, window_schema};
use script::Script;
use serde::Deserialize;

/// By day, the sum of a column and the rows.
type Days = Vec<(String, u64, u64)>;

/// What a reader found in a table.
#[derive(Deserialize)]
struct Found {
    reader: String,
    table: String,
    types: BTreeMap<String, String>,
    days: Days,
}

/// The name that a reader has for a type of ours.
fn named(reader: &str, kind: &DataType) -> &'static str {
    let names = match kind {
        DataType::Utf8 => ["VARCHAR", "string", "String"],
        DataType::Boolean => ["BOOLEAN", "bool", "Boolean"],
        DataType::UInt32 => ["UINTEGER", "uint32", "UInt32"],
        DataType::UInt64 => ["UBIGINT", "uint64", "UInt64"],
        DataType::Float64 => ["DOUBLE", "double", "Float64"],
        DataType::Timestamp(..) => {
            ["TIMESTAMP WITH TIME ZONE", "timestamp[us, tz=UTC]", "Datetime(time_unit='us', time_zone='UTC')"]
        }
        DataType::List(_) => ["UBIGINT[]", "list<item: uint64 not null>", "List(UInt64)"],
        other => panic!("no column of ours is of {other}"),
    };
    match reader {
        "DuckDB" => names[0],
        "Polars" => names[2],
        _ => names[1],
    }
}

/// Fills a data folder with outcomes and windows of two days; what a reader has to find of each day.
async fn fill(data: &Path) -> BTreeMap<&'static str, Days> {
    let store = Store::open(&data.join("tidemark.db")).await.expect("opens");
    let (mut outcomes, mut windows) = (BTreeMap::new(), BTreeMap::new());
    let count = |days: &mut BTreeMap<String, (u64, u64)>, day: String, value: u64| {
        let (sum, rows) = days.entry(day).or_default();
        (*sum, *rows) = (*sum + value, *rows + 1);
    };
    for number in 0..70 {
        let outcome = if number % 7 == 0 { dead_lettered } else { completed };
        let outcome = outcome(number, 1, START.plus_ms(number % 2 * 86_400_000));
        count(&mut outcomes, outcome.arrived_at.day(), outcome.total_ms);
        store.admit(&[(id(number), Lane::Low, START)]).await.expect("admitted");
        let ended = (outcome.clone(), attempts(&outcome), payload(number).into());
        store.commit(&[ended]).await.expect("committed");
    }
    let rows: Vec<_> = (1..40).map(|number| window(number, 1)).collect();
    rows.iter().for_each(|window| count(&mut windows, window.row.start.day(), window.row.requests));
    write_windows(&store, &rows).await;
    ParquetExport::new(store.clone(), data).export(START).await.expect("exported");
    ParquetExport::windows(store.clone(), data).export(START).await.expect("exported");
    let listed =
        |days: BTreeMap<String, (u64, u64)>| days.into_iter().map(|(day, (sum, rows))| (day, sum, rows)).collect();
    BTreeMap::from([("outcomes", listed(outcomes)), ("windows", listed(windows))])
}

fn types(schema: &Schema, reader: &str) -> BTreeMap<String, String> {
    let fields = schema.fields().iter();
    fields.map(|field| (field.name().clone(), named(reader, field.data_type()).to_owned())).collect()
}

#[tokio::test]
async fn duckdb_pandas_pyarrow_and_polars_read_every_row_day_and_type() {
    let data = tempfile::tempdir().expect("a folder");
    let expected = fill(data.path()).await;
    let (_script, [python]) = Script::run("parquet-readers.sh", &[]);
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/readers/read.py");
    let output = Command::new(python).arg(program).arg(data.path()).output().expect("python runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let found: Vec<Found> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(found.len(), 8, "four readers of two tables");
    for Found { reader, table, types: kinds, days } in found {
        assert_eq!(days, expected[table.as_str()], "{reader}, {table}");
        let schema = if table == "outcomes" { outcome_schema() } else { window_schema() };
        assert_eq!(kinds, types(&schema, &reader), "{reader}, {table}");
    }
}
