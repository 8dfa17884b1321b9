//! Alerts as messages of a topic.

use serde_json::{Value, json};

use super::{Platform, SETTINGS, Settings, until};
use crate::emulator::{Watch, plain};
use crate::harness::{clip, event};

/// The next notice: its attributes, without those that differ from run to run, and its body.
async fn notice(alerts: &mut Watch) -> (Value, Value) {
    let (message, handler) = alerts.next().await;
    handler.ack();
    let body: Value = serde_json::from_slice(&message.data).expect("JSON");
    for (attribute, field) in [("fingerprint", "fingerprint"), ("starts_at", "startsAt")] {
        assert_eq!(message.attributes[attribute], body["alerts"][0][field], "{attribute}: {body}");
    }
    assert_eq!(message.attributes["summary"], body["commonAnnotations"]["summary"], "{body}");
    let same: Value =
        ["alert", "status", "severity"].iter().map(|name| (*name, message.attributes[*name].as_str())).collect();
    (same, body)
}

#[tokio::test]
async fn an_alert_and_its_end_are_one_message_each_of_the_topic_also_where_the_worker_died_between() {
    let platform = Platform::on_a_file(Settings { lease_s: 10, ..SETTINGS });
    let config = std::fs::read_to_string(platform.path("tidemark.toml")).expect("written");
    let alert = "[[alerts]]\nname = \"failing\"\nmetric = \"error_rate\"\nabove = 0.3\nwindow_s = 600\nhold_s = 1\n\
                 severity = \"critical\"\n";
    platform.home.write("tidemark.toml", format!("{config}alerts_topic = \"alerts\"\n{alert}"));
    assert!(platform.set_up().contains("alerts"), "setup makes the topic");
    let mut alerts = platform.project.watch("alerts").await;

    let worker = platform.serve("data");
    let no_sound = platform.home.write("no-sound.wav", b"no sound");
    let bad = (0..25).map(|n| plain(event(&format!("bad-{n}"), "free", &no_sound)));
    platform.project.publish("uploads-low", bad).await;
    let (attributes, firing) = notice(&mut alerts).await;
    assert_eq!(attributes, json!({ "alert": "failing", "status": "firing", "severity": "critical" }));
    assert_eq!((&firing["status"], &firing["receiver"]), (&json!("firing"), &json!("pubsub")));
    let store = platform.store().await;
    until("it is noted that the topic has it", async || store.untold("pubsub", 0, 1).await.expect("read").is_empty())
        .await;
    worker.kill();

    let worker = platform.serve("data");
    let song = clip("rock-e-minor-120.wav");
    let good = (0..75).map(|n| plain(event(&format!("good-{n}"), "free", &song)));
    platform.project.publish("uploads-low", good).await;
    let (attributes, resolved) = notice(&mut alerts).await;
    assert_eq!(attributes, json!({ "alert": "failing", "status": "resolved", "severity": "critical" }));
    for same in ["fingerprint", "startsAt"] {
        assert_eq!(resolved["alerts"][0][same], firing["alerts"][0][same], "{same}");
    }
    worker.end();
    assert!(store.untold("pubsub", 0, 1).await.expect("read").is_empty());
    store.close().await;

    // What comes behind the worker's end is this, and no third notice.
    platform.project.publish("alerts", [plain("the end")]).await;
    assert_eq!(alerts.next().await.0.data, "the end");
}
