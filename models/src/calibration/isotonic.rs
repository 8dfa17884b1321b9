//! Isotonic regression: the rising steps that are nearest to the labels.

use records::Confidence;
use serde::{Deserialize, Serialize};

use super::{FitError, Scored, check, confidence};

/// The function that never falls and is nearest to the labels in the sum of squares, found by pooling adjacent violators
/// (Ayer et al. 1955; for calibration: Zadrozny and Elkan, KDD 2002). Equal scores are one point. Between the points it is
/// a straight line; below the first and above the last it stays as it is there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Vec<[f64; 2]>", into = "Vec<[f64; 2]>")]
pub struct Isotonic(Vec<[f64; 2]>);

/// Neighbouring scores that have one value: the share of right answers among them.
struct Block {
    first: f64,
    last: f64,
    right: u64,
    count: u64,
}

impl Block {
    /// Whether its value is not below that of the block to its right; in whole numbers, so that equal is equal.
    fn violates(&self, next: &Block) -> bool {
        self.right * next.count >= next.right * self.count
    }
}

impl Isotonic {
    /// The nearest rising function.
    ///
    /// # Errors
    /// [`FitError`] without a right and a wrong answer.
    pub fn fit(scored: &[Scored]) -> Result<Self, FitError> {
        check(scored)?;
        let mut sorted = scored.to_vec();
        sorted.sort_by(|a, b| a.score.get().total_cmp(&b.score.get()));
        let mut blocks: Vec<Block> = Vec::new();
        for equal in sorted.chunk_by(|a, b| a.score == b.score) {
            let score = equal[0].score.get();
            let right = equal.iter().filter(|it| it.right).count() as u64;
            let mut block = Block { first: score, last: score, right, count: equal.len() as u64 };
            while let Some(before) = blocks.pop_if(|before| before.violates(&block)) {
                block.first = before.first;
                block.right += before.right;
                block.count += before.count;
            }
            blocks.push(block);
        }
        let ends = |block: Block| {
            let value = block.right as f64 / block.count as f64;
            let last = (block.last > block.first).then_some([block.last, value]);
            std::iter::once([block.first, value]).chain(last)
        };
        Ok(Self(blocks.into_iter().flat_map(ends).collect()))
    }

    /// The points: score and value, both rising.
    pub fn points(&self) -> &[[f64; 2]] {
        &self.0
    }

    /// The calibrated score.
    pub fn apply(&self, score: Confidence) -> Confidence {
        let score = score.get();
        let after = self.0.partition_point(|[at, _]| *at < score);
        let value = match (after.checked_sub(1).map(|before| self.0[before]), self.0.get(after)) {
            (Some([from, low]), Some([to, high])) => {
                (low + (high - low) * ((score - from) / (to - from))).clamp(low, *high)
            }
            (None, Some([_, value])) => *value,
            (Some([_, value]), None) => value,
            (None, None) => unreachable!("a curve has a point, see try_from"),
        };
        confidence(value)
    }
}

impl TryFrom<Vec<[f64; 2]>> for Isotonic {
    type Error = String;

    fn try_from(points: Vec<[f64; 2]>) -> Result<Self, String> {
        let in_order = points.is_sorted_by(|[score, value], [next, above]| score <= next && value <= above);
        let inside = points.iter().flatten().all(|number| (0.0..=1.0).contains(number));
        if points.is_empty() || !in_order || !inside {
            return Err("an isotonic curve is a list of [score, value] that rise within [0, 1]".into());
        }
        Ok(Self(points))
    }
}

impl From<Isotonic> for Vec<[f64; 2]> {
    fn from(curve: Isotonic) -> Self {
        curve.0
    }
}
