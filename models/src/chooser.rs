//! Who decides each next token of an answer.

use std::sync::Arc;

use toktrie::SimpleVob;

use crate::ModelError;

/// A token that the model chose, and how much it thought of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Chosen {
    /// The likeliest of the allowed tokens, the first of equals.
    pub token: u32,
    /// Its natural log-probability among the whole vocabulary.
    pub log_prob: f32,
    /// The probability of all allowed tokens together.
    pub mass: f64,
    /// The token's part of it.
    pub share: f64,
}

/// Steers one answer: says which tokens may come next, and is told which did.
pub trait TokenChooser: Send {
    /// Tokens that come next whatever the model thinks, so that it is not asked: they are part of the answer, and taken.
    ///
    /// # Errors
    /// A [`ModelError`] ends this answer and no other; so it does below.
    fn forced(&mut self) -> Result<Vec<u32>, ModelError> {
        Ok(Vec::new())
    }

    /// Which tokens the model may choose from: a bit for each; `None` = any. It is asked while the model runs.
    fn allowed(&mut self) -> Result<Option<SimpleVob>, ModelError> {
        Ok(None)
    }

    /// Takes the model's choice: the answer's next token, or `None` where the choice ended the answer.
    fn take(&mut self, chosen: &Chosen) -> Result<Option<u32>, ModelError>;

    /// Whether the answer needs no further token.
    fn is_complete(&self) -> bool;

    /// The most tokens that may still come.
    fn most_tokens(&self) -> usize;
}

impl<C: TokenChooser + ?Sized> TokenChooser for Box<C> {
    fn forced(&mut self) -> Result<Vec<u32>, ModelError> {
        (**self).forced()
    }

    fn allowed(&mut self) -> Result<Option<SimpleVob>, ModelError> {
        (**self).allowed()
    }

    fn take(&mut self, chosen: &Chosen) -> Result<Option<u32>, ModelError> {
        (**self).take(chosen)
    }

    fn is_complete(&self) -> bool {
        (**self).is_complete()
    }

    fn most_tokens(&self) -> usize {
        (**self).most_tokens()
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
    fn take(&mut self, chosen: &Chosen) -> Result<Option<u32>, ModelError> {
        let ended = self.eos.contains(&chosen.token);
        self.max_new_tokens = if ended { 0 } else { self.max_new_tokens.saturating_sub(1) };
        Ok((!ended).then_some(chosen.token))
    }

    fn is_complete(&self) -> bool {
        self.max_new_tokens == 0
    }

    fn most_tokens(&self) -> usize {
        self.max_new_tokens
    }
}

/// The choice among `allowed` of a model that thinks `log_probs`, worked out number by number.
#[cfg(test)]
pub(crate) fn choice(log_probs: &[f32], allowed: Option<&SimpleVob>) -> Option<Chosen> {
    let is_allowed = |token: &u32| allowed.is_none_or(|allowed| allowed.is_allowed(*token));
    let candidates = || (0u32..).zip(log_probs).filter(|(token, _)| is_allowed(token)).map(|(t, &p)| (t, f64::from(p)));
    let (token, most) = candidates().reduce(|best, other| if other.1 > best.1 { other } else { best })?;
    // As one of equals where all are impossible.
    let relative = |log_prob: f64| if log_prob == most { 1.0 } else { (log_prob - most).exp() };
    let total: f64 = candidates().map(|(_, log_prob)| relative(log_prob)).sum();
    Some(Chosen { token, log_prob: most as f32, mass: (most.exp() * total).min(1.0), share: total.recip() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn greedy_stops_at_eos_and_at_its_limit() {
        let chosen = |token| Chosen { token, log_prob: -1.0, mass: 1.0, share: 0.4 };
        let mut chooser = Greedy { eos: Arc::new([2]), max_new_tokens: 2 };
        assert_eq!(chooser.take(&chosen(1)).expect("takes"), Some(1));
        assert_eq!((chooser.is_complete(), chooser.most_tokens()), (false, 1));
        assert_eq!(chooser.take(&chosen(0)).expect("takes"), Some(0));
        assert!(chooser.is_complete());

        let mut chooser = Greedy { eos: Arc::new([2]), max_new_tokens: 2 };
        assert_eq!(chooser.take(&chosen(2)).expect("takes"), None);
        assert!(chooser.is_complete());
    }
}
