//! Every form of an event, and what is none.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::{InvalidEvent, Upload, UtcMicros};

const DEFAULTS: ObjectDefaults = ObjectDefaults { customer_id: None, tier: Tier::Free, mode: Mode::Bulk };

/// What becomes of a message; `None` where it is about something else.
fn read_by(
    defaults: &ObjectDefaults,
    payload: &[u8],
    attributes: &[(&str, &str)],
) -> Option<Result<Upload, InvalidEvent>> {
    let attributes: BTreeMap<&str, &str> = attributes.iter().copied().collect();
    match announced(payload, |key| attributes.get(key).copied(), defaults) {
        Announced::Upload(event) => Some(Upload::from_event(&event)),
        Announced::Other => None,
    }
}

fn read(payload: impl ToString, attributes: &[(&str, &str)]) -> Result<Upload, InvalidEvent> {
    read_by(&DEFAULTS, payload.to_string().as_bytes(), attributes).expect("it is about an upload")
}

fn ours() -> Value {
    json!({ "upload_id": "u1", "customer_id": "c", "tier": "pro", "mode": "realtime", "audio_uri": "/a.wav" })
}

fn cloud(kind: &str, data: Value) -> Value {
    json!({
        "specversion": "1.0", "type": kind, "source": "/uploads", "id": "17", "time": "2026-09-21T14:13:20Z",
        "datacontenttype": "application/json", "data": data,
    })
}

fn object(metadata: Value) -> Value {
    json!({
        "kind": "storage#object", "bucket": "audio", "name": "acme/2026/song one.mp3", "generation": "1790000000000001",
        "timeCreated": "2026-09-21T14:13:20.5Z", "metadata": metadata,
    })
}

const FINALIZE: [(&str, &str); 5] = [
    ("eventType", "OBJECT_FINALIZE"),
    ("bucketId", "audio"),
    ("objectId", "acme/2026/song one.mp3"),
    ("objectGeneration", "1790000000000001"),
    ("payloadFormat", "JSON_API_V1"),
];

#[test]
fn our_own_json_passes_untouched() {
    let payload = ours().to_string().into_bytes();
    assert_eq!(announced(&payload, |_| None, &DEFAULTS), Announced::Upload(Cow::Borrowed(&payload)));
}

#[test]
fn a_cloud_event_is_the_upload_in_its_data() {
    let upload = read(cloud("com.example.uploaded", ours()), &[]).expect("valid");
    assert_eq!((upload.upload_id.as_str(), upload.mode), ("u1", Mode::Realtime));
    assert_eq!(upload.uploaded_at, Some(UtcMicros(1_790_000_000_000_000)), "the time around it is taken");
    let mut nameless = ours();
    nameless.as_object_mut().expect("an object").remove("upload_id");
    let named = |id: &str| {
        let mut event = cloud("com.example.uploaded", nameless.clone());
        event["id"] = id.into();
        read(event, &[]).expect("valid").upload_id
    };
    assert_eq!(named("17"), named("17"), "a redelivery has the same name");
    assert_ne!(named("17"), named("18"), "another event has another one");
}

#[test]
fn an_object_is_an_upload_by_notification_and_by_cloud_event() {
    let by_notification = read(object(json!({})), &FINALIZE).expect("valid");
    let by_cloud_event = read(cloud(OBJECT_FINALIZED, object(json!({}))), &[]).expect("valid");
    let by_attribute = read(object(json!({})), &[("ce-type", OBJECT_FINALIZED)]).expect("valid");
    assert_eq!(by_notification, by_cloud_event);
    assert_eq!(by_notification, by_attribute);
    assert_eq!(by_notification.audio_uri, "gs://audio/acme/2026/song one.mp3");
    assert_eq!((by_notification.customer_id.as_str(), by_notification.tier), ("acme", Tier::Free));
    assert_eq!(by_notification.uploaded_at, Some(UtcMicros(1_790_000_000_500_000)));
    let without_payload = read("", &FINALIZE).expect("the attributes are enough");
    assert_eq!(without_payload.upload_id, by_notification.upload_id);
}

