//! Audio in buckets and Parquet files in buckets, through the command, against emulators of Google Cloud Storage and S3.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::gcs::{gcs, with_puts};
use crate::harness::{Home, ROOT, clip, text};
use crate::llmock::Llmock;
use crate::script::Script;

const SECRET: &str = "wJalrXUtnFEMI-K7MDENG-bPxRfiCYEXAMPLEKEY";

fn event(id: &str, uri: &str) -> String {
    json!({ "upload_id": id, "customer_id": "c", "tier": "pro", "audio_uri": uri }).to_string()
}

fn config(home: &Home, more: &str) -> PathBuf {
    let checkpoint = Path::new(ROOT).join("tests/fixtures/qwen2_audio/tiny-a");
    home.write("buckets.toml", format!("[model]\ncheckpoint = {checkpoint:?}\n[cache]\nenabled = false\n{more}"))
}

/// Serves these events until they have ended: the outcomes, and the log.
fn serve(home: &Home, config: &Path, events: &[String], variables: &[(&str, &str)]) -> (Vec<Value>, String) {
    home.enqueue_events(&events.join("\n"));
    let config = config.to_str().expect("UTF-8");
    let mut command = home.command(&["serve", "--until-idle", "--listen", "127.0.0.1:0", "--config", config]);
    let output = command.env("RUST_LOG", "trace").envs(variables.iter().copied()).output().expect("runs");
    let log = text(&output.stderr);
    assert!(output.status.success(), "{log}");
    let left = std::fs::read_dir(home.path("data/tmp")).map_or(0, Iterator::count);
    assert_eq!(left, 0, "what was fetched is deleted");
    (home.outcomes(), log)
}

fn of<'a>(outcomes: &'a [Value], id: &str) -> &'a Value {
    outcomes.iter().find(|outcome| outcome["upload_id"] == *id).expect("an outcome")
}

