//! What labels say about a model's scores.

use std::sync::Arc;

use records::{Annotation, Metadata};
use serde_json::Value;

use super::Scored;
use super::judge::{has_judge, is_right};
use crate::schema::MetadataSchema;

/// Scores with whether the answer was right: of each field that can be judged, and of whole answers.
///
/// A whole answer is right where every field that can be judged is; its score is the overall confidence. So the overall
/// confidence, calibrated, is the probability that nothing in the answer that can be judged is wrong: with several fields it
/// is below that of each.
#[derive(Clone, Debug)]
pub struct Evidence {
    schema: Arc<MetadataSchema>,
    overall: Vec<Scored>,
    fields: Vec<(String, Vec<Scored>)>,
}

impl Evidence {
    /// None, as yet.
    pub fn new(schema: Arc<MetadataSchema>) -> Self {
        let judged = schema.properties().filter(|(_, of_field)| has_judge(of_field));
        let fields = judged.map(|(name, _)| (name.clone(), Vec::new())).collect();
        Self { schema, overall: Vec::new(), fields }
    }

    /// Reads a label: an object with some or all of the schema's fields.
    ///
    /// # Errors
    /// In words, with the field that the schema does not have, or whose value it does not allow.
    pub fn label(&self, label: Metadata) -> Result<Metadata, String> {
        let name = self.schema.name();
        if label.is_empty() {
            return Err("the label has no field".into());
        }
        for (field, value) in &label {
            let of_field = self.schema.properties().find(|(known, _)| *known == field).map(|(_, of_field)| of_field);
            let Some(of_field) = of_field else { return Err(format!("the schema {name} has no field {field:?}")) };
            jsonschema::validate(of_field, value).map_err(|error| format!("{field}: {error}"))?;
        }
        Ok(label)
    }

    /// Judges an answer by a label, with scores that are raw where a calibration is to be fitted to them; whole answers only by a label of every field.
    pub fn add(&mut self, answer: &Annotation, label: &Metadata) {
        let schema: Vec<(&String, &Value)> = self.schema.properties().collect();
        let (mut all_right, mut complete) = (true, true);
        for (field, judged) in &mut self.fields {
            let of_field = schema.iter().find(|(name, _)| *name == field).map(|(_, of_field)| *of_field);
            let right = match (of_field, answer.metadata.get(field), label.get(field)) {
                (Some(of_field), Some(answer), Some(label)) => is_right(field, of_field, answer, label),
                _ => None,
            };
            if let (Some(right), Some(&score)) = (right, answer.field_confidence.get(field)) {
                judged.push(Scored { score, right });
            }
            all_right &= right == Some(true);
            complete &= right.is_some();
        }
        if let Some(score) = answer.confidence.filter(|_| complete && !self.fields.is_empty()) {
            self.overall.push(Scored { score, right: all_right });
        }
    }

    /// The schema of the answers.
    pub fn schema(&self) -> &Arc<MetadataSchema> {
        &self.schema
    }

    /// Whole answers.
    pub fn overall(&self) -> &[Scored] {
        &self.overall
    }

    /// The fields that can be judged, in the schema's order.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &[Scored])> {
        self.fields.iter().map(|(name, judged)| (name.as_str(), judged.as_slice()))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use records::{Confidence, MicroUsd};
    use serde_json::json;

    use super::*;

    fn metadata(value: Value) -> Metadata {
        serde_json::from_value(value).expect("an object")
    }

    fn answer(value: Value, scores: &[(&str, f64)], overall: f64) -> Annotation {
        let score = |number: f64| Confidence::try_from(number).expect("a probability");
        Annotation {
            model: "m".into(),
            metadata: metadata(value),
            confidence: Some(score(overall)),
            field_confidence: scores.iter().map(|(name, number)| ((*name).to_owned(), score(*number))).collect(),
            inference_ms: 0,
            cost: MicroUsd(0),
        }
    }

    #[test]
    fn a_partial_label_judges_its_fields_and_only_a_whole_one_the_answer() {
        let schema = Arc::new(MetadataSchema::load("music-basic").expect("built in"));
        let mut evidence = Evidence::new(schema);
        let said = json!({"genre": "rock", "tempo_bpm": 100, "key": "C major", "instruments": ["drums"]});
        let scores = [("genre", 0.9), ("tempo_bpm", 0.8), ("key", 0.3), ("instruments", 0.7)];
        let answer = answer(said, &scores, 0.3);
        for label in [
            json!({"genre": "rock", "tempo_bpm": 120}),
            json!({"genre": "rock", "tempo_bpm": 103, "key": "C major", "instruments": ["drums", "bass"]}),
            json!({"genre": "rock", "tempo_bpm": 103, "key": "D major", "instruments": ["drums", "bass"]}),
        ] {
            let label = evidence.label(metadata(label)).expect("a label");
            evidence.add(&answer, &label);
        }
        let judged: BTreeMap<&str, Vec<(f64, bool)>> = evidence
            .fields()
            .map(|(name, judged)| (name, judged.iter().map(|it| (it.score.get(), it.right)).collect()))
            .collect();
        assert_eq!(judged["genre"], [(0.9, true); 3]);
        assert_eq!(judged["tempo_bpm"], [(0.8, false), (0.8, true), (0.8, true)]);
        assert_eq!(judged["key"], [(0.3, true), (0.3, false)]);
        assert_eq!(judged["instruments"], [(0.7, true); 2]);
        let overall: Vec<bool> = evidence.overall().iter().map(|it| it.right).collect();
        assert_eq!(overall, [true, false]);
    }

    #[test]
    fn free_text_is_not_judged_and_a_label_needs_none() {
        let evidence = Evidence::new(Arc::new(MetadataSchema::load("music").expect("built in")));
        let fields: Vec<&str> = evidence.fields().map(|(name, _)| name).collect();
        assert_eq!(fields, ["genre", "tempo_bpm", "key", "instruments", "mood", "vocals", "energy"]);
    }

    #[test]
    fn a_label_that_no_answer_could_match_is_refused_by_field() {
        let evidence = Evidence::new(Arc::new(MetadataSchema::load("music-basic").expect("built in")));
        for (label, names) in [
            (json!({"genre": "polka"}), "genre"),
            (json!({"tempo": 120}), "tempo"),
            (json!({"instruments": ["kazoo"]}), "instruments"),
            (json!({}), "no field"),
        ] {
            let error = evidence.label(metadata(label)).expect_err("refused");
            assert!(error.contains(names), "{error}");
        }
    }
}
