//! What the primary is unsure of goes to the paid model, a real server of OpenAI's interface here; and what happens without.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::harness::{Home, ROOT, clip, event, json_lines, text};
use crate::llmock::Llmock;

const KEY: &str = "sk-secret-9f8e7d6c5b4a";
const ANSWER: &str = r#"{"genre":"rock","tempo_bpm":120,"key":"E minor","instruments":["drums","bass"]}"#;

fn config(home: &Home, llmock: &Llmock) -> PathBuf {
    let checkpoint = PathBuf::from(ROOT).join("tests/fixtures/qwen2_audio/tiny-a");
    let text = format!(
        "[model]\ncheckpoint = {checkpoint:?}\n[fallback]\nbase_url = {:?}\nmax_retries = 1\n[retry]\nbase_ms = 10\n",
        llmock.base_url()
    );
    home.write("tidemark.toml", text)
}

/// Serves one upload with a key; its outcome, and what was logged.
fn serve(home: &Home, config: &std::path::Path, audio: &std::path::Path) -> (Value, String) {
    home.enqueue_events(&event("u1", "enterprise", audio));
    let arguments = ["serve", "--until-idle", "--listen", "127.0.0.1:0", "--config", config.to_str().expect("UTF-8")];
    let output = home.command(&arguments).env("OPENAI_API_KEY", KEY).env("RUST_LOG", "trace").output().expect("runs");
    let log = text(&output.stderr);
    assert!(output.status.success(), "{log}");
    (home.outcomes().remove(0), log)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unsure_answer_is_replaced_by_the_paid_model_s() {
    let (home, llmock) = (Home::new(), Llmock::start());
    llmock
        .will(json!([{"type": "fail", "status": 429, "retry_after": 0, "times": 1}, {"type": "reply", "text": ANSWER}]))
        .await;
    let (outcome, log) = serve(&home, &config(&home, &llmock), &clip("country-d-major-126.mp3"));
    assert_eq!((&outcome["status"], &outcome["branch"]), (&"completed".into(), &"fallback".into()), "{outcome}");
    assert_eq!(outcome["fallback_reason"], "unsure");
    assert_eq!(outcome["metadata"], serde_json::from_str::<Value>(ANSWER).expect("JSON"));
    assert_eq!((&outcome["model"], &outcome["below_threshold"]), (&"gpt-audio-1.5".into(), &false.into()));
    assert!(outcome["cost_micro_usd"].as_u64().is_some_and(|cost| cost > 0), "{outcome}");
    assert_eq!(llmock.requests().await.len(), 2, "asked again after the 429");
    assert_eq!(llmock.verdict().await["errors"], 0, "llmock finds no fault with how it was asked");
    assert!(!log.contains(KEY), "the key is in the log");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_answer_of_the_paid_model_the_primary_s_is_kept_and_marked() {
    let (home, llmock) = (Home::new(), Llmock::start());
    llmock.will(json!([{"type": "fail", "status": 500, "times": 100}])).await;
    let (outcome, log) = serve(&home, &config(&home, &llmock), &clip("rock-e-minor-120.wav"));
    assert_eq!((&outcome["status"], &outcome["branch"]), (&"completed".into(), &"primary".into()), "{outcome}");
    assert_eq!((&outcome["below_threshold"], &outcome["attempts"]), (&true.into(), &1.into()), "{outcome}");
    assert!(!log.contains(KEY), "the key is in the log");
}

#[tokio::test(flavor = "multi_thread")]
async fn audio_that_no_model_can_read_is_not_paid_for() {
    let (home, llmock) = (Home::new(), Llmock::start());
    let bad = home.write("bad.wav", b"no sound");
    let (outcome, _) = serve(&home, &config(&home, &llmock), &bad);
    assert_eq!(outcome["status"], "dead_lettered", "{outcome}");
    assert!(llmock.requests().await.is_empty());
    let letters = json_lines(&home.succeed(&["dlq", "list", "--json"]));
    assert_eq!(letters[0]["error_type"], "audio_undecodable");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_pays_for_an_answer_only_where_it_is_told_to() {
    let (home, llmock) = (Home::new(), Llmock::start());
    llmock.will(json!([{"type": "reply", "text": ANSWER}])).await;
    let config = config(&home, &llmock);
    serve(&home, &config, &clip("rock-e-minor-120.wav"));
    assert_eq!(llmock.requests().await.len(), 1, "the primary is unsure of everything");
    for (more, branch, requests) in [(&[][..], "primary", 1), (&["--fallback"], "fallback", 2)] {
        llmock.will(json!([{"type": "reply", "text": ANSWER}])).await;
        let arguments = ["replay", "uploads", "--json", "--run", branch, "--config", config.to_str().expect("UTF-8")];
        let output = home.command(&[&arguments[..], more].concat()).env("OPENAI_API_KEY", KEY).output().expect("runs");
        let log = text(&output.stderr);
        assert!(output.status.success() && !log.contains(KEY), "{log}");
        let compared: Value = serde_json::from_str(&text(&output.stdout)).expect("an object");
        let rate =
            compared["measures"].as_array().expect("a list").iter().find(|row| row["measure"] == "fallback_rate");
        assert_eq!(rate.expect("it is there")["replay"], f64::from(u8::from(branch == "fallback")), "{compared}");
        assert_eq!(llmock.requests().await.len(), requests, "{branch}");
    }
}
