//! The commands, as a user types them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use serde_json::Value;

use crate::harness::{Home, ROOT, clip, event, json_lines, text};

const FIELDS: [&str; 27] = [
    "upload_id",
    "version",
    "customer_id",
    "source",
    "lane",
    "tier",
    "region",
    "status",
    "branch",
    "fallback_reason",
    "model",
    "experiment",
    "arm",
    "confidence",
    "below_threshold",
    "metadata",
    "field_confidence",
    "attempts",
    "error",
    "error_type",
    "queued_ms",
    "inference_ms",
    "total_ms",
    "cost_micro_usd",
    "arrived_at",
    "completed_at",
    "training_consent",
];

fn assert_is_outcome(outcome: &Value) {
    for field in FIELDS {
        assert!(outcome.get(field).is_some(), "{field} is missing in {outcome}");
    }
    let object = outcome.as_object().expect("an object");
    assert_eq!(object.len(), FIELDS.len(), "{outcome}");
}

#[test]
fn process_describes_files_and_prints_an_object_a_line() {
    let home = Home::new();
    let clips = [clip("rock-e-minor-120.wav"), clip("bossa-a-minor-132.m4a")];
    let [first, second] = clips.each_ref().map(|path| path.to_str().expect("UTF-8"));
    let outcomes = json_lines(&home.succeed(&["process", "--json", first, second]));
    assert_eq!(outcomes.len(), 2);
    for (outcome, file) in outcomes.iter().zip([first, second]) {
        assert_is_outcome(outcome);
        assert_eq!(outcome["source"], file);
        assert_eq!((&outcome["status"], &outcome["branch"]), (&"completed".into(), &"primary".into()));
        // Without a key the primary's answer is kept, and marked where it was unsure.
        let sure = outcome["confidence"].as_f64().expect("a confidence");
        assert_eq!(outcome["below_threshold"], sure < 0.8);
        for (field, sure) in outcome["field_confidence"].as_object().expect("an object") {
            assert!((0.0..=1.0).contains(&sure.as_f64().expect("a number")), "{field}: {sure}");
        }
    }
    assert_eq!(home.outcomes().len(), 2, "they are in the store, too");
    let log = json_lines(&home.succeed(&["audit", "--json"]));
    assert_eq!((&log[0]["operation"], &log[0]["detail"]["uploads"]), (&"process".into(), &2.into()));
}

#[test]
fn process_exits_with_1_where_an_upload_was_dead_lettered_and_prints_a_table() {
    let home = Home::new();
    let bad = home.write("bad.wav", b"no sound");
    let output =
        home.run(&["process", clip("rock-e-minor-120.wav").to_str().expect("UTF-8"), bad.to_str().expect("UTF-8")]);
    assert_eq!(output.status.code(), Some(1));
    let table = text(&output.stdout);
    assert!(table.contains("completed") && table.contains("dead_lettered") && table.contains("genre"), "{table}");
}

#[test]
fn a_folder_is_enqueued_served_and_exported() {
    let home = Home::new();
    let said = home.succeed(&["enqueue", "--tier", "pro", "demo/clips"]);
    assert!(said.contains("6 uploads"), "{said}");
    home.serve_until_idle();
    let outcomes = home.outcomes();
    assert_eq!(outcomes.len(), 6);
    assert!(
        outcomes.iter().all(|outcome| outcome["status"] == "completed" && outcome["lane"] == "low"),
        "{outcomes:?}"
    );
    let day = &outcomes[0]["arrived_at"].as_str().expect("a time")[..10];
    let folder = home.path("data/outcomes").join(format!("day={day}"));
    let files: Vec<_> =
        std::fs::read_dir(&folder).expect("a partition").map(|entry| entry.expect("a file").path()).collect();
    let rows: i64 = files
        .iter()
        .map(|path| {
            let file = std::fs::File::open(path).expect("opened");
            let reader = parquet::file::reader::SerializedFileReader::new(file).expect("Parquet");
            parquet::file::reader::FileReader::metadata(&reader).file_metadata().num_rows()
        })
        .sum();
    assert_eq!(rows, 6, "{files:?}");
}

#[test]
fn a_dead_letter_is_listed_shown_redriven_and_purged() {
    let home = Home::new();
    let audio = home.path("late.wav");
    home.enqueue_events(&event("late", "enterprise", &audio));
    home.serve_until_idle();
    let listed = json_lines(&home.succeed(&["dlq", "list", "--json"]));
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0]["error_type"], "audio_unreachable");
    let shown: Value = serde_json::from_str(&home.succeed(&["dlq", "show", "late"])).expect("JSON");
    assert_eq!(shown["attempts"][0]["attempt"]["fault"]["error_type"], "audio_unreachable");
    assert!(shown["event"].as_str().expect("text").contains("late.wav"), "{shown}");

    std::fs::copy(clip("rock-e-minor-120.wav"), &audio).expect("the file arrives after all");
    home.succeed(&["dlq", "redrive", "late"]);
    home.serve_until_idle();
    let outcome = &json_lines(&home.succeed(&["outcomes", "--json", "late"]))[0];
    assert_eq!((&outcome["status"], &outcome["version"]), (&"completed".into(), &2.into()));
    assert_eq!(home.outcomes().len(), 1, "one outcome counts");

    assert!(home.succeed(&["dlq", "purge", "late"]).contains('1'));
    let error = home.fail(&["dlq", "show", "late"]);
    assert!(error.contains("late"), "{error}");
    let unknown = home.run(&["dlq", "redrive", "nobody"]);
    assert_eq!(unknown.status.code(), Some(1));

    let log = json_lines(&home.succeed(&["audit", "--json"]));
    let done: Vec<_> = log.iter().map(|entry| entry["operation"].as_str().expect("an operation")).collect();
    assert_eq!(done, ["purge", "redrive", "enqueue"], "the newest first, and nothing that changed nothing");
    assert_eq!(log[1]["detail"]["upload_ids"], serde_json::json!(["late"]));
    assert!(log.iter().all(|entry| entry["actor"].as_str().is_some_and(|actor| actor.contains('@'))), "{log:?}");
    let table = home.succeed(&["audit", "--limit", "1"]);
    assert!(table.contains("purge") && !table.contains("enqueue"), "{table}");
}

