//! A row on its way from its prompt to the last token of its answer.

use std::ops::Range;

use records::{Lane, UtcMicros};
use tch::Tensor;
use toktrie::SimpleVob;

use super::masks::guarded;
use crate::qwen2_audio::{Generated, Mel, Prompt, Span};
use crate::{Chosen, ModelError, TokenChooser};

/// How urgent a row is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Urgency {
    pub(crate) lane: Lane,
    pub(crate) deadline: UtcMicros,
}

/// What the model hears of a row.
pub(super) enum Clips {
    /// Spectrograms.
    Unheard(Vec<Mel>),
    /// They are being encoded.
    Hearing,
    /// (tokens, hidden) each.
    Heard(Vec<Tensor>),
}

/// A row that is being answered.
pub(super) struct Answering<C> {
    pub(super) urgency: Urgency,
    pub(super) clips: Clips,
    /// Where the clips lie in the prompt.
    audio: Vec<Range<usize>>,
    /// The prompt, and the answer so far.
    pub(super) tokens: Vec<u32>,
    /// Tokens of the prompt.
    prompt: usize,
    log_probs: Vec<f32>,
    /// Away while it is asked what may come next.
    pub(super) chooser: Option<C>,
    /// What it said may come next: some tokens, or any.
    pub(super) allowed: Option<SimpleVob>,
    /// Why it said nothing.
    pub(super) refused: Option<ModelError>,
    /// Its places in the cache while it runs, and how many of them are filled.
    pub(super) slot: Option<Range<usize>>,
    pub(super) held: usize,
    /// Tokens that fit: the prompt's and the answer's.
    pub(super) most_tokens: usize,
}

impl<C: TokenChooser> Answering<C> {
    /// A row that was not begun; what its answer is forced to begin with is read with the prompt.
    pub(super) fn new(
        urgency: Urgency,
        mels: Vec<Mel>,
        prompt: Prompt,
        (chooser, fit): (C, usize),
        vocab: usize,
    ) -> Result<Self, ModelError> {
        let mut row = Self {
            urgency,
            clips: Clips::Unheard(mels),
            audio: prompt.audio,
            prompt: prompt.ids.len(),
            most_tokens: prompt.ids.len().saturating_add(chooser.most_tokens()).min(fit),
            tokens: prompt.ids,
            log_probs: Vec::new(),
            chooser: Some(chooser),
            allowed: None,
            refused: None,
            slot: None,
            held: 0,
        };
        row.force(vocab)?;
        Ok(row)
    }

    /// Whether nothing but its answer's tokens are left to read.
    pub(super) fn is_decoding(&self) -> bool {
        self.held >= self.prompt
    }

    /// Mel frames that nobody has begun to encode.
    pub(super) fn unheard_frames(&self) -> f64 {
        let Clips::Unheard(mels) = &self.clips else { return 0.0 };
        mels.iter().map(|mel| mel.frames as f64).sum()
    }

    /// Tokens of the prompt that are not read yet.
    pub(super) fn unread_prompt(&self) -> usize {
        self.prompt.saturating_sub(self.held)
    }

    /// Tokens that are not read yet.
    pub(super) fn unread(&self) -> usize {
        self.tokens.len() - self.held
    }

    /// The next `new` unread tokens, once it is heard and runs.
    pub(super) fn span(&self, new: usize) -> Option<Span> {
        let slot = self.slot.clone()?;
        Some(Span { slot, held: self.held, new })
    }

    /// What is heard in the next `new` tokens: each piece with its place among them.
    pub(super) fn sound(&self, new: usize) -> Vec<(usize, Tensor)> {
        let Clips::Heard(clips) = &self.clips else { return Vec::new() };
        let window = self.held..self.held + new;
        let piece = |(at, clip): (&Range<usize>, &Tensor)| {
            let (start, end) = (at.start.max(window.start), at.end.min(window.end));
            (start < end)
                .then(|| (start - window.start, clip.narrow(0, (start - at.start) as i64, (end - start) as i64)))
        };
        self.audio.iter().zip(clips).filter_map(piece).collect()
    }

    /// Goes on by the model's choice and by what that forces; whether the answer is complete. `None` was no number.
    pub(super) fn go_on(&mut self, chosen: Option<Chosen>, vocab: usize) -> Result<bool, ModelError> {
        let Some(chosen) = chosen else {
            return Err(ModelError::NotANumber { token: self.tokens.len() - self.prompt });
        };
        let Some(chooser) = self.chooser.as_mut() else { return Ok(true) };
        let Some(token) = guarded(|| chooser.take(&chosen))? else { return Ok(true) };
        self.write(&[token], chosen.log_prob, vocab)?;
        self.force(vocab)
    }

    fn force(&mut self, vocab: usize) -> Result<bool, ModelError> {
        let Some(chooser) = self.chooser.as_mut() else { return Ok(true) };
        if guarded(|| Ok(chooser.is_complete()))? {
            return Ok(true);
        }
        let forced = guarded(|| chooser.forced())?;
        let complete = guarded(|| Ok(chooser.is_complete()))?;
        self.write(&forced, 0.0, vocab)?;
        if !complete && self.tokens.len() >= self.most_tokens {
            let most = self.most_tokens;
            return Err(ModelError::Request(format!("prompt and answer have more than {most} tokens")));
        }
        Ok(complete)
    }

    fn write(&mut self, tokens: &[u32], log_prob: f32, vocab: usize) -> Result<(), ModelError> {
        if let Some(token) = tokens.iter().find(|&&token| token as usize >= vocab) {
            return Err(ModelError::Grammar(format!("token {token} was chosen of a vocabulary of {vocab}")));
        }
        self.tokens.extend(tokens);
        self.log_probs.resize(self.log_probs.len() + tokens.len(), log_prob);
        Ok(())
    }

    /// Whether it was complete before the model was asked.
    pub(super) fn is_complete(&self) -> bool {
        self.chooser.as_ref().is_some_and(TokenChooser::is_complete)
    }

    /// The answer, and who chose it.
    pub(super) fn into_answer(mut self) -> Option<(Generated, C)> {
        let generated = Generated { tokens: self.tokens.split_off(self.prompt), log_probs: self.log_probs };
        self.chooser.map(|chooser| (generated, chooser))
    }
}
