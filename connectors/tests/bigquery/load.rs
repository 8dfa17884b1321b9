//! Load jobs: each range in the table once, after deaths at every step, lost requests, lost answers and failed jobs.

use connectors::bigquery::BigQueryError;
use connectors::store::WriteMethod::{self, LoadJobs, StorageWrite};
use records::FaultClass;
use reqwest::Method;

use crate::emulator::emulator;
use crate::fixture::{
    TABLES, UPLOADS, assert_each_of, assert_each_once, commit, dataset, dying_at, empty, export, filled, ready,
};
use crate::make::START;
use crate::proxy::{Fault, Proxy};

/// Lets an export of each table die at each of its steps in turn, and what goes on after it at the same step again; then each row
/// is there once. Each table with how many steps there were.
pub(crate) async fn dies_at_every_step(method: WriteMethod) -> Vec<(&'static str, usize)> {
    let (to, ready) = dataset().await;
    let mut steps = Vec::new();
    for table in TABLES {
        for deaths in 0.. {
            emulator().clear(&to, table).await;
            let fixture = filled().await;
            let export = export(&fixture.store, &ready, method, table);
            if export.export_watched(START, &mut dying_at(deaths)).await.is_ok() {
                steps.push((table, deaths));
                break;
            }
            // A second death at the same step, of the process that goes on.
            let later = START.plus_ms(1);
            drop(export.export_watched(later, &mut dying_at(deaths)).await);
            export.export(later).await.expect("exported");
            assert_each_once(&to, table, &format!("after a death at step {deaths}")).await;
            assert_eq!(export.export(later).await.expect("exported"), 0, "nothing is left");
        }
    }
    steps
}

#[tokio::test]
async fn a_load_that_died_at_any_step_has_each_row_once() {
    for (table, steps) in dies_at_every_step(LoadJobs).await {
        // By range: begun, noted, the file, no job, sent, a look at the job at least, ended.
        assert!(steps >= 2 * 7, "{table}: only {steps} steps");
    }
}

#[tokio::test]
async fn a_load_that_lost_any_request_or_its_answer_has_each_row_once() {
    for fault in [Fault::LosesTheRequest, Fault::LosesTheAnswer] {
        let (to, _) = dataset().await;
        let proxy = Proxy::start(to.endpoint.as_ref().expect("an emulator"), fault).await;
        let mut proxied = to.clone();
        proxied.endpoint = Some(proxy.endpoint.clone());
        let ready = ready(&proxied).await;
        for nth in 0.. {
            emulator().clear(&to, "attempts").await;
            let fixture = filled().await;
            let export = export(&fixture.store, &ready, LoadJobs, "attempts");
            proxy.fails_at(nth);
            let written = export.export(START).await;
            if !proxy.has_failed() {
                // By range: no job, an upload's beginning, the upload, a look at least.
                assert!(nth >= 8, "{nth} requests");
                break;
            }
            if let Err(error) = written {
                assert_eq!(error.class(), FaultClass::Indeterminate, "{error}");
                export.export(START).await.expect("exported");
            }
            assert_each_once(&to, "attempts", &format!("{fault:?} at request {nth}")).await;
        }
    }
}

#[tokio::test]
async fn a_job_that_failed_has_loaded_nothing_and_the_next_one_has_another_id() {
    let (to, ready) = dataset().await;
    let fixture = filled().await;
    let export = export(&fixture.store, &ready, LoadJobs, "outcomes");
    // Somebody drops the table.
    let table = format!("datasets/{}/tables/outcomes", to.dataset);
    emulator().call(Method::DELETE, &table, None).await;
    let mut jobs = Vec::new();
    for _ in 0..2 {
        let error = export.export(START).await.expect_err("no table");
        assert_eq!(error.class(), FaultClass::Retryable);
        let BigQueryError::JobFailed { job, message } = error else { panic!("{error:?}") };
        assert!(message.contains("outcomes"), "{message}");
        jobs.push(job);
    }
    assert!(jobs[0].ends_with("_1") && jobs[1].ends_with("_2"), "{jobs:?}");
    crate::fixture::ready(&to).await;
    assert_eq!(export.export(START).await.expect("exported"), UPLOADS);
    assert_each_once(&to, "outcomes", "after two failed jobs").await;
}

#[tokio::test]
async fn two_stores_in_one_dataset_do_not_take_each_others_jobs_for_theirs() {
    let (to, ready) = dataset().await;
    for _ in 0..2 {
        let fixture = filled().await;
        let export = export(&fixture.store, &ready, LoadJobs, "outcomes");
        assert_eq!(export.export(START).await.expect("exported"), UPLOADS);
    }
    let found = emulator().counts(&to, "outcomes", "upload_id").await;
    assert!(found.iter().all(|(_, rows)| *rows == 2) && found.len() as u64 == UPLOADS, "{found:?}");
}

#[tokio::test]
async fn a_range_that_was_begun_one_way_is_ended_that_way() {
    for (first, then) in [(LoadJobs, StorageWrite), (StorageWrite, LoadJobs)] {
        let (to, ready) = dataset().await;
        for deaths in 0.. {
            emulator().clear(&to, "outcomes").await;
            let fixture = filled().await;
            let begun = export(&fixture.store, &ready, first, "outcomes");
            if begun.export_watched(START, &mut dying_at(deaths)).await.is_ok() {
                assert!(deaths > 6, "{deaths}");
                break;
            }
            export(&fixture.store, &ready, then, "outcomes").export(START).await.expect("exported");
            assert_each_once(&to, "outcomes", &format!("{first:?}, then {then:?} after {deaths} steps")).await;
        }
    }
}

#[tokio::test]
async fn what_is_committed_later_follows() {
    for method in [LoadJobs, StorageWrite] {
        let (to, ready) = dataset().await;
        let fixture = empty().await;
        let export = export(&fixture.store, &ready, method, "attempts");
        assert_eq!(export.export(START).await.expect("exported"), 0, "nothing is there yet");
        for upto in [1, 3, 20] {
            let from = [0, 1, 3][[1, 3, 20].iter().position(|it| *it == upto).expect("one of them")];
            commit(&fixture.store, from..upto).await;
            export.export(START).await.expect("exported");
            assert_each_of(&to, "attempts", upto, &format!("{method:?}")).await;
        }
    }
}

#[tokio::test]
async fn a_refusal_says_what_was_asked_and_how_to_mend_it() {
    let (to, _) = dataset().await;
    let mut missing = to.clone();
    missing.dataset = "nowhere".to_owned();
    let bigquery = connectors::bigquery::BigQuery::connect(missing).await.expect("a client");
    let error = bigquery.setup().await.map(drop).expect_err("no dataset");
    let text = error.to_string();
    assert!(text.contains("proj.nowhere") && text.contains("bq ") && text.contains("bigquery.dataset"), "{text}");

    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let closed = format!("http://{}", listener.local_addr().expect("bound"));
    drop(listener);
    let nobody = connectors::bigquery::Destination { endpoint: Some(closed), ..to.clone() };
    let bigquery = connectors::bigquery::BigQuery::connect(nobody).await.expect("a client");
    let error = bigquery.setup().await.map(drop).expect_err("nobody is there");
    assert!(matches!(error, BigQueryError::Unreachable { .. }), "{error:?}");
    assert!(error.to_string().contains("is BigQuery reached"), "{error}");
}
