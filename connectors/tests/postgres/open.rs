//! Which databases are a store, and what is said about those that cannot be one.

use connectors::store::{Store, StoreError, StoreUrl};
use records::{FaultClass, Lane};

use crate::make::START;
use crate::new_database;
use crate::server::server;
use crate::steps::all_open_one_store;

fn text(url: &StoreUrl) -> &str {
    let StoreUrl::Postgres(text) = url else { panic!("it is a database") };
    text
}

async fn refused(url: &str) -> StoreError {
    Store::open(url.parse::<StoreUrl>().expect("an address")).await.expect_err(url)
}

#[tokio::test]
async fn another_programs_schema_is_refused_and_left_as_it_was() {
    let url = new_database();
    server().sql(text(&url), "CREATE TABLE songs (name TEXT)");
    let error = Store::open(&url).await.expect_err("refused");
    assert!(matches!(error, StoreError::Foreign { .. }), "{error:?}");
    assert_eq!(error.class(), FaultClass::Permanent);
    let tables = "SELECT string_agg(tablename, ',') FROM pg_tables WHERE schemaname = 'public'";
    assert_eq!(server().sql(text(&url), tables), "songs");
}

#[tokio::test]
async fn a_store_may_have_a_schema_of_its_own_beside_other_programs() {
    let url = new_database();
    server().sql(text(&url), "CREATE TABLE songs (name TEXT); CREATE SCHEMA tidemark");
    let url: StoreUrl = format!("{}?options=-c%20search_path=tidemark", text(&url)).parse().expect("an address");
    let store = Store::open(&url).await.expect("opens");
    assert_eq!(store.enqueue(&[(Lane::High, b"event")], START).await.expect("enqueued"), [1]);
    let nowhere = text(&url).replace("search_path=tidemark", "search_path=nowhere");
    let error = refused(&nowhere).await;
    assert!(error.to_string().contains("search_path"), "{error}");
}

#[tokio::test]
async fn a_store_of_a_newer_version_is_refused_with_both_versions() {
    let url = new_database();
    Store::open(&url).await.expect("opens").close().await;
    server().sql(text(&url), "UPDATE tidemark_schema SET version = 7000");
    let error = Store::open(&url).await.expect_err("refused");
    assert!(matches!(error, StoreError::Newer { found: 7000, .. }), "{error:?}");
    assert!(error.to_string().contains("7000") && error.to_string().contains("newer"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_may_open_a_store_that_is_not_there_yet() {
    all_open_one_store(&new_database()).await;
}

#[tokio::test]
async fn what_is_wrong_with_an_address_is_said_with_its_mend_and_without_its_password() {
    let right = server().url("postgres");
    let (start, _) = right.rsplit_once('@').expect("with a password");
    let (_, password) = start.rsplit_once(':').expect("with a password");
    for (wrong, says, class) in [
        (right.replace(password, "not-the-password"), "PGPASSWORD", FaultClass::Permanent),
        (server().url("nowhere"), "create the database", FaultClass::Permanent),
        (format!("{start}@localhost:1/postgres"), "does its server run", FaultClass::Retryable),
    ] {
        let error = refused(&wrong).await;
        assert!(matches!(error, StoreError::Open { .. }), "{error:?}");
        let shown = format!("{error} {error:?}");
        assert!(shown.contains(says), "{shown}");
        assert!(!shown.contains(password) && !shown.contains("not-the-password"), "{shown}");
        assert_eq!(error.class(), class, "{shown}");
    }
    let store = Store::open(new_database()).await.expect("opens");
    assert!(!format!("{store:?}").contains(password), "nor by an open store");
}
