//! Whoever follows a log while all workers write it misses nothing: numbers appear in their order.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use connectors::store::{Store, StoreUrl};
use records::Operation;
use serde_json::json;
use sqlx::{Connection, PgConnection};

use crate::logs::{alert_change, at, report};
use crate::make::START;
use crate::{new_database, steps};

const WORKERS: u64 = 4;
const ROWS: u64 = 120;

/// Writes a row of each log for each of the worker's numbers.
async fn write(store: Store, numbers: impl Iterator<Item = u64>) {
    for number in numbers {
        // Each alert fires only.
        store.change_alerts(&[alert_change(number * 2)], &[]).await.expect("changed");
        store.add_experiment_report(&[report(number)]).await.expect("added");
        store.note_operation(Operation::Replay, "run", &json!({}), at(number)).await.expect("noted");
        store.enqueue_audited(&[(records::Lane::Low, "event")], START).await.expect("enqueued");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_follows_any_log_while_all_write_it_misses_nothing() {
    let url = new_database();
    let store = Store::open(&url).await.expect("opens");
    let StoreUrl::Postgres(address) = url.clone() else { panic!("a database") };
    let done = Arc::new(AtomicBool::new(false));
    let following = ["alert_changes", "experiment_reports", "audit"].map(|log| {
        let (address, ended) = (address.clone(), Arc::clone(&done));
        tokio::spawn(async move {
            let mut connection = PgConnection::connect(&address).await.expect("connects");
            let after = format!("SELECT seq FROM {log} WHERE seq > $1 ORDER BY seq LIMIT 100");
            let mut seen: Vec<i64> = Vec::new();
            loop {
                let is_last = ended.load(Ordering::SeqCst);
                let last = seen.last().copied().unwrap_or(0);
                let page: Vec<i64> =
                    sqlx::query_scalar(&after).bind(last).fetch_all(&mut connection).await.expect("read");
                if page.is_empty() && is_last {
                    return (log, seen);
                }
                seen.extend(page);
            }
        })
    });
    let mut writing = Vec::new();
    for worker in 0..WORKERS {
        let store = Store::open(&url).await.expect("opens");
        writing.push(tokio::spawn(write(store, (0..ROWS).map(move |row| row * WORKERS + worker))));
    }
    for written in writing {
        written.await.expect("no panic");
    }
    done.store(true, Ordering::SeqCst);
    for followed in following {
        let (log, seen) = followed.await.expect("no panic");
        let there =
            steps::column(&store, &format!("SELECT CAST(seq AS TEXT) FROM {log} AS log ORDER BY log.seq")).await;
        let seen: Vec<String> = seen.iter().map(ToString::to_string).collect();
        assert!(seen == there, "of {log} {} of {} rows were seen", seen.len(), there.len());
        assert!(there.len() as u64 >= WORKERS * ROWS, "{log} has {} rows", there.len());
    }
}
