//! All forms of events in one project, good ones and bad ones: each has its outcome, and the lanes go on.

use std::collections::BTreeMap;

use records::{ErrorType, Status};
use serde_json::{Value, json};

use super::{Platform, SETTINGS};
use crate::emulator::{Event, plain};
use crate::harness::{clip, event};

fn cloud(id: &str, data: Value) -> Event {
    let event = json!({ "specversion": "1.0", "type": "com.example.uploaded", "source": "/s", "id": id, "data": data });
    plain(event.to_string())
}

fn notification(kind: &str, name: &str, resource: &Value) -> Event {
    let attributes = [("eventType", kind), ("bucketId", "audio"), ("objectId", name), ("objectGeneration", "17")];
    let attributes = attributes.map(|(key, value)| (key.to_owned(), value.to_owned()));
    (resource.to_string().into_bytes(), attributes.to_vec(), String::new())
}

#[tokio::test]
async fn every_form_of_event_ends_in_one_outcome_and_what_is_bad_is_a_dead_letter_with_its_reason() {
    let platform = Platform::on_a_file(SETTINGS);
    let audio = clip("swing-f-major-160.ogg");
    let (mut results, mut letters) = (platform.results().await, platform.project.watch("dead-letters").await);
    let in_data = json!({ "customer_id": "c", "tier": "pro", "audio_uri": audio, "upload_id": "cloud" });
    let mut old: Value = json!({ "specversion": "0.3", "type": "t", "source": "/s", "id": "1" });
    old["data"] = in_data.clone();
    let bad: [(&str, Event); 8] = [
        ("expected", plain("no json")),
        ("invalid type", plain("[]")),
        ("invalid type", plain("")),
        ("unknown field", plain(event("colourful", "pro", &audio).replace('{', "{\"colour\":1,"))),
        ("specversion", plain(old.to_string())),
        ("data is no upload event", cloud("2", json!("text"))),
        ("gold", notification("OBJECT_FINALIZE", "acme/a.mp3", &json!({ "metadata": { "tier": "gold" } }))),
        ("customer_id", notification("OBJECT_FINALIZE", "a.mp3", &json!({}))),
    ];
    let mut events: Vec<Event> = bad.iter().map(|(_, event)| event.clone()).collect();
    events.push(notification("OBJECT_DELETE", "acme/old.mp3", &json!({})));
    events.push(plain(event("missing", "free", &platform.path("no-such-file.wav"))));
    events.push(notification("OBJECT_FINALIZE", "acme/song.mp3", &json!({})));
    events.push(cloud("3", in_data));
    events.push(plain(event("plain-low", "free", &audio)));
    platform.project.publish("uploads-low", events).await;
    platform.project.publish("uploads-high", [plain(event("plain-high", "enterprise", &audio))]).await;

    let worker = platform.serve("data");
    let published = results.uploads(13).await;
    let dead = letters.uploads(10).await;
    let said = worker.end();
    let outcomes: BTreeMap<String, _> =
        platform.outcomes().await.into_iter().map(|outcome| (outcome.upload_id.to_string(), outcome)).collect();
    assert_eq!(outcomes.len(), 13, "what was deleted is no upload: {said}");
    assert!(published.keys().eq(outcomes.keys()), "each outcome is published");
    for good in ["plain-low", "plain-high", "cloud"] {
        assert_eq!(outcomes[good].status, Status::Completed, "{said}");
    }
    for (reason, event) in &bad {
        let letter = dead.values().find(|copies| {
            let same = copies[0].attributes["last_error"].contains(reason);
            same && (copies[0].data == event.0 || copies[0].data.starts_with(b"{\"upload_id\":\"gcs-"))
        });
        let letter = letter.unwrap_or_else(|| panic!("no dead letter says {reason:?}: {dead:?}"));
        assert_eq!(letter[0].attributes["reason"], ErrorType::InvalidEvent.as_str());
        assert_eq!(letter[0].attributes["attempts"], "0");
    }
    assert_eq!(dead["missing"][0].attributes["reason"], ErrorType::AudioUnreachable.as_str());
    let of_the_bucket =
        outcomes.values().find(|outcome| outcome.audio_uri.as_deref() == Some("gs://audio/acme/song.mp3"));
    assert_eq!(of_the_bucket.expect("it was an upload").customer_id.as_deref(), Some("acme"));
}