fn assert_dead_lettered(outcomes: &[Value], id: &str, names: &str) {
    let outcome = of(outcomes, id);
    assert_eq!((&outcome["status"], &outcome["error_type"]), (&json!("dead_lettered"), &json!("audio_unreachable")));
    assert_eq!(outcome["attempts"], 1, "what can never work is not tried again: {outcome}");
    assert!(outcome["error"].as_str().is_some_and(|error| error.contains(names)), "{outcome}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_of_google_s_is_a_place_for_audio_and_for_outcomes() {
    for bucket in ["audio", "tables"] {
        gcs().make_bucket(bucket).await;
    }
    let mp3 = std::fs::read(clip("country-d-major-126.mp3")).expect("a clip");
    gcs().upload("audio", "in/country.mp3", mp3).await;
    gcs().upload("audio", "in/text.mp3", b"no sound".to_vec()).await;
    gcs().upload("audio", "in/large.wav", vec![0; 2_000_000]).await;
    let (home, llmock) = (Home::new(), Llmock::start());
    llmock.will(json!([{"type": "fail", "status": 500, "times": 100}])).await;
    let more = format!(
        "[report]\nwindow_s = 1\n[fallback]\nbase_url = {:?}\nmax_retries = 0\n[objects]\ngcs_endpoint = {:?}\nlargest_mb = 1\n\
         [parquet]\nurl = \"gs://tables/day one\"\n",
        llmock.base_url(),
        with_puts(gcs()),
    );
    let events = [
        event("good", "gs://audio/in/country.mp3"),
        event("text", "gs://audio/in/text.mp3"),
        event("missing", "gs://audio/in/none.mp3"),
        event("bucket", "gs://no-such-bucket/none.mp3"),
        event("large", "gs://audio/in/large.wav"),
    ];
    let config = config(&home, &more);
    let (outcomes, _) = serve(&home, &config, &events, &[("OPENAI_API_KEY", "sk-secret")]);
    assert_eq!(outcomes.len(), events.len());
    assert_eq!(of(&outcomes, "good")["status"], "completed");
    assert_dead_lettered(&outcomes, "missing", "gs://audio/in/none.mp3");
    assert_dead_lettered(&outcomes, "bucket", "no such bucket");
    assert_dead_lettered(&outcomes, "large", "objects.largest_mb");
    let text = of(&outcomes, "text");
    assert!(text["error"].as_str().is_some_and(|it| it.contains("gs://audio/in/text.mp3")), "{text}");

    assert!(!llmock.requests().await.is_empty(), "both models heard it");
    let fetches = gcs()
        .log()
        .lines()
        .filter(|line| line.contains("GET /audio/in%2Fcountry") || line.contains("GET /audio/in/country"))
        .count();
    assert_eq!(fetches, 1, "it was fetched once for both");
    let mut tables = Vec::new();
    // A window is closed a second after its end, which a process may not live to see.
    while !tables.iter().any(|name: &String| name.starts_with("day one/windows/day=")) {
        serve(&home, &config, &[], &[]);
        tables = gcs().list("tables").await;
    }
    let in_order = tables.iter().all(|name| name.starts_with("day one/") && name.ends_with(".parquet"));
    assert!(tables.iter().any(|name| name.starts_with("day one/outcomes/day=")) && in_order, "{tables:?}");

    let from = ["--outcomes", "gs://tables/day one/outcomes", "--config", config.to_str().expect("UTF-8")];
    let said = home.succeed(&[&["replay", "uploads", "--json", "--run", "bucket"], &from[..]].concat());
    let compared: Value = serde_json::from_str(&said).expect("an object");
    assert_eq!(
        (&compared["uploads"], &compared["compared"], &compared["audio_gone"]),
        (&json!(5), &json!(2), &json!(3))
    );
}

/// An S3 emulator of this test's own.
struct S3 {
    address: String,
    _script: Script,
}

impl S3 {
    fn start() -> Self {
        let (script, [address]) = Script::run("s3-emulator.sh", &[]);
        Self { address, _script: script }
    }

    /// What a bucket holds, as the service says it.
    async fn list(&self, bucket: &str) -> String {
        let listed = reqwest::get(format!("{}/{bucket}?list-type=2", self.address)).await;
        listed.expect("an answer").text().await.expect("a body")
    }

    async fn put(&self, path: &str, body: Vec<u8>) {
        let sent = reqwest::Client::new().put(format!("{}/{path}", self.address)).body(body).send().await;
        let status = sent.expect("an answer").status();
        assert!(status.is_success(), "{path}: {status}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_of_s3_s_is_a_place_for_audio_and_for_outcomes_and_its_key_is_in_no_log() {
    let s3 = S3::start();
    for bucket in ["audio", "tables"] {
        s3.put(bucket, Vec::new()).await;
    }
    s3.put("audio/country.mp3", std::fs::read(clip("country-d-major-126.mp3")).expect("a clip")).await;
    let home = Home::new();
    let config = config(&home, "[report]\nwindow_s = 1\n[parquet]\nurl = \"s3://tables/day-one\"\n");
    let events = [
        event("good", "s3://audio/country.mp3"),
        event("missing", "s3://audio/none.mp3"),
        event("bucket", "s3://no-such-bucket/none.mp3"),
    ];
    let variables = [
        ("AWS_ENDPOINT_URL", s3.address.as_str()),
        ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"),
        ("AWS_SECRET_ACCESS_KEY", SECRET),
        ("AWS_REGION", "us-east-1"),
    ];
    let (outcomes, log) = serve(&home, &config, &events, &variables);
    assert_eq!(of(&outcomes, "good")["status"], "completed");
    assert_dead_lettered(&outcomes, "missing", "no such object");
    assert_dead_lettered(&outcomes, "bucket", "no such bucket");
    assert!(!log.contains(SECRET), "the key is in the log");
    while !s3.list("tables").await.contains("day-one/windows/day=") {
        serve(&home, &config, &[], &variables);
    }
    assert!(s3.list("tables").await.contains("day-one/outcomes/day="));

    // Without credentials there is no access.
    let anonymous = [("AWS_ENDPOINT_URL", s3.address.as_str()), ("AWS_SKIP_SIGNATURE", "true")];
    let home = Home::new();
    let (outcomes, _) =
        serve(&home, &self::config(&home, ""), &[event("denied", "s3://audio/country.mp3")], &anonymous);
    assert_dead_lettered(&outcomes, "denied", "access is denied");
}
