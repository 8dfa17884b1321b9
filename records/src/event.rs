//! The forms in which an upload is announced: our JSON, a CloudEvent, or a Cloud Storage bucket's notification of an object.

use std::borrow::Cow;

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::{Mode, Tier};

/// What kinds of CloudEvents a bucket sends; `finalized` is the one that brings a whole object.
const OBJECT_EVENTS: &str = "google.cloud.storage.object.v1.";
const OBJECT_FINALIZED: &str = "google.cloud.storage.object.v1.finalized";

/// What is taken for an object of a bucket whose custom metadata does not say it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectDefaults {
    /// The customer; without one, the first segment of the object's name.
    pub customer_id: Option<String>,
    /// The tier.
    pub tier: Tier,
    /// The mode.
    pub mode: Mode,
}

/// What a message is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Announced<'a> {
    /// An upload, as our JSON, which [`Upload::from_event`](crate::Upload::from_event) has yet to judge.
    Upload(Cow<'a, [u8]>),
    /// Something of a bucket's life that brings no audio.
    Other,
}

/// Reads a message of any form, with the attributes that came beside its payload. A message that is in no form is an upload
/// that will be refused: it is given back as it came, so that whoever refuses it can say why, and keep it.
pub fn announced<'a>(
    payload: &'a [u8],
    attribute: impl Fn(&str) -> Option<&'a str>,
    defaults: &ObjectDefaults,
) -> Announced<'a> {
    let json: Option<Map<String, Value>> = serde_json::from_slice(payload).ok();
    let is_object = attribute("eventType") == Some("OBJECT_FINALIZE")
        || attribute("ce-type") == Some(OBJECT_FINALIZED)
        || json.as_ref().and_then(|json| json.get("type")).is_some_and(|kind| kind == OBJECT_FINALIZED);
    let event = match (attribute("eventType"), attribute("bucketId"), attribute("ce-type")) {
        (Some("OBJECT_FINALIZE"), Some(bucket), _) => {
            let (name, generation) = (attribute("objectId"), attribute("objectGeneration"));
            // A notification without a payload says all that is needed in its attributes.
            Object::new(Some(bucket), name, generation, &json.unwrap_or_default()).map(|it| it.event(defaults))
        }
        (Some(_), Some(_), _) => return Announced::Other,
        (_, _, Some(OBJECT_FINALIZED)) => json.and_then(|data| Object::of(&data)).map(|object| object.event(defaults)),
        (_, _, Some(kind)) if kind.starts_with(OBJECT_EVENTS) => return Announced::Other,
        _ => match json.as_ref().and_then(CloudEvent::of) {
            Some(CloudEvent::Of { kind, .. }) if kind.starts_with(OBJECT_EVENTS) && kind != OBJECT_FINALIZED => {
                return Announced::Other;
            }
            Some(cloud) => cloud.event(defaults),
            None => None,
        },
    };
    match event {
        // A folder of the console is an object without sound.
        Some(event) if is_object && event.get("audio_uri").and_then(Value::as_str).is_some_and(is_folder) => {
            Announced::Other
        }
        Some(event) => Announced::Upload(Cow::Owned(Value::Object(event).to_string().into_bytes())),
        None => Announced::Upload(Cow::Borrowed(payload)),
    }
}

fn is_folder(uri: &str) -> bool {
    uri.ends_with('/')
}

/// Why a payload of another form than ours is no upload, where that tells more than which of our fields it lacks.
pub(crate) fn trouble(payload: &[u8]) -> Option<String> {
    let json: Map<String, Value> = serde_json::from_slice(payload).ok()?;
    match CloudEvent::of(&json) {
        Some(CloudEvent::Unknown { version }) => Some(format!("a CloudEvent of specversion {version}, not \"1.0\"")),
        Some(CloudEvent::Of { .. }) => Some(
            "a CloudEvent, which is read from Pub/Sub alone, or whose data is no upload event or object".to_owned(),
        ),
        None if json.get("kind").and_then(Value::as_str) == Some("storage#object") => {
            Some("an object of a bucket without the attributes of its notification (eventType, bucketId …)".to_owned())
        }
        None => None,
    }
}

