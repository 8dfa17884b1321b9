//! One step: clips through the network, and the losses of what it says about them.

use tch::{Kind, Reduction, Tensor};

use super::answer;
use super::batches::Heard;
use super::heads::{Heads, Target};
use super::variables::Variables;
use crate::ModelError;
use crate::qwen2_audio::{Mel, Qwen2Audio, Span};

/// What is learned in a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lesson {
    /// The encoder learns to hear, by its helper heads alone.
    Hearing,
    /// The whole network learns to answer.
    Answering,
}

/// The losses of clips by name, weighted; their sum is to be made small. `model` is put together anew of `variables`.
///
/// # Errors
/// [`ModelError::Torch`] for want of memory, [`ModelError::Request`] for a clip that does not fit the network.
pub(crate) fn losses(
    model: &mut Qwen2Audio,
    variables: &Variables,
    heads: &Heads,
    question: &str,
    heard: &[Heard],
    lesson: Lesson,
) -> Result<Vec<(String, Tensor)>, ModelError> {
    model.assemble_again(variables)?;
    let mels: Vec<&Mel> = heard.iter().map(|it| &it.example.mel).collect();
    let encoded = model.encode(&mels)?;
    let targets: Vec<Target<'_>> =
        heard.iter().map(|it| Target { metadata: &it.example.metadata, frames: it.frames.as_deref() }).collect();
    let mut losses = heads.losses(variables, &encoded, &targets)?;
    if lesson == Lesson::Answering {
        let sound = model.project(&encoded)?;
        losses.push(("answer".to_owned(), answer_loss(model, question, heard, sound)?));
    }
    Ok(losses)
}

/// Cross-entropy of the answers' tokens: a clip's tokens together, the mean of the clips.
fn answer_loss(model: &Qwen2Audio, question: &str, heard: &[Heard], sound: Vec<Tensor>) -> Result<Tensor, ModelError> {
    let (mut ids, mut at, mut spans, mut asked, mut wanted) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (it, sound) in heard.iter().zip(sound) {
        let prompt = model.prompt(std::slice::from_ref(&it.example.mel), question)?;
        let answer = answer::tokens(model.tokenizer(), &it.example.metadata)?;
        let start = ids.len();
        at.push((start + prompt.audio[0].start, sound));
        ids.extend(&prompt.ids);
        // Each token of the answer is asked for behind the one before it.
        asked.extend((ids.len() - 1..).take(answer.len()).map(|token| token as i64));
        wanted.extend(answer.iter().map(|&token| i64::from(token)));
        ids.extend(&answer[..answer.len() - 1]);
        spans.push(Span { slot: start..ids.len(), held: 0, new: ids.len() - start });
    }
    let logits = model.read(&ids, &at, &spans, &mut model.new_cache(ids.len())?, &asked)?;
    let wanted = Tensor::f_from_slice(&wanted)?.f_to_device(logits.device())?;
    let none: Option<&Tensor> = None;
    let sum = logits.f_to_kind(Kind::Float)?.f_cross_entropy_loss(&wanted, none, Reduction::Sum, -100, 0.0)?;
    Ok(sum.f_div_scalar(heard.len() as f64)?)
}

#[cfg(test)]
mod tests;
