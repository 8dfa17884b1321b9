//! How often a network is right, asked the way it is served: by the engine, under the grammar.

use records::Metadata;
use serde_json::Value;

use super::batches::Clips;
use super::heads::Heads;
use super::interval::{bootstrap, wilson};
use super::variables::Variables;
use crate::ModelError;
use crate::engine::generate;
use crate::grammar::AnswerGrammar;
use crate::qwen2_audio::{Qwen2Audio, Row};
use crate::schema::{MetadataSchema, is_closed};

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

/// Clips that are answered together.
const TOGETHER: usize = 16;
/// A tempo is right within this part of the label's.
const TEMPO_TOLERANCE: f64 = 0.04;

/// Answers the first `most` clips, and compares the answers with the labels.
///
/// # Errors
/// A [`ModelError`] of the model or of a clip's file; an answer that failed counts as wrong.
pub(crate) fn validate(
    model: &Qwen2Audio,
    clips: &Clips,
    schema: &MetadataSchema,
    question: &str,
    most: usize,
) -> Result<Vec<Measure>, ModelError> {
    let vocab_size = model.config().text_config.vocab_size;
    let grammar = AnswerGrammar::new(schema, model.tokenizer(), vocab_size, &model.eos_token_ids())?;
    let (mut answered, all) = (Vec::new(), most.min(clips.labelled.len()));
    for first in (0..all).step_by(TOGETHER) {
        let part = first..(first + TOGETHER).min(all);
        let row = |clip| Ok(Row { mels: vec![clips.mels.load(clip)?], question: question.into() });
        let rows = part.clone().map(row).collect::<Result<Vec<_>, ModelError>>()?;
        let answers = generate(model, &rows, rows.iter().map(|_| grammar.chooser()).collect());
        for (clip, answer) in part.zip(answers) {
            let text = answer.ok().and_then(|generated| model.tokenizer().decode(&generated.tokens).ok());
            let answer = text.and_then(|text| schema.read(&text).ok()).unwrap_or_default();
            answered.push((answer, &clips.labelled[clip].metadata));
        }
    }
    Ok(measures(schema, &answered))
}

/// Lets the helper heads answer the first `most` clips: what the encoder knows, whether or not the language model reads it.
///
/// # Errors
/// A [`ModelError`] of the model or of a clip's file.
pub(crate) fn validate_heads(
    model: &Qwen2Audio,
    (heads, variables): (&Heads, &Variables),
    clips: &Clips,
    schema: &MetadataSchema,
    most: usize,
) -> Result<Vec<Measure>, ModelError> {
    let (mut answered, all) = (Vec::new(), most.min(clips.labelled.len()));
    for first in (0..all).step_by(TOGETHER) {
        let part = first..(first + TOGETHER).min(all);
        let mels = part.clone().map(|clip| clips.mels.load(clip)).collect::<Result<Vec<_>, _>>()?;
        let answers = heads.guess(variables, &model.encode(&mels.iter().collect::<Vec<_>>())?)?;
        answered.extend(answers.into_iter().zip(part.map(|clip| &clips.labelled[clip].metadata)));
    }
    Ok(measures(schema, &answered))
}

/// The measures of answers beside their labels.
fn measures(schema: &MetadataSchema, answered: &[(Metadata, &Metadata)]) -> Vec<Measure> {
    let share = |name: String, is_right: &dyn Fn(&Value, &Value) -> bool, field: &str| {
        let null = Value::Null;
        let of = |metadata: &Metadata| metadata.get(field).cloned().unwrap_or_else(|| null.clone());
        let right = answered.iter().filter(|(answer, label)| is_right(&of(answer), &of(label))).count();
        let (right, all) = (right as f64, answered.len() as f64);
        Measure { name, value: right / all, interval: wilson(right, all), clips: answered.len() }
    };
    let mut measures = Vec::new();
    for (field, of_field) in schema.properties() {
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
fn micro_f1(field: &str, answered: &[(Metadata, &Metadata)]) -> Measure {
    let items = |metadata: &Metadata| metadata.get(field).and_then(Value::as_array).cloned().unwrap_or_default();
    let count = |(answer, label): &(Metadata, &Metadata)| {
        let (answer, label) = (items(answer), items(label));
        let common = answer.iter().filter(|item| label.contains(item)).count();
        [common as f64, (answer.len() + label.len()) as f64]
    };
    let counts: Vec<[f64; 2]> = answered.iter().map(count).collect();
    let f1 = |counts: &mut dyn Iterator<Item = [f64; 2]>| {
        let [common, both] = counts.fold([0.0; 2], |sum, clip| [sum[0] + clip[0], sum[1] + clip[1]]);
        if both > 0.0 { 2.0 * common / both } else { 0.0 }
    };
    let (value, interval) = (f1(&mut counts.iter().copied()), bootstrap(&counts, &f1));
    Measure { name: format!("{field} micro-F1"), value, interval, clips: answered.len() }
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
        let answered: Vec<_> = answers.map(|answer| (metadata(answer), &label)).into();
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
