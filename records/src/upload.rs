//! The event that asks for an upload to be annotated.

use serde::{Deserialize, Serialize};

use crate::{UploadId, UtcMicros, event};

/// What the customer pays for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    /// Contract customers.
    Enterprise,
    /// Paying customers.
    Pro,
    /// Everyone else.
    Free,
}

/// Whether somebody waits for the answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// An API call that waits.
    Realtime,
    /// A bulk upload.
    #[default]
    Bulk,
}

/// One of the two priorities. Each has its own place in a source, its own limit of uploads in flight and its own deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lane {
    /// Done within a second.
    High,
    /// Done within ten minutes.
    Low,
}

impl Lane {
    /// Both lanes, the high one first.
    pub const ALL: [Self; 2] = [Self::High, Self::Low];
}

macro_rules! text_form {
    ($type:ty { $($variant:ident = $text:literal),* }) => {
        impl $type {
            /// The name in events, outcomes, metrics and the store.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),* }
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl std::str::FromStr for $type {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                match text {
                    $($text => Ok(Self::$variant),)*
                    _ => Err(format!("{text:?} is none of {}", [$($text),*].join(", "))),
                }
            }
        }
    };
}
pub(crate) use text_form;

text_form!(Tier { Enterprise = "enterprise", Pro = "pro", Free = "free" });
text_form!(Mode { Realtime = "realtime", Bulk = "bulk" });
text_form!(Lane { High = "high", Low = "low" });

/// One audio upload to annotate, as a source delivers it (JSON, unknown fields refused).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Upload {
    /// Unique for ever: a second event with the same id is a redelivery.
    pub upload_id: UploadId,
    /// Whose upload it is.
    pub customer_id: String,
    /// What that customer pays for.
    pub tier: Tier,
    /// Whether somebody waits; `bulk` where the event is silent.
    #[serde(default)]
    pub mode: Mode,
    /// Where the audio is: a local path, or a `file://`, `gs://` or `s3://` address.
    pub audio_uri: String,
    /// When the platform took the upload in, where it says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uploaded_at: Option<UtcMicros>,
    /// Where the platform took it in, by a name of the platform's: 1 to 64 characters of `A-Z a-z 0-9 . _ -`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Whether models may learn from it; where the event is silent, none does.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub training_consent: bool,
}

/// Why an event is no upload. It can never become one, so it is not tried again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid upload event: {reason}")]
pub struct InvalidEvent {
    /// What is wrong, and where.
    pub reason: String,
    /// The event's own id where it has a valid one, else `invalid-` and a hash of the payload: the same bytes redelivered
    /// are the same upload.
    pub upload_id: UploadId,
}

impl Upload {
    /// Reads an event.
    ///
    /// # Errors
    /// [`InvalidEvent`] names the field that is missing, unknown, of the wrong type or out of its range.
    pub fn from_event(payload: &[u8]) -> Result<Self, InvalidEvent> {
        let invalid = |reason: String| InvalidEvent { reason, upload_id: id_of_invalid(payload) };
        let mut json = serde_json::Deserializer::from_slice(payload);
        let upload: Self = serde_path_to_error::deserialize(&mut json)
            .map_err(|error| invalid(event::trouble(payload).unwrap_or_else(|| error.to_string())))?;
        json.end().map_err(|error| invalid(error.to_string()))?;
        for (field, text) in [("customer_id", &upload.customer_id), ("audio_uri", &upload.audio_uri)] {
            if text.is_empty() || text.len() > 2048 {
                return Err(invalid(format!("{field} must have 1 to 2048 bytes, not {}", text.len())));
            }
        }
        // A window has a row for each, and a gauge a label.
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let is_region = |region: &str| (1..=64).contains(&region.len()) && region.chars().all(is_plain);
        if let Some(region) = upload.region.as_deref().filter(|region| !is_region(region)) {
            return Err(invalid(format!("region must be 1 to 64 characters of A-Z a-z 0-9 . _ -, not {region:?}")));
        }
        Ok(upload)
    }
}

fn id_of_invalid(payload: &[u8]) -> UploadId {
    #[derive(Deserialize)]
    struct OnlyId {
        upload_id: UploadId,
    }
    use sha2::Digest;
    serde_json::from_slice::<OnlyId>(payload).map(|event| event.upload_id).unwrap_or_else(|_| {
        let digest = sha2::Sha256::digest(payload);
        let hex: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        UploadId::try_from(format!("invalid-{hex}")).expect("hex digits are in the alphabet of an upload id")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"upload_id":"u1","customer_id":"c","tier":"pro","audio_uri":"/a.wav"}"#;

    #[test]
    fn an_event_without_a_mode_is_bulk() {
        assert_eq!(Upload::from_event(GOOD.as_bytes()).expect("valid").mode, Mode::Bulk);
    }

    #[test]
    fn no_model_learns_from_an_upload_whose_event_does_not_say_so() {
        let consent = |event: &str| Upload::from_event(event.as_bytes()).expect("valid").training_consent;
        assert!(!consent(GOOD) && consent(&GOOD.replace('{', "{\"training_consent\":true,")));
    }

    #[test]
    fn a_bad_event_is_refused_with_the_name_of_the_field_and_keeps_its_id() {
        for (event, names) in [
            (GOOD.replace("\"pro\"", "\"gold\""), "gold"),
            (GOOD.replace("\"pro\"", "3"), "tier"),
            (GOOD.replace("\"tier\":\"pro\",", ""), "tier"),
            (GOOD.replace("{", "{\"colour\":1,"), "colour"),
            (GOOD.replace("\"c\"", "\"\""), "customer_id"),
            (GOOD.replace("{", "{\"region\":\"eu west\","), "region"),
        ] {
            let error = Upload::from_event(event.as_bytes()).expect_err("must be refused");
            assert!(
                error.to_string().contains(names) || names == "tier" && error.to_string().contains("variant"),
                "{error}"
            );
            assert_eq!(error.upload_id.as_str(), "u1");
        }
    }

    #[test]
    fn the_same_garbage_gets_the_same_id() {
        let first = Upload::from_event(b"\xff\x00 not json").expect_err("garbage");
        let again = Upload::from_event(b"\xff\x00 not json").expect_err("garbage");
        let other = Upload::from_event(b"{").expect_err("garbage");
        assert_eq!(first.upload_id, again.upload_id);
        assert_ne!(first.upload_id, other.upload_id);
    }
}
