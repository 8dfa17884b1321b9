//! Delivery under faults: `make test-faults` runs it and prints a row for each fault. UPLOADS and SEED are taken from the
//! environment.
//!
//! What follows a fault is not decided by a clock but by what is committed, so a seed gives the same faults at the same
//! points of the work; the system's scheduling is its own.

#[path = "../../connectors/tests/postgres/proxy.rs"]
mod proxy;
#[path = "../system/harness.rs"]
#[allow(dead_code, reason = "the harness is the system tests', which need more of it")]
mod harness;
#[path = "../../models/tests/openai/llmock.rs"]
#[allow(dead_code, reason = "the client's own tests ask more of it")]
mod llmock;
mod database;
mod fleet;

use std::time::Duration;

use fleet::{Fleet, LEASE};
use llmock::Llmock;
use proxy::Wire;
use records::Branch;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn workers_are_killed() {
    let mut fleet = Fleet::start(1, "", None).await;
    for part in 1..=8 {
        fleet.until(f64::from(part) / 10.0).await;
        let worker = fleet.any();
        fleet.signal(worker, "-9");
        fleet.replace(worker);
        fleet.recovers().await;
    }
    fleet.finish("a worker is killed with -9, and another one started").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_database_is_killed() {
    let mut fleet = Fleet::start(1, "", None).await;
    for part in 1..=3 {
        fleet.until(f64::from(part) / 5.0).await;
        fleet.database.kill().await;
        let address = fleet.database.up();
        fleet.moves_to(address).await;
        fleet.recovers().await;
    }
    fleet.finish("the database is killed with -9, and started again").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_network_is_cut() {
    let mut fleet = Fleet::start(1, "", None).await;
    fleet.until(0.3).await;
    fleet.proxy.becomes(Wire::Silent);
    tokio::time::sleep(Duration::from_secs(30)).await;
    fleet.proxy.becomes(Wire::Whole);
    fleet.recovers().await;
    fleet.finish("nothing passes between workers and database for 30 s").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_answer_of_a_commit_is_lost() {
    let mut fleet = Fleet::start(1, "", None).await;
    for part in 1..=8 {
        fleet.until(f64::from(part) / 10.0).await;
        fleet.proxy.becomes(Wire::LosesTheAnswerOfCommit);
        // Where no commit answers, nobody leases anything either: what goes on is what is in flight.
        tokio::time::sleep(Duration::from_secs(1)).await;
        fleet.proxy.becomes(Wire::Whole);
        fleet.recovers().await;
    }
    fleet.finish("the answers of commits are lost").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_paid_model_fails() {
    let llmock = Llmock::start();
    let answer = r#"{"genre":"rock","tempo_bpm":120,"key":"E minor","instruments":["drums","bass"]}"#;
    llmock
        .will(json!([
            {"type": "fail", "status": 429, "retry_after": 0, "times": 60},
            {"type": "fail", "status": 500, "times": 60},
            {"type": "delay", "seconds": 5, "times": 20},
            {"type": "reply", "text": answer, "times": null},
        ]))
        .await;
    let config = format!(
        "[fallback]\nbase_url = {:?}\ntimeout_ms = 2000\nleast_timeout_ms = 1000\nbreaker_pause_ms = 500\n",
        llmock.base_url()
    );
    let fleet = Fleet::start(1, &config, Some("sk-for-the-stand-in")).await;
    let outcomes = fleet.finish("the paid model answers 429, 500, or hangs").await;
    let paid = outcomes.iter().filter(|outcome| outcome.branch == Some(Branch::Fallback)).count();
    assert!(paid > outcomes.len() / 2, "{paid} were answered by the paid model once it worked");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_source_repeats_itself_in_disorder() {
    let fleet = Fleet::start(3, "", None).await;
    fleet.finish("the source delivers everything three times, in disorder").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_run_out_while_the_work_goes_on() {
    let mut fleet = Fleet::start(1, "", None).await;
    for part in 1..=4 {
        fleet.until(f64::from(part) / 6.0).await;
        let worker = fleet.any();
        fleet.signal(worker, "-STOP");
        tokio::time::sleep(LEASE + Duration::from_secs(1)).await;
        fleet.signal(worker, "-CONT");
        fleet.recovers().await;
    }
    fleet.finish("a worker stands still until its leases ran out, and goes on").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_are_told_to_stop() {
    let mut fleet = Fleet::start(1, "", None).await;
    for part in 1..=8 {
        fleet.until(f64::from(part) / 10.0).await;
        let worker = fleet.any();
        fleet.signal(worker, "-TERM");
        fleet.replace(worker);
        fleet.recovers().await;
    }
    fleet
        .finish("a worker is told to stop, gives back what it does not end in a second, and another one started")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_disk_is_slow() {
    let (delay, siblings) = ("ALTER SYSTEM SET commit_delay = 100000", "ALTER SYSTEM SET commit_siblings = 0");
    let mut fleet = Fleet::start(1, "", None).await;
    fleet.until(0.2).await;
    for setting in [delay, siblings, "SELECT pg_reload_conf()"] {
        fleet.database.sql(&fleet.address(), setting);
    }
    fleet.until(0.8).await;
    for setting in ["ALTER SYSTEM RESET ALL", "SELECT pg_reload_conf()"] {
        fleet.database.sql(&fleet.address(), setting);
    }
    fleet.recovers().await;
    fleet.finish("every commit of the database takes 0.1 s").await;
}
