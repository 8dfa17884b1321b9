//! How far scores are from probabilities, and how well they sort.

use super::Scored;
use super::logit::SMALLEST;

/// Equal parts of [0, 1] that calibration error is measured in.
const BINS: usize = 10;

/// Answers whose scores lie in one tenth of [0, 1]; 1 belongs to the last.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Bin {
    /// How many.
    pub count: usize,
    /// How many of them are right.
    pub right: usize,
    /// The sum of their scores.
    pub scores: f64,
}

impl Bin {
    /// The share of right answers; `None` without any.
    pub fn accuracy(&self) -> Option<f64> {
        (self.count > 0).then(|| self.right as f64 / self.count as f64)
    }

    /// The mean score; `None` without any.
    pub fn mean_score(&self) -> Option<f64> {
        (self.count > 0).then(|| self.scores / self.count as f64)
    }
}

/// The reliability table: what was said, beside how often it was right, by tenth of the score.
pub fn reliability(scored: &[Scored]) -> [Bin; BINS] {
    let mut bins = [Bin::default(); BINS];
    for it in scored {
        let bin = &mut bins[((it.score.get() * BINS as f64) as usize).min(BINS - 1)];
        bin.count += 1;
        bin.right += usize::from(it.right);
        bin.scores += it.score.get();
    }
    bins
}

/// Measures of judged answers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Metrics {
    /// The share of right answers.
    pub accuracy: f64,
    /// Expected calibration error: Σ over tenths of |mean score − accuracy|, by their share of the answers (Guo et al. 2017).
    pub ece: f64,
    /// The mean of (score − right)² (Brier 1950).
    pub brier: f64,
    /// The mean of −ln(the probability given to what was the case), scores held 1e-12 away from 0 and 1.
    pub nll: f64,
    /// The probability that a right answer has a higher score than a wrong one, half for equal ones (Mann and Whitney);
    /// `None` where all answers are right, or all wrong.
    pub auroc: Option<f64>,
}

impl Metrics {
    /// Measures answers; `None` without any.
    pub fn of(scored: &[Scored]) -> Option<Self> {
        if scored.is_empty() {
            return None;
        }
        let count = scored.len() as f64;
        let mean = |of: fn(f64, f64) -> f64| {
            scored.iter().map(|it| of(it.score.get(), f64::from(u8::from(it.right)))).sum::<f64>() / count
        };
        let gap = |bin: &Bin| (bin.scores - bin.right as f64).abs();
        Some(Self {
            accuracy: mean(|_, right| right),
            ece: reliability(scored).iter().map(gap).sum::<f64>() / count,
            brier: mean(|score, right| (score - right).powi(2)),
            nll: mean(|score, right| {
                let said = score.clamp(SMALLEST, 1.0 - SMALLEST);
                -if right > 0.5 { said.ln() } else { (-said).ln_1p() }
            }),
            auroc: auroc(scored),
        })
    }
}

fn auroc(scored: &[Scored]) -> Option<f64> {
    let mut sorted = scored.to_vec();
    sorted.sort_by(|a, b| a.score.get().total_cmp(&b.score.get()));
    // Pairs of a right and a wrong answer, doubled so that an equal pair is a whole number.
    let (mut won, mut wrong_below, mut all_right) = (0u64, 0u64, 0u64);
    for equal in sorted.chunk_by(|a, b| a.score == b.score) {
        let right = equal.iter().filter(|it| it.right).count() as u64;
        let wrong = equal.len() as u64 - right;
        won += right * (2 * wrong_below + wrong);
        wrong_below += wrong;
        all_right += right;
    }
    let pairs = 2 * all_right * wrong_below;
    (pairs > 0).then(|| won as f64 / pairs as f64)
}

/// What a threshold lets through.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Accepted {
    /// The share of answers that are at least so sure; 0 without any answers.
    pub share: f64,
    /// The share of right ones among them; `None` where none is.
    pub accuracy: Option<f64>,
}

impl Accepted {
    /// What `threshold` lets through.
    pub fn at(threshold: f64, scored: &[Scored]) -> Self {
        let accepted = scored.iter().filter(|it| it.score.get() >= threshold);
        let (count, right) =
            accepted.fold((0usize, 0usize), |(count, right), it| (count + 1, right + usize::from(it.right)));
        Self {
            share: count as f64 / scored.len().max(1) as f64,
            accuracy: (count > 0).then(|| right as f64 / count as f64),
        }
    }
}
