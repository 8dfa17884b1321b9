//! A database that refuses, goes away or is silent: what is said of it, and what is left.

use std::time::{Duration, Instant};

use connectors::store::{Store, StoreError, StoreUrl};
use records::FaultClass::{self, Indeterminate, Permanent, Retryable};

use crate::make::{START, completed, id};
use crate::proxy::{Proxy, Wire};
use crate::server::server;
use crate::{admit, ending};

async fn store(address: &str) -> Store {
    Store::open(address.parse::<StoreUrl>().expect("an address")).await.expect("opens")
}

/// Makes the database answer an outcome with an error: at the statement, or at the commit.
fn refuse(address: &str, state: &str, when: &str) {
    let function = format!(
        "CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
         $$ BEGIN RAISE EXCEPTION 'refused' USING ERRCODE = '{state}'; END $$"
    );
    let trigger = format!("CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON outcomes {when} FOR EACH ROW");
    let sql = format!("{function}; DROP TRIGGER IF EXISTS refuse ON outcomes; {trigger} EXECUTE FUNCTION refuse()");
    server().sql(address, &sql);
}

#[tokio::test]
async fn an_error_is_classed_by_what_may_be_done_about_it() {
    let address = server().new_database();
    let store = store(&address).await;
    admit(&store, [1]).await;
    let group = [ending(1, completed(1, 1, START))];
    let cases: [(&str, &str, FaultClass); 13] = [
        ("NOT DEFERRABLE", "40001", Retryable),                    // serialization failure
        ("NOT DEFERRABLE", "40P01", Retryable),                    // deadlock
        ("NOT DEFERRABLE", "53100", Retryable),                    // disk full
        ("NOT DEFERRABLE", "55P03", Retryable),                    // lock not available
        ("NOT DEFERRABLE", "57014", Retryable),                    // took longer than statement_timeout
        ("NOT DEFERRABLE", "25006", Retryable),                    // a standby
        ("NOT DEFERRABLE", "42P01", Permanent),                    // no such table
        ("NOT DEFERRABLE", "22021", Permanent),                    // no valid text
        ("DEFERRABLE INITIALLY DEFERRED", "40001", Retryable),     // at the commit, and undone
        ("DEFERRABLE INITIALLY DEFERRED", "40003", Indeterminate), // the end is not known
        ("DEFERRABLE INITIALLY DEFERRED", "57P01", Indeterminate), // told to stop
        ("DEFERRABLE INITIALLY DEFERRED", "58030", Indeterminate), // I/O error
        ("DEFERRABLE INITIALLY DEFERRED", "XX000", Indeterminate), // anything else
    ];
    for (when, state, class) in cases {
        refuse(&address, state, when);
        let error = store.commit(&group).await.expect_err(state);
        assert_eq!(error.class(), class, "{when} {state}: {error:?}");
        assert_eq!(store.outcome(&id(1)).await.expect("read"), None, "nothing is left behind by {state}");
    }
    server().sql(&address, "DROP TRIGGER refuse ON outcomes");
    assert_eq!(store.commit(&group).await.expect("committed"), [true]);
}

#[tokio::test]
async fn a_commit_whose_answer_is_lost_is_indeterminate_and_may_be_repeated() {
    let address = server().new_database();
    let (proxy, proxied) = Proxy::start(&address).await;
    let store = store(&proxied).await;
    admit(&store, [1]).await;
    let group = [ending(1, completed(1, 1, START))];
    proxy.becomes(Wire::LosesTheAnswerOfCommit);
    let error = store.commit(&group).await.expect_err("no answer");
    assert!(matches!(error, StoreError::CommitUnknown(_)), "{error:?}");
    assert_eq!(error.class(), Indeterminate);
    proxy.becomes(Wire::Whole);
    assert_eq!(store.commit(&group).await.expect("committed"), [false], "it had happened");
    assert_eq!(store.outcomes_after(0, 9).await.expect("read").len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_commit_into_a_cut_network_ends_as_indeterminate_and_holds_nobody_up() {
    let address = server().new_database();
    let (proxy, proxied) = Proxy::start(&address).await;
    let (cut, other) = (store(&proxied).await, store(&address).await);
    admit(&other, [1]).await;
    let group = [ending(1, completed(1, 1, START))];
    let begun = Instant::now();
    proxy.becomes(Wire::SilentAtCommit);
    // The cut one has the turn, until the server sees that it does nothing with it.
    let (lost, won) = tokio::join!(cut.commit(&group), async {
        let waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted AND database =
            (SELECT oid FROM pg_database WHERE datname = current_database())";
        while server().sql(&address, waiting) == "0" {
            assert!(begun.elapsed() < Duration::from_secs(10), "the cut one takes its turn");
            tokio::task::yield_now().await;
        }
        let mut committed = other.commit(&group).await;
        while committed.as_ref().is_err_and(|error| error.class() == Retryable) {
            committed = other.commit(&group).await;
        }
        committed
    });
    assert_eq!(lost.expect_err("no answer").class(), Indeterminate);
    assert_eq!(won.expect("committed"), [true], "what the cut one began was undone");
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
    proxy.becomes(Wire::Whole);
    assert_eq!(cut.commit(&group).await.expect("committed"), [false]);
}

#[tokio::test]
async fn a_silent_network_is_an_error_soon_and_is_forgotten_once_it_is_whole() {
    let (proxy, proxied) = Proxy::start(&server().new_database()).await;
    let store = store(&proxied).await;
    admit(&store, [1]).await;
    proxy.becomes(Wire::Silent);
    let begun = Instant::now();
    let error = store.tally().await.expect_err("no answer");
    assert!(matches!(error, StoreError::NoAnswer), "{error:?}");
    assert_eq!(error.class(), Retryable);
    let error = Store::open(store.url()).await.expect_err("no answer");
    assert_eq!(error.class(), Retryable, "{error:?}");
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    proxy.becomes(Wire::Whole);
    assert_eq!(admit(&store, [1]).await.len(), 1);
}

#[tokio::test]
async fn connections_that_the_server_ended_are_replaced() {
    let address = server().new_database();
    let store = store(&address).await;
    for round in 0..5 {
        admit(&store, [round]).await;
        let ended = server().sql(
            &address,
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
             WHERE datname = current_database() AND pid <> pg_backend_pid()",
        );
        assert_ne!(ended, "0");
    }
    assert_eq!(admit(&store, 0..5).await.len(), 5);
}
