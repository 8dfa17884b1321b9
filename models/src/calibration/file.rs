//! A calibration: the curves of one checkpoint and one schema, in `calibration.json` beside the weights.

use std::collections::BTreeMap;
use std::path::Path;

use records::Annotation;
use serde::{Deserialize, Serialize};

use super::{Curve, Evidence, FitError, Method, Scored};
use crate::ModelError;
use crate::qwen2_audio::fingerprint;
use crate::schema::MetadataSchema;

/// What the file looks like and what a raw score in it means; counted up when either changes.
const VERSION: u32 = 1;

/// Curves for the scores of one checkpoint's answers to one schema.
///
/// A field has a curve where its labels gave one; else it keeps its raw score. The overall confidence has a curve of its
/// own, from the raw overall score to how often every field that can be judged is right; see [`Evidence`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    version: u32,
    schema: String,
    /// The fingerprint of the weights whose scores these are.
    weights: String,
    overall: Fitted,
    fields: BTreeMap<String, Fitted>,
}

/// A curve, and from how much it was learned.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fitted {
    /// The answers that were judged.
    pub labels: usize,
    /// What they say.
    pub curve: Curve,
}

impl Fitted {
    fn new(method: Method, scored: &[Scored]) -> Result<Self, FitError> {
        Ok(Self { labels: scored.len(), curve: Curve::fit(method, scored)? })
    }
}

impl Calibration {
    /// The file's name, in the checkpoint's folder.
    pub const FILE: &str = "calibration.json";

    /// Fits a curve for whole answers and for each field whose labels allow one. The scores of `evidence` must be raw ones of
    /// the checkpoint in `dir`.
    ///
    /// # Errors
    /// [`ModelError::Calibration`] where whole answers allow no curve, as the overall confidence is what decides whether the
    /// fallback is asked; [`ModelError::Read`] or [`ModelError::Invalid`] for the weights.
    pub fn fit(dir: &Path, evidence: &Evidence, method: Method) -> Result<Self, ModelError> {
        let whole = |error| ModelError::Calibration(format!("whole answers, with every field labelled: {error}"));
        let fitted = |(field, scored): (&str, _)| Some((field.to_owned(), Fitted::new(method, scored).ok()?));
        Ok(Self {
            version: VERSION,
            schema: evidence.schema().name().to_owned(),
            overall: Fitted::new(method, evidence.overall()).map_err(whole)?,
            fields: evidence.fields().filter_map(fitted).collect(),
            weights: fingerprint(dir)?,
        })
    }

