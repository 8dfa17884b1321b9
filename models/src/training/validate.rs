//! How often a network is right, asked the way it is served: by the engine, under the grammar.

use super::batches::Clips;
use super::heads::Heads;
use super::variables::Variables;
use crate::ModelError;
use crate::engine::generate;
use crate::grammar::AnswerGrammar;
use crate::measure::{Measure, measures};
use crate::qwen2_audio::{Qwen2Audio, Row};
use crate::schema::MetadataSchema;

/// Clips that are answered together.
const TOGETHER: usize = 16;
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
        let row = |clip| Ok(Row { mels: vec![clips.beginning(clip)?], question: question.into() });
        let rows = part.clone().map(row).collect::<Result<Vec<_>, ModelError>>()?;
        let choosers = rows.iter().map(|_| grammar.chooser()).collect();
        let answers = generate(model, rows, choosers);
        for (clip, answer) in part.zip(answers) {
            let text = answer.ok().and_then(|generated| model.tokenizer().decode(&generated.tokens).ok());
            let answer = text.and_then(|text| schema.read(&text).ok()).unwrap_or_default();
            answered.push((answer, clips.labelled[clip].metadata.clone()));
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
        let mels = part.clone().map(|clip| clips.beginning(clip)).collect::<Result<Vec<_>, _>>()?;
        let answers = heads.guess(variables, &model.encode(&mels.iter().collect::<Vec<_>>())?)?;
        answered.extend(answers.into_iter().zip(part.map(|clip| clips.labelled[clip].metadata.clone())));
    }
    Ok(measures(schema, &answered))
}
