//! How often answers are right, field by field, with what the number of clips leaves open.

mod interval;

use records::Metadata;
use serde_json::Value;

use crate::schema::{MetadataSchema, is_closed};
use interval::{bootstrap, wilson};

/// One number about the answers to a split.
#[derive(Clone, Debug, PartialEq)]
pub struct Measure {
    /// What was measured: a field, and how.
    pub name: String,
    /// A share of right answers, or an F1.
    pub value: f64,
    /// Its 95 % interval.
    pub interval: (f64, f64),
    /// Of how many clips.
    pub clips: usize,
}

/// A tempo is right within this part of the label's.
const TEMPO_TOLERANCE: f64 = 0.04;

/// An answer, empty where there was none, and the label beside it.
pub type Answered = (Metadata, Metadata);

/// The measures of answers: of each field, those whose label has it.
pub fn measures(schema: &MetadataSchema, answered: &[Answered]) -> Vec<Measure> {
    let share = |name: String, is_right: &dyn Fn(&Value, &Value) -> bool, field: &str| {
        let labelled = answered.iter().filter_map(|(answer, label)| Some((answer.get(field), label.get(field)?)));
        let right = labelled.clone().filter(|(answer, label)| answer.is_some_and(|it| is_right(it, label))).count();
        let clips = labelled.count();
        let (right, all) = (right as f64, clips as f64);
        Measure { name, value: right / all, interval: wilson(right, all), clips }
    };
    let mut measures = Vec::new();
    let is_labelled = |field: &String| answered.iter().any(|(_, label)| label.contains_key(field));
    for (field, of_field) in schema.properties().filter(|(field, _)| is_labelled(field)) {
        let is_equal = |answer: &Value, label: &Value| answer == label;
        if field.ends_with("_bpm") {
            measures.push(share(
                format!("{field} within 4 %"),
                &|answer, label| is_tempo(answer, label, &[1.0]),
                field,
            ));
            let octaves = [1.0, 2.0, 0.5];
            let name = format!("{field} within 4 % or an octave");
            measures.push(share(name, &|answer, label| is_tempo(answer, label, &octaves), field));
        } else if of_field["type"] == "array" && is_closed(&of_field["items"]) {
            measures.push(micro_f1(field, answered));
        } else if is_closed(of_field) || of_field["type"] == "integer" || of_field["type"] == "boolean" {
            measures.push(share(field.clone(), &is_equal, field));
        }
    }
    measures
}

fn is_tempo(answer: &Value, label: &Value, ratios: &[f64]) -> bool {
    let (Some(answer), Some(label)) = (answer.as_f64(), label.as_f64()) else { return false };
    ratios.iter().any(|ratio| (answer / (ratio * label) - 1.0).abs() <= TEMPO_TOLERANCE)
}

/// F1 over all items of all clips' sets.
fn micro_f1(field: &str, answered: &[Answered]) -> Measure {
    let items = |metadata: &Metadata| metadata.get(field).and_then(Value::as_array).cloned().unwrap_or_default();
    let count = |(answer, label): &Answered| {
        let (answer, label) = (items(answer), items(label));
        let common = answer.iter().filter(|item| label.contains(item)).count();
        [common as f64, (answer.len() + label.len()) as f64]
    };
    let counts: Vec<[f64; 2]> = answered.iter().filter(|(_, label)| label.contains_key(field)).map(count).collect();
    let f1 = |counts: &mut dyn Iterator<Item = [f64; 2]>| {
        let [common, both] = counts.fold([0.0; 2], |sum, clip| [sum[0] + clip[0], sum[1] + clip[1]]);
        if both > 0.0 { 2.0 * common / both } else { 0.0 }
    };
    let (value, interval) = (f1(&mut counts.iter().copied()), bootstrap(&counts, &f1));
    Measure { name: format!("{field} micro-F1"), value, interval, clips: counts.len() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn metadata(json: Value) -> Metadata {
        json.as_object().cloned().expect("an object")
    }

    #[test]
    fn answers_are_measured_field_by_field() {
        let schema = MetadataSchema::load("music-basic").expect("built in");
        let label = metadata(
            json!({"genre": "rock", "tempo_bpm": 120, "key": "A minor", "instruments": ["bass", "drums", "piano"]}),
        );
        let answers = [
            json!({"genre": "rock", "tempo_bpm": 124, "key": "C major", "instruments": ["bass", "organ"]}),
            json!({"genre": "jazz", "tempo_bpm": 62, "key": "A minor", "instruments": ["bass", "drums", "piano"]}),
            json!({"genre": "rock", "tempo_bpm": 90, "key": "A major", "instruments": ["drums"]}),
            json!({}),
        ];
        let answered: Vec<_> = answers.map(|answer| (metadata(answer), label.clone())).into();
        let found = measures(&schema, &answered);
        let values: Vec<(&str, f64)> = found.iter().map(|it| (it.name.as_str(), it.value)).collect();
        let f1 = 2.0 * 5.0 / (6.0 + 12.0);
        assert_eq!(
            values,
            [
                ("genre", 0.5),
                ("tempo_bpm within 4 %", 0.25),
                ("tempo_bpm within 4 % or an octave", 0.5),
                ("key", 0.25),
                ("instruments micro-F1", f1),
            ]
        );
        assert!(
            found.iter().all(|it| it.interval.0 < it.value && it.value < it.interval.1 && it.clips == 4),
            "{found:?}"
        );
    }
}
