//! A store with rows in each of its logs, and an export of it into a dataset of its own.

use connectors::bigquery::{BigQuery, BigQueryError, Destination, Limits, Ready, TableExport};
use connectors::store::{Store, WriteMethod};
use tempfile::TempDir;

use crate::emulator::{Dataset, emulator};
use crate::logs::write_logs;
use crate::make::{START, completed, dead_lettered};
use crate::steps::{admit, ending};

/// Small enough that every loop runs more than once.
pub(crate) const SMALL: Limits = Limits { rows_per_job: 6, rows_per_append: 6, bytes_per_append: 1_000 };

/// All of them.
pub(crate) const TABLES: [&str; 7] =
    ["outcomes", "attempts", "dead_letters", "windows", "experiment_reports", "alerts", "audit"];

/// Uploads of [`filled`].
pub(crate) const UPLOADS: u64 = 11;

/// A store in a folder, which is deleted with it.
pub(crate) struct Fixture {
    pub(crate) store: Store,
    _folder: TempDir,
}

pub(crate) async fn empty() -> Fixture {
    let folder = tempfile::tempdir().expect("a folder");
    Fixture { store: Store::open(&folder.path().join("tidemark.db")).await.expect("opens"), _folder: folder }
}

/// Uploads of two days, every fourth of them dead-lettered after two attempts, and as many rows of each other log.
pub(crate) async fn filled() -> Fixture {
    let fixture = empty().await;
    commit(&fixture.store, 0..UPLOADS).await;
    fixture
}

/// Commits uploads by their numbers, and writes a row of each other log for each.
pub(crate) async fn commit(store: &Store, numbers: std::ops::Range<u64>) {
    admit(store, numbers.clone()).await;
    let outcome = |number: u64| {
        let arrived = START.plus_ms(number % 2 * 86_400_000);
        let mut outcome = if number % 4 == 3 { dead_lettered } else { completed }(number, 1, arrived);
        outcome.attempts = 1 + u32::from(number % 4 == 3);
        ending(number, outcome)
    };
    store.commit(&numbers.clone().map(outcome).collect::<Vec<_>>()).await.expect("committed");
    write_logs(store, numbers).await;
}

/// A dataset whose tables are there.
pub(crate) async fn dataset() -> (Dataset, Ready) {
    let to = emulator().new_dataset().await;
    let ready = ready(&to).await;
    (to, ready)
}

pub(crate) async fn ready(to: &Destination) -> Ready {
    let bigquery = BigQuery::connect(to.clone()).await.expect("a client");
    bigquery.setup().await.expect("set up").0
}

/// The export of one table.
pub(crate) fn export(store: &Store, ready: &Ready, method: WriteMethod, table: &str) -> TableExport {
    let mut all = TableExport::all(store, ready, method, SMALL).into_iter();
    all.find(|export| export.table() == table).expect("a table of ours")
}

/// The `reached` of a process that dies at its `nth` step, from 0.
pub(crate) fn dying_at(nth: usize) -> impl FnMut() -> Result<(), BigQueryError> + Send {
    let mut reached = 0;
    move || {
        reached += 1;
        if reached > nth { Err(BigQueryError::Credentials("died".to_owned())) } else { Ok(()) }
    }
}

/// Asserts that every row of a table is there once: of its uploads, or of what was made of them.
pub(crate) async fn assert_each_once(to: &Destination, table: &str, after: &str) {
    assert_each_of(to, table, UPLOADS, after).await;
}

/// The same for so many uploads, and as many rows of each other log.
pub(crate) async fn assert_each_of(to: &Destination, table: &str, uploads: u64, after: &str) {
    let dead = |number: &u64| number % 4 == 3;
    let rows = |number: u64| -> Vec<String> {
        match table {
            "outcomes" => vec![format!("upload-{number}/1")],
            "dead_letters" => Some(format!("upload-{number}/1")).filter(|_| dead(&number)).into_iter().collect(),
            "attempts" => (0..1 + u64::from(dead(&number))).map(|at| format!("upload-{number}/1/{at}")).collect(),
            "windows" => vec![(number + 1).to_string()],
            "experiment_reports" => vec![number.to_string()],
            "alerts" => vec![format!("alert-{}/{}", number / 2, ["firing", "resolved"][number as usize % 2])],
            "audit" => vec![format!("run-{number}")],
            other => panic!("no table {other}"),
        }
    };
    let mut expected: Vec<(String, u64)> = (0..uploads).flat_map(rows).map(|key| (key, 1)).collect();
    expected.sort();
    let key = match table {
        "attempts" => "upload_id, '/', CAST(version AS STRING), '/', CAST(position AS STRING)",
        "windows" => "CAST(requests AS STRING)",
        "experiment_reports" => "CAST(arm_uploads AS STRING)",
        "alerts" => "name, '/', phase",
        "audit" => "target",
        _ => "upload_id, '/', CAST(version AS STRING)",
    };
    let mut found = emulator().counts(to, table, key).await;
    found.sort();
    assert_eq!(found, expected, "{table}, {after}");
}