/// A CloudEvent in the structured form (<https://github.com/cloudevents/spec>, version 1.0).
enum CloudEvent<'j> {
    Of { kind: &'j str, event: &'j Map<String, Value> },
    Unknown { version: &'j Value },
}

impl<'j> CloudEvent<'j> {
    fn of(json: &'j Map<String, Value>) -> Option<Self> {
        let version = json.get("specversion")?;
        if version != "1.0" {
            return Some(Self::Unknown { version });
        }
        Some(Self::Of { kind: json.get("type").and_then(Value::as_str).unwrap_or_default(), event: json })
    }

    /// Its data as our event. What ours lacks is taken from around it: a name that is unique as source and id are, and the
    /// time.
    fn event(&self, defaults: &ObjectDefaults) -> Option<Map<String, Value>> {
        let Self::Of { kind, event } = self else { return None };
        let mut data = event.get("data")?.as_object()?.clone();
        if *kind == OBJECT_FINALIZED {
            return Some(Object::of(&data)?.event(defaults));
        }
        if !data.contains_key("upload_id") {
            let (source, id) = (event.get("source")?.as_str()?, event.get("id")?.as_str()?);
            data.insert("upload_id".into(), format!("ce-{}", digest(&format!("{source}\n{id}"))).into());
        }
        if let (false, Some(time)) = (data.contains_key("uploaded_at"), event.get("time")) {
            data.insert("uploaded_at".into(), time.clone());
        }
        Some(data)
    }
}

/// An object of a bucket.
struct Object {
    bucket: String,
    name: String,
    generation: String,
    created: Option<Value>,
    metadata: Map<String, Value>,
}

impl Object {
    fn new(
        bucket: Option<&str>,
        name: Option<&str>,
        generation: Option<&str>,
        resource: &Map<String, Value>,
    ) -> Option<Self> {
        let metadata = resource.get("metadata").and_then(Value::as_object).cloned().unwrap_or_default();
        Some(Self {
            bucket: bucket?.to_owned(),
            name: name?.to_owned(),
            generation: generation?.to_owned(),
            created: resource.get("timeCreated").cloned(),
            metadata,
        })
    }

    /// Of an object resource, as the JSON API and CloudEvents have it.
    fn of(resource: &Map<String, Value>) -> Option<Self> {
        let text = |key: &str| resource.get(key).and_then(Value::as_str);
        let number = resource.get("generation").and_then(Value::as_u64).map(|number| number.to_string());
        Self::new(text("bucket"), text("name"), text("generation").or(number.as_deref()), resource)
    }

    /// A value of the custom metadata. They travel as headers, which some write with hyphens.
    fn custom(&self, key: &str) -> Option<Value> {
        self.metadata.get(key).or_else(|| self.metadata.get(&key.replace('_', "-"))).cloned()
    }

    /// The upload that it is. An object that is written over is another upload, as its generation is another.
    fn event(&self, defaults: &ObjectDefaults) -> Map<String, Value> {
        let Self { bucket, name, generation, .. } = self;
        let first_segment = || name.split_once('/').map(|(first, _)| first.to_owned());
        let customer = || defaults.customer_id.clone().or_else(first_segment).map(Value::from);
        let consents = self.custom("training_consent").is_some_and(|consent| consent == "true");
        let fields = [
            ("upload_id", Some(format!("gcs-{}", digest(&format!("{bucket}/{name}#{generation}"))).into())),
            ("customer_id", self.custom("customer_id").or_else(customer)),
            ("tier", Some(self.custom("tier").unwrap_or_else(|| defaults.tier.as_str().into()))),
            ("mode", Some(self.custom("mode").unwrap_or_else(|| defaults.mode.as_str().into()))),
            ("audio_uri", Some(format!("gs://{bucket}/{name}").into())),
            ("uploaded_at", self.created.clone()),
            ("region", self.custom("region")),
            ("training_consent", consents.then_some(Value::Bool(true))),
        ];
        fields.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect()
    }
}

/// 160 bits of a hash, in the alphabet of an upload's id.
fn digest(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().take(20).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