#[test]
fn verify_passes_on_what_the_reference_made_and_fails_on_anything_else() {
    let home = Home::new();
    let tiny = "tests/fixtures/qwen2_audio/tiny-a";
    let table = home.succeed(&["model", "verify", tiny]);
    assert!(table.contains("log_mel") && table.contains("logprobs") && !table.contains("FAILED"), "{table}");
    let sharded = "tests/fixtures/qwen2_audio/tiny-sharded";
    home.succeed(&["model", "verify", sharded, "--audio", "tests/fixtures/qwen2_audio/tiny-a/audio"]);
    // Another checkpoint's golden values, of the same shapes.
    let copy = home.path("copy");
    std::fs::create_dir(&copy).expect("made");
    for entry in std::fs::read_dir(std::path::Path::new(ROOT).join(tiny)).expect("the fixture") {
        let path = entry.expect("an entry").path();
        if path.is_file() {
            std::fs::copy(&path, copy.join(path.file_name().expect("a name"))).expect("copied");
        }
    }
    let expected = std::fs::read_to_string(copy.join("expected.json")).expect("read");
    std::fs::write(copy.join("expected.json"), expected.replace("-1.", "-2.")).expect("written");
    let output = home.run(&["model", "verify", copy.to_str().expect("UTF-8"), "--audio", &format!("{tiny}/audio")]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).contains("FAILED"), "{}", text(&output.stdout));
}

#[test]
fn inspect_and_doctor_say_what_is_there() {
    let home = Home::new();
    let shown = home.succeed(&["model", "inspect", "tests/fixtures/qwen2_audio/tiny-sharded"]);
    assert!(shown.contains("429888") && shown.contains("15 of f32"), "{shown}");
    let tiny = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/qwen2_audio/tiny-a");
    let asked = format!(
        "[model]\ncheckpoint = \"nowhere\"\n[models.small]\ncheckpoint = {tiny:?}\n[models.lost]\n\
         [http]\nlisten = \"127.0.0.1:0\"\n"
    );
    let config = home.write("tidemark.toml", asked);
    let output = home.run(&["doctor", "--json", "--config", config.to_str().expect("UTF-8")]);
    assert_eq!(output.status.code(), Some(1));
    let checks = json_lines(&text(&output.stdout));
    let failed: Vec<_> = checks.iter().filter(|check| check["ok"] == false).map(|check| &check["check"]).collect();
    assert_eq!(failed, [&Value::from("checkpoint"), &Value::from("models.lost: checkpoint")], "{checks:?}");
    assert!(checks.iter().any(|check| check["check"] == "models.small: checkpoint"), "{checks:?}");
}

#[test]
fn a_serving_process_tells_its_metrics_and_its_health() {
    let home = Home::new();
    home.enqueue_events(&event("u1", "enterprise", &clip("rock-e-minor-120.wav")));
    let mut serve = home.serve(&[]);
    let mut log = BufReader::new(serve.stderr.take().expect("piped")).lines().map_while(Result::ok);
    let line = log.find(|line| line.contains("serving")).expect("it serves");
    let address = line.split("address=").nth(1).and_then(|rest| rest.split_whitespace().next()).expect("an address");
    let get = |path: &str| {
        let mut stream = TcpStream::connect(address).expect("connected");
        write!(stream, "GET {path} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n").expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer
    };
    assert!(get("/healthz").starts_with("HTTP/1.1 200"));
    assert!(get("/readyz").starts_with("HTTP/1.1 200"));
    let counted =
        "tidemark_outcomes_total{below_threshold=\"true\",branch=\"primary\",lane=\"high\",status=\"completed\"} 1";
    let seen = (0..10_000).any(|_| get("/metrics").contains(counted));
    serve.kill().expect("killed");
    serve.wait().expect("ended");
    assert!(seen, "the outcome was never counted");
}

#[test]
fn outcomes_of_a_folder_without_a_store_are_an_error() {
    let error = Home::new().fail(&["outcomes"]);
    assert!(error.contains("tidemark.db") && error.contains("--data"), "{error}");
}

#[test]
fn two_processes_do_not_serve_one_store() {
    let home = Home::new();
    let mut serve = home.serve(&[]);
    let mut log = BufReader::new(serve.stderr.take().expect("piped")).lines().map_while(Result::ok);
    assert!(log.any(|line| line.contains("serving")));
    let error = home.fail(&["serve", "--until-idle", "--listen", "127.0.0.1:0"]);
    serve.kill().expect("killed");
    serve.wait().expect("ended");
    assert!(error.contains("another process is serving"), "{error}");
}
