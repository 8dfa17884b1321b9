//! Tables and views: made once, brought to our columns, and never taken from somebody else.

use connectors::bigquery::{BigQuery, BigQueryError, Destination};
use connectors::store::WriteMethod::LoadJobs;
use reqwest::Method;
use serde_json::{Value, json};

use crate::emulator::emulator;
use crate::fixture::{assert_each_once, export, filled, ready};
use crate::make::START;
use crate::proxy::{Fault, Proxy};

async fn set_up(to: &Destination) -> Result<Vec<String>, BigQueryError> {
    BigQuery::connect(to.clone()).await.expect("a client").setup().await.map(|(_, made)| made)
}

fn table(to: &Destination, name: &str) -> String {
    format!("datasets/{}/tables/{name}", to.dataset)
}

#[tokio::test]
async fn a_second_set_up_makes_nothing() {
    let to = emulator().new_dataset().await;
    let made = set_up(&to).await.expect("set up");
    assert_eq!(made.len(), 7 + 5, "tables and views: {made:?}");
    assert!(made[0].contains("outcomes") && made.iter().any(|line| line.starts_with("view ")), "{made:?}");
    assert_eq!(set_up(&to).await.expect("set up"), Vec::<String>::new());
}

#[tokio::test]
async fn tables_lie_by_day_and_are_clustered_and_described() {
    let to = emulator().new_dataset().await;
    set_up(&to).await.expect("set up");
    for (name, day) in [
        ("outcomes", "arrived_at"),
        ("attempts", "started_at"),
        ("dead_letters", "died_at"),
        ("windows", "start"),
        ("experiment_reports", "reported_at"),
        ("alerts", "since"),
        ("audit", "done_at"),
    ] {
        let found = emulator().call(Method::GET, &table(&to, name), None).await;
        assert_eq!(found["timePartitioning"], json!({ "type": "DAY", "field": day }), "{name}");
        assert!(found["clustering"]["fields"].as_array().is_some_and(|fields| fields.len() <= 4), "{name}");
        let fields = found["schema"]["fields"].as_array().cloned().unwrap_or_default();
        assert!(fields.iter().all(|field| field["description"].is_string()), "{fields:?}");
    }
}

#[tokio::test]
async fn an_older_table_gets_what_it_lacks_and_takes_rows() {
    let to = emulator().new_dataset().await;
    set_up(&to).await.expect("set up");
    let current = emulator().call(Method::GET, &table(&to, "outcomes"), None).await;
    emulator().call(Method::DELETE, &table(&to, "outcomes"), None).await;
    let mut fields = current["schema"]["fields"].as_array().cloned().expect("fields");
    fields.retain(|field| field["name"] != "training_consent" && field["name"] != "source");
    fields.push(json!({ "name": "theirs", "type": "STRING", "mode": "NULLABLE" }));
    let older = json!({ "tableReference": current["tableReference"], "schema": { "fields": fields } });
    emulator().call(Method::POST, &format!("datasets/{}/tables", to.dataset), Some(older)).await;
    let made = set_up(&to).await.expect("set up");
    assert_eq!(made.len(), 2, "{made:?}");
    assert!(made[0].contains("source STRING") && made[1].contains("training_consent BOOL"), "{made:?}");
    assert_eq!(set_up(&to).await.expect("set up"), Vec::<String>::new());

    let fixture = filled().await;
    export(&fixture.store, &ready(&to).await, LoadJobs, "outcomes").export(START).await.expect("exported");
    assert_each_once(&to, "outcomes", "into an older table").await;
    let (_, sources) = emulator().query(&to, "SELECT COUNT(*) FROM outcomes WHERE source LIKE '/audio/%'").await;
    assert_eq!(sources[0][0].as_deref(), Some("11"));
}

#[tokio::test]
async fn a_column_of_another_type_or_a_view_in_a_tables_place_stops_with_the_mend() {
    for (name, body, parts) in [
        (
            "attempts",
            json!({ "schema": { "fields": [{ "name": "version", "type": "STRING" }] } }),
            ["attempts", "version of type STRING", "INT64", "RENAME COLUMN"],
        ),
        (
            "dead_letters",
            json!({ "view": { "query": "SELECT 1 AS one", "useLegacySql": false } }),
            ["dead_letters", "VIEW", "TABLE", "rename it"],
        ),
    ] {
        let to = emulator().new_dataset().await;
        let reference = json!({ "projectId": "proj", "datasetId": to.dataset, "tableId": name });
        let mut table: Value = body;
        table["tableReference"] = reference;
        emulator().call(Method::POST, &format!("datasets/{}/tables", to.dataset), Some(table)).await;
        let error = set_up(&to).await.expect_err("not ours").to_string();
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
    }
}

#[tokio::test]
async fn a_view_of_an_older_version_gets_its_query() {
    let to = emulator().new_dataset().await;
    set_up(&to).await.expect("set up");
    let path = table(&to, "daily_quality");
    let current = emulator().call(Method::GET, &path, None).await["view"]["query"].clone();
    let older = json!({ "view": { "query": "SELECT 1 AS one", "useLegacySql": false } });
    emulator().call(Method::PATCH, &path, Some(older)).await;
    let made = set_up(&to).await.expect("set up");
    assert!(made.len() == 1 && made[0].contains("daily_quality"), "{made:?}");
    assert_eq!(emulator().call(Method::GET, &path, None).await["view"]["query"], current);
}

#[tokio::test]
async fn a_set_up_whose_answers_are_lost_is_completed_by_the_next() {
    // An odd step, so that looks and creations of tables and of views are among them.
    for nth in (0..).step_by(3) {
        let to = emulator().new_dataset().await;
        let proxy = Proxy::start(to.endpoint.as_ref().expect("an emulator"), Fault::LosesTheAnswer).await;
        let proxied = Destination { endpoint: Some(proxy.endpoint.clone()), ..to.clone() };
        proxy.fails_at(nth);
        let first = set_up(&proxied).await;
        if !proxy.has_failed() {
            assert!(nth > 2 * 12, "the dataset, and two requests for each table and view: {nth}");
            break;
        }
        drop(first);
        set_up(&proxied).await.expect("set up");
        assert_eq!(set_up(&to).await.expect("set up"), Vec::<String>::new(), "after {nth} answers");
    }
}
