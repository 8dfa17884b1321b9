//! What the graph asks of a store, for tests.

use connectors::store::{Store, StoreUrl, Write};
use records::{Admitted, Lane, Outcome, UploadId, UtcMicros};
use sqlx::{Connection, PgConnection, SqliteConnection};

use crate::make::{START, attempts, id, payload};

/// What the graph hands over for an outcome.
pub(crate) fn ending(number: u64, outcome: Outcome) -> Write {
    let attempts = attempts(&outcome);
    (outcome, attempts, payload(number).into())
}

/// Admits uploads by their numbers, all arriving at [`START`].
pub(crate) async fn admit(store: &Store, numbers: impl IntoIterator<Item = u64>) -> Vec<Admitted> {
    let uploads: Vec<(UploadId, Lane, UtcMicros)> =
        numbers.into_iter().map(|number| (id(number), Lane::ALL[number as usize % 2], START)).collect();
    store.admit(&uploads).await.expect("admitted")
}

/// Opens a store that is not there yet in many tasks at once, which all must get the same.
pub(crate) async fn all_open_one_store(url: &StoreUrl) {
    let open = |_| {
        let url = url.clone();
        tokio::spawn(async move { Store::open(url).await })
    };
    let opened: Vec<_> = (0..12).map(open).collect();
    for (number, store) in opened.into_iter().enumerate() {
        let store = store.await.expect("no panic").expect("opens");
        let ids = store.enqueue(&[(Lane::High, b"event")], START).await.expect("works");
        assert_eq!(ids, [number as u64 + 1], "all are one store");
    }
}

/// The one column of a statement's answer, as text, read as somebody else would.
pub(crate) async fn column(store: &Store, statement: &str) -> Vec<String> {
    match store.url() {
        StoreUrl::Sqlite(path) => {
            let mut connection = SqliteConnection::connect(path.to_str().expect("UTF-8")).await.expect("opens");
            sqlx::query_scalar(statement).fetch_all(&mut connection).await.expect(statement)
        }
        StoreUrl::Postgres(address) => {
            let mut connection = PgConnection::connect(address).await.expect("connects");
            sqlx::query_scalar(statement).fetch_all(&mut connection).await.expect(statement)
        }
    }
}

/// Changes the database as nothing of ours does.
pub(crate) async fn change(store: &Store, statements: &str) {
    match store.url() {
        StoreUrl::Sqlite(path) => {
            let mut connection = SqliteConnection::connect(path.to_str().expect("UTF-8")).await.expect("opens");
            sqlx::raw_sql(statements).execute(&mut connection).await.expect(statements);
        }
        StoreUrl::Postgres(address) => {
            let mut connection = PgConnection::connect(address).await.expect("connects");
            sqlx::raw_sql(statements).execute(&mut connection).await.expect(statements);
        }
    }
}
