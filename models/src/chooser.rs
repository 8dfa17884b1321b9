//! Who decides each next token of an answer.

use std::sync::Arc;

use crate::ModelError;

/// Steers one row of a batch: it is shown the model's view of the next token and decides.
pub trait TokenChooser: Send {
    /// Chooses the next token from `log_probs`: (vocab,), natural log-probabilities, free of NaN. `None` = the answer is
    /// complete; a token is not asked for again.
    ///
    /// # Errors
    /// A [`ModelError`] ends this row and no other.
    fn choose(&mut self, log_probs: &[f32]) -> Result<Option<u32>, ModelError>;

    /// Whether the answer needs no further token, known before the model has run for it: saves that step.
    fn is_complete(&self) -> bool {
        false
    }
}

impl<C: TokenChooser + ?Sized> TokenChooser for Box<C> {
    fn choose(&mut self, log_probs: &[f32]) -> Result<Option<u32>, ModelError> {
        (**self).choose(log_probs)
    }

    fn is_complete(&self) -> bool {
        (**self).is_complete()
    }
}

/// The likeliest token each time.
#[derive(Clone, Debug)]
pub struct Greedy {
    /// Tokens that end the answer and are no part of it; none of them ends it where this is empty.
    pub eos: Arc<[u32]>,
    /// Tokens still allowed.
    pub max_new_tokens: usize,
}

impl TokenChooser for Greedy {
    fn choose(&mut self, log_probs: &[f32]) -> Result<Option<u32>, ModelError> {
        if self.is_complete() {
            return Ok(None);
        }
        let best = likeliest(log_probs);
        if best.is_some_and(|token| self.eos.contains(&token)) {
            self.max_new_tokens = 0;
            return Ok(None);
        }
        self.max_new_tokens -= 1;
        Ok(best)
    }

    fn is_complete(&self) -> bool {
        self.max_new_tokens == 0
    }
}

/// The token of the largest log-probability, the first of equals; `None` for an empty vocabulary.
fn likeliest(log_probs: &[f32]) -> Option<u32> {
    let mut best: Option<(u32, f32)> = None;
    for (token, &log_prob) in (0u32..).zip(log_probs) {
        if best.is_none_or(|(_, most)| log_prob > most) {
            best = Some((token, log_prob));
        }
    }
    best.map(|(token, _)| token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn greedy_takes_the_first_of_equals_and_stops_at_eos_and_at_its_limit() {
        let mut chooser = Greedy { eos: Arc::new([2]), max_new_tokens: 2 };
        assert_eq!(chooser.choose(&[-1.0, -0.5, -2.0, -0.5]).expect("chooses"), Some(1));
        assert!(!chooser.is_complete());
        assert_eq!(chooser.choose(&[-1.0, -2.0, -3.0]).expect("chooses"), Some(0));
        assert!(chooser.is_complete());
        assert_eq!(chooser.choose(&[0.0]).expect("chooses"), None);

        let mut chooser = Greedy { eos: Arc::new([2]), max_new_tokens: 2 };
        assert_eq!(chooser.choose(&[-3.0, -3.0, -0.1]).expect("chooses"), None);
        assert!(chooser.is_complete());
    }
}
