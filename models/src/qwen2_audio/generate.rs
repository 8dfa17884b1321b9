//! Answers for a batch of rows, each row steered by its own chooser.

use std::sync::Arc;

use tch::{Kind, TchError};

use super::Mel;
use super::Qwen2Audio;
use super::prompt::Prompt;
use crate::{ModelError, TokenChooser};

/// One request of a batch.
#[derive(Clone, Debug)]
pub struct Row {
    /// The clips, at most 30 s each, in the order in which the model hears them.
    pub mels: Vec<Mel>,
    /// What is asked about them; text of a user, in which special tokens stay text.
    pub question: Arc<str>,
}

/// One answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Generated {
    /// The tokens, without the one that ended the answer.
    pub tokens: Vec<u32>,
    /// Each token's natural log-probability among the whole vocabulary, before any grammar.
    pub log_probs: Vec<f32>,
}

/// A row that is being answered.
struct Live<'a> {
    index: usize,
    chooser: &'a mut dyn TokenChooser,
    prompt_tokens: usize,
    answer: Generated,
}

/// What a row does next.
enum Next {
    Token(u32),
    Done,
}

impl Qwen2Audio {
    /// Answers all rows together; a row that is done, or failed, leaves the batch. One answer for each row, in order.
    /// A row's failure is its own, unless libtorch fails: then every row that was not done fails.
    ///
    /// # Panics
    /// Where there are not as many choosers as rows.
    pub fn generate<C: TokenChooser>(&self, rows: &[Row], choosers: &mut [C]) -> Vec<Result<Generated, ModelError>> {
        assert_eq!(rows.len(), choosers.len(), "each row has its chooser");
        let _no_grad = tch::no_grad_guard();
        let mut answers: Vec<Option<Result<Generated, ModelError>>> = rows.iter().map(|_| None).collect();
        let mut live = Vec::new();
        let mut prompts = Vec::new();
        for ((index, row), chooser) in rows.iter().enumerate().zip(choosers) {
            match self.row_prompt(row) {
                Ok(prompt) => {
                    let prompt_tokens = prompt.ids.len();
                    live.push(Live { index, chooser, prompt_tokens, answer: Generated::default() });
                    prompts.push(prompt);
                }
                Err(error) => answers[index] = Some(Err(error)),
            }
        }
        if let Err(error) = self.answer(rows, &prompts, &mut live, &mut answers) {
            let error = ModelError::from(error);
            answers.iter_mut().filter(|answer| answer.is_none()).for_each(|answer| *answer = Some(Err(error.clone())));
        }
        let unanswered = || Err(ModelError::Torch("the batch ended before this row".into()));
        answers.into_iter().map(|answer| answer.unwrap_or_else(unanswered)).collect()
    }

    fn row_prompt(&self, row: &Row) -> Result<Prompt, ModelError> {
        if row.mels.is_empty() {
            return Err(ModelError::Request("it has no clip".into()));
        }
        self.prompt(&row.mels, &row.question)
    }

    fn answer(
        &self,
        rows: &[Row],
        prompts: &[Prompt],
        live: &mut Vec<Live<'_>>,
        answers: &mut [Option<Result<Generated, ModelError>>],
    ) -> Result<(), TchError> {
        if live.is_empty() {
            return Ok(());
        }
        let clips: Vec<&Mel> = live.iter().flat_map(|row| &rows[row.index].mels).collect();
        let clips = self.project(&self.encode(&clips)?)?;
        let (mut logits, mut cache) = self.prefill(&prompts.iter().collect::<Vec<_>>(), &clips)?;
        drop(clips);
        loop {
            let vocab = self.config().text_config.vocab_size;
            let log_probs = Vec::<f32>::try_from(&logits.f_log_softmax(-1, Kind::Float)?.f_view([-1])?)?;
            let (mut kept, mut tokens) = (Vec::new(), Vec::new());
            let mut still = Vec::with_capacity(live.len());
            for ((at, mut row), log_probs) in (0..).zip(live.drain(..)).zip(log_probs.chunks_exact(vocab)) {
                match self.next(&mut row, log_probs) {
                    Ok(Next::Token(token)) => {
                        kept.push(at);
                        tokens.push(token);
                        still.push(row);
                    }
                    Ok(Next::Done) => answers[row.index] = Some(Ok(row.answer)),
                    Err(error) => answers[row.index] = Some(Err(error)),
                }
            }
            *live = still;
            if live.is_empty() {
                return Ok(());
            }
            if kept.len() < log_probs.len() / vocab {
                cache.keep(&kept)?;
            }
            logits = self.step(&tokens, &mut cache)?;
        }
    }

    fn next(&self, row: &mut Live<'_>, log_probs: &[f32]) -> Result<Next, ModelError> {
        let token = row.answer.tokens.len();
        if log_probs.iter().any(|log_prob| log_prob.is_nan()) {
            return Err(ModelError::NotANumber { token });
        }
        let Some(chosen) = row.chooser.choose(log_probs)? else { return Ok(Next::Done) };
        let Some(&log_prob) = log_probs.get(chosen as usize) else {
            let reason = format!("token {chosen} was chosen of a vocabulary of {}", log_probs.len());
            return Err(ModelError::Grammar(reason));
        };
        row.answer.tokens.push(chosen);
        row.answer.log_probs.push(log_prob);
        if row.chooser.is_complete() {
            return Ok(Next::Done);
        }
        let fit = self.config().text_config.max_position_embeddings;
        if row.prompt_tokens + row.answer.tokens.len() >= fit {
            return Err(ModelError::Request(format!("prompt and answer have more than {fit} tokens")));
        }
        Ok(Next::Token(chosen))
    }
}
