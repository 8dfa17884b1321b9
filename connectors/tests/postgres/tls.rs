//! The way to the database: encrypted, and to the server that was meant.

use connectors::store::{Store, StoreUrl};
use records::FaultClass;

use crate::server::server;

fn with(url: &str, mode: &str, ca: &str) -> StoreUrl {
    let ca = server().certificate(ca);
    format!("{url}?sslmode={mode}&sslrootcert={}", ca.display()).parse().expect("an address")
}

#[tokio::test]
async fn a_server_whose_certificate_is_vouched_for_is_connected_to_over_tls() {
    let url = server().new_database();
    let store = Store::open(with(&url, "verify-full", "ca")).await.expect("trusted");
    store.tally().await.expect("read over TLS");
    let (_, database) = url.rsplit_once('/').expect("a database");
    let encrypted = format!(
        "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
         WHERE datname = '{database}' AND application_name = 'tidemark'"
    );
    assert_eq!(server().sql(&server().url("postgres"), &encrypted), "t", "every connection of the store");
}

#[tokio::test]
async fn a_server_that_is_not_vouched_for_is_refused() {
    let url = server().new_database();
    let elsewhere = url.replace("@localhost:", "@127.0.0.1:");
    for (wrong, why) in [
        (with(&url, "verify-full", "other-ca"), "nobody known signed it"),
        (with(&url, "verify-ca", "other-ca"), "nobody known signed it"),
        (with(&elsewhere, "verify-full", "ca"), "it is another name's"),
    ] {
        let error = Store::open(&wrong).await.expect_err(why);
        assert!(error.to_string().contains("sslrootcert"), "{error}");
        assert_eq!(error.class(), FaultClass::Permanent, "{error:?}");
    }
}
