//! What is asked of the model, and what it answers.

use std::sync::Arc;

use super::Mel;

/// Clips, and a question about them.
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
    /// Each token's natural log-probability among the whole vocabulary, before any grammar; 0 where it was forced.
    pub log_probs: Vec<f32>,
}

impl Generated {
    /// Tokens that the model chose, each in a pass of its own.
    pub fn passes(&self) -> usize {
        self.log_probs.iter().filter(|&&log_prob| log_prob < 0.0).count()
    }
}
