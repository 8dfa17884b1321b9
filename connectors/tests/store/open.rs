//! Which files are a store, and who serves from one.

use std::fs;
use std::path::Path;

use connectors::store::{Store, StoreError, StoreUrl};
use records::{FaultClass, Lane};
use sqlx::{ConnectOptions, Connection};

use crate::fixture;
use crate::make::START;
use crate::steps::all_open_one_store;

async fn execute(path: &Path, sql: &str) {
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path).create_if_missing(true);
    let mut connection = options.connect().await.expect("opens");
    sqlx::raw_sql(sql).execute(&mut connection).await.expect("runs");
    connection.close().await.expect("closes");
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused_and_left_as_it_was() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("notes.txt");
    let text = "what I did on my holidays ".repeat(100);
    fs::write(&path, &text).expect("written");
    let error = Store::open(&path).await.expect_err("refused");
    assert!(matches!(error, StoreError::NotADatabase { .. }), "{error:?}");
    assert_eq!(error.class(), FaultClass::Permanent);
    assert_eq!(fs::read_to_string(&path).expect("read"), text);
}

#[tokio::test]
async fn another_programs_database_is_refused_and_left_as_it_was() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("music.db");
    execute(&path, "CREATE TABLE songs (name TEXT)").await;
    let before = fs::read(&path).expect("read");
    let error = Store::open(&path).await.expect_err("refused");
    assert!(matches!(error, StoreError::Foreign { .. }), "{error:?}");
    assert_eq!(fs::read(&path).expect("read"), before);
}

#[tokio::test]
async fn a_store_of_a_newer_version_is_refused_with_both_versions() {
    let fixture = fixture().await;
    fixture.store.close().await;
    let path = fixture.folder.path().join("tidemark.db");
    execute(&path, "PRAGMA user_version = 7000").await;
    let error = Store::open(&path).await.expect_err("refused");
    assert!(matches!(error, StoreError::Newer { found: 7000, .. }), "{error:?}");
    assert!(error.to_string().contains("7000") && error.to_string().contains("newer"), "{error}");
}

#[tokio::test]
async fn a_path_that_cannot_be_written_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    for path in [Path::new("/proc/tidemark.db"), &folder.path().join("missing/tidemark.db"), folder.path()] {
        let error = Store::open(path).await.expect_err("refused");
        assert!(matches!(error, StoreError::Open { .. }), "{error:?}");
        assert!(error.to_string().contains(&path.display().to_string()), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_may_open_a_store_that_is_not_there_yet() {
    let folder = tempfile::tempdir().expect("a folder");
    all_open_one_store(&StoreUrl::from(&folder.path().join("tidemark.db"))).await;
}

#[tokio::test]
async fn one_claim_is_alive_at_a_time_and_the_next_gives_back_what_the_dead_had_leased() {
    let fixture = fixture().await;
    let path = fixture.folder.path().join("tidemark.db");
    let other = Store::open(&path).await.expect("a second process may open it");
    let claim = fixture.store.claim().await.expect("the first claim");
    let error = other.claim().await.expect_err("the first is alive");
    assert!(matches!(error, StoreError::Held { .. }), "{error:?}");
    assert!(error.to_string().contains(&path.display().to_string()), "{error}");

    fixture.store.enqueue(&[(Lane::High, b"a"), (Lane::Low, b"b")], START).await.expect("enqueued");
    for lane in Lane::ALL {
        let leased = fixture.store.lease(lane, 9, START.plus_ms(60_000), START).await.expect("leased");
        assert_eq!(leased.len(), 1);
    }
    drop(claim);
    let _claim = other.claim().await.expect("the first is dead");
    for lane in Lane::ALL {
        let leased = other.lease(lane, 9, START.plus_ms(60_000), START).await.expect("leased");
        assert_eq!(leased.iter().map(|delivery| delivery.lease.delivery).collect::<Vec<_>>(), [2]);
    }
}