    /// Reads the calibration in a checkpoint's folder; `None` where there is none.
    ///
    /// # Errors
    /// [`ModelError::Invalid`] where it is of another version, other weights or another schema, or says what no calibration
    /// can; [`ModelError::Read`] where it or the weights cannot be read.
    pub fn load(dir: &Path, schema: &MetadataSchema) -> Result<Option<Self>, ModelError> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let path = dir.join(Self::FILE);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(ModelError::read(&path, &error)),
        };
        let invalid = |reason: String| ModelError::invalid(&path, reason);
        let stale = |reason: &str| {
            invalid(format!("{reason}: remove it, or run `tidemark model calibrate {}` again", dir.display()))
        };
        let Versioned { version } = serde_json::from_slice(&bytes).map_err(|error| invalid(error.to_string()))?;
        if version != VERSION {
            return Err(stale(&format!("it has version {version}, and this program reads {VERSION}")));
        }
        let calibration: Self = serde_json::from_slice(&bytes).map_err(|error| invalid(error.to_string()))?;
        let name = schema.name();
        if calibration.schema != name {
            return Err(stale(&format!("it is for the schema {}, not for {name}", calibration.schema)));
        }
        if let Some(field) = calibration.fields.keys().find(|field| !schema.fields().any(|known| known == *field)) {
            return Err(stale(&format!("it has the field {field:?}, which the schema {name} has not")));
        }
        if calibration.weights != fingerprint(dir)? {
            return Err(stale("it was fitted on other weights than those beside it"));
        }
        Ok(Some(calibration))
    }

    /// Writes it into a checkpoint's folder: whole, or not at all.
    ///
    /// # Errors
    /// [`ModelError::Write`].
    pub fn save(&self, dir: &Path) -> Result<(), ModelError> {
        let (path, unfinished) = (dir.join(Self::FILE), dir.join(format!("{}.part", Self::FILE)));
        let json = serde_json::to_string_pretty(self).expect("numbers, and maps with names for keys") + "\n";
        std::fs::write(&unfinished, json)
            .and_then(|()| std::fs::rename(&unfinished, &path))
            .map_err(|error| ModelError::Write { path, reason: error.to_string() })
    }

    /// The curve of whole answers.
    pub fn overall(&self) -> &Fitted {
        &self.overall
    }

    /// A field's curve; `None` where its scores stay raw.
    pub fn field(&self, field: &str) -> Option<&Fitted> {
        self.fields.get(field)
    }

    /// The answer with calibrated confidence in place of raw.
    #[must_use]
    pub fn apply(&self, mut answer: Annotation) -> Annotation {
        answer.confidence = answer.confidence.map(|score| self.overall.curve.apply(score));
        for (field, score) in &mut answer.field_confidence {
            if let Some(fitted) = self.fields.get(field) {
                *score = fitted.curve.apply(*score);
            }
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::Arc;

    use records::{Confidence, Metadata, MicroUsd};
    use serde_json::{Value, json};

    use super::*;
    use crate::qwen2_audio;

    /// The weights of a fixture in a folder of their own.
    fn checkpoint() -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let weights = "model.safetensors";
        std::fs::copy(qwen2_audio::fixture("tiny-a").join(weights), dir.path().join(weights)).expect("copied");
        dir
    }

    fn schema() -> Arc<MetadataSchema> {
        Arc::new(MetadataSchema::load("music-basic").expect("built in"))
    }

    fn metadata(value: Value) -> Metadata {
        serde_json::from_value(value).expect("an object")
    }

    fn answer(genre: f64, overall: f64) -> Annotation {
        let score = |number: f64| Confidence::try_from(number).expect("a probability");
        let fields = [("genre", genre), ("tempo_bpm", 0.5), ("key", 0.5), ("instruments", 0.5)];
        Annotation {
            model: "m".into(),
            metadata: metadata(json!({"genre": "rock", "tempo_bpm": 100, "key": "C major", "instruments": ["drums"]})),
            confidence: Some(score(overall)),
            field_confidence: fields.iter().map(|(name, number)| ((*name).to_owned(), score(*number))).collect(),
            inference_ms: 1,
            cost: MicroUsd(2),
        }
    }

    /// A model that is right of genre where it is surer, and always right of all else.
    fn evidence() -> Evidence {
        let mut evidence = Evidence::new(schema());
        for n in 0..10 {
            let score = 0.9 + 0.01 * f64::from(n);
            let genre = if n >= 5 { "rock" } else { "jazz" };
            let label = json!({"genre": genre, "tempo_bpm": 100, "key": "C major", "instruments": ["drums"]});
            evidence.add(&answer(score, score), &metadata(label));
        }
        evidence
    }

    #[test]
    fn what_was_saved_is_loaded_and_gives_the_same_scores_and_only_the_scores() {
        let dir = checkpoint();
        assert_eq!(Calibration::load(dir.path(), &schema()).expect("readable"), None);
        for method in [Method::Temperature, Method::Platt, Method::Isotonic, Method::Auto] {
            let fitted = Calibration::fit(dir.path(), &evidence(), method).expect("fitted");
            fitted.save(dir.path()).expect("saved");
            let loaded = Calibration::load(dir.path(), &schema()).expect("readable").expect("there");
            assert_eq!(loaded.overall().labels, 10);
            assert!(loaded.field("genre").is_some());
            assert_eq!(loaded.field("key"), None, "all of them are right");
            for score in [0.0, 0.91, 0.93, 0.96, 1.0] {
                let (before, after) = (answer(score, score), loaded.apply(answer(score, score)));
                let sure =
                    |it: &Annotation| (it.confidence.expect("a score").get(), it.field_confidence["genre"].get());
                let (overall, genre) = sure(&after);
                let expected = fitted.overall().curve.apply(before.confidence.expect("a score")).get();
                assert!((overall - expected).abs() < 1e-12 && (genre - expected).abs() < 1e-12, "{method:?}");
                assert_eq!(after.field_confidence["key"], before.field_confidence["key"]);
                assert_eq!((&after.metadata, after.cost), (&before.metadata, before.cost));
            }
        }
        let names: Vec<_> = std::fs::read_dir(dir.path()).expect("a folder").map(|it| it.expect("a file")).collect();
        assert_eq!(names.len(), 2, "{names:?}");
    }

    #[test]
    fn no_calibration_is_made_without_whole_answers_right_and_wrong() {
        let dir = checkpoint();
        let mut partial = Evidence::new(schema());
        partial.add(&answer(0.5, 0.5), &metadata(json!({"genre": "rock"})));
        let error = Calibration::fit(dir.path(), &partial, Method::Auto).expect_err("refused").to_string();
        assert!(error.contains("every field labelled"), "{error}");
        let mut right = Evidence::new(schema());
        (0..3).for_each(|_| right.add(&answer(0.5, 0.5), &answer(0.5, 0.5).metadata));
        let error = Calibration::fit(dir.path(), &right, Method::Auto).expect_err("refused").to_string();
        assert!(error.contains("all 3 judged answers are right"), "{error}");
    }

    #[test]
    fn a_calibration_of_other_weights_another_schema_or_another_version_is_refused_by_name() {
        let dir = checkpoint();
        let saved = Calibration::fit(dir.path(), &evidence(), Method::Temperature).expect("fitted");
        saved.save(dir.path()).expect("saved");
        let path: PathBuf = dir.path().join(Calibration::FILE);
        let json: Value = serde_json::from_slice(&std::fs::read(&path).expect("read")).expect("JSON");
        let refused = |change: &dyn Fn(&mut Value)| {
            let mut changed = json.clone();
            change(&mut changed);
            std::fs::write(&path, changed.to_string()).expect("written");
            Calibration::load(dir.path(), &schema()).expect_err("refused").to_string()
        };
        type Change<'a> = (&'a dyn Fn(&mut Value), &'a str);
        let changes: [Change; 9] = [
            (&|it| it["version"] = 2.into(), "version 2"),
            (&|it| it["schema"] = "music".into(), "the schema music, not for music-basic"),
            (&|it| it["weights"] = "0".into(), "other weights"),
            (&|it| it["fields"]["mood"] = it["overall"].clone(), "\"mood\""),
            (&|it| it["colour"] = 1.into(), "colour"),
            (&|it| it["overall"]["curve"] = json!({"temperature": 0}), "above 0"),
            (&|it| it["overall"]["curve"] = json!({"platt": {"slope": -1, "offset": 0}}), "slope"),
            (&|it| it["overall"]["curve"] = json!({"isotonic": [[0.1, 0.5], [0.2, 0.4]]}), "rise"),
            (&|it| it["overall"]["curve"] = json!({"spline": []}), "spline"),
        ];
        for (change, names) in changes {
            let error = refused(change);
            assert!(error.contains(names) && error.contains(Calibration::FILE), "{error}");
        }
        saved.save(dir.path()).expect("saved");
        let weights = dir.path().join("model.safetensors");
        let mut bytes = std::fs::read(&weights).expect("read");
        *bytes.last_mut().expect("weights") ^= 1;
        std::fs::write(&weights, bytes).expect("written");
        let error = Calibration::load(dir.path(), &schema()).expect_err("refused").to_string();
        assert!(error.contains("other weights") && error.contains("tidemark model calibrate"), "{error}");
    }
}
