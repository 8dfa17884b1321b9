//! The same audio again: it is answered from the cache, for its own customer and at no cost, also when it was encoded anew.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::harness::{Home, ROOT, clip, json_lines, text};
use crate::llmock::Llmock;

const ANSWER: &str = r#"{"genre":"country","tempo_bpm":126,"key":"D major","instruments":["drums","bass"]}"#;

fn event(id: &str, customer: &str, audio: &Path) -> String {
    json!({ "upload_id": id, "customer_id": customer, "tier": "pro", "audio_uri": audio }).to_string()
}

/// `nano`, which knows something about its clips, with an arm that believes it all.
fn config(home: &Home, more: &str) -> PathBuf {
    home.write("cache.toml", format!("[model]\nthreshold = 0.01\n{more}"))
}

fn serve(home: &Home, config: &Path, events: &[String]) -> Vec<Value> {
    home.enqueue_events(&events.join("\n"));
    let config = config.to_str().expect("UTF-8");
    home.succeed(&["serve", "--until-idle", "--listen", "127.0.0.1:0", "--config", config]);
    let outcomes = home.outcomes();
    events
        .iter()
        .map(|event| {
            let id = &json_lines(event)[0]["upload_id"];
            outcomes.iter().find(|outcome| outcome["upload_id"] == *id).expect("an outcome").clone()
        })
        .collect()
}

/// Of the same clip: the original, the same bytes under another name, and an encoding of it.
fn same_and_alike(home: &Home) -> (PathBuf, PathBuf, PathBuf) {
    let original = clip("swing-f-major-160.ogg");
    let same = home.write("another-name.ogg", std::fs::read(&original).expect("a clip"));
    (original, same, Path::new(ROOT).join("tests/fixtures/copies/swing-f-major-160.mp3"))
}

fn branches(outcomes: &[Value]) -> Vec<&str> {
    outcomes.iter().map(|outcome| outcome["branch"].as_str().expect("an answer")).collect()
}

#[test]
fn the_same_audio_of_a_customer_is_answered_once_by_a_model() {
    let home = Home::new();
    let (config, (original, same, alike)) = (config(&home, ""), same_and_alike(&home));
    let first = serve(&home, &config, &[event("u1", "acme", &original)]);
    assert_eq!(branches(&first), ["primary"]);
    let second = [
        event("u2", "acme", &same),
        event("u3", "acme", &alike),
        event("u4", "acme", &clip("country-d-major-126.mp3")),
        event("u5", "other", &original),
        event("u6", "other ", &alike),
        event("u7", "acme", &same).replace("pro", "enterprise"),
        event("u8", "acme", &alike).replace("pro", "enterprise"),
    ];
    let second = serve(&home, &config, &second);
    // Who waits is looked for by bytes alone.
    assert_eq!(branches(&second), ["cache", "cache", "primary", "primary", "primary", "cache", "primary"]);
    for cached in &second[..2] {
        for field in ["metadata", "model", "confidence", "field_confidence"] {
            assert_eq!(cached[field], first[0][field], "{field}");
        }
        assert_eq!((&cached["attempts"], &cached["cost_micro_usd"]), (&json!(0), &json!(0)), "{cached}");
        assert_eq!((&cached["inference_ms"], &cached["below_threshold"]), (&json!(0), &json!(false)), "{cached}");
    }
}

#[test]
fn a_shared_cache_answers_everybody_and_one_that_is_off_nobody() {
    for (section, expected) in [("share_between_customers = true", "cache"), ("enabled = false", "primary")] {
        let home = Home::new();
        let (config, (original, same, _)) = (config(&home, &format!("[cache]\n{section}")), same_and_alike(&home));
        serve(&home, &config, &[event("u1", "acme", &original)]);
        assert_eq!(branches(&serve(&home, &config, &[event("u2", "other", &same)])), [expected], "{section}");
    }
}

#[test]
fn another_question_and_an_answer_that_was_doubted_are_not_answered_from_the_cache() {
    let home = Home::new();
    let (original, same, _) = same_and_alike(&home);
    let doubting = config(&home, "[[experiment.arms]]\nname = \"a\"\nweight = 1\nthreshold = 1.0");
    let outcomes = serve(&home, &doubting, &[event("u1", "acme", &original)]);
    assert_eq!((branches(&outcomes), &outcomes[0]["below_threshold"]), (vec!["primary"], &json!(true)));
    assert_eq!(branches(&serve(&home, &doubting, &[event("u2", "acme", &same)])), ["primary"]);
    for prompt in ["Describe it.", "Describe it, please."] {
        let asking = config(&home, &format!("prompt = {prompt:?}"));
        let id = format!("u-{}", prompt.len());
        assert_eq!(branches(&serve(&home, &asking, &[event(&id, "acme", &same)])), ["primary"], "{prompt}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paid_answer_is_paid_once() {
    let (home, llmock) = (Home::new(), Llmock::start());
    llmock.will(json!([{"type": "reply", "text": ANSWER}])).await;
    let (original, same, alike) = same_and_alike(&home);
    let checkpoint = PathBuf::from(ROOT).join("tests/fixtures/qwen2_audio/tiny-a");
    let config = format!("[model]\ncheckpoint = {checkpoint:?}\n[fallback]\nbase_url = {:?}\n", llmock.base_url());
    let config = home.write("paid.toml", config);
    let serve = ["serve", "--until-idle", "--listen", "127.0.0.1:0", "--config", config.to_str().expect("UTF-8")];
    for (id, audio, branch) in [("u1", &original, "fallback"), ("u2", &same, "cache"), ("u3", &alike, "cache")] {
        home.enqueue_events(&event(id, "acme", audio));
        let output = home.command(&serve).env("OPENAI_API_KEY", "sk-secret").output().expect("runs");
        assert!(output.status.success(), "{}", text(&output.stderr));
        let outcomes = home.outcomes();
        let outcome = outcomes.iter().find(|outcome| outcome["upload_id"] == *id).expect("an outcome");
        assert_eq!(outcome["branch"], branch, "{outcome}");
        assert_eq!(outcome["model"], "gpt-audio-1.5");
        assert_eq!(outcome["metadata"], serde_json::from_str::<Value>(ANSWER).expect("JSON"));
    }
    assert_eq!(llmock.requests().await.len(), 1);
}