#[test]
fn custom_metadata_goes_before_the_defaults() {
    let metadata = json!({ "customer-id": "globex", "tier": "enterprise", "mode": "realtime", "region": "eu-west", "training_consent": "true" });
    let upload = read(object(metadata), &FINALIZE).expect("valid");
    assert_eq!((upload.customer_id.as_str(), upload.tier, upload.mode), ("globex", Tier::Enterprise, Mode::Realtime));
    assert_eq!(upload.region.as_deref(), Some("eu-west"));
    assert!(upload.training_consent && !read(object(json!({})), &FINALIZE).expect("valid").training_consent);
    let defaults = ObjectDefaults { customer_id: Some("initech".into()), tier: Tier::Pro, mode: Mode::Realtime };
    let upload = read_by(&defaults, b"", &FINALIZE).expect("an upload").expect("valid");
    assert_eq!((upload.customer_id.as_str(), upload.tier, upload.mode), ("initech", Tier::Pro, Mode::Realtime));
}

#[test]
fn what_brings_no_audio_is_no_upload() {
    for kind in ["OBJECT_DELETE", "OBJECT_METADATA_UPDATE", "OBJECT_ARCHIVE"] {
        let mut attributes = FINALIZE;
        attributes[0].1 = kind;
        assert_eq!(read_by(&DEFAULTS, object(json!({})).to_string().as_bytes(), &attributes), None, "{kind}");
    }
    for kind in ["deleted", "metadataUpdated", "archived"] {
        let kind = format!("{OBJECT_EVENTS}{kind}");
        let event = cloud(&kind, object(json!({}))).to_string();
        assert_eq!(read_by(&DEFAULTS, event.as_bytes(), &[]), None, "{kind}");
        assert_eq!(read_by(&DEFAULTS, b"{}", &[("ce-type", &kind)]), None, "{kind}");
    }
    let mut folder = FINALIZE;
    folder[2].1 = "acme/2026/";
    assert_eq!(read_by(&DEFAULTS, b"", &folder), None, "a folder has no sound");
}

#[test]
fn what_cannot_be_read_is_refused_with_its_reason() {
    let mut old = cloud("com.example.uploaded", ours());
    old["specversion"] = "0.3".into();
    let mut flat = FINALIZE;
    flat[2].1 = "song.mp3";
    for (payload, attributes, names) in [
        ("not json".to_owned(), &[][..], "expected"),
        ("[1]".to_owned(), &[], "invalid type"),
        (old.to_string(), &[], "specversion \"0.3\""),
        (cloud("com.example.uploaded", json!("text")).to_string(), &[], "whose data is no upload event"),
        (cloud("com.example.uploaded", json!({ "upload_id": "u1" })).to_string(), &[], "customer_id"),
        (cloud(OBJECT_FINALIZED, json!({ "bucket": "audio" })).to_string(), &[], "whose data is no upload event"),
        (object(json!({})).to_string(), &[], "without the attributes"),
        (object(json!({ "tier": "gold" })).to_string(), &FINALIZE, "gold"),
        (String::new(), &flat, "customer_id"),
        ("{}".to_owned(), &FINALIZE[..2], "upload_id"),
    ] {
        let error = read(&payload, attributes).expect_err(&payload);
        assert!(error.reason.contains(names), "{payload}: {error}");
    }
}

proptest! {
    #[test]
    fn no_message_is_too_strange_to_be_read(
        payload in prop_oneof!["\\PC{0,40}", "\\{\"(specversion|kind|data|upload_id)\":(\"1.0\"|null|\\{\\}|3)\\}"],
        attributes in prop::collection::btree_map(
            "(eventType|bucketId|objectId|objectGeneration|ce-type)", "(OBJECT_FINALIZE|[a-z/]{0,6})", 0..5),
    ) {
        match announced(payload.as_bytes(), |key| attributes.get(key).map(String::as_str), &DEFAULTS) {
            Announced::Upload(event) => match Upload::from_event(&event) {
                Ok(upload) => prop_assert!(!upload.audio_uri.is_empty()),
                Err(invalid) => prop_assert!(!invalid.reason.is_empty()),
            },
            Announced::Other => prop_assert!(
                attributes.contains_key("eventType") && attributes.contains_key("bucketId")
            ),
        }
    }

    #[test]
    fn objects_share_a_name_exactly_where_bucket_object_and_generation_are_the_same(
        one in ("[a-z]{1,3}", "[a-c/#1]{1,4}", 1u64..12), other in ("[a-z]{1,3}", "[a-c/#1]{1,4}", 1u64..12),
    ) {
        let id = |(bucket, name, generation): &(String, String, u64)| {
            let object = Object::new(Some(bucket), Some(name), Some(&generation.to_string()), &Map::new());
            object.expect("complete").event(&DEFAULTS)["upload_id"].clone()
        };
        prop_assert_eq!(id(&one) == id(&other), one == other);
        prop_assert!(crate::UploadId::try_from(id(&one).as_str().expect("text").to_owned()).is_ok());
    }
}
